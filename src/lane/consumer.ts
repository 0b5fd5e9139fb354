import { assert } from '../base/assert.ts';
import { Doorbell } from './doorbell.ts';
import { type FromDisk, NONE_FROM_DISK } from './from-disk.ts';
import {
  BUSY_NOT,
  BUSY_WORD,
  CLAIMED_TERM_WORD,
  FLAG_NOTIFY,
  FLAGS_AT,
  FLUSH_POSITION_WORD,
  FLUSH_ROUND_WORD,
  FRAME_HEADER_BYTES,
  FROM_DISK_LANE_WORD,
  FROM_DISK_NUMBER_WORD,
  FROM_DISK_RECORDS_WORD,
  LENGTH_AT,
  MAIL_BYTES,
  MAIL_BYTES_AT,
  MAIL_LENGTH_WORD,
  OWNER_WORD,
  ROUND_CODE_WORD,
  ROUND_DONE_WORD,
  SEQ_AT,
  STAMP_AT,
  TAIL_SEQ_WORD,
  TAIL_WORD,
} from './layout.ts';
import type { Region } from './region.ts';
import { Settlement, SettlementWords, SPOOL_SETTLED } from './settlement.ts';
import { Spooling } from './spooling.ts';

/** A flush position so far behind the head is moved on. Lanes are no longer than this. */
const FLUSH_STALE_BYTES: number = 2 ** 30;

/** A worker's end of one lane, for the time of one turn. */
export class LaneConsumer {
  readonly region: Region;
  readonly lane: number;
  readonly term: number;
  readonly bell: Doorbell;
  readonly #words: Int32Array;
  readonly #view: DataView;
  readonly #controlWordAt: number;
  readonly #framesAt: number;
  readonly #mask: number;
  readonly #settlement: SettlementWords;
  readonly #spooling: Spooling;
  readonly #state: Settlement = new Settlement();

  private constructor(region: Region, lane: number, term: number) {
    this.region = region;
    this.lane = lane;
    this.term = term;
    this.bell = new Doorbell(region, { lane, term });
    this.#words = region.words;
    this.#view = region.view;
    this.#controlWordAt = region.controlAt(lane) / 4;
    this.#framesAt = region.framesAt(lane);
    this.#mask = region.laneBytes - 1;
    this.#settlement = new SettlementWords(region, lane);
    this.#spooling = new Spooling(region.words, this.#controlWordAt);
  }

  /**
   * Takes the lane for the turn of `term` and notes `owner` (a thread id) for the supervisor.
   * Undefined: the lane was given to a later turn meanwhile.
   */
  static claim(
    region: Region,
    { lane, term, owner }: { lane: number; term: number; owner: number },
  ): LaneConsumer | undefined {
    const consumer = new LaneConsumer(region, lane, term);
    if (!consumer.holds()) return undefined;
    consumer.setBusy(BUSY_NOT);
    consumer.setFromDisk(NONE_FROM_DISK);
    Atomics.store(consumer.#words, consumer.#controlWordAt + OWNER_WORD, owner);
    Atomics.store(consumer.#words, consumer.#controlWordAt + CLAIMED_TERM_WORD, term);
    return consumer;
  }

  /** Leaves word of what is done for the lane until the next call, for those who ask what a thread died of. */
  setBusy(busy: number): void {
    Atomics.store(this.#words, this.#controlWordAt + BUSY_WORD, busy);
  }

  /** Records of the ring are about to be appended to the spool; {@link endSpooling} has to follow. False: they must stay in the ring. */
  beginSpooling(): boolean {
    return this.#spooling.begin(this.term);
  }

  /** What was appended is committed, or could not be. */
  endSpooling(): void {
    this.#spooling.end(this.term);
  }

  /** This turn appends nothing more, and no other comes after it. */
  closeSpooling(): void {
    this.#spooling.close(this.term);
  }

  /** Leaves word of the records from disk that are under way. */
  setFromDisk({ records, lane, number }: FromDisk): void {
    const at = this.#controlWordAt;
    Atomics.store(this.#words, at + FROM_DISK_LANE_WORD, lane);
    Atomics.store(this.#words, at + FROM_DISK_NUMBER_WORD, number | 0);
    Atomics.store(this.#words, at + FROM_DISK_RECORDS_WORD, records);
  }

  /** Reads the lane's settlement. False: the lane was taken from this turn; touch nothing any more. */
  holds(): boolean {
    return this.#settlement.read(this.#state).term === this.term;
  }

  /** Position of the oldest unsettled frame, as of the last {@link holds} or {@link commit}. */
  get head(): number {
    return this.#state.head;
  }

  get headSeq(): number {
    return this.#state.headSeq;
  }

  /** A counter of the settlement, as of the last {@link holds} or {@link commit}. */
  count(counter: number): number {
    return this.#state.count(counter);
  }

  /** Number in the lane's spool below which all is settled, as of the last {@link holds} or {@link commit}. */
  get spoolSettled(): number {
    return this.#state.count(SPOOL_SETTLED);
  }

  /** Position after the last published frame, now. */
  loadTail(): number {
    return Atomics.load(this.#words, this.#controlWordAt + TAIL_WORD);
  }

  /** Number of the record after the last published one, now. */
  loadTailSeq(): number {
    return Atomics.load(this.#words, this.#controlWordAt + TAIL_SEQ_WORD);
  }

  /**
   * Has the flush position follow the head, so that it is never half the numbers behind and looks as if it were ahead. To be called more
   * often than once in 2^30 bytes.
   */
  renewFlushPosition(): void {
    const at = this.#controlWordAt + FLUSH_POSITION_WORD;
    const flush = Atomics.load(this.#words, at);
    if (((this.#state.head - flush) | 0) < FLUSH_STALE_BYTES) return;
    Atomics.compareExchange(this.#words, at, flush, this.#state.head);
  }

  /** Position up to which a flush was asked for. */
  loadFlushPosition(): number {
    return Atomics.load(this.#words, this.#controlWordAt + FLUSH_POSITION_WORD);
  }

  /** Number of the latest round asked for. */
  loadRound(): number {
    return Atomics.load(this.#words, this.#controlWordAt + FLUSH_ROUND_WORD);
  }

  /** Number of the latest round that was finished. */
  loadRoundDone(): number {
    return Atomics.load(this.#words, this.#controlWordAt + ROUND_DONE_WORD);
  }

  /** Reports the end of a round: `code` 0 is success, otherwise `message` says what went wrong. */
  endRound(round: number, code: number, message: string): void {
    const at = this.region.controlAt(this.lane);
    const mail = Buffer.from(message, 'utf8').subarray(0, MAIL_BYTES);
    this.region.bytes.set(mail, at + MAIL_BYTES_AT);
    this.#words[this.#controlWordAt + MAIL_LENGTH_WORD] = mail.length;
    this.#words[this.#controlWordAt + ROUND_CODE_WORD] = code;
    Atomics.store(this.#words, this.#controlWordAt + ROUND_DONE_WORD, round);
    Atomics.notify(this.#words, this.#controlWordAt + ROUND_DONE_WORD);
  }

  /** When the record of the frame at region offset `at` was accepted, in ms since the region's base. */
  stampAt(at: number): number {
    return this.#view.getUint32(at + STAMP_AT, true);
  }

  /** Whether somebody wants to hear how the record of the frame at region offset `at` was settled. */
  wantsNotice(at: number): boolean {
    return ((this.region.bytes[at + FLAGS_AT] ?? 0) & FLAG_NOTIFY) !== 0;
  }

  /**
   * Region offset of the frame at `position`, stepping over a skip frame; -1 at `tail`.
   * The position of the frame after it is {@link positionAfter}.
   */
  frameAt(position: number, tail: number): number {
    if (position === tail) return -1;
    const at = this.#framesAt + (position & this.#mask);
    return this.#view.getInt32(at + LENGTH_AT, true) < 0 ? this.#framesAt : at;
  }

  /** Position after the frame that {@link frameAt} found for `position`. */
  positionAfter(position: number): number {
    const length = this.#view.getInt32(this.#framesAt + (position & this.#mask) + LENGTH_AT, true);
    if (length >= 0) return (position + length) | 0;
    return (position - length + this.#view.getInt32(this.#framesAt + LENGTH_AT, true)) | 0;
  }

  /**
   * The frames from `position` on that follow each other without a gap, as region offsets, with the position of the first
   * of them; nothing is looked at but the first frame's length. Undefined at `tail`.
   */
  spanAt(
    position: number,
    tail: number,
  ): { from: number; to: number; position: number } | undefined {
    if (position === tail) return undefined;
    const offset = position & this.#mask;
    const length = this.#view.getInt32(this.#framesAt + offset + LENGTH_AT, true);
    const first = length < 0 ? (position - length) | 0 : position;
    const from = this.#framesAt + (first & this.#mask);
    const bytes = Math.min((tail - first) | 0, this.#mask + 1 - (first & this.#mask));
    return bytes > 0 ? { from, to: from + bytes, position: first } : undefined;
  }

  /** Checks what the producer promised of the frame at region offset `at` (L3, L4). */
  assertFrame(at: number, seq: number): void {
    const length = this.#view.getInt32(at + LENGTH_AT, true);
    assert(
      length >= FRAME_HEADER_BYTES && (length & 7) === 0 && length <= this.#mask,
      `frame length ${length}`,
    );
    const found = this.#view.getInt32(at + SEQ_AT, true);
    assert(found === seq, `frame ${found} where ${seq} was due`);
  }

  /**
   * Changes the settlement as `change` says and commits it. False: the lane was taken from this turn,
   * and nothing was changed.
   */
  commit(change: (state: Settlement) => void): boolean {
    for (;;) {
      if (!this.holds()) return false;
      change(this.#state);
      if (this.#settlement.commit(this.#state, 'worker')) return true;
    }
  }
}
