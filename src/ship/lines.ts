import { closeSync, openSync, readFileSync, readSync } from 'node:fs';
import { gunzipSync } from 'node:zlib';

const CHUNK_BYTES: number = 256 * 1024;
const NEWLINE = 0x0a;
/** Longest line that is kept in memory, in bytes. */
export const LINE_BYTES_MAX: number = 16 * 1024 * 1024;

/** Reads the complete lines of a file, plain or gzipped (`.gz`), from a byte of its plain text on. */
export class LineReader {
  readonly #fd: number;
  readonly #whole: Buffer | undefined;
  #at: number;
  #chunk: Buffer = Buffer.alloc(0);
  #from = 0;

  /** Throws what opening and unpacking throw. */
  constructor(path: string, offset: number) {
    this.#at = offset;
    if (path.endsWith('.gz')) {
      this.#fd = -1;
      this.#whole = gunzipSync(readFileSync(path));
    } else {
      this.#fd = openSync(path, 'r');
      this.#whole = undefined;
    }
  }

  /** Byte after the last line given. */
  get offset(): number {
    return this.#at;
  }

  /** The next complete line without its end; valid until the next call. Undefined: there is none yet. */
  next(): Buffer | undefined {
    for (;;) {
      const end = this.#chunk.indexOf(NEWLINE, this.#from);
      if (end >= 0) {
        const line = this.#chunk.subarray(this.#from, end);
        this.#at += end + 1 - this.#from;
        this.#from = end + 1;
        return line;
      }
      if (!this.#load()) return undefined;
    }
  }

  /** The bytes `[0, count)` of the plain text, as far as there are so many. */
  head(count: number): Buffer {
    if (this.#whole !== undefined) return this.#whole.subarray(0, count);
    const bytes = Buffer.alloc(count);
    return bytes.subarray(0, readSync(this.#fd, bytes, 0, count, 0));
  }

  close(): void {
    if (this.#fd >= 0) closeSync(this.#fd);
  }

  /** Gets more of the file behind what is not used up. False: there is no more. */
  #load(): boolean {
    const rest = this.#chunk.subarray(this.#from);
    const at = this.#at + rest.length;
    if (rest.length > LINE_BYTES_MAX)
      throw new Error(`a line of more than ${LINE_BYTES_MAX} bytes`);
    const more = this.#read(at, Math.max(CHUNK_BYTES, rest.length));
    if (more.length === 0) return false;
    this.#chunk = Buffer.concat([rest, more]);
    this.#from = 0;
    return true;
  }

  #read(at: number, count: number): Buffer {
    if (this.#whole !== undefined) return this.#whole.subarray(at, at + count);
    const bytes = Buffer.allocUnsafe(count);
    return bytes.subarray(0, readSync(this.#fd, bytes, 0, count, at));
  }
}
