import { systemCodeOf } from '../base/errors.ts';
import type { Place } from './checkpoint.ts';
import type { SpoolFileSystem } from './file-system.ts';
import { SegmentScanner } from './scanner.ts';
import { fullNumber, SEGMENT_HEADER_BYTES } from './segment.ts';
import type { Segment, SegmentShelf } from './shelf.ts';

/** How often a segment may fail to be read with EIO before its rest counts as lost. */
const READ_FAILURES_MAX = 3;

/**
 * Goes from record to record over the segments of a lane. After {@link next} gave true, the fields describe the
 * record, until the next call.
 */
export class FrameWalker {
  readonly #shelf: SegmentShelf;
  readonly #scanner: SegmentScanner;
  #index = 0;
  #at = SEGMENT_HEADER_BYTES;
  /** Lowest number that has not been passed. */
  #expected = 0;
  #failedPath = '';
  #failures = 0;

  number = 0;
  /** Segment of the record. */
  sequence = 0;

  constructor(shelf: SegmentShelf, fileSystem: SpoolFileSystem) {
    this.#shelf = shelf;
    this.#scanner = new SegmentScanner(fileSystem);
  }

  get stampMs(): number {
    return this.#scanner.stampMs;
  }

  get seq(): number | undefined {
    return this.#scanner.seq;
  }

  get textBytes(): number {
    return this.#scanner.textTo - this.#scanner.textFrom;
  }

  /** The text, in memory that the next step may overwrite. */
  get text(): Uint8Array {
    return this.#scanner.bytes.subarray(this.#scanner.textFrom, this.#scanner.textTo);
  }

  /** Byte of the segment where the record's frame begins. */
  get frameAt(): number {
    return this.#scanner.frameAt;
  }

  /** Byte of the segment after the record. */
  get nextAt(): number {
    return this.#scanner.nextAt;
  }

  /** Goes to the place; records below `number` will be passed over. */
  seek(place: Place, number: number): void {
    this.#index = this.#shelf.indexOf({ sequence: place.sequence, number });
    const isThere = this.#shelf.segments[this.#index]?.sequence === place.sequence;
    this.#at = isThere ? place.at : SEGMENT_HEADER_BYTES;
    this.#expected = number;
  }

  /**
   * Goes to the next good record; `end`: number after the last one of the lane. False: none is left.
   * Throws what reading throws, and stays where it was; a segment that stays unreadable is given up.
   */
  next(end: number): boolean {
    for (;;) {
      const segment = this.#shelf.segments[this.#index];
      if (segment === undefined) return false;
      const stop = this.#shelf.stopOf(this.#index, end);
      if (stop > this.#expected && this.#isReadable(segment) && this.#step(segment, stop)) {
        return true;
      }
      this.#index += 1;
      this.#at = SEGMENT_HEADER_BYTES;
    }
  }

  /** Lets go of the open file; the next step opens it again. */
  close(): void {
    this.#scanner.close();
  }

  #isReadable(segment: Segment): boolean {
    if (segment.state !== 'good') return false;
    try {
      this.#scanner.open(segment.path, segment.bytes);
    } catch (error) {
      if (systemCodeOf(error) === 'ENOENT') {
        segment.state = 'lost';
        segment.bytes = 0;
        return false;
      }
      return this.#giveUpOrThrow(segment, error);
    }
    if (this.#scanner.header === 'foreign') segment.state = 'foreign';
    return segment.state === 'good';
  }

  #step(segment: Segment, stop: number): boolean {
    for (;;) {
      if (!this.#find(segment)) return false;
      const number = fullNumber(segment.first, this.#scanner.low);
      if (number >= stop) return false;
      this.#at = this.#scanner.nextAt;
      if (number < this.#expected) continue;
      this.number = number;
      this.sequence = segment.sequence;
      this.#expected = number + 1;
      return true;
    }
  }

  #find(segment: Segment): boolean {
    try {
      return this.#scanner.find(this.#at);
    } catch (error) {
      return this.#giveUpOrThrow(segment, error);
    }
  }

  /** A bad sector must not hold up all that follows, but trouble that passes (EMFILE, EACCES) must cost nothing. */
  #giveUpOrThrow(segment: Segment, error: unknown): false {
    this.#scanner.close();
    if (systemCodeOf(error) !== 'EIO') throw error;
    this.#failures = this.#failedPath === segment.path ? this.#failures + 1 : 1;
    this.#failedPath = segment.path;
    if (this.#failures < READ_FAILURES_MAX) throw error;
    segment.state = 'lost';
    return false;
  }
}
