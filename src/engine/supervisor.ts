import { once } from 'node:events';
import { Piscina, type Piscina as Pool } from 'piscina';
import { MillraceError, textOfError } from '../base/errors.ts';
import { within } from '../base/event-loop.ts';
import { type Control, MODE_STOP, WORKER_SLOTS } from '../lane/control.ts';
import type { LedgerWriter } from '../lane/ledger.ts';
import type { DeathReason } from '../lane/readings.ts';
import type {
  FarewellTask,
  TurnEnd,
  TurnTask,
  WorkerConfig,
  WorkerNote,
} from '../worker/contract.ts';
import { endProbe } from '../worker/gate.ts';
import { Pulses } from './pulses.ts';
import type { Seat, SeqSpan } from './seat.ts';
import { ThreadRoster } from './thread-roster.ts';
import { placeUnderWay, Triage, type TriageParts, type Verdict } from './triage.ts';
import { workerFlags } from './worker-flags.ts';

/** A worker without a heartbeat for so long is taken for dead or hung, in ms. */
const STALE_MS = 3000;
/** The same for one that waits for the disk: a write or sync may take long, and is done again if its thread is given up. */
const DISK_STALE_MS = 60_000;
/** A turn that nobody has begun by then is given to another worker, in ms; starting a thread takes well under a second. */
const UNCLAIMED_MS = 5000;
const WATCH_MS = 1000;
const REFILL_PAUSE_CAP_MS = 60_000;
const TRIAL_LOOK_MS = 20;
/** Beyond all turns that one block of the main thread can produce: piscina must never queue on the main side. */
const TASKS_PER_WORKER = 1_000_000;
const CRASH_PAUSE_BASE_MS = 20;
const CRASH_PAUSE_CAP_MS = 1000;
/** Part of the time that workers may die in which a pause takes at most: several of them fit. */
const CRASH_PAUSE_SHARE = 1 / 8;
/**
 * Room for new objects in a worker's heap, in MB. Workers make few, and those die at once; left alone, the engine lets that
 * room grow to 48 MB a thread before it looks.
 */
const YOUNG_MB = 3;
/** Longest wait for threads that are still loading before they are ended, in ms. */
const LOADING_MS = 5000;
/** Longest wait for threads to be gone once they have been ended, in ms. */
const TERMINATE_MS = 3000;
/** Longest wait for sinks to close before their threads are ended, in ms. */
const FAREWELL_MS = 2000;

export interface SupervisorParts {
  readonly filename: string;
  readonly threads: number;
  /** Most memory of a thread's heap, in MB; undefined: as much as Node gives it. */
  readonly heapMb: number | undefined;
  /** Whether threads are told of the end, so that they close their sinks. */
  readonly closesSinks: boolean;
  readonly config: WorkerConfig;
  readonly control: Control;
  readonly ledger: LedgerWriter;
  readonly onError: (error: MillraceError) => void;
  /** What becomes of lanes whose workers die. */
  readonly triage: Omit<TriageParts, 'onRelease'>;
  /** Hears of records that had given way in a worker's hands, and are dropped for good now. */
  readonly onGaveWay: (seat: Seat, gone: SeqSpan) => void;
  readonly onNote: (note: WorkerNote) => void;
  readonly onThread: (event: ThreadEvent, threadId: number) => void;
}

/** What happens to a worker thread: it has loaded, it was found hung and is ended, or it is gone. */
export type ThreadEvent = 'start' | 'hung' | 'exit';

/** A lane that gets its next turn a little later. */
interface Pause {
  readonly untilMs: number;
  readonly timer: NodeJS.Timeout;
}

/**
 * Keeps a turn running for every lane that wants one: the only place that posts turns, notices that a
 * worker is gone, and gives its lanes to others. Works without the event loop where it is called from a sync wait.
 */
export class Supervisor {
  readonly #parts: SupervisorParts;
  readonly #control: Control;
  readonly #pool: Pool;
  readonly #seats = new Map<string, Seat>();
  readonly #pulses: Pulses;
  readonly #toldDeaths = new WeakSet<object>();
  readonly #roster: ThreadRoster;
  readonly #triage: Triage;
  /** Deaths that a turn was charged with which a worker had begun: turns that only waited for that thread had no part in them. */
  readonly #chargedDeaths = new WeakSet<object>();
  readonly #deaths: Record<DeathReason, number> = {
    exit: 0,
    uncaught: 0,
    out_of_memory: 0,
    hung: 0,
  };
  readonly #watch: NodeJS.Timeout;
  readonly #pauses = new Map<Seat, Pause>();
  #lookedMs: number = performance.now();
  #trialWatch: NodeJS.Timeout | undefined;
  /** When a thread ended last, monotonic ms. */
  #diedMs = 0;
  /** What it died of. */
  #diedOf: unknown = new Error('they never begin');
  #isUnbegunTold = false;
  /** When a missing thread may be made, and how long after the one before. */
  #refillAtMs = 0;
  #refillPauseMs: number = WATCH_MS;
  #isRefilling = false;
  #running = 0;
  #isClosed = false;

  constructor(parts: SupervisorParts) {
    this.#parts = parts;
    this.#control = parts.control;
    this.#pulses = new Pulses(parts.control);
    this.#pool = new Piscina({
      filename: parts.filename,
      minThreads: parts.threads,
      maxThreads: parts.threads,
      idleTimeout: Number.POSITIVE_INFINITY,
      concurrentTasksPerWorker: TASKS_PER_WORKER,
      maxQueue: Number.POSITIVE_INFINITY,
      atomics: 'disabled',
      resourceLimits: {
        maxYoungGenerationSizeMb: YOUNG_MB,
        ...(parts.heapMb === undefined ? {} : { maxOldGenerationSizeMb: parts.heapMb }),
      },
      recordTiming: false,
      workerData: parts.config,
      execArgv: workerFlags(process.execArgv),
      loadBalancer: (_task, workers) => this.#choose(workers),
    });
    this.#roster = new ThreadRoster((threadId, reason) => this.#noteExit(threadId, reason));
    this.#triage = new Triage({ ...parts.triage, onRelease: (seat) => this.post(seat) });
    this.#pool.on('error', (error: unknown) => this.#noteDeath(error));
    this.#pool.on('message', (message: unknown) => this.#hear(message));
    this.#watchThreads();
    this.#watch = setInterval(() => this.look(), WATCH_MS);
    this.#watch.unref();
  }

  /** Threads that died and were replaced, by what they died of. */
  get deaths(): Readonly<Record<DeathReason, number>> {
    return this.#deaths;
  }

  get alive(): number {
    if (this.#isClosed) return 0;
    return this.#pool.threads.filter(({ threadId }) => threadId > 0).length;
  }

  /** Turns that have not reported yet. */
  get running(): number {
    return this.#running;
  }

  /** Ms since the latest sign of life of each living worker, by its slot. */
  heartbeatAges(): ReadonlyMap<number, number> {
    const now = performance.now();
    const ages = new Map<number, number>();
    for (const { threadId } of this.#pool.threads) {
      const slot = this.#control.slotOf(threadId);
      if (slot >= 0) ages.set(slot, this.#pulses.silentMs(slot, now));
    }
    return ages;
  }

  /** Starts a turn for a lane; the caller has won the exchange on its bell, or its attendant is gone. */
  post(seat: Seat): void {
    if (this.#isClosed) return;
    this.#seats.set(seat.name, seat);
    if (seat.isGivenUp) {
      seat.hasTurn = false;
      this.#triage.dropRest(seat);
      return;
    }
    if (!this.#triage.mayRun(seat)) {
      this.#watchTrial();
      return;
    }
    // A turn that ended in good order left nothing in anybody's hands.
    this.#parts.ledger.add('again_worker_death', seat.inFlight);
    const { term, gone } = seat.beginTerm(performance.now());
    this.#parts.onGaveWay(seat, gone);
    const { backlogs } = seat;
    const care = this.#triage.careOf(seat);
    const task: TurnTask = {
      memory: seat.region.memory,
      lane: seat.lane,
      term,
      ...(backlogs === undefined ? {} : { backlogs }),
      ...(care === undefined ? {} : { care }),
    };
    this.#running += 1;
    this.#pool.run(task).then(
      (end: TurnEnd) => this.#noteEnd(seat, { term, end }),
      (error: unknown) => this.#noteCrash(seat, { term, error }),
    );
    // Where no thread was left, the pool has made one.
    this.#roster.admit(this.#pool.threads);
  }

  /**
   * Looks whether the attendants of all lanes are alive, and replaces those that are not; what enters lanes that are given up is
   * dropped. Needs no event loop, as long as one worker is left.
   */
  look(): void {
    if (this.#isClosed) return;
    const now = performance.now();
    this.#refill(now);
    this.#excuse(now - this.#lookedMs);
    this.#lookedMs = now;
    for (const seat of this.#seats.values()) {
      const pause = this.#pauses.get(seat);
      if (seat.isGivenUp) this.#triage.dropRest(seat);
      else if (pause !== undefined) {
        if (now >= pause.untilMs) this.#endPause(seat);
      } else if (this.#triage.isWaiting(seat)) continue;
      else if (seat.isAttended && this.#isAbandoned(seat, now)) this.#takeOver(seat);
    }
    this.#triage.tend();
  }

  /** Whether what a lane has on disk stays there for as long as this engine lives. */
  isStuck(seat: Seat): boolean {
    return this.#triage.isStuck(seat);
  }

  /**
   * Makes up for threads that could not be loaded: after the first of them the pool replaces none any more by itself. One at a
   * time, after growing pauses.
   */
  #refill(now: number): void {
    if (this.#pool.threads.length >= this.#parts.threads || now < this.#refillAtMs) return;
    this.#refillPauseMs = Math.min(2 * this.#refillPauseMs, REFILL_PAUSE_CAP_MS);
    this.#refillAtMs = now + this.#refillPauseMs;
    // A task that no thread is to have makes the pool want another one; then it is taken back, so that nothing waits behind it.
    const refused = new AbortController();
    this.#isRefilling = true;
    this.#pool.run(undefined, { signal: refused.signal }).catch(() => {
      // It was there to be refused.
    });
    this.#isRefilling = false;
    refused.abort();
    this.#roster.admit(this.#pool.threads);
  }

  /** While this thread stood still, the process may have (stopped, frozen, no processor): nobody is blamed for that time. */
  #excuse(gapMs: number): void {
    if (gapMs < 2 * WATCH_MS) return;
    this.#pulses.excuse(gapMs - WATCH_MS);
  }

  /** These lanes are empty, and nobody will fill them again. */
  forget(seats: readonly Seat[]): void {
    for (const seat of seats) {
      this.#seats.delete(seat.name);
      this.#triage.forget(seat);
    }
  }

  /**
   * Ends all threads. Nothing must be running that is still wanted. 'late': one of them is held by the system, by a disk that
   * does not answer as a rule; it ends as soon as it is let go, and does nothing any more.
   */
  async close(): Promise<'ended' | 'late'> {
    if (this.#isClosed) return 'ended';
    this.#isClosed = true;
    clearInterval(this.#watch);
    for (const { timer } of this.#pauses.values()) clearTimeout(timer);
    clearInterval(this.#trialWatch);
    await this.#threadsLoaded();
    if (this.#parts.closesSinks) await this.#bidFarewell();
    const end = this.#pool.destroy().then(() => 'ended' as const);
    return await within(end, TERMINATE_MS, 'late' as const);
  }

  /** A sink of the user's own may hold something that the end of its thread does not free. */
  async #bidFarewell(): Promise<void> {
    const task: FarewellTask = { farewell: true };
    // The least used thread is chosen each time, so each gets one.
    const tasks = this.#pool.threads.map(() => this.#pool.run(task));
    await within(Promise.allSettled(tasks), FAREWELL_MS, 'late');
  }

  /** Node 20 ends the whole process when a thread is terminated in the middle of loading an ES module. */
  async #threadsLoaded(): Promise<void> {
    const loading = this.#roster.loading();
    if (loading.length === 0) return;
    const end = new AbortController();
    const waits = loading.map((thread) =>
      Promise.race([once(thread, 'message', end), once(thread, 'exit', end)]),
    );
    await within(Promise.allSettled(waits), LOADING_MS, 'late');
    end.abort();
  }

  #watchThreads(): void {
    this.#roster.admit(this.#pool.threads);
    const first = new Set(this.#pool.threads.map(({ threadId }) => threadId));
    // Later threads are told of when they have loaded; the first ones as soon as they are made.
    this.#pool.on('workerCreate', ({ id }: { id: number }) => {
      if (!first.has(id)) this.#roster.noteLoaded(id);
      this.#refillPauseMs = WATCH_MS;
      this.#parts.onThread('start', id);
    });
    // The pool replaces a thread right after it has told of its end.
    this.#pool.on('workerDestroy', () => {
      queueMicrotask(() => this.#roster.admit(this.#pool.threads));
    });
  }

  #noteExit(threadId: number, reason: DeathReason): void {
    if (!this.#isClosed) this.#deaths[reason] += 1;
    this.#diedMs = performance.now();
    this.#triage.accuse(this.#attendedBy(threadId), reason);
    this.#reapSlots();
    this.#parts.onThread('exit', threadId);
  }

  #isAbandoned(seat: Seat, now: number): boolean {
    const owner = seat.owner;
    if (owner === 0) {
      const isLeft = this.#pool.threads.length === 0 && this.#diedMs >= seat.postedMs;
      return isLeft || now - seat.postedMs > UNCLAIMED_MS;
    }
    const slot = this.#control.slotOf(owner);
    if (slot < 0) return true;
    const staleMs = this.#control.isOnDisk(slot) ? DISK_STALE_MS : STALE_MS;
    return this.#pulses.silentMs(slot, now) > staleMs;
  }

  #takeOver(seat: Seat): void {
    const owner = seat.owner;
    if (owner !== 0) this.#condemn(owner);
    if (owner !== 0) this.#triage.judge(seat, 'sole', new Error('it hangs'));
    else if (this.#diedMs >= seat.postedMs) this.#triage.judge(seat, 'sole', this.#diedOf);
    else this.#tellUnbegun(seat);
    this.post(seat);
  }

  /** Threads that load for so long are no reason to give a lane up, but one to speak. */
  #tellUnbegun({ title }: Seat): void {
    if (this.#isUnbegunTold) return;
    this.#isUnbegunTold = true;
    const message = `no worker has begun with ${title} in ${UNCLAIMED_MS} ms: they load slowly, or not at all`;
    this.#parts.onError(new MillraceError('MILLRACE_WORKER', message));
  }

  /** Looks often while lanes wait: they hold records. */
  #watchTrial(): void {
    if (this.#trialWatch !== undefined) return;
    this.#trialWatch = setInterval(() => {
      this.#triage.tend();
      if (this.#triage.hasWaiting && !this.#isClosed) return;
      clearInterval(this.#trialWatch);
      this.#trialWatch = undefined;
    }, TRIAL_LOOK_MS);
    this.#trialWatch.unref();
  }

  #attendedBy(threadId: number): Seat[] {
    return [...this.#seats.values()].filter((seat) => seat.isAttended && seat.owner === threadId);
  }

  #condemn(threadId: number): void {
    const slot = this.#control.slotOf(threadId);
    // A thread that ends in good order frees its slot; the news of its end may still be on its way to us.
    const verdict = slot >= 0 ? 'hung' : 'exit';
    // Piscina notices the exit and starts another thread as soon as the event loop runs.
    if (this.#roster.condemn(threadId, verdict)) {
      this.#triage.accuse(this.#attendedBy(threadId), verdict);
      if (verdict === 'hung') this.#parts.onThread('hung', threadId);
    }
    if (slot >= 0) this.#freeSlot(slot);
  }

  /** The living worker with the fewest turns; null: the pool has to make one. */
  #choose<W extends { readonly id: number; readonly currentUsage: number }>(
    workers: readonly W[],
  ): W | null {
    let chosen: W | null = null;
    if (this.#isRefilling) return chosen;
    for (const worker of workers) {
      if (!this.#roster.isFit(worker.id)) continue;
      if (chosen === null || worker.currentUsage < chosen.currentUsage) chosen = worker;
    }
    return chosen;
  }

  #noteEnd(seat: Seat, { term, end }: { term: number; end: TurnEnd }): void {
    this.#running -= 1;
    this.#isUnbegunTold = false;
    if (seat.term !== term) return;
    seat.hasTurn = false;
    if (end === 'idle') this.#triage.discharge(seat);
    else if (end === 'hopeless') this.#triage.giveUp(seat, new Error('processes have died of it'));
  }

  #noteCrash(seat: Seat, { term, error }: { term: number; error: unknown }): void {
    this.#running -= 1;
    if (this.#isClosed || this.#control.mode === MODE_STOP) return;
    this.#noteDeath(error);
    if (seat.term !== term) return;
    const crashes = this.#triage.judge(seat, this.#verdictOn(seat, error), error);
    if (crashes <= 1 || seat.isGivenUp) this.post(seat);
    else this.#postLater(seat, crashes);
  }

  /**
   * What a lane had to do with the end of its turn, where no lane was accused of that. The pool rejects all turns of a dead thread
   * with the same error, in the order they were posted in.
   */
  #verdictOn(seat: Seat, error: unknown): Verdict {
    // The thread lives: it was the turn that failed, and no other lane had a part in it.
    if (this.#roster.isFit(seat.owner)) return placeUnderWay(seat) ?? 'head';
    if (typeof error !== 'object' || error === null) return 'sole';
    // Nobody had begun the turn. If one that was begun has been charged with the same death, this one only waited.
    if (seat.owner === 0) return this.#chargedDeaths.has(error) ? 'bystander' : 'sole';
    this.#chargedDeaths.add(error);
    return 'sole';
  }

  #postLater(seat: Seat, crashes: number): void {
    const ms = Math.min(
      CRASH_PAUSE_CAP_MS,
      this.#parts.triage.patienceMs * CRASH_PAUSE_SHARE,
      CRASH_PAUSE_BASE_MS * 2 ** Math.min(crashes - 2, 10),
    );
    const timer = setTimeout(() => this.#endPause(seat), ms);
    this.#pauses.set(seat, { untilMs: performance.now() + ms, timer });
  }

  #endPause(seat: Seat): void {
    clearTimeout(this.#pauses.get(seat)?.timer);
    this.#pauses.delete(seat);
    this.post(seat);
  }

  /** Tells of a dead thread once, however many turns it takes along. */
  #noteDeath(error: unknown): void {
    this.#reapSlots();
    if (typeof error !== 'object' || error === null || this.#toldDeaths.has(error)) return;
    this.#toldDeaths.add(error);
    this.#diedOf = error;
    if (this.#isClosed) return;
    this.#parts.onError(
      new MillraceError('MILLRACE_WORKER', `a worker thread died: ${textOfError(error)}`, error),
    );
  }

  #reapSlots(): void {
    const living = new Set(this.#pool.threads.map(({ threadId }) => threadId));
    for (let slot = 0; slot < WORKER_SLOTS; slot += 1) {
      const threadId = this.#control.threadOf(slot);
      if (threadId !== 0 && !living.has(threadId)) this.#freeSlot(slot);
    }
  }

  #freeSlot(slot: number): void {
    this.#control.freeSlot(slot);
    endProbe(this.#control);
    this.#pulses.forget(slot);
  }

  #hear(message: unknown): void {
    if (isNote(message)) this.#parts.onNote(message);
  }
}

function isNote(message: unknown): message is WorkerNote {
  return typeof message === 'object' && message !== null && 'millrace' in message;
}
