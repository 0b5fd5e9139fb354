import { MillraceError } from '../base/errors.ts';
import type { LaneConsumer } from '../lane/consumer.ts';
import { MODE_RUN } from '../lane/control.ts';
import type { SleepMark } from '../lane/doorbell.ts';
import { BUSY_AT_HEAD, BUSY_NOT } from '../lane/layout.ts';
import { REJECTED } from '../lane/settlement.ts';
import type { BatchPool, BatchTrigger, PendingBatch } from './batcher.ts';
import type { TurnCare } from './contract.ts';
import type { InFlight } from './in-flight.ts';
import type { TurnTools } from './turn-tools.ts';

export interface IntakeParts {
  readonly lane: LaneConsumer;
  readonly tools: TurnTools;
  readonly care: TurnCare | undefined;
  readonly pool: BatchPool;
  readonly inFlight: InFlight;
}

/** Frames are about half as long as their text; a wake-up a little early is harmless. */
const FRAME_SHARE = 0.5;

/** The batch that is open: reads the lane into it, and says when it is due. */
export class Intake {
  readonly #parts: IntakeParts;
  #batch: PendingBatch;
  #openedMs = 0;

  constructor(parts: IntakeParts) {
    this.#parts = parts;
    this.#batch = parts.pool.take();
    this.restart();
  }

  get batch(): PendingBatch {
    return this.#batch;
  }

  /** How long ago the first record of the batch was read, in ms. */
  get openMs(): number {
    return performance.now() - this.#openedMs;
  }

  /** Begins again with the first unsettled record of the lane. */
  restart(): void {
    const { head, headSeq } = this.#parts.lane;
    this.#batch.reset(head, headSeq);
  }

  /** Hands the batch out, and opens the next one behind it. */
  handOut(): PendingBatch {
    const batch = this.#batch;
    this.#batch = this.#parts.pool.take();
    this.#batch.reset(batch.position, batch.endSeq);
    return batch;
  }

  /** All of the batch has its place elsewhere: opens the next one behind it. */
  renew(): void {
    this.#parts.pool.giveBack(this.handOut());
  }

  /**
   * Reads what there is before `tail`. What the producer dropped meanwhile to make room is taken out again. 'broken': read on;
   * the batch was begun anew, or a record that can't be read was left out.
   */
  fill(tail: number): 'full' | 'bytes' | 'broken' | undefined {
    const { lane } = this.#parts;
    const batch = this.#batch;
    const wasEmpty = batch.count === 0;
    const filled = this.#read(tail);
    if (!lane.holds()) return 'broken';
    lane.renewFlushPosition();
    if (((lane.headSeq - batch.endSeq) | 0) > 0) {
      this.restart();
      return 'broken';
    }
    if (wasEmpty && batch.count > 0) this.#openedMs = performance.now();
    if (filled !== 'broken') return filled;
    if (batch.count > 0) return 'full';
    this.#passBroken();
    return 'broken';
  }

  #read(tail: number): 'full' | 'bytes' | 'broken' | undefined {
    const { lane, tools } = this.#parts;
    const batch = this.#batch;
    const { recordsMax } = tools.config.batch;
    const startMs = performance.now();
    let filled: 'full' | 'bytes' | 'broken' | undefined;
    // Stays so where reading throws: then that is what the turn dies of.
    lane.setBusy(BUSY_AT_HEAD);
    try {
      filled = batch.fill(lane, tools.transcoder, {
        tail,
        recordsMax: this.#isAlone(batch.firstSeq) ? 1 : recordsMax,
      });
    } catch (error) {
      // A frame that gave way while it was read, or is another turn's by now, looks like a broken promise of the producer.
      if (lane.holds() && ((lane.headSeq - batch.endSeq) | 0) <= 0) throw error;
    }
    lane.setBusy(BUSY_NOT);
    batch.encodeMs += performance.now() - startMs;
    return filled;
  }

  /** A frame that can't be turned into text is our mistake; its record is counted, its neighbours go on. */
  #passBroken(): void {
    const { lane, tools, inFlight } = this.#parts;
    const batch = this.#batch;
    tools.onTrouble(
      new MillraceError('MILLRACE_WORKER', `a record could not be read: ${batch.broken}`),
    );
    batch.takeBroken(lane, REJECTED);
    inFlight.addSettled(this.handOut());
  }

  /** Whether the record is to be read and sent by itself. */
  #isAlone(seq: number): boolean {
    const { care } = this.#parts;
    return care !== undefined && ((seq - care.aloneBelow) | 0) < 0;
  }

  /** Batches that may be under way at once, that of the record included. */
  inFlightMax(seq: number): number {
    return this.#isAlone(seq) ? 1 : this.#parts.tools.config.inFlightMax;
  }

  /** Why the batch should go out though it is not full; undefined: it may wait. */
  get dueTrigger(): BatchTrigger | undefined {
    const { tools } = this.#parts;
    if (this.#batch.count === 0) return undefined;
    if (this.isFlushWanted || tools.control.mode !== MODE_RUN) return 'flush';
    if (this.#laneRoom <= 0) return 'bytes';
    return this.lingerLeftMs <= 0 ? 'linger' : undefined;
  }

  /** Whether a flush reaches beyond the beginning of the batch. */
  get isFlushWanted(): boolean {
    return ((this.#parts.lane.loadFlushPosition() - this.#batch.startPosition) | 0) > 0;
  }

  /** Frames that may still come into the batch, in bytes, until it takes half of the lane: the producer needs the rest. */
  get #laneRoom(): number {
    const { position, startPosition } = this.#batch;
    return this.#parts.lane.region.laneBytes / 2 - ((position - startPosition) | 0);
  }

  /** How long the first record of the batch may still wait for others, in ms. */
  get lingerLeftMs(): number {
    const { lane, tools } = this.#parts;
    const { lingerMs } = tools.config.batch;
    // By the stamp, unless the wall clock was set back meanwhile; never longer than lingerMs from now.
    const ageMs = (lane.region.nowMs() - (this.#batch.stamps[0] ?? 0)) | 0;
    return Math.min(lingerMs, lingerMs - Math.max(ageMs, this.openMs));
  }

  /** Wakes when the batch may be completed, always behind what it has by now, or when a round other than `round` is asked for. */
  fullMark(round: number): SleepMark {
    const { recordsMax, bytesMax } = this.#parts.tools.config.batch;
    const batch = this.#batch;
    const bytes = Math.min((bytesMax - batch.bytes) * FRAME_SHARE, this.#laneRoom);
    return {
      head: batch.startPosition,
      wakePosition: (batch.position + Math.max(8, bytes)) | 0,
      wakeSeq: (batch.firstSeq + recordsMax) | 0,
      round,
    };
  }

  /** Wakes with the next record, or when a round other than `round` is asked for. */
  nextMark(round: number): SleepMark {
    const { position, endSeq } = this.#batch;
    return {
      head: position,
      wakePosition: (position + 1) | 0,
      wakeSeq: (endSeq + 1) | 0,
      round,
    };
  }
}
