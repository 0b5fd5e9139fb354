import { NEWLINE } from '../base/characters.ts';
import { FIELDS, KIND_RULES, TYPES, type Word } from './record-scanner.ts';
import { SCANNER_BASE64 } from './scanner-bytes.ts';
import {
  ENDS_AT,
  ENDS_MAX,
  FIELD_INDEX_AT,
  FIELDS_AT,
  MEMORY_BYTES,
  RULES_AT,
  TEXT_AT,
  TEXT_BYTES,
  TYPE_INDEX_AT,
  TYPES_AT,
  UNSURE,
  WORD_BYTES,
  WORD_LENGTH_MAX,
} from './scanner-places.ts';

/** The part of the global that is used here; its types are a browser's library otherwise. */
declare const WebAssembly: {
  readonly Memory: new (limits: { initial: number; maximum: number }) => { buffer: ArrayBuffer };
  readonly Module: new (bytes: Uint8Array) => object;
  readonly Instance: new (module: object, imports: object) => { exports: unknown };
};

interface ScannerCalls {
  scan(from: number, end: number, ends: number, linesMax: number): number;
}

const PAGE_BYTES = 65536;

/**
 * As RecordScanner, for many lines at once and in two thirds of its time: WebAssembly with memory of its own, for one thread.
 */
export class LineScanner {
  readonly #calls: ScannerCalls;
  readonly #bytes: Uint8Array;
  readonly #words: Uint32Array;

  private constructor() {
    const pages = MEMORY_BYTES / PAGE_BYTES;
    const memory = new WebAssembly.Memory({ initial: pages, maximum: pages });
    const module = new WebAssembly.Module(Buffer.from(SCANNER_BASE64, 'base64'));
    this.#calls = new WebAssembly.Instance(module, { env: { memory } }).exports as ScannerCalls;
    this.#bytes = new Uint8Array(memory.buffer);
    this.#words = new Uint32Array(memory.buffer);
    this.#writeTable(FIELDS, FIELD_INDEX_AT, FIELDS_AT);
    this.#writeTable(TYPES, TYPE_INDEX_AT, TYPES_AT);
    this.#words.set(KIND_RULES, RULES_AT / 4);
  }

  /** Undefined: this process can't run it (`--jitless`, a processor without SIMD, no memory). */
  static open(): LineScanner | undefined {
    try {
      return new LineScanner();
    } catch {
      // RecordScanner does the same, only slower.
      return undefined;
    }
  }

  #writeTable(byLength: readonly (readonly Word[])[], indexAt: number, tableAt: number): void {
    let count = 0;
    for (let length = 0; length <= WORD_LENGTH_MAX; length += 1) {
      this.#words[indexAt / 4 + length] = count;
      for (const { bytes, code } of byLength[length] ?? []) {
        const at = tableAt + WORD_BYTES * count;
        this.#words[at / 4] = length;
        this.#words[at / 4 + 1] = code;
        this.#bytes.set(bytes, at + 8);
        count += 1;
      }
      this.#words[indexAt / 4 + length + 1] = count;
    }
  }

  /**
   * Looks through whole lines of UTF-8. Of each, the place of its line end goes into `ends`, with the bit UNSURE if it may be
   * no record.
   *
   * @param end just behind the last line end
   * @returns the count of lines, as many as `ends` has room for
   */
  scan(text: Buffer, { from, end }: { from: number; end: number }, ends: Uint32Array): number {
    let count = 0;
    for (let at = from; at < end && count < ends.length; ) {
      const stop = Math.min(at + TEXT_BYTES, end);
      const whole = stop === end ? end : text.lastIndexOf(NEWLINE, stop - 1) + 1;
      if (whole <= at) {
        // A line longer than the memory: the reference looks at it.
        const lineEnd = text.indexOf(NEWLINE, at);
        ends[count] = lineEnd | UNSURE;
        count += 1;
        at = lineEnd + 1;
      } else {
        const lines = this.#scanPiece(text.subarray(at, whole), { at, ends, count });
        count += lines;
        at = ((ends[count - 1] ?? 0) & ~UNSURE) + 1;
      }
    }
    return count;
  }

  #scanPiece(
    piece: Uint8Array,
    { at, ends, count }: { at: number; ends: Uint32Array; count: number },
  ): number {
    this.#bytes.set(piece, TEXT_AT);
    const linesMax = Math.min(ENDS_MAX, ends.length - count);
    const lines = this.#calls.scan(TEXT_AT, TEXT_AT + piece.length, ENDS_AT, linesMax);
    const first = ENDS_AT / 4;
    // The highest bit passes the sum unchanged.
    const shift = at - TEXT_AT;
    for (let line = 0; line < lines; line += 1) {
      ends[count + line] = (this.#words[first + line] ?? 0) + shift;
    }
    return lines;
  }
}
