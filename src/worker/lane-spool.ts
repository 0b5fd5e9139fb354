import { MillraceError, textOfError } from '../base/errors.ts';
import type { LaneConsumer } from '../lane/consumer.ts';
import { BACKLOG_MIB_WORD, type Control } from '../lane/control.ts';
import {
  CORRUPT,
  OVERFLOW_OLDEST,
  SENT_BYTES,
  type Settlement,
  SPOOL_BYTES,
  SPOOL_END,
  SPOOL_OLDEST_MS,
  SPOOL_SEGMENTS,
  SPOOL_SETTLED,
  UNSPOOLED,
} from '../lane/settlement.ts';
import {
  type DiskFailure,
  failureOf,
  nodeFileSystem,
  type SpoolFileSystem,
} from '../spool/file-system.ts';
import { type SpoolEdge, SpoolLane } from '../spool/lane.ts';
import type { SpoolBatch } from '../spool/reader.ts';
import type { PendingBatch } from './batcher.ts';
import type { SpoolPlan } from './contract.ts';
import type { Gate } from './gate.ts';

export interface LaneSpoolParts {
  readonly lane: LaneConsumer;
  readonly plan: SpoolPlan;
  readonly control: Control;
  readonly gate: Gate;
  /** Commits a change of the lane's settlement. False: the lane was taken away. */
  readonly change: (change: (state: Settlement) => void) => boolean;
  /** Hears how long each sync took, in ms. */
  readonly onSync: (ms: number) => void;
  /** Hears of work that the disk refused and that will be tried again. */
  readonly onFailure: (failed: DiskFailure['failed']) => void;
  readonly onTrouble: (error: MillraceError) => void;
  readonly edge: SpoolEdge;
}

/** What became of records in the spool. */
export interface SpoolFate {
  /** Number of the first record that was handed out: those before it were damaged. */
  readonly first: number;
  readonly counter: number;
  readonly sentBytes: number;
}

/** Longest time records are gathered before they are written, in ms. */
export const SPOOL_LINGER_MS = 10;
/** With `fsync: 'interval'`, a record that is not settled so long after it went to the disk is on stable storage, in ms. */
const SYNC_INTERVAL_MS = 100;
const MIB: number = 1024 * 1024;
const RETRY_MS = 250;

/**
 * The spool of one lane during one turn. Files and settlement change together, in an order that lets whoever comes after
 * a death at any point find out what happened:
 *
 * ```
 *   into the spool      append to the file, then commit SPOOLED and SPOOL_END; found on opening: records from SPOOL_END
 *                       on are void, because the ring still has them
 *   out of the spool    commit the outcome and SPOOL_SETTLED, then move the file's checkpoint; found on opening: what is
 *                       below SPOOL_SETTLED is settled, whatever the checkpoint says
 *   given up for room   drop the segment, then commit; found on opening: the checkpoint is ahead of SPOOL_SETTLED
 * ```
 */
export class LaneSpool {
  readonly #parts: LaneSpoolParts;
  #file: SpoolLane | undefined;
  #retryAtMs = Number.NEGATIVE_INFINITY;
  #oldestMs = 0;
  #end = 0;
  #settled = 0;
  /** Whether somebody sends records of the spool: those that give way meanwhile are counted when it is known what became of them. */
  #isSending = false;

  constructor(parts: LaneSpoolParts) {
    this.#parts = parts;
    // What is known before the disk can be read: records there go before those of the ring.
    this.#end = parts.lane.count(SPOOL_END);
    this.#settled = parts.lane.count(SPOOL_SETTLED);
  }

  /** Records that wait in the spool. */
  get records(): number {
    return this.#end - this.#settled;
  }

  /** Number of the first record that is not settled. */
  get settled(): number {
    return this.#settled;
  }

  /** As {@link settled}; the caller is about to send records from there on. */
  hold(): number {
    this.#isSending = true;
    return this.#settled;
  }

  /** Nobody sends records of the spool now. */
  release(): void {
    this.#isSending = false;
    this.#countGaveWay();
  }

  /** Whether the disk failed lately. */
  get isFailing(): boolean {
    return performance.now() < this.#retryAtMs;
  }

  /** Whether records of the ring have to go through the spool now, so that their order is kept. */
  get isInUse(): boolean {
    if (this.records > 0) return true;
    return this.#parts.plan.use === 'always' && !this.isFailing;
  }

  /** Whether the ring should be emptied into the spool, because its records can't leave as fast as they come. */
  isUnderPressure(queued: { readonly bytes: number; readonly records: number }): boolean {
    const { plan, lane } = this.#parts;
    return queued.bytes > lane.region.laneBytes / 2 || queued.records > plan.laneRecords;
  }

  get isInTrouble(): boolean {
    return this.#parts.gate.isInTrouble;
  }

  /** Finds what earlier turns left. Undefined: the disk can't be read now. */
  open(): SpoolLane | undefined {
    if (this.#file !== undefined || this.isFailing) return this.#file;
    const { lane, plan } = this.#parts;
    const { region } = lane;
    if (!lane.holds()) return undefined;
    try {
      const config = {
        directory: plan.directory,
        lane: region.numberOf(lane.lane),
        segmentBytes: plan.segmentBytes,
        fsync: plan.fsync,
        intervalMs: SYNC_INTERVAL_MS,
        mode: plan.mode,
        // A thread that was given up for dead may still be in the middle of a write.
        tail: 'leave' as const,
        settled: lane.spoolSettled,
        end: lane.count(SPOOL_END),
      };
      const { edge, onSync } = this.#parts;
      const disk = timed(edge.fileSystem ?? nodeFileSystem, onSync);
      const file = SpoolLane.open(config, { ...edge, fileSystem: disk });
      this.#file = file;
      this.#reconcile(file);
      return file;
    } catch (error) {
      const cause = error instanceof MillraceError ? error.cause : error;
      this.#fail({ ...failureOf(cause), message: textOfError(error) });
      return undefined;
    }
  }

  /** Makes the settlement agree with what the files hold. */
  #reconcile(file: SpoolLane): void {
    const { change } = this.#parts;
    change((state) => {
      const end = state.count(SPOOL_END);
      const gaveWay = Math.min(file.settledNumber, end) - state.count(SPOOL_SETTLED);
      if (gaveWay > 0) this.#settleFront(state, gaveWay, OVERFLOW_OLDEST);
      if (file.settledNumber > end) {
        // Void records gave way, too: the numbers go on behind them, and the ring still has the records.
        state.counters[SPOOL_END] = file.settledNumber;
        state.counters[SPOOL_SETTLED] = file.settledNumber;
      }
      const missing = state.count(SPOOL_END) - file.nextNumber;
      if (missing > 0) {
        state.add(SPOOL_END, -missing);
        state.addFate(CORRUPT, missing);
        state.add(UNSPOOLED, missing);
      }
      this.#write(state, file);
    });
    // Until the first record can be read, its age is not known.
    this.#oldestMs = this.records > 0 ? file.counts().oldestMs || Date.now() : 0;
  }

  /** The first so many records that are not settled have the fate of this counter, and are in the spool no more. */
  #settleFront(state: Settlement, records: number, counter: number): void {
    state.addFate(counter, records);
    state.add(UNSPOOLED, records);
    state.add(SPOOL_SETTLED, records);
  }

  /** Levels, as they are after a change. */
  #write(state: Settlement, file: SpoolLane): void {
    this.#end = state.count(SPOOL_END);
    this.#settled = state.count(SPOOL_SETTLED);
    if (this.records === 0) this.#oldestMs = 0;
    state.counters[SPOOL_BYTES] = file.bytes;
    state.counters[SPOOL_SEGMENTS] = file.segments;
    state.counters[SPOOL_OLDEST_MS] = this.#oldestMs;
  }

  /**
   * Appends the records `[from, count)` of a batch; returns the index after the last one that is in. The caller commits
   * them with {@link noteAppended}.
   */
  append(batch: PendingBatch, from: number): number {
    const file = this.open();
    if (file === undefined || from >= batch.count) return from;
    const ageMs = (this.#parts.lane.region.nowMs() - (batch.stamps[from] ?? 0)) | 0;
    const stampMs = Date.now() - Math.max(0, ageMs);
    const before = file.nextNumber;
    const result = file.append({
      text: batch.text.bytes,
      starts: batch.starts,
      ends: batch.ends,
      from,
      to: batch.count,
      stampMs,
      seq: (batch.firstSeq + from) >>> 0,
    });
    if ('failed' in result) {
      const what = result.failed === 'disk_full' ? 'the disk is full' : 'the disk failed';
      this.#fail({ ...result, message: `${what}: ${result.message}` });
    }
    if (result.written > 0 && this.records === 0) this.#oldestMs = stampMs;
    batch.spoolBase = before - from;
    batch.moved = from + result.written;
    return batch.moved;
  }

  /** For the commit of records that {@link append} took. */
  noteAppended(state: Settlement): void {
    const file = this.#file;
    if (file === undefined) return;
    state.counters[SPOOL_END] = file.nextNumber;
    this.#write(state, file);
  }

  /** Drops the oldest segments beyond this lane's share of the bound. */
  keepBound(): void {
    const file = this.#file;
    const { lane, plan, control, onTrouble } = this.#parts;
    if (file === undefined || !lane.holds()) return;
    const backlogBytes = Atomics.load(control.words, BACKLOG_MIB_WORD) * MIB;
    const shareBytes = Math.max(0, plan.maxBytes - backlogBytes) / plan.lanes;
    const boundBytes = Math.max(shareBytes, plan.segmentBytes);
    let dropped = 0;
    let before = Number.POSITIVE_INFINITY;
    // A disk that removes nothing now is asked again next time.
    while (file.segments > 1 && file.segments < before && file.bytes > boundBytes) {
      before = file.segments;
      dropped += file.evictOldest();
    }
    if (dropped === 0) return;
    onTrouble(
      new MillraceError('MILLRACE_SPOOL', 'the spool is full: its oldest records are dropped'),
    );
    if (!this.#isSending) this.#countGaveWay();
  }

  #countGaveWay(): void {
    const file = this.#file;
    if (file === undefined || file.settledNumber <= this.#settled) return;
    this.#parts.change((state) => {
      const gaveWay = file.settledNumber - state.count(SPOOL_SETTLED);
      if (gaveWay > 0) this.#settleFront(state, gaveWay, OVERFLOW_OLDEST);
      this.#write(state, file);
    });
  }

  /** The next records to deliver; undefined: none, or the disk can't be read now. */
  next(limits: { readonly maxRecords: number; readonly maxBytes: number }): SpoolBatch | undefined {
    try {
      const batch = this.open()?.peek(limits);
      if (batch !== undefined && batch.count > 0) this.#oldestMs = batch.oldestMs;
      return batch;
    } catch (error) {
      this.#fail(failureOf(error));
      return undefined;
    }
  }

  /** Settles every record below `number`; those below `fate.first` are lost. False: the lane was taken away. */
  settle(number: number, { first, counter, sentBytes }: SpoolFate): boolean {
    const file = this.#file;
    if (file === undefined) return false;
    const isOurs = this.#parts.change((state) => {
      const settled = state.count(SPOOL_SETTLED);
      if (number <= settled) return;
      const lost = Math.max(0, Math.min(first, number) - settled);
      if (lost > 0) this.#settleFront(state, lost, CORRUPT);
      this.#settleFront(state, number - settled - lost, counter);
      state.add(SENT_BYTES, sentBytes);
      this.#write(state, file);
    });
    if (!isOurs) return false;
    const { bytes } = file;
    file.settleTo(number);
    // A segment that is settled as a whole is gone now, which the levels did not know yet.
    if (file.bytes !== bytes) this.#noteLevels(file);
    this.release();
    return true;
  }

  #noteLevels(file: SpoolLane): void {
    this.#parts.change((state) => this.#write(state, file));
  }

  /** What is due without a record's coming: stable storage. */
  tend(): void {
    const failure = this.#file?.tend();
    if (failure !== undefined) this.#fail(failure);
  }

  /** Writes down what is settled, before a wait that may be the last. */
  save(): void {
    this.#file?.save();
  }

  /** Ends in good order: all is on stable storage, settled segments are gone. */
  close(): void {
    this.release();
    const file = this.#file;
    this.#file = undefined;
    if (file === undefined) return;
    file.close();
    this.#noteLevels(file);
  }

  /** The lane was taken away: the files are another thread's. */
  leave(): void {
    this.#file?.leave();
    this.#file = undefined;
  }

  #fail({ failed, message }: DiskFailure): void {
    this.#retryAtMs = performance.now() + RETRY_MS;
    this.#parts.onFailure(failed);
    this.#parts.onTrouble(
      new MillraceError('MILLRACE_SPOOL', `the spool takes no record now: ${message}`),
    );
  }
}

/** The disk, with a watch on how long it takes to be sure. */
function timed(disk: SpoolFileSystem, onSync: (ms: number) => void): SpoolFileSystem {
  return {
    ...disk,
    sync: (fd) => {
      const startMs = performance.now();
      disk.sync(fd);
      onSync(performance.now() - startMs);
    },
  };
}
