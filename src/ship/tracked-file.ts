import { Beginning } from '../lines/beginning.ts';
import { type ByteSource, PackedSource, PlainSource } from '../lines/byte-source.ts';
import type { LogFileName } from '../lines/log-name.ts';
import { type FileMark, HEAD_BYTES, headHash, type MarkBook } from '../lines/marks.ts';
import type { ReadPlace } from './load.ts';

/** A log file as a look at the folder shows it. */
export interface FoundFile {
  readonly fileName: string;
  readonly path: string;
  readonly name: LogFileName;
  /** `device:inode`. */
  readonly inode: string;
  /** Size on disk. */
  readonly bytes: number;
  readonly modifiedMs: number;
}

/** How far one content has been shipped, while it is followed. A file that is cut off and begins anew gets a new one. */
export class Cursor {
  readonly id: number;
  /** Whether lines are on their way that it will be advanced by. */
  isBusy = false;
  readonly #book: MarkBook;
  #mark: FileMark;

  constructor(mark: FileMark, book: MarkBook) {
    this.id = mark.id;
    this.#mark = mark;
    this.#book = book;
  }

  get mark(): FileMark {
    return this.#mark;
  }

  /** Notes that everything before `place` is done with. Throws what the disk throws. */
  advance(place: ReadPlace, head: Uint8Array): void {
    const headBytes = Math.min(HEAD_BYTES, place.offset);
    const isKnown = headBytes === this.#mark.headBytes || head.length < headBytes;
    this.change({
      ...place,
      ...(isKnown ? {} : { headBytes, head: headHash(head.subarray(0, headBytes)) }),
    });
  }

  /** Notes what the file begins with, before anything of it is done with: it may come back packed or copied meanwhile. Throws what the disk throws. */
  know(head: Uint8Array): void {
    if (head.length === 0 || this.#mark.offset > 0) return;
    const hash = headHash(head);
    if (hash === this.#mark.head) return;
    this.change({ headBytes: head.length, head: hash });
  }

  /** Notes a change. Throws what the disk throws; it holds in memory all the same. */
  change(change: Partial<Omit<FileMark, 'id'>>): void {
    this.#mark = { ...this.#mark, ...change };
    this.#book.set(this.#mark);
  }
}

const NO_BYTES: Uint8Array = new Uint8Array(0);

/** A file that is followed. */
export class TrackedFile {
  found: FoundFile;
  cursor: Cursor;
  /** Text of the file's beginning, as far as there was some when it was looked at. */
  head: Uint8Array = NO_BYTES;
  /** Whether its beginning could be compared with what is noted since it changed last. */
  isCompared = true;
  /** Size on disk when it was read to its end; undefined: it has not been, or has changed since. */
  endBytes: number | undefined;
  /** What keeps it from being read; it is tried again when it changes, or after a while. */
  failure: string | undefined;
  retryAtMs = 0;
  /** When it was first missed in the folder, on the monotonic clock; undefined: it is there. */
  missedAtMs: number | undefined;
  #source: ByteSource | undefined;

  constructor(found: FoundFile, cursor: Cursor) {
    this.found = found;
    this.cursor = cursor;
  }

  get isOpen(): boolean {
    return this.#source !== undefined;
  }

  /** Size of the open file, which may have lost its name; undefined: it is not open, or it is packed. */
  get openBytes(): number | undefined {
    return this.#source instanceof PlainSource ? this.#source.bytes : undefined;
  }

  /** Opens the file, so that it can be read to its end when somebody removes it. False: it can't be opened now. */
  tryOpen(): boolean {
    try {
      this.open();
      return true;
    } catch {
      // Whoever wants to read it will hear why.
      return false;
    }
  }

  /** The file's bytes, opened if need be. Throws what opening throws. */
  open(): ByteSource {
    this.#source ??= this.found.name.isPacked
      ? new PackedSource(this.found.path)
      : this.#openPlain();
    return this.#source;
  }

  /** A file that took the name in the meantime is not this one. */
  #openPlain(): PlainSource {
    const source = PlainSource.open(this.found.path);
    if (source.inode === this.found.inode) return source;
    source.close();
    throw new Error('another file has its name now');
  }

  /** Keeps the file's beginning, as far as it is not known yet. */
  noteHead(source: ByteSource, { head }: { readonly head: Uint8Array }): void {
    if (this.head.length >= HEAD_BYTES) return;
    if (head.length > 0) this.head = head;
    if (!(source instanceof PlainSource) || this.head.length >= HEAD_BYTES) return;
    this.head = beginningIn(source);
  }

  /** The beginning of a plain file as it is now; undefined: it can't be read. */
  get beginning(): Beginning | undefined {
    try {
      const source = this.open();
      return source instanceof PlainSource ? new Beginning(beginningIn(source)) : undefined;
    } catch {
      // Whoever wants to read it will hear why.
      return undefined;
    }
  }

  /** Whether it is open, and not enough of it has been read to know it again. */
  get isUnread(): boolean {
    const { offset, headBytes } = this.cursor.mark;
    const isKnown = offset > 0 || headBytes === HEAD_BYTES || this.head.length > 0;
    return !isKnown && this.#source instanceof PlainSource;
  }

  close(): void {
    this.#source?.close();
    this.#source = undefined;
  }

  /** Bytes on disk that are not acknowledged; of a gzipped file all, until it is done with. */
  get lagBytes(): number {
    const { mark } = this.cursor;
    if (this.found.name.isPacked)
      return mark.packedBytes === this.found.bytes ? 0 : this.found.bytes;
    return Math.max(0, this.found.bytes - mark.offset);
  }

  /**
   * Whether there may be something to ship. A plain file that was read to its end waits for the next look, however it has grown
   * since: what it has is the beginning of a line, which is not read again and again until its writer comes to the line's end.
   */
  get isPending(): boolean {
    return this.lagBytes > 0 && (this.found.name.isPacked || this.endBytes === undefined);
  }

  /** Notes how a look at the folder, or at the open file, finds it. */
  see(found: FoundFile): void {
    this.found = found;
    if (found.bytes !== this.endBytes) this.endBytes = undefined;
  }
}

function beginningIn(source: PlainSource): Buffer {
  const bytes = Buffer.alloc(HEAD_BYTES);
  return bytes.subarray(0, source.readNow(bytes, 0));
}
