import { AWAKE, bellState, ring } from './doorbell.ts';
import {
  ACCEPTED_FLOAT,
  BELL_WORD,
  FLUSH_POSITION_WORD,
  frameBytesMax,
  LENGTH_AT,
  OVERFLOW_NEWEST_FLOAT,
  SEQ_AT,
  TAIL_SEQ_WORD,
  TAIL_WORD,
} from './layout.ts';
import type { Region } from './region.ts';
import { SettlementWords } from './settlement.ts';

// What each record needs, as constants of this module: imported ones are looked up at every use.
const LENGTH_WORD: number = LENGTH_AT / 4;
const SEQ_WORD: number = SEQ_AT / 4;
const ACCEPTED: number = ACCEPTED_FLOAT;
const TAIL: number = TAIL_WORD;
const TAIL_SEQ: number = TAIL_SEQ_WORD;
const BELL: number = BELL_WORD;
const IS_AWAKE: number = AWAKE;

/** The producing thread's end of one lane. Never blocks, never allocates per record. */
export class LaneProducer {
  readonly region: Region;
  readonly lane: number;
  readonly settlement: SettlementWords;
  /** Longest frame this lane takes, in bytes. */
  readonly frameBytesMax: number;
  readonly controlWordAt: number;
  readonly #words: Int32Array;
  readonly #floats: Float64Array;
  readonly #bytes: Uint8Array;
  readonly #controlFloatAt: number;
  readonly #framesAt: number;
  readonly #laneBytes: number;
  readonly #mask: number;
  #tail: number;
  #seq: number;
  #cachedHead: number;

  constructor(region: Region, lane: number) {
    this.region = region;
    this.lane = lane;
    this.settlement = new SettlementWords(region, lane);
    this.#words = region.words;
    this.#floats = region.floats;
    this.#bytes = region.bytes;
    this.controlWordAt = region.controlAt(lane) / 4;
    this.#controlFloatAt = region.controlAt(lane) / 8;
    this.#framesAt = region.framesAt(lane);
    this.#laneBytes = region.laneBytes;
    this.#mask = region.laneBytes - 1;
    this.frameBytesMax = frameBytesMax(region.laneBytes);
    this.#tail = Atomics.load(this.#words, this.controlWordAt + TAIL_WORD);
    this.#seq = Atomics.load(this.#words, this.controlWordAt + TAIL_SEQ_WORD);
    this.#cachedHead = this.settlement.readHead();
  }

  /** Position of the next byte. */
  get tail(): number {
    return this.#tail;
  }

  /** Number of the next record, modulo 2^32. */
  get seq(): number {
    return this.#seq;
  }

  get accepted(): number {
    return this.#floats[this.#controlFloatAt + ACCEPTED_FLOAT] ?? 0;
  }

  get overflowNewest(): number {
    return this.#floats[this.#controlFloatAt + OVERFLOW_NEWEST_FLOAT] ?? 0;
  }

  /** Place in the region's bytes where the next frame starts. */
  get writeAt(): number {
    return this.#framesAt + (this.#tail & this.#mask);
  }

  /** End (exclusive) of the free bytes that follow {@link writeAt} without a wrap, by what is known without looking. */
  get writeLimit(): number {
    const offset = this.#tail & this.#mask;
    const free = this.#laneBytes - ((this.#tail - this.#cachedHead) | 0);
    return this.#framesAt + Math.min(offset + free, this.#laneBytes, offset + this.frameBytesMax);
  }

  /** Whether more than this share of the lane is in use; looks at the head only if it may matter. */
  isFullerThan(share: number): boolean {
    const limit = share * this.#laneBytes;
    if (((this.#tail - this.#cachedHead) | 0) <= limit) return false;
    this.refresh();
    return ((this.#tail - this.#cachedHead) | 0) > limit;
  }

  /** Looks where the head is by now. True: there is more room than was known. */
  refresh(): boolean {
    const head = this.settlement.readHead();
    if (head === this.#cachedHead) return false;
    this.#cachedHead = head;
    return true;
  }

  /**
   * Publishes the frame of `length` bytes (a multiple of 8, header complete but for length and seq)
   * that was written at {@link writeAt}.
   */
  publish(length: number): void {
    const words = this.#words;
    const floats = this.#floats;
    const seq = this.#seq;
    const wordAt = this.writeAt / 4;
    words[wordAt + LENGTH_WORD] = length;
    words[wordAt + SEQ_WORD] = seq;
    const acceptedAt = this.#controlFloatAt + ACCEPTED;
    floats[acceptedAt] = (floats[acceptedAt] ?? 0) + 1;
    this.#tail = (this.#tail + length) | 0;
    this.#seq = (seq + 1) | 0;
    // The seq goes first: a worker that sees the new tail then also sees a seq that covers it.
    words[this.controlWordAt + TAIL_SEQ] = this.#seq;
    Atomics.store(words, this.controlWordAt + TAIL, this.#tail);
  }

  /**
   * Copies one finished frame into the lane and publishes it.
   *
   * @param frame length a multiple of 8, at most {@link frameBytesMax}; length and seq are filled in here
   * @returns false when there is no room for it; nothing was written
   */
  offer(frame: Uint8Array): boolean {
    const length = frame.length;
    const untilEnd = this.#laneBytes - (this.#tail & this.#mask);
    const skipped = length <= untilEnd ? 0 : untilEnd;
    if (!this.#hasRoom(length + skipped)) return false;
    if (skipped > 0) {
      this.#words[this.writeAt / 4 + LENGTH_WORD] = -skipped;
      this.#tail = (this.#tail + skipped) | 0;
    }
    this.#bytes.set(frame, this.writeAt);
    this.publish(length);
    return true;
  }

  #hasRoom(length: number): boolean {
    const used = (this.#tail - this.#cachedHead) | 0;
    if (this.#laneBytes - used >= length) return true;
    return this.refresh() && this.#laneBytes - ((this.#tail - this.#cachedHead) | 0) >= length;
  }

  /** Counts one record that the overflow policy kept out of the lane. */
  countOverflow(): void {
    this.#floats[this.#controlFloatAt + OVERFLOW_NEWEST_FLOAT] = this.overflowNewest + 1;
  }

  /** True: nobody attends the lane and the caller must post a turn (it has won the exchange). */
  needsTurn(): boolean {
    const bell = Atomics.load(this.#words, this.controlWordAt + BELL);
    if (bellState(bell) === IS_AWAKE) return false;
    return ring(this.#words, this.controlWordAt, 'mark');
  }

  /** Asks that everything accepted so far goes out without linger. True: the caller must post a turn. */
  requestFlush(): boolean {
    Atomics.store(this.#words, this.controlWordAt + FLUSH_POSITION_WORD, this.#tail);
    return ring(this.#words, this.controlWordAt, 'force');
  }

  /** Records in the lane, from two counts that different threads keep. */
  queued(): number {
    return (this.#seq - this.settlement.readHeadSeq()) >>> 0;
  }
}
