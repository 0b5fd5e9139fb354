import { assert } from '../base/assert.ts';
import type { Clock } from '../base/clock.ts';
import { MillraceError } from '../base/errors.ts';
import type { Checkpoint, CheckpointFile, Doubt, Place, Tail } from './checkpoint.ts';
import { type DiskFailure, failureOf, type SpoolFileSystem } from './file-system.ts';
import type { SegmentShelf } from './shelf.ts';
import { FrameWalker } from './walker.ts';

/** When a batch is complete: whichever comes first, but a batch holds at least one record. */
export interface SpoolLimits {
  readonly maxRecords: number;
  /** Text with separators, in bytes. */
  readonly maxBytes: number;
}

/**
 * Records of one lane, in order. `text`, `starts` and `ends` are laid out as a sink wants them: byte 0 is spare, and the
 * byte at `ends[i]` is the separator's. They are the lane's, which uses them again: valid until its next `peek`.
 */
export interface SpoolBatch {
  readonly lane: number;
  readonly count: number;
  readonly text: Uint8Array;
  readonly starts: Uint32Array;
  readonly ends: Uint32Array;
  /** When each record was accepted, in ms since 1970. */
  readonly stamps: Float64Array;
  /** Number of the first record; record `i` has `first + i`. */
  readonly first: number;
  /** Records right before the first one that damage took. Only if there are some may `count` be 0. */
  readonly lost: number;
  /** Number after the last record. */
  readonly nextNumber: number;
  readonly oldestMs: number;
}

/** What a settlement changed. Records that had been evicted meanwhile are in neither. */
export interface SettleResult {
  readonly records: number;
  /** Records that damage took. */
  readonly lost: number;
}

export interface ReaderParts {
  readonly lane: number;
  readonly shelf: SegmentShelf;
  readonly checkpoint: CheckpointFile;
  readonly fileSystem: SpoolFileSystem;
  readonly clock: Clock;
}

/** Longest time a settlement waits until the checkpoint has it, in ms, while others come. */
const CHECKPOINT_MS = 250;
/** The same for stable storage: what a power cut has sent again. */
const CHECKPOINT_SYNC_MS = 1000;
const TEXT_BYTES_MIN: number = 16 * 1024;
const TEXT_KEPT_MAX: number = 2 * 1024 * 1024;

interface Mark extends Place {
  readonly number: number;
}

/** The reading side of a lane: hands out records, settles them, and removes segments that are settled as a whole. */
export class LaneReader {
  readonly #parts: ReaderParts;
  readonly #walker: FrameWalker;
  readonly #collector = new Collector();
  #settled: number;
  /** Frames whose place is known, by rising number; the first is at or before the first unsettled record. */
  #marks: Mark[];
  #isDirty = false;
  /** Whether the latest checkpoint is known to be on stable storage. */
  #isSynced = false;
  #savedMs = Number.NEGATIVE_INFINITY;
  #syncedMs = Number.NEGATIVE_INFINITY;
  #headNumber = -1;
  #headStampMs = 0;
  /** Where appending goes on; kept by whoever appends. */
  tail: Tail;
  doubt: Doubt | undefined;
  /** Why the latest checkpoint could not be written; undefined: it was. */
  failure: DiskFailure | undefined = undefined;
  /** Records that damage took and that were passed over. */
  lostRecords = 0;

  constructor(parts: ReaderParts, { settled, place, tail, doubt }: Checkpoint) {
    this.#parts = parts;
    this.#walker = new FrameWalker(parts.shelf, parts.fileSystem);
    this.#settled = settled;
    this.#marks = [{ ...place, number: settled }];
    this.tail = tail;
    this.doubt = doubt;
  }

  /** Number of the first record that is not settled. */
  get settled(): number {
    return this.#settled;
  }

  /** Records that are not settled, damaged ones that nobody has come upon included. */
  get records(): number {
    return this.tail.number - this.#settled;
  }

  /** Sequence of the segment that holds the first unsettled record, as far as it is known. */
  get sequence(): number {
    return this.#markFor(this.#settled).sequence;
  }

  /** When the oldest record was accepted, in ms since 1970; 0: there is none. May read from the disk. */
  get oldestMs(): number {
    if (this.records === 0) return 0;
    if (this.#headNumber !== this.#settled) this.#findHead();
    return this.#headStampMs;
  }

  /**
   * The next records from the first unsettled one on; what the call before gave is void. Undefined: there are none.
   *
   * @throws MillraceError MILLRACE_SPOOL: the disk can't be read now; nothing has changed, try again
   */
  peek(limits: SpoolLimits): SpoolBatch | undefined {
    const from = this.#settled;
    if (from >= this.tail.number) return undefined;
    this.#walker.seek(this.#markFor(from), from);
    const collector = this.#collector;
    collector.begin(limits);
    let isMore = true;
    while (isMore) {
      isMore = this.#next(collector.count > 0) && collector.take(this.#walker);
    }
    const batch = collector.finish(this.#parts.lane, { from, end: this.tail.number });
    if (collector.count > 0) {
      const { sequence, nextAt } = collector;
      this.#mark({ number: batch.nextNumber, sequence, at: nextAt });
      if (batch.first === this.#settled) this.#setHead(batch.first, batch.oldestMs);
    }
    return batch;
  }

  /**
   * The first `count` records of a batch have their fate, and the damaged ones before them. Earlier batches must have been
   * settled. The checkpoint follows within {@link CHECKPOINT_MS} of further settling, or with {@link save}.
   */
  settle(batch: SpoolBatch, count: number = batch.count): SettleResult {
    assert(batch.first - batch.lost <= this.#settled, 'batches are settled in order');
    assert(count <= batch.count, 'no more is settled than was handed out');
    const to = batch.first + count;
    if (to <= this.#settled) return { records: 0, lost: 0 };
    const lost = Math.max(0, batch.first - this.#settled);
    const records = to - this.#settled - lost;
    this.lostRecords += lost;
    const stampMs = batch.stamps[count];
    if (count < batch.count && stampMs !== undefined) this.#setHead(to, stampMs);
    this.moveTo(to);
    return { records, lost };
  }

  /** Gives up the records of the oldest segment that has unsettled ones, and removes what is below; returns how many. */
  evictOldest(): number {
    // What is settled makes room first.
    if (this.#hasFinished()) {
      this.save();
      return 0;
    }
    const { segments } = this.#parts.shelf;
    const end = this.tail.number;
    const index = segments.findIndex((_, at) => this.#parts.shelf.stopOf(at, end) > this.#settled);
    const stop = index < 0 ? end : this.#parts.shelf.stopOf(index, end);
    const records = Math.max(0, stop - this.#settled);
    if (records > 0) {
      this.moveTo(stop);
      this.save();
    }
    return records;
  }

  /** Settles every record below a number. The checkpoint follows, see {@link settle}, and then what is below it is removed. */
  moveTo(number: number): void {
    if (number <= this.#settled) return;
    this.#settled = number;
    this.#isDirty = true;
    if (this.doubt !== undefined && this.doubt.to <= number) this.doubt = undefined;
    const known = this.#marks.findLastIndex((mark) => mark.number <= number);
    if (known > 0) this.#marks.splice(0, known);
    if (this.#parts.clock.monotonicMs() - this.#savedMs >= CHECKPOINT_MS) this.note();
  }

  /** Puts what is new in the checkpoint on stable storage, then removes what lies below it. False: see {@link failure}; it is tried again. */
  save(): boolean {
    return this.#save('sync');
  }

  /** As {@link save}, but that a power cut may bring up an older checkpoint if there is nothing to remove. */
  note(): boolean {
    const isOld = this.#parts.clock.monotonicMs() - this.#syncedMs >= CHECKPOINT_SYNC_MS;
    return this.#save(isOld || this.#hasFinished() ? 'sync' : 'keep');
  }

  #save(how: 'sync' | 'keep'): boolean {
    try {
      // The order is the point (P4): a crash in between leaves a segment too many, never a record that is missing.
      if (this.#isDirty || (this.#hasFinished() && !this.#isSynced)) this.#writeCheckpoint(how);
      while (this.#hasFinished()) this.#removeFirst();
      this.failure = undefined;
      return true;
    } catch (error) {
      this.failure = failureOf(error);
      return false;
    }
  }

  #writeCheckpoint(how: 'sync' | 'keep'): void {
    this.#parts.checkpoint.write(this.#checkpoint(), how);
    this.#isDirty = false;
    this.#isSynced = how === 'sync';
    this.#savedMs = this.#parts.clock.monotonicMs();
    if (this.#isSynced) this.#syncedMs = this.#savedMs;
  }

  /** Makes the checkpoint's file while there is room for it. Throws what the disk throws. */
  ensureCheckpoint(): void {
    this.#parts.checkpoint.ensure(this.#checkpoint());
  }

  /** Something besides the settlement is to be kept with the next checkpoint. */
  markDirty(): void {
    this.#isDirty = true;
  }

  /** Lets go of the open file. */
  close(): void {
    this.#walker.close();
  }

  #checkpoint(): Checkpoint {
    return {
      settled: this.#settled,
      place: this.#markFor(this.#settled),
      tail: this.tail,
      doubt: this.doubt,
    };
  }

  /** Whether the oldest segment has no unsettled record. The youngest one stays: it may be written to. */
  #hasFinished(): boolean {
    const { shelf } = this.#parts;
    return shelf.segments.length > 1 && shelf.stopOf(0, this.tail.number) <= this.#settled;
  }

  #removeFirst(): void {
    const { shelf } = this.#parts;
    // An open file keeps its blocks on the disk, removed or not.
    if (this.#walker.sequence <= (shelf.segments[0]?.sequence ?? 0)) this.#walker.close();
    shelf.removeFirst();
  }

  /** @param isEnough nothing is thrown: what is there already comes first */
  #next(isEnough: boolean): boolean {
    try {
      return this.#walker.next(this.tail.number);
    } catch (error) {
      if (isEnough) return false;
      throw new MillraceError(
        'MILLRACE_SPOOL',
        `records of lane ${this.#parts.lane} can't be read now: ${failureOf(error).message}`,
        error,
      );
    }
  }

  #markFor(number: number): Mark {
    const mark = this.#marks.findLast((known) => known.number <= number) ?? this.#marks[0];
    return mark ?? { number: 0, sequence: 0, at: 0 };
  }

  #mark(mark: Mark): void {
    const last = this.#marks.at(-1);
    if (last === undefined || last.number < mark.number) this.#marks.push(mark);
  }

  #setHead(number: number, stampMs: number): void {
    this.#headNumber = number;
    this.#headStampMs = stampMs;
  }

  #findHead(): void {
    this.#walker.seek(this.#markFor(this.#settled), this.#settled);
    try {
      if (this.#walker.next(this.tail.number)) this.#headStampMs = this.#walker.stampMs;
      this.#headNumber = this.#settled;
    } catch {
      // The disk can't be read now: the last known age goes on rising, which is what an alert looks for.
    }
  }
}

/**
 * Puts records side by side, in memory that is used for batch after batch: that of a batch is too large for V8's heap, and
 * new memory for each would keep the collector busy with what is outside of it.
 */
class Collector {
  #limits: SpoolLimits = { maxRecords: 0, maxBytes: 0 };
  #starts = new Uint32Array(0);
  #ends = new Uint32Array(0);
  #stamps = new Float64Array(0);
  #text = new Uint8Array(TEXT_BYTES_MIN);
  #at = 1;
  #first = 0;
  count = 0;
  sequence = 0;
  nextAt = 0;

  /** Forgets the batch before. */
  begin(limits: SpoolLimits): void {
    this.#limits = limits;
    this.#at = 1;
    this.count = 0;
    // What one huge record had made is given back.
    if (this.#text.length > TEXT_KEPT_MAX) this.#text = new Uint8Array(TEXT_BYTES_MIN);
    if (this.#starts.length >= limits.maxRecords) return;
    this.#starts = new Uint32Array(limits.maxRecords);
    this.#ends = new Uint32Array(limits.maxRecords);
    this.#stamps = new Float64Array(limits.maxRecords);
  }

  /** Takes the record the walker is at. False: the batch is complete without it, or with it. */
  take(walker: FrameWalker): boolean {
    if (this.count === 0) this.#first = walker.number;
    const end = this.#at + walker.textBytes;
    const isNext = walker.number === this.#first + this.count;
    if (!isNext || (this.count > 0 && end > this.#limits.maxBytes)) return false;
    this.#reserve(end + 1);
    this.#text.set(walker.text, this.#at);
    this.#starts[this.count] = this.#at;
    this.#ends[this.count] = end;
    this.#stamps[this.count] = walker.stampMs;
    this.#at = end + 1;
    this.count += 1;
    this.sequence = walker.sequence;
    this.nextAt = walker.nextAt;
    return this.count < this.#limits.maxRecords;
  }

  finish(lane: number, { from, end }: { readonly from: number; readonly end: number }): SpoolBatch {
    const first = this.count === 0 ? end : this.#first;
    return {
      lane,
      count: this.count,
      text: this.#text,
      starts: this.#starts.subarray(0, this.count),
      ends: this.#ends.subarray(0, this.count),
      stamps: this.#stamps.subarray(0, this.count),
      first,
      lost: first - from,
      nextNumber: first + this.count,
      oldestMs: this.count === 0 ? 0 : (this.#stamps[0] ?? 0),
    };
  }

  #reserve(bytes: number): void {
    if (bytes <= this.#text.length) return;
    const larger = new Uint8Array(Math.max(bytes, 2 * this.#text.length));
    larger.set(this.#text.subarray(0, this.#at));
    this.#text = larger;
  }
}
