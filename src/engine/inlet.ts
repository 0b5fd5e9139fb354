import { MillraceError } from '../base/errors.ts';
import { type Control, SIGNALLED_WORD } from '../lane/control.ts';
import { ROUND_DONE, ROUND_REJECTED } from '../lane/layout.ts';
import type { LaneProducer } from '../lane/producer.ts';
import type { Region } from '../lane/region.ts';
import type { RecordFields, SettledOutcome, UnsetFields } from '../record/types.ts';
import type { Notice } from '../worker/contract.ts';
import type { EnginePlan } from './plan.ts';
import {
  Recorder,
  type RecorderOptions,
  type RequiredField,
  type RoomNeed,
  type Validation,
} from './recorder.ts';
import { Seat, type SeqSpan } from './seat.ts';
import { SettledListeners } from './settled.ts';
import { blockUntil, holdOpen, resolveWhen } from './waits.ts';

const INLET_KEYS = [
  'consumer',
  'laneBytes',
  'overflow',
  'blockTimeoutMs',
  'queueRecordsMax',
  'pace',
  'roundRecords',
  'keptRecordsMax',
  'flush',
] as const;

/** The part of a plan that the producing side needs: plain data, so that it can go to another thread. */
export type InletPlan = Pick<EnginePlan, (typeof INLET_KEYS)[number]>;

export function inletPlanOf(plan: EnginePlan): InletPlan {
  return Object.fromEntries(INLET_KEYS.map((key) => [key, plan[key]])) as InletPlan;
}

export type InletOptions = Omit<RecorderOptions, 'queueRecordsMax' | 'sheds'>;

/** What an inlet needs of whoever runs the workers. */
export interface InletHost {
  /** Nobody attends this lane: a turn must be posted. */
  post(seat: Seat): void;
  /** Called again and again while a call blocks: what must not depend on the event loop. */
  tend(): void;
  /** Whether records are taken. */
  isOpen(): boolean;
  /** What a call gets that comes later: 'tell': it counts as a wrong call, and throws nothing. */
  lateCalls(): 'throw' | 'tell';
  /** Whether the workers have ended, so that nothing more will be settled. */
  isOver(): boolean;
  onError(error: MillraceError): void;
}

export interface InletParts {
  readonly region: Region;
  readonly plan: InletPlan;
  readonly options: InletOptions;
  readonly host: InletHost;
  /** In whose name this thread changes settlements: the engine's thread is the supervisor, others are producers. */
  readonly committer: 'supervisor' | 'producer';
}

export interface Deadline {
  /** Longest wait in ms; default: none for flush, 30 s for close. */
  readonly timeoutMs?: number | undefined;
}

const DROP_TRIES_MAX = 1000;

interface Wait {
  /** Whether something was sent for it. */
  readonly isRound: boolean;
  readonly isDone: () => boolean;
  readonly word: { readonly words: Int32Array; readonly index: number };
}

/** The producing side of one thread: a region of lanes, what a full one does, and waiting for its records. */
export class Inlet {
  readonly recorder: Recorder;
  readonly seats: readonly Seat[];
  readonly #plan: InletPlan;
  readonly #host: InletHost;
  readonly #listeners: SettledListeners;
  /** The latest rounds whose trouble was thrown, by lane. */
  readonly #told = new Map<Seat, number>();
  #blockDeadlineMs = 0;
  #sinceRound = 0;

  constructor({ region, plan, options, host, committer }: InletParts) {
    this.#plan = plan;
    this.#host = host;
    this.#listeners = new SettledListeners((error) => host.onError(error));
    this.seats = Array.from(
      { length: region.lanes },
      (_, lane) => new Seat(region, lane, committer),
    );
    this.recorder = new Recorder(
      region,
      {
        ...options,
        queueRecordsMax: plan.queueRecordsMax,
        sheds: plan.overflow === 'drop-newest',
      },
      {
        post: (lane) => host.post(this.#seat(lane)),
        makeRoom: (lane, need) => this.#makeRoom(lane, need),
        addListener: (lane, seq, listener) => {
          this.#listeners.add(this.#seat(lane).name, seq, listener);
        },
        tellListener: (listener, outcome) => this.#listeners.tell(listener, outcome),
        afterRecord: plan.pace === 'rounds' ? () => this.#afterRecord() : undefined,
        onError: (error) => host.onError(error),
      },
    );
  }

  /**
   * Takes one record.
   *
   * @throws MillraceError MILLRACE_CLOSED after close, and under validation 'throw' for a wrong call
   */
  record(kind: number, fields: RecordFields | UnsetFields, required?: RequiredField): boolean {
    if (!this.#host.isOpen()) return this.#refuseLate(fields);
    return this.recorder.record(kind, fields, required);
  }

  #refuseLate(fields: RecordFields | UnsetFields): false {
    if (this.#host.lateCalls() === 'throw') throw closedError();
    return this.recorder.refuseQuietly(closedError(), fields);
  }

  /** Records of this inlet that are not settled. */
  get queued(): number {
    return this.recorder.queued();
  }

  /** Tells those who asked what became of their records. */
  hear({ region, lane, fromSeq, toSeq, state, reason }: Notice): void {
    const outcome: SettledOutcome = reason === '' ? { state } : { state, reason };
    this.#listeners.settle(`${region}/${lane}`, { fromSeq, toSeq }, outcome);
  }

  /** Tells those who have not heard of their records by now: they gave way while a worker had them, and it never said what became of them. */
  tellRest(reason: string): void {
    this.#listeners.settleAll({ state: 'dropped', reason });
  }

  /** Tells those whose records were dropped. */
  tellDropped(seat: Seat, gone: SeqSpan, reason: string): void {
    if (gone.fromSeq === gone.toSeq) return;
    this.#listeners.settle(seat.name, gone, { state: 'dropped', reason });
  }

  /**
   * Resolves when all records accepted before the call are settled.
   *
   * @throws MillraceError MILLRACE_TIMEOUT when they are not in time; consumers in rounds also throw what went wrong
   */
  async flush({ timeoutMs = Number.POSITIVE_INFINITY }: Deadline = {}): Promise<void> {
    const deadlineMs = performance.now() + timeoutMs;
    const waits = this.seats.map((seat) => this.#flushSeat(seat));
    // What an earlier round came to is told once.
    const told = new Map(this.#told);
    for (const [index, seat] of this.seats.entries()) {
      if (waits[index]?.isRound === true) told.delete(seat);
    }
    const inTime = await holdOpen(() =>
      Promise.all(waits.map(({ isDone, word }) => resolveWhen(isDone, word, { deadlineMs }))),
    );
    if (inTime.includes(false)) throw timeoutError('flush', timeoutMs, this.queued);
    this.#throwRoundTrouble(told);
  }

  /** As flush(), blocking this thread. True: all settled in time. */
  flushSync({ timeoutMs }: Deadline = {}): boolean {
    const deadlineMs = performance.now() + (timeoutMs ?? Number.POSITIVE_INFINITY);
    const tend = () => this.#host.tend();
    const waits = this.seats.map((seat) => this.#flushSeat(seat));
    return waits
      .map(({ isDone, word }) => blockUntil(isDone, word, { deadlineMs, tend }))
      .every(Boolean);
  }

  #seat(lane: number): Seat {
    const seat = this.seats[lane];
    if (seat === undefined) throw new Error(`millrace: no lane ${lane}`);
    return seat;
  }

  /** Asks a lane for everything accepted so far, and tells how to know that it is done. */
  #flushSeat(seat: Seat): Wait {
    const words = seat.region.words;
    const target = seat.tail;
    const needsRound = this.#plan.pace === 'rounds' || this.#plan.flush === 'synced';
    if (!needsRound || (this.#plan.pace === 'rounds' && seat.isSettledUpTo(target))) {
      if (seat.requestFlush()) this.#host.post(seat);
      const isDone = () => seat.isSettledUpTo(target) || this.#host.isOver();
      return { isRound: false, isDone, word: { words, index: seat.settlement.commitAt } };
    }
    const round = seat.requestRound();
    if (seat.wake()) this.#host.post(seat);
    const isDone = () => seat.isRoundDone(round) || seat.isGivenUp || this.#host.isOver();
    return { isRound: true, isDone, word: { words, index: seat.roundDoneAt } };
  }

  /** @param told rounds whose result is known to the caller; without them, it is told to somebody else, and stays to be told */
  #throwRoundTrouble(told?: ReadonlyMap<Seat, number>): void {
    const needsRound = this.#plan.pace === 'rounds' || this.#plan.flush === 'synced';
    if (!needsRound) return;
    for (const seat of this.seats) {
      if (seat.isGivenUp) throw givenUpError(seat);
      const { round, code, message } = seat.roundResult();
      if (code === ROUND_DONE || told?.get(seat) === round) continue;
      if (told !== undefined || this.#plan.consumer === 'debug') this.#told.set(seat, round);
      throw new MillraceError(
        code === ROUND_REJECTED ? 'MILLRACE_REJECTED' : 'MILLRACE_UNAVAILABLE',
        message,
      );
    }
  }

  /** Decides what happens when a record finds no room. Runs inside the caller's call. */
  #makeRoom(lane: LaneProducer, need: RoomNeed): 'retry' | 'drop' {
    const made = this.#tryRoom(lane, need);
    // The client may have been closed while the caller waited: what enters the ring then is nobody's.
    return made === 'retry' && !this.#host.isOpen() ? 'drop' : made;
  }

  #tryRoom(lane: LaneProducer, need: RoomNeed): 'retry' | 'drop' {
    switch (this.#plan.overflow) {
      case 'drop-newest':
        return 'drop';
      case 'drop-oldest':
        return this.#dropForRoom(lane, need);
      case 'block':
      case 'spool':
        // With a spool the wait is for the disk only.
        return this.#blockForRoom(lane, need) ? 'retry' : 'drop';
    }
  }

  /** Lets the oldest records give way. */
  #dropForRoom(lane: LaneProducer, { frameBytes, isQueueFull, tries }: RoomNeed): 'retry' | 'drop' {
    // Settled records are gone after one look; dropped ones, too. More tries mean a lane of one huge frame.
    if (tries > DROP_TRIES_MAX) return 'drop';
    const seat = isQueueFull ? this.#seatOfOldest(lane.lane) : this.#seat(lane.lane);
    // A frame that would wrap needs its own length twice: the rest of the lane is skipped.
    const roomBytes = Math.min(2 * frameBytes, this.#plan.laneBytes);
    let isFirst = isQueueFull;
    const dropped = seat.dropOldest(({ usedBytes }) => {
      if (!isQueueFull) return this.#plan.laneBytes - usedBytes < roomBytes;
      const isTooMuch = isFirst;
      isFirst = false;
      return isTooMuch;
    });
    this.tellDropped(seat, dropped, 'overflow');
    return 'retry';
  }

  #seatOfOldest(lane: number): Seat {
    let oldest = this.#seat(lane);
    let oldestMs = oldest.oldestMs() ?? Number.POSITIVE_INFINITY;
    for (const seat of this.seats) {
      const ms = seat.oldestMs() ?? Number.POSITIVE_INFINITY;
      if (ms >= oldestMs) continue;
      oldest = seat;
      oldestMs = ms;
    }
    return oldest;
  }

  /** Blocks the caller until a lane has room. */
  #blockForRoom(lane: LaneProducer, { frameBytes, isQueueFull, tries }: RoomNeed): boolean {
    const startMs = performance.now();
    if (tries === 0) this.#blockDeadlineMs = startMs + this.#plan.blockTimeoutMs;
    const seat = this.#seat(lane.lane);
    const waiting = isQueueFull ? this.seats : [seat];
    for (const one of waiting) if (one.wake()) this.#host.post(one);
    const tail = lane.tail;
    const room = this.#plan.laneBytes - 2 * frameBytes;
    const hasRoom = () =>
      isQueueFull
        ? this.recorder.queued() < this.#plan.queueRecordsMax
        : ((tail - seat.read().head) | 0) <= Math.max(0, room);
    const word = { words: seat.region.words, index: seat.settlement.commitAt };
    const isDone = blockUntil(hasRoom, word, {
      deadlineMs: this.#blockDeadlineMs,
      tend: () => this.#host.tend(),
      // Any lane's records may leave the queue, and a thread can wait for one word only.
      ...(isQueueFull && this.seats.length > 1 ? { sliceMs: QUEUE_SLICE_MS } : {}),
    });
    this.recorder.counts.countBlocked(performance.now() - startMs);
    return isDone;
  }

  /** For consumers that wait: a full round goes out now. */
  #afterRecord(): void {
    this.#sinceRound += 1;
    if (this.#sinceRound < this.#plan.roundRecords) return;
    this.#sinceRound = 0;
    const isInTime = this.flushSync({ timeoutMs: this.#plan.blockTimeoutMs });
    this.#boundKept();
    const trouble = this.#roundTrouble(isInTime);
    if (trouble === undefined) return;
    if (this.#plan.consumer === 'debug') throw trouble;
    this.#host.onError(trouble);
  }

  #roundTrouble(isInTime: boolean): MillraceError | undefined {
    if (!isInTime) return timeoutError('delivery', this.#plan.blockTimeoutMs, this.queued);
    try {
      this.#throwRoundTrouble();
      return undefined;
    } catch (error) {
      if (!(error instanceof MillraceError)) throw error;
      if (this.#plan.consumer !== 'debug' || error.code !== 'MILLRACE_REJECTED') return error;
      return new MillraceError('MILLRACE_DEBUG_REJECTED', error.message);
    }
  }

  /** Drops the oldest of the records kept for another attempt, beyond their bound. */
  #boundKept(): void {
    for (const seat of this.seats) {
      const gone = seat.dropOldest(({ records }) => records > this.#plan.keptRecordsMax);
      this.tellDropped(seat, gone, 'overflow');
    }
  }
}

/** How often a caller held by a full queue looks at all lanes. */
const QUEUE_SLICE_MS = 5;

/** What calls get that come when a client is closing, or closed. While a signal ends the process, none may throw. */
export function lateCalls(
  { words }: Control,
  { isClosing, validation }: { isClosing: boolean; validation: Validation },
): 'throw' | 'tell' {
  const isQuiet = isClosing && validation !== 'throw';
  return isQuiet || Atomics.load(words, SIGNALLED_WORD) !== 0 ? 'tell' : 'throw';
}

export function closedError(): MillraceError {
  return new MillraceError('MILLRACE_CLOSED', 'the client is closed; it takes no more records');
}

function givenUpError({ title }: Seat): MillraceError {
  return new MillraceError(
    'MILLRACE_GIVEN_UP',
    `${title} is given up, because workers die of it; its records are dropped`,
  );
}

function timeoutError(what: string, timeoutMs: number, left: number): MillraceError {
  return new MillraceError(
    'MILLRACE_TIMEOUT',
    `${what} was not done within ${Math.round(timeoutMs)} ms; ${left} records wait`,
  );
}
