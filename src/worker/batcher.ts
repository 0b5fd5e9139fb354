import type { FillLimits, RecordTable, RegionTranscoder } from '../codec/region-transcoder.ts';
import { TextBuffer } from '../codec/transcode.ts';
import type { LaneConsumer } from '../lane/consumer.ts';
import type { BatchLimits } from './contract.ts';

/** Why a batch was closed: the label of a counter. */
export type BatchTrigger = 'full' | 'bytes' | 'linger' | 'flush';

/** Records as a delivery sees them: see `Batch` of sink/sink.ts. */
export interface DeliveryBatch {
  readonly count: number;
  readonly text: { readonly bytes: Uint8Array };
  readonly starts: Uint32Array;
  readonly ends: Uint32Array;
}

/** How far a batch is filled. */
export interface FillMark {
  /** Position after the last frame there is. */
  readonly tail: number;
  /** Records of the batch; default: as many as it holds. */
  readonly recordsMax?: number;
}

/** Fate of the records `[from, to)` of a batch that went to the spool. */
export interface MovedFate {
  readonly from: number;
  readonly to: number;
  readonly counter: number;
  readonly sentBytes: number;
}

/** Frames that are read one by one before many are tried again, at the most. */
const SINGLES_MAX = 31;

/** When to try to read many frames at once: each try in vain copies them all, so the more are in vain, the fewer are made. */
class SpanReads {
  #pause = 0;
  #left = 0;

  get isDue(): boolean {
    this.#left -= 1;
    return this.#left < 0;
  }

  note(hasTaken: boolean): void {
    this.#pause = hasTaken ? 0 : Math.min(SINGLES_MAX, 2 * this.#pause + 1);
    this.#left = this.#pause;
  }
}

/**
 * Records of one lane on their way into one attempt: their text, and where each frame ended.
 * Filled step by step; the lane's frames stay where they are until the records are settled.
 */
export class PendingBatch implements RecordTable {
  readonly text: TextBuffer;
  readonly starts: Uint32Array;
  readonly ends: Uint32Array;
  /** Position after the frame of each record. */
  readonly positions: Int32Array;
  /** How each record was settled: a counter of settlement.ts; 0: not yet. */
  readonly outcomes: Uint8Array;
  /** When each record was accepted, in ms since the region's base, modulo 2^32. */
  readonly stamps: Uint32Array;
  count = 0;
  /** Number of the first record. */
  firstSeq = 0;
  /** Position after the last record read. */
  position = 0;
  /** Position of the first frame. */
  startPosition = 0;
  /** Whether the records are pinned in their lane. */
  isHeld = false;
  /** Whether somebody waits to hear about any of the records. */
  hasNotices = false;
  /** Records whose settlement has been committed. */
  committed = 0;
  /** Records of the batch that are in the spool, the first ones; and the number there of the batch's first record. */
  moved = 0;
  spoolBase = 0;
  /** What became of records that are in the spool, and can't be settled before earlier ones are. */
  readonly fates: MovedFate[] = [];
  /** Whether nobody works on the batch any more. */
  isFinished = false;
  /** Bytes that went out for this batch and are not yet in the settlement. */
  sentBytes = 0;
  /** Time spent on turning frames into text, in ms. */
  encodeMs = 0;
  /** What broke while the next frame was read; that record can never be sent. */
  broken: unknown = undefined;
  readonly #limits: FillLimits;

  constructor(limits: BatchLimits, separator: ',' | '\n', text: TextBuffer) {
    const { recordsMax, bytesMax } = limits;
    this.#limits = { recordsMax, bytesMax, separator: separator.charCodeAt(0) };
    this.text = text;
    this.starts = new Uint32Array(limits.recordsMax);
    this.ends = new Uint32Array(limits.recordsMax);
    this.positions = new Int32Array(limits.recordsMax);
    this.outcomes = new Uint8Array(limits.recordsMax);
    this.stamps = new Uint32Array(limits.recordsMax);
  }

  /** Starts anew with the record `seq` at `position`. */
  reset(position: number, seq: number): void {
    this.count = 0;
    this.firstSeq = seq;
    this.position = position;
    this.startPosition = position;
    this.isHeld = false;
    this.isFinished = false;
    this.moved = 0;
    this.fates.length = 0;
    this.hasNotices = false;
    this.committed = 0;
    this.sentBytes = 0;
    this.encodeMs = 0;
    this.broken = undefined;
    this.text.at = 1;
  }

  /** Number of the record after the last one. */
  get endSeq(): number {
    return (this.firstSeq + this.count) | 0;
  }

  /** Text of all records, separators included, in bytes. */
  get bytes(): number {
    return this.text.at - 1;
  }

  /** Text of the records `[from, to)`, separators left out, in bytes. */
  bytesOf(from: number, to: number): number {
    if (from >= to) return 0;
    return (this.ends[to - 1] ?? 0) - (this.starts[from] ?? 0);
  }

  /** Index of the first record that is not settled. */
  get firstOpen(): number {
    let index = this.committed;
    while (index < this.count && this.outcomes[index] !== 0) index += 1;
    return index;
  }

  /** Takes the frame that broke for a record without text, already settled as `counter`. */
  takeBroken(lane: LaneConsumer, counter: number): void {
    const at = this.text.at;
    this.starts[this.count] = at;
    this.ends[this.count] = at;
    this.stamps[this.count] = 0;
    this.position = lane.positionAfter(this.position);
    this.positions[this.count] = this.position;
    this.outcomes[this.count] = counter;
    this.count += 1;
    this.broken = undefined;
  }

  /** Reads frames up to `tail` or until a limit is reached. Undefined: there is room for more. */
  fill(
    lane: LaneConsumer,
    transcoder: RegionTranscoder,
    { tail, recordsMax = this.#limits.recordsMax }: FillMark,
  ): 'full' | 'bytes' | 'broken' | undefined {
    const { bytesMax } = this.#limits;
    const text = this.text;
    // Those that are read one at a time are not read ahead either.
    const reads = recordsMax > 1 ? new SpanReads() : undefined;
    while (this.position !== tail) {
      if (this.count === recordsMax) return 'full';
      if (text.at > bytesMax) return 'bytes';
      if (reads?.isDue === true) {
        const hasTaken = this.#takeSpan(lane, transcoder, tail);
        reads.note(hasTaken);
        if (hasTaken) continue;
      }
      const frameAt = lane.frameAt(this.position, tail);
      lane.assertFrame(frameAt, this.endSeq);
      const start = text.at;
      try {
        transcoder.append(frameAt, text);
      } catch (error) {
        text.at = start;
        this.broken = error;
        return 'broken';
      }
      this.#close(lane, frameAt, start);
    }
    if (this.count === recordsMax) return 'full';
    return text.at > bytesMax ? 'bytes' : undefined;
  }

  /** Reads as many frames as can be read at once. False: the next one has to be looked at by itself. */
  #takeSpan(lane: LaneConsumer, transcoder: RegionTranscoder, tail: number): boolean {
    const span = lane.spanAt(this.position, tail);
    if (span === undefined) return false;
    const from = this.count;
    const count = transcoder.appendSpan(
      { ...span, seq: this.endSeq },
      this.text,
      this,
      this.#limits,
    );
    if (count === 0) return false;
    this.outcomes.fill(0, from, from + count);
    this.position = this.positions[from + count - 1] ?? this.position;
    return true;
  }

  #close(lane: LaneConsumer, frameAt: number, start: number): void {
    const index = this.count;
    const text = this.text;
    this.stamps[index] = lane.stampAt(frameAt);
    this.starts[index] = start;
    this.ends[index] = text.at;
    text.bytes[text.at] = this.#limits.separator;
    text.at += 1;
    if (lane.wantsNotice(frameAt)) this.hasNotices = true;
    this.position = lane.positionAfter(this.position);
    this.positions[index] = this.position;
    this.outcomes[index] = 0;
    this.count = index + 1;
  }
}

const TEXT_SPARE_BYTES: number = 64 * 1024;
/** A batch begins with room for this much text; it grows as it must. */
const TEXT_BYTES_MAX: number = 8 * TEXT_SPARE_BYTES;

/** Batches that are used again: one of them has memory worth keeping. */
export class BatchPool {
  readonly #limits: BatchLimits;
  readonly #separator: ',' | '\n';
  readonly #free: PendingBatch[] = [];

  constructor(limits: BatchLimits, separator: ',' | '\n') {
    this.#limits = limits;
    this.#separator = separator;
  }

  take(): PendingBatch {
    return this.#free.pop() ?? this.#make();
  }

  #make(): PendingBatch {
    const bytes = Math.min(this.#limits.bytesMax, TEXT_BYTES_MAX) + TEXT_SPARE_BYTES;
    return new PendingBatch(this.#limits, this.#separator, new TextBuffer(bytes));
  }

  /** Nobody may look at the batch any more. */
  giveBack(batch: PendingBatch): void {
    this.#free.push(batch);
  }
}
