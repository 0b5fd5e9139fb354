import {
  closeSync,
  createReadStream,
  fstatSync,
  openSync,
  type ReadStream,
  readSync,
} from 'node:fs';
import { createGunzip, type Gunzip } from 'node:zlib';

/** The plain bytes of a log file, whatever it looks like on disk. */
export interface ByteSource {
  /** Reads into `target` what stands from the byte `at` on; fewer bytes than it holds: there are no more for now. Rejects with what the disk throws. */
  read(target: Uint8Array, at: number): Promise<number>;
  /** Whether the file can't grow: what stands behind the last line end is a line, too. */
  readonly isFinal: boolean;
  close(): void;
}

/** A plain file that may grow, be renamed and be removed while it is read. */
export class PlainSource implements ByteSource {
  readonly isFinal = false;
  /** -1: closed; its number may be another file's by now. */
  #fd: number;

  private constructor(fd: number) {
    this.#fd = fd;
  }

  /** Throws what opening throws. */
  static open(path: string): PlainSource {
    return new PlainSource(openSync(path, 'r'));
  }

  /** Size now, in bytes. */
  get bytes(): number {
    return fstatSync(this.#fd).size;
  }

  get inode(): string {
    const { dev, ino } = fstatSync(this.#fd, { bigint: true });
    return `${dev}:${ino}`;
  }

  async read(target: Uint8Array, at: number): Promise<number> {
    return this.readNow(target, at);
  }

  /** As `read`, at once. */
  readNow(target: Uint8Array, at: number): number {
    if (this.#fd < 0) throw new Error('the file was closed meanwhile');
    let done = 0;
    while (done < target.length) {
      const bytes = readSync(this.#fd, target, done, target.length - done, at + done);
      if (bytes === 0) break;
      done += bytes;
    }
    return done;
  }

  close(): void {
    if (this.#fd >= 0) closeSync(this.#fd);
    this.#fd = -1;
  }
}

const CHUNK_BYTES: number = 256 * 1024;

/** A gzipped file, unpacked as it is read: forwards, but for the bytes of the latest `read`. */
export class PackedSource implements ByteSource {
  readonly isFinal = true;
  readonly #file: ReadStream;
  readonly #gunzip: Gunzip;
  readonly #pieces: AsyncIterator<Buffer>;
  #window: Buffer = Buffer.alloc(0);
  #windowAt = 0;
  #isEnded = false;

  constructor(path: string) {
    this.#file = createReadStream(path);
    this.#gunzip = createGunzip({ chunkSize: CHUNK_BYTES });
    this.#file.on('error', (error) => this.#gunzip.destroy(error));
    this.#pieces = this.#file.pipe(this.#gunzip)[Symbol.asyncIterator]() as AsyncIterator<Buffer>;
  }

  async read(target: Uint8Array, at: number): Promise<number> {
    while (!this.#isEnded && this.#windowAt + this.#window.length < at + target.length) {
      const { value, done } = await this.#pieces.next();
      if (done === true) this.#isEnded = true;
      else this.#take(value, at);
    }
    const from = at - this.#windowAt;
    if (from >= this.#window.length) return 0;
    return this.#window.copy(target, 0, from, from + target.length);
  }

  /** Adds a piece, and drops what stands before `at`. */
  #take(piece: Buffer, at: number): void {
    const windowEnd = this.#windowAt + this.#window.length;
    const kept = this.#window.subarray(Math.max(0, at - this.#windowAt));
    const fresh = piece.subarray(Math.max(0, at - windowEnd));
    this.#windowAt = windowEnd + piece.length - fresh.length - kept.length;
    this.#window = kept.length === 0 ? fresh : Buffer.concat([kept, fresh]);
  }

  close(): void {
    this.#file.destroy();
    this.#gunzip.destroy();
  }
}
