import { isUtf8 } from 'node:buffer';
import { crc32 } from 'node:zlib';
import { COMMA, NEWLINE } from '../base/characters.ts';
import { letOthersRun } from '../base/event-loop.ts';
import type { ByteSource } from '../lines/byte-source.ts';
import {
  faultIn,
  faultOf,
  isBlank,
  LINE_BYTES_MAX,
  type LineFault,
  TOO_LONG,
} from '../lines/line-check.ts';
import type { LineScanner } from '../lines/line-scanner.ts';
import { HEAD_BYTES } from '../lines/marks.ts';
import { UNSURE } from '../lines/scanner-places.ts';

/** A line that can't be sent. */
export interface BadLine extends LineFault {
  /** From 1 on, in the file. */
  readonly line: number;
  /** Byte of the file where it begins. */
  readonly byte: number;
  /** The line itself; its beginning, if it is too long to be kept. */
  readonly text: Buffer;
}

/** Where a file is read on. */
export interface ReadPlace {
  readonly offset: number;
  readonly lines: number;
  readonly crc: number;
}

/** What a line has to be to be sent: a record by the wire contract, or any JSON object. */
export type LineRule = 'contract' | 'json';

export interface LoadLimits {
  readonly recordsMax: number;
  /** Text of a load, in bytes; a longer line goes alone. */
  readonly bytesMax: number;
  readonly rule: LineRule;
}

const SHOWN_BYTES_MAX = 4096;

/**
 * Lines on their way, in the form a sink wants (sink/sink.ts, Batch): read from the file into the very buffer that is sent from. Bad and blank lines are left out
 * by moving the later ones together.
 */
export class Load {
  readonly text: { bytes: Buffer };
  readonly starts: Uint32Array;
  readonly ends: Uint32Array;
  /** Line of the file of each record, from 1 on. */
  readonly lineOf: Uint32Array;
  /** Place in the file of each record. */
  readonly byteOf: Float64Array;
  readonly bad: BadLine[] = [];
  count = 0;
  blank = 0;
  /** Beginning of the file, if the load begins there. */
  head: Uint8Array = new Uint8Array(0);
  /** Where the file goes on after this load. */
  after: ReadPlace = { offset: 0, lines: 0, crc: 0 };
  readonly #limits: LoadLimits;
  readonly #scanner: LineScanner | undefined;
  readonly #lineEnds: Uint32Array;

  /** @param scanner of the thread; without one the reference looks at every line */
  constructor(limits: LoadLimits, scanner: LineScanner | undefined) {
    this.#limits = limits;
    this.#scanner = scanner;
    this.#lineEnds = new Uint32Array(limits.recordsMax);
    this.text = { bytes: Buffer.allocUnsafe(limits.bytesMax + 1) };
    this.starts = new Uint32Array(limits.recordsMax);
    this.ends = new Uint32Array(limits.recordsMax);
    this.lineOf = new Uint32Array(limits.recordsMax);
    this.byteOf = new Float64Array(limits.recordsMax);
  }

  /** Lines read. */
  get lines(): number {
    return this.count + this.blank + this.bad.length;
  }

  /** Reads the next lines of a file. False: there is no whole line. Rejects with what reading throws. */
  async fill(source: ByteSource, from: ReadPlace): Promise<boolean> {
    this.#reset(from);
    for (;;) {
      const { bytes } = this.text;
      const got = await source.read(bytes.subarray(1), from.offset);
      if (from.offset === 0)
        this.head = Buffer.from(bytes.subarray(1, 1 + Math.min(got, HEAD_BYTES)));
      const filled = 1 + got;
      const isAll = got < bytes.length - 1;
      const last = bytes.subarray(1, filled).lastIndexOf(NEWLINE) + 1;
      if (last > 0) {
        this.#take(filled, last, from);
        return true;
      }
      if (isAll) return source.isFinal && got > 0 ? this.#takeRest(filled, from) : false;
      if (got > LINE_BYTES_MAX) return this.#skipLong(source, from);
      this.text.bytes = Buffer.allocUnsafe(2 * got + 1);
    }
  }

  #reset(from: ReadPlace): void {
    this.bad.length = 0;
    this.head = new Uint8Array(0);
    this.count = 0;
    this.blank = 0;
    this.after = from;
    // A buffer that grew for one long line is not kept.
    if (this.text.bytes.length > 4 * this.#limits.bytesMax) {
      this.text.bytes = Buffer.allocUnsafe(this.#limits.bytesMax + 1);
    }
  }

  /** Takes whole lines, the last of which ends at `last`. */
  #take(filled: number, last: number, from: ReadPlace): void {
    const { bytes } = this.text;
    const isText = isUtf8(bytes.subarray(1, last));
    const scanned = isText ? this.#scan(last) : undefined;
    let start = 1;
    let lines = 0;
    while (start <= last && this.count < this.#limits.recordsMax) {
      const word = scanned?.[lines];
      const end = word === undefined ? bytes.indexOf(NEWLINE, start) : word & ~UNSURE;
      if (end < 0 || end >= filled) break;
      const line = { line: from.lines + lines + 1, byte: from.offset + start - 1 };
      const fault = isSure(word) ? undefined : this.#faultOf(start, end, isText);
      if (fault === 'blank') this.blank += 1;
      else if (fault === undefined) this.#note(start, end, line);
      else this.bad.push({ ...fault, ...line, text: this.#shown(start, end) });
      lines += 1;
      start = end + 1;
    }
    const crc = crc32(bytes.subarray(1, start), from.crc);
    this.after = { offset: from.offset + start - 1, lines: from.lines + lines, crc };
    this.#closeUp();
  }

  /** Ends of the first lines, each with UNSURE if it has to be looked at more closely. Undefined: there is no scanner. */
  #scan(last: number): Uint32Array | undefined {
    const span = { from: 1, end: last + 1 };
    const count = this.#scanner?.scan(this.text.bytes, span, this.#lineEnds);
    return count === undefined ? undefined : this.#lineEnds.subarray(0, count);
  }

  #faultOf(start: number, end: number, isText: boolean): LineFault | 'blank' | undefined {
    const { bytes } = this.text;
    if (end - start > LINE_BYTES_MAX) return TOO_LONG;
    const fault = isText ? faultIn(bytes, start, end) : faultOf(bytes.subarray(start, end));
    if (fault === undefined) return undefined;
    if (isBlank(bytes, start, end)) return 'blank';
    return this.#limits.rule === 'json' && isObject(bytes.subarray(start, end)) ? undefined : fault;
  }

  /** A copy of a bad line; only the beginning of one that is too long. */
  #shown(start: number, end: number): Buffer {
    const to = end - start > LINE_BYTES_MAX ? start + SHOWN_BYTES_MAX : end;
    return Buffer.from(this.text.bytes.subarray(start, to));
  }

  #note(start: number, end: number, { line, byte }: { line: number; byte: number }): void {
    const index = this.count;
    this.starts[index] = start;
    this.ends[index] = end;
    this.lineOf[index] = line;
    this.byteOf[index] = byte;
    this.count = index + 1;
  }

  /** Moves the records together over what was left out between them, and puts a comma behind each. */
  #closeUp(): void {
    const { bytes } = this.text;
    let at = 1;
    for (let index = 0; index < this.count; index += 1) {
      const start = this.starts[index] ?? 0;
      const end = this.ends[index] ?? 0;
      if (at !== start) bytes.copyWithin(at, start, end);
      this.starts[index] = at;
      at += end - start;
      this.ends[index] = at;
      bytes[at] = COMMA;
      at += 1;
    }
  }

  /** The last line of a file that can't grow needs no end. */
  #takeRest(filled: number, from: ReadPlace): boolean {
    if (filled === this.text.bytes.length) {
      this.text.bytes = Buffer.concat([this.text.bytes, Buffer.alloc(1)]);
    }
    const { bytes } = this.text;
    const crc = crc32(bytes.subarray(1, filled), from.crc);
    bytes[filled] = NEWLINE;
    this.#take(filled + 1, filled, from);
    this.after = { offset: from.offset + filled - 1, lines: from.lines + 1, crc };
    return true;
  }

  /** Puts a line aside that is longer than any may be, without keeping it in memory. */
  async #skipLong(source: ByteSource, from: ReadPlace): Promise<boolean> {
    const { bytes } = this.text;
    const shown = Buffer.from(bytes.subarray(1, 1 + SHOWN_BYTES_MAX));
    let crc = from.crc;
    let offset = from.offset;
    for (;;) {
      // A plain file is read at once, and the line may be as long as the disk.
      await letOthersRun();
      const got = await source.read(bytes.subarray(1), offset);
      const end = bytes.subarray(1, 1 + got).indexOf(NEWLINE);
      const used = end < 0 ? got : end + 1;
      crc = crc32(bytes.subarray(1, 1 + used), crc);
      offset += used;
      if (end >= 0 || (got === 0 && source.isFinal)) break;
      // The line is still being written.
      if (got === 0) return false;
    }
    this.bad.push({ ...TOO_LONG, line: from.lines + 1, byte: from.offset, text: shown });
    this.after = { offset, lines: from.lines + 1, crc };
    return true;
  }
}

/** Whether the scanner has found a line to be a record; undefined: it has not seen it. */
function isSure(word: number | undefined): boolean {
  return word !== undefined && word < UNSURE;
}

function isObject(line: Uint8Array): boolean {
  if (!isUtf8(line)) return false;
  try {
    const value: unknown = JSON.parse(Buffer.from(line).toString('utf8'));
    return typeof value === 'object' && value !== null && !Array.isArray(value);
  } catch {
    // No JSON at all; the line's own fault says so.
    return false;
  }
}
