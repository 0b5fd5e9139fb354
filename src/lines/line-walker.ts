import { isUtf8 } from 'node:buffer';
import { NEWLINE } from '../base/characters.ts';
import { LINE_BYTES_MAX } from './line-check.ts';

/** A whole line, without its end: `bytes[start, end)`, valid until the call returns. */
export interface SeenLine {
  readonly bytes: Uint8Array;
  readonly start: number;
  readonly end: number;
  /** Place of its first byte among all bytes that were pushed. */
  readonly at: number;
  /** 'utf8': known to be; 'unknown'; 'cut': longer than a line may be, only its beginning is here. */
  readonly text: 'utf8' | 'unknown' | 'cut';
}

/** Finds the lines in consecutive pieces of a text. False from `onLine` ends the walk. */
export class LineWalker {
  readonly #onLine: (line: SeenLine) => boolean;
  readonly #carry: Buffer[] = [];
  #carryBytes = 0;
  /** Bytes of a line that is too long, beyond those kept. */
  #skipped = 0;
  #at = 0;
  #isEnded = false;

  constructor(onLine: (line: SeenLine) => boolean) {
    this.#onLine = onLine;
  }

  get isEnded(): boolean {
    return this.#isEnded;
  }

  push(piece: Buffer): void {
    let start = 0;
    if (this.#carryBytes > 0) {
      const end = piece.indexOf(NEWLINE);
      if (end < 0) {
        this.#keep(piece);
        return;
      }
      this.#keep(piece.subarray(0, end));
      this.#give(1);
      start = end + 1;
    }
    const last = piece.lastIndexOf(NEWLINE);
    if (last >= start) this.#lines(piece, start, last);
    if (!this.#isEnded && last + 1 < piece.length) {
      this.#keep(piece.subarray(Math.max(start, last + 1)));
    }
  }

  /** The text is over: what is left is its last line. */
  finish(): void {
    if (this.#carryBytes > 0 && !this.#isEnded) this.#give(0);
  }

  #lines(piece: Buffer, from: number, last: number): void {
    const text = isUtf8(piece.subarray(from, last)) ? 'utf8' : 'unknown';
    for (let start = from; start <= last && !this.#isEnded; ) {
      const end = piece.indexOf(NEWLINE, start);
      this.#isEnded = !this.#onLine({ bytes: piece, start, end, at: this.#at, text });
      this.#at += end + 1 - start;
      start = end + 1;
    }
  }

  #keep(piece: Buffer): void {
    const room = LINE_BYTES_MAX + 1 - this.#carryBytes;
    // A copy: the piece is the caller's, who reads the next one into it.
    if (room > 0) this.#carry.push(Buffer.from(piece.subarray(0, room)));
    this.#carryBytes += Math.min(piece.length, Math.max(room, 0));
    this.#skipped += Math.max(0, piece.length - Math.max(room, 0));
  }

  #give(endBytes: 0 | 1): void {
    const bytes = Buffer.concat(this.#carry);
    const text = bytes.length > LINE_BYTES_MAX ? 'cut' : 'unknown';
    this.#isEnded = !this.#onLine({ bytes, start: 0, end: bytes.length, at: this.#at, text });
    this.#at += bytes.length + this.#skipped + endBytes;
    this.#carry.length = 0;
    this.#carryBytes = 0;
    this.#skipped = 0;
  }
}
