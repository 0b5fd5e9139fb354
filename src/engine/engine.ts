import { MillraceError } from '../base/errors.ts';
import type { TranscoderOptions } from '../codec/transcode.ts';
import { Control, MODE_DRAIN, MODE_STOP } from '../lane/control.ts';
import type { LaneProducer } from '../lane/producer.ts';
import { Region } from '../lane/region.ts';
import type { RecordFields, SettledOutcome, UnsetFields } from '../record/types.ts';
import type { WorkerConfig, WorkerNote } from '../worker/contract.ts';
import { Accounts } from './accounts.ts';
import { workerEntry } from './entry.ts';
import { joinExitHook } from './exit-hook.ts';
import type { EnginePlan } from './plan.ts';
import { Recorder, type RecorderOptions, type RequiredField, type RoomNeed } from './recorder.ts';
import { Seat } from './seat.ts';
import { SettledListeners } from './settled.ts';
import type { Stats } from './stats.ts';
import { Supervisor } from './supervisor.ts';
import { blockUntil, holdOpen, resolveWhen } from './waits.ts';

/** What the client adds to a consumer's plan. */
export interface EngineClient extends Omit<RecorderOptions, 'queueRecordsMax'> {
  readonly text: TranscoderOptions;
  readonly onError: (error: MillraceError) => void;
}

export interface Deadline {
  /** Longest wait in ms; default: none for flush, 30 s for close. */
  readonly timeoutMs?: number | undefined;
}

/** Results of a round (worker/turn.ts). */
const ROUND_DONE = 0;
const ROUND_REJECTED = 2;
const CLOSE_TIMEOUT_MS = 30_000;
/** How long turns get to notice that the engine stops. */
const STOP_MS = 2000;
const IDLE_MS = 200;
const DROP_TRIES_MAX = 1000;

/** One engine: lanes, workers, and their accounts, from construction to close. */
export class Engine {
  readonly plan: EnginePlan;
  readonly recorder: Recorder;
  readonly accounts: Accounts;
  readonly #control: Control;
  readonly #seats: readonly Seat[];
  readonly #supervisor: Supervisor;
  readonly #listeners: SettledListeners;
  readonly #onError: (error: MillraceError) => void;
  readonly #leaveExitHook: () => void;
  #blockDeadlineMs = 0;
  #state: 'open' | 'closing' | 'closed' = 'open';
  #closed: Promise<Stats> | undefined;
  #sinceRound = 0;

  constructor(plan: EnginePlan, client: EngineClient) {
    this.plan = plan;
    this.#onError = guarded(client.onError);
    this.#listeners = new SettledListeners(this.#onError);
    const filename = workerEntry(plan.entry, plan.workerFile);
    this.#control = Control.create();
    const region = Region.create({
      lanes: plan.lanes,
      laneBytes: plan.laneBytes,
      id: 1,
      baseMs: Date.now(),
    });
    this.#seats = Array.from({ length: plan.lanes }, (_, lane) => new Seat(region, lane));
    this.recorder = new Recorder(
      region,
      { ...client, queueRecordsMax: plan.queueRecordsMax },
      {
        post: (lane) => this.#post(lane),
        makeRoom: (lane, need) => this.#makeRoom(lane, need),
        addListener: (lane, seq, listener) => {
          this.#listeners.add(this.#seat(lane).name, seq, listener);
        },
        tellListener: (listener, outcome) => this.#listeners.tell(listener, outcome),
        afterRecord: plan.pace === 'rounds' ? () => this.#afterRecord() : undefined,
        onError: this.#onError,
      },
    );
    this.#supervisor = new Supervisor({
      filename,
      threads: plan.workers,
      config: this.#workerConfig(client.text),
      control: this.#control,
      onError: this.#onError,
      onNote: (note) => this.#hear(note),
    });
    this.accounts = new Accounts({
      plan,
      seats: this.#seats,
      recorder: this.recorder,
      control: this.#control,
      supervisor: this.#supervisor,
    });
    this.#leaveExitHook = joinExitHook({ saveAtExit: () => this.#saveAtExit() });
  }

  #workerConfig(text: TranscoderOptions): WorkerConfig {
    const { batch, retry, pace, onExhausted, inFlightMax, attemptTimeoutMs, deadLetter, sink } =
      this.plan;
    return {
      control: this.#control.memory,
      text,
      batch,
      retry,
      pace,
      onExhausted,
      inFlightMax,
      attemptTimeoutMs,
      idleMs: IDLE_MS,
      deadLetter,
      sink,
    };
  }

  /**
   * Takes one record.
   *
   * @throws MillraceError MILLRACE_CLOSED after close, and under validation 'throw' for a wrong call
   */
  record(kind: number, fields: RecordFields | UnsetFields, required?: RequiredField): boolean {
    if (this.#state !== 'open') throw closedError();
    return this.recorder.record(kind, fields, required);
  }

  /**
   * Resolves when all records accepted before the call are settled.
   *
   * @throws MillraceError MILLRACE_TIMEOUT when they are not in time; consumers in rounds also throw what went wrong
   */
  async flush({ timeoutMs }: Deadline = {}): Promise<void> {
    if (this.#state === 'closed') return;
    const deadlineMs = performance.now() + (timeoutMs ?? Number.POSITIVE_INFINITY);
    const waits = this.#seats.map((seat) => this.#flushSeat(seat));
    const inTime = await holdOpen(() =>
      Promise.all(waits.map(({ isDone, word }) => resolveWhen(isDone, word, { deadlineMs }))),
    );
    if (inTime.includes(false)) throw timeoutError('flush', timeoutMs, this.stats().queued);
    this.#throwRoundTrouble();
  }

  /** As flush(), blocking this thread. True: all settled in time. */
  flushSync({ timeoutMs }: Deadline = {}): boolean {
    if (this.#state === 'closed') return true;
    const deadlineMs = performance.now() + (timeoutMs ?? Number.POSITIVE_INFINITY);
    const tend = () => this.#supervisor.look();
    const waits = this.#seats.map((seat) => this.#flushSeat(seat));
    return waits
      .map(({ isDone, word }) => blockUntil(isDone, word, { deadlineMs, tend }))
      .every(Boolean);
  }

  /** Asks a lane for everything accepted so far, and tells how to know that it is done. */
  #flushSeat(seat: Seat): {
    isDone: () => boolean;
    word: { words: Int32Array; index: number };
  } {
    const words = seat.region.words;
    const target = seat.tail;
    const needsRound = this.plan.pace === 'rounds' || this.plan.flush === 'synced';
    if (!needsRound || (this.plan.pace === 'rounds' && seat.isSettledUpTo(target))) {
      if (seat.requestFlush()) this.#supervisor.post(seat);
      const isDone = () => seat.isSettledUpTo(target) || this.#state === 'closed';
      return { isDone, word: { words, index: seat.settlement.commitAt } };
    }
    const round = seat.requestRound();
    if (seat.wake()) this.#supervisor.post(seat);
    const isDone = () => seat.isRoundDone(round) || this.#state === 'closed';
    return { isDone, word: { words, index: seat.roundDoneAt } };
  }

  #throwRoundTrouble(): void {
    const needsRound = this.plan.pace === 'rounds' || this.plan.flush === 'synced';
    if (!needsRound) return;
    for (const seat of this.#seats) {
      const { code, message } = seat.roundResult();
      if (code === ROUND_DONE) continue;
      throw new MillraceError(
        code === ROUND_REJECTED ? 'MILLRACE_REJECTED' : 'MILLRACE_UNAVAILABLE',
        message,
      );
    }
  }

  /**
   * Delivers what is queued, ends the workers and refuses later calls. What is left when the time is over is
   * counted as dropped by the shutdown. Idempotent: later calls give the same account.
   */
  close({ timeoutMs = CLOSE_TIMEOUT_MS }: Deadline = {}): Promise<Stats> {
    this.#closed ??= holdOpen(() => this.#close(timeoutMs));
    return this.#closed;
  }

  async #close(timeoutMs: number): Promise<Stats> {
    if (this.#state === 'closed') return this.stats();
    this.#state = 'closing';
    const deadlineMs = performance.now() + timeoutMs;
    this.#control.mode = MODE_DRAIN;
    try {
      await this.flush({ timeoutMs: Math.max(0, deadlineMs - performance.now()) });
    } catch (error) {
      if (error instanceof MillraceError) this.#onError(error);
      else throw error;
    }
    this.#stop();
    const stopMs = performance.now() + STOP_MS;
    while (this.#supervisor.running > 0 && performance.now() < stopMs) {
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
    this.#dropRest();
    await this.#supervisor.close();
    this.#finish();
    return this.stats();
  }

  /** As close(), blocking this thread; the threads end as soon as the event loop runs. */
  closeSync({ timeoutMs = CLOSE_TIMEOUT_MS }: Deadline = {}): Stats {
    if (this.#state === 'closed') return this.stats();
    this.#state = 'closing';
    this.#control.mode = MODE_DRAIN;
    this.flushSync({ timeoutMs });
    this.#stop();
    this.#dropRest();
    const ended = this.#supervisor.close();
    this.#finish();
    this.#closed ??= ended.then(() => this.stats());
    return this.stats();
  }

  #stop(): void {
    this.#control.mode = MODE_STOP;
    for (const seat of this.#seats) seat.wake();
  }

  #dropRest(): void {
    for (const seat of this.#seats) {
      const rest = seat.dropRest();
      this.#listeners.settle(seat.name, rest, { state: 'dropped', reason: 'shutdown' });
    }
  }

  #finish(): void {
    this.#state = 'closed';
    this.#leaveExitHook();
  }

  #saveAtExit(): number {
    if (this.#state !== 'open') return 0;
    if (this.stats().queued > 0) this.flushSync({ timeoutMs: this.plan.exitFlushMs });
    return this.stats().queued;
  }

  #post(lane: number): void {
    this.#supervisor.post(this.#seat(lane));
  }

  #seat(lane: number): Seat {
    const seat = this.#seats[lane];
    if (seat === undefined) throw new Error(`millrace: no lane ${lane}`);
    return seat;
  }

  /** Decides what happens when a record finds no room. Runs inside the caller's call. */
  #makeRoom(lane: LaneProducer, need: RoomNeed): 'retry' | 'drop' {
    switch (this.plan.overflow) {
      case 'drop-newest':
        return 'drop';
      case 'drop-oldest':
        return this.#dropForRoom(lane, need);
      case 'block':
        return this.#blockForRoom(lane, need) ? 'retry' : 'drop';
    }
  }

  /** Lets the oldest records give way. */
  #dropForRoom(lane: LaneProducer, { frameBytes, isQueueFull, tries }: RoomNeed): 'retry' | 'drop' {
    // Settled records are gone after one look; dropped ones, too. More tries mean a lane of one huge frame.
    if (tries > DROP_TRIES_MAX) return 'drop';
    const seat = isQueueFull ? this.#seatOfOldest(lane.lane) : this.#seat(lane.lane);
    // A frame that would wrap needs its own length twice: the rest of the lane is skipped.
    const roomBytes = Math.min(2 * frameBytes, this.plan.laneBytes);
    let isFirst = isQueueFull;
    const dropped = seat.dropOldest(({ usedBytes }) => {
      if (!isQueueFull) return this.plan.laneBytes - usedBytes < roomBytes;
      const isTooMuch = isFirst;
      isFirst = false;
      return isTooMuch;
    });
    this.#tellGone(seat, dropped);
    return 'retry';
  }

  #seatOfOldest(lane: number): Seat {
    let oldest = this.#seat(lane);
    let oldestMs = oldest.oldestMs() ?? Number.POSITIVE_INFINITY;
    for (const seat of this.#seats) {
      const ms = seat.oldestMs() ?? Number.POSITIVE_INFINITY;
      if (ms >= oldestMs) continue;
      oldest = seat;
      oldestMs = ms;
    }
    return oldest;
  }

  #tellGone(seat: Seat, gone: { fromSeq: number; toSeq: number }): void {
    if (gone.fromSeq === gone.toSeq) return;
    this.#listeners.settle(seat.name, gone, { state: 'dropped', reason: 'overflow' });
  }

  /** Blocks the caller until a lane has room. */
  #blockForRoom(lane: LaneProducer, { frameBytes, isQueueFull, tries }: RoomNeed): boolean {
    const startMs = performance.now();
    if (tries === 0) this.#blockDeadlineMs = startMs + this.plan.blockTimeoutMs;
    const seat = this.#seat(lane.lane);
    const waiting = isQueueFull ? this.#seats : [seat];
    for (const one of waiting) if (one.wake()) this.#supervisor.post(one);
    const tail = lane.tail;
    const room = this.plan.laneBytes - 2 * frameBytes;
    const hasRoom = () =>
      isQueueFull
        ? this.recorder.queued() < this.plan.queueRecordsMax
        : ((tail - seat.read().head) | 0) <= Math.max(0, room);
    const word = { words: seat.region.words, index: seat.settlement.commitAt };
    const isDone = blockUntil(hasRoom, word, {
      deadlineMs: this.#blockDeadlineMs,
      tend: () => this.#supervisor.look(),
    });
    this.recorder.countBlocked(performance.now() - startMs);
    return isDone;
  }

  /** For consumers that wait: a full round goes out now. */
  #afterRecord(): void {
    this.#sinceRound += 1;
    if (this.#sinceRound < this.plan.roundRecords) return;
    this.#sinceRound = 0;
    const isInTime = this.flushSync({ timeoutMs: this.plan.blockTimeoutMs });
    this.#boundKept();
    const trouble = this.#roundTrouble(isInTime);
    if (trouble === undefined) return;
    if (this.plan.consumer === 'debug') throw trouble;
    this.#onError(trouble);
  }

  #roundTrouble(isInTime: boolean): MillraceError | undefined {
    if (!isInTime) return timeoutError('delivery', this.plan.blockTimeoutMs, this.stats().queued);
    try {
      this.#throwRoundTrouble();
      return undefined;
    } catch (error) {
      if (!(error instanceof MillraceError)) throw error;
      if (this.plan.consumer !== 'debug' || error.code !== 'MILLRACE_REJECTED') return error;
      return new MillraceError('MILLRACE_DEBUG_REJECTED', error.message);
    }
  }

  /** Drops the oldest of the records kept for another attempt, beyond their bound. */
  #boundKept(): void {
    for (const seat of this.#seats) {
      const gone = seat.dropOldest(({ records }) => records > this.plan.keptRecordsMax);
      this.#tellGone(seat, gone);
    }
  }

  #hear(note: WorkerNote): void {
    if (note.millrace === 'trouble') {
      this.#onError(MillraceError.from(note.report));
      return;
    }
    for (const { region, lane, fromSeq, toSeq, state, reason } of note.notices) {
      const outcome: SettledOutcome = reason === '' ? { state } : { state, reason };
      this.#listeners.settle(`${region}/${lane}`, { fromSeq, toSeq }, outcome);
    }
  }

  /** An exact snapshot, also after close. */
  stats(): Stats {
    return this.accounts.stats();
  }
}

/** A listener that can't hurt: what it throws is said on standard error, and the engine goes on. */
function guarded(listener: (error: MillraceError) => void): (error: MillraceError) => void {
  return (error) => {
    try {
      listener(error);
    } catch (thrown) {
      process.emitWarning(`onError threw ${thrown} while it heard: ${error.message}`, 'millrace');
    }
  };
}

function closedError(): MillraceError {
  return new MillraceError('MILLRACE_CLOSED', 'the client is closed; it takes no more records');
}

function timeoutError(what: string, timeoutMs: number | undefined, left: number): MillraceError {
  return new MillraceError(
    'MILLRACE_TIMEOUT',
    `${what} was not done within ${timeoutMs} ms; ${left} records wait`,
  );
}
