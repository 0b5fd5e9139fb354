import type { SpoolFileSystem } from './file-system.ts';
import {
  FLAG_SEQ,
  FLAGS_AT,
  FRAME_HEADER_BYTES,
  FRAME_MARK,
  frameBytes,
  type HeaderState,
  isFrameIntact,
  NUMBER_AT,
  probeFrame,
  readSegmentHeader,
  SEGMENT_HEADER_BYTES,
  SEQ_AT,
  STAMP_AT,
} from './segment.ts';

const CHUNK_BYTES: number = 256 * 1024;

/**
 * Finds the good frames of one segment file, a chunk at a time. Memory: one chunk, or the longest frame.
 * After {@link find} gave true the fields describe the frame it found, until the next call.
 */
export class SegmentScanner {
  readonly #fileSystem: SpoolFileSystem;
  #path = '';
  #fd = -1;
  #limit = 0;
  #bytes: Uint8Array;
  #view: DataView;
  /** Place in the file of the first byte in memory, and how many bytes there are. */
  #from = 0;
  #loaded = 0;
  #header: HeaderState = 'damaged';

  /** Place of the frame in the file. */
  frameAt = 0;
  /** Place after it. */
  nextAt = 0;
  /** Last 32 bits of the record's number. */
  low = 0;
  seq: number | undefined = undefined;
  stampMs = 0;
  /** Where the text is in {@link bytes}. */
  textFrom = 0;
  textTo = 0;
  /** Bytes that were passed over before the frame, because they are damaged. */
  skippedBytes = 0;

  constructor(fileSystem: SpoolFileSystem) {
    this.#fileSystem = fileSystem;
    this.#bytes = new Uint8Array(0);
    this.#view = new DataView(this.#bytes.buffer);
  }

  get bytes(): Uint8Array {
    return this.#bytes;
  }

  /** The whole frame, in memory that the next call may overwrite. */
  get frame(): Uint8Array {
    return this.#bytes.subarray(this.textFrom - FRAME_HEADER_BYTES, this.textTo);
  }

  get header(): HeaderState {
    return this.#header;
  }

  /**
   * Goes to a file, of which the first `limitBytes` are looked at; nothing is read again if it is the
   * one it is at. Throws what opening and reading throw.
   */
  open(path: string, limitBytes: number): void {
    this.#limit = limitBytes;
    if (this.#fd >= 0 && this.#path === path) return;
    this.close();
    this.#fd = this.#fileSystem.open(path, 'read');
    this.#path = path;
    try {
      const hasHeader = this.#load(0, SEGMENT_HEADER_BYTES);
      this.#header = readSegmentHeader(
        this.#bytes.subarray(0, hasHeader ? SEGMENT_HEADER_BYTES : 0),
      );
    } catch (error) {
      this.close();
      throw error;
    }
  }

  /** Lets go of the file. Idempotent. */
  close(): void {
    const fd = this.#fd;
    this.#fd = -1;
    this.#path = '';
    this.#from = 0;
    this.#loaded = 0;
    if (fd >= 0) this.#fileSystem.close(fd);
  }

  /** Finds the first good frame at or after `at`. False: there is none up to the limit. Throws what reading throws. */
  find(at: number): boolean {
    const start = Math.max(at, SEGMENT_HEADER_BYTES);
    let frameAt = start;
    while (!this.#isFrame(frameAt)) {
      frameAt = this.#findMark(frameAt + 1);
      if (frameAt < 0) {
        this.skippedBytes = Math.max(0, this.#limit - start);
        return false;
      }
    }
    this.skippedBytes = frameAt - start;
    return true;
  }

  #isFrame(at: number): boolean {
    if (!this.#load(at, FRAME_HEADER_BYTES)) return false;
    const textBytes = probeFrame(this.#view, at - this.#from, this.#limit - at);
    if (textBytes < 0 || !this.#load(at, frameBytes(textBytes))) return false;
    const index = at - this.#from;
    if (!isFrameIntact(this.#view, { at: index, textBytes })) return false;
    this.frameAt = at;
    this.nextAt = at + frameBytes(textBytes);
    this.low = this.#view.getUint32(index + NUMBER_AT, true);
    const hasSeq = (this.#view.getUint8(index + FLAGS_AT) & FLAG_SEQ) !== 0;
    this.seq = hasSeq ? this.#view.getUint32(index + SEQ_AT, true) : undefined;
    this.stampMs = this.#view.getFloat64(index + STAMP_AT, true);
    this.textFrom = index + FRAME_HEADER_BYTES;
    this.textTo = index + frameBytes(textBytes);
    return true;
  }

  /** Place of the first byte that may begin a frame, at or after `at`; -1: none. */
  #findMark(at: number): number {
    let from = at;
    while (this.#load(from, FRAME_HEADER_BYTES)) {
      const index = this.#bytes.indexOf(FRAME_MARK, from - this.#from);
      if (index >= 0 && index < this.#loaded) return this.#from + index;
      from = this.#from + this.#loaded;
    }
    return -1;
  }

  /** Has the bytes `[at, at + count)` in memory. False: the file ends before. */
  #load(at: number, count: number): boolean {
    if (at + count > this.#limit) return false;
    if (at >= this.#from && at + count <= this.#from + this.#loaded) return true;
    const wanted = Math.min(Math.max(count, CHUNK_BYTES), this.#limit - at);
    this.#reserve(wanted);
    this.#from = at;
    this.#loaded = 0;
    while (this.#loaded < wanted) {
      const target = this.#bytes.subarray(this.#loaded, wanted);
      const read = this.#fileSystem.read(this.#fd, target, at + this.#loaded);
      if (read === 0) break;
      this.#loaded += read;
    }
    return this.#loaded >= count;
  }

  #reserve(count: number): void {
    const isTooLarge = this.#bytes.length > 4 * CHUNK_BYTES && count <= CHUNK_BYTES;
    if (this.#bytes.length >= count && !isTooLarge) return;
    // What one huge record had made is given back.
    this.#bytes = new Uint8Array(Math.max(count, CHUNK_BYTES));
    this.#view = new DataView(this.#bytes.buffer);
  }
}
