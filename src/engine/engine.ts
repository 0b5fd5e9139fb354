import { setTimeout as delay } from 'node:timers/promises';
import { MessageChannel, type MessagePort, receiveMessageOnPort } from 'node:worker_threads';
import { MillraceError } from '../base/errors.ts';
import type { Logger } from '../base/logger.ts';
import type { TranscoderOptions } from '../codec/transcode.ts';
import {
  Control,
  ENGINE_SLOT,
  GATE_TROUBLE,
  MODE_DRAIN,
  MODE_SAVE,
  MODE_STOP,
  SIGNALLED_WORD,
} from '../lane/control.ts';
import { LedgerWriter } from '../lane/ledger.ts';
import { Region } from '../lane/region.ts';
import { SHUTDOWN } from '../lane/settlement.ts';
import type { RecordFields, UnsetFields } from '../record/types.ts';
import type { AttemptNote, WorkerConfig, WorkerNote } from '../worker/contract.ts';
import { Accounts } from './accounts.ts';
import { isHeard, publish } from './channels.ts';
import { workerEntry } from './entry.ts';
import { joinExitHook } from './exit-hook.ts';
import { HighWaterMark } from './high-water.ts';
import {
  closedError,
  type Deadline,
  Inlet,
  type InletOptions,
  inletPlanOf,
  lateCalls,
} from './inlet.ts';
import { Journal } from './journal.ts';
import type { EnginePlan } from './plan.ts';
import { isPortMessage, type PortStart } from './port.ts';
import type { RequiredField } from './recorder.ts';
import { Seat, type SeqSpan } from './seat.ts';
import { SpoolKeeper } from './spool-keeper.ts';
import type { Stats } from './stats.ts';
import { Supervisor, type ThreadEvent } from './supervisor.ts';
import { blockUntil, holdOpen } from './waits.ts';
import { Watch } from './watch.ts';

/** What the client adds to a consumer's plan. */
export interface EngineClient extends InletOptions {
  readonly text: TranscoderOptions;
  /** The client's name, for the journal. */
  readonly name: string;
  readonly logger: Logger | undefined;
  readonly onError: (error: MillraceError) => void;
}

const CLOSE_TIMEOUT_MS = 30_000;
/** How long turns get to notice that the engine stops. */
const STOP_MS = 2000;
/** Part of the time to close that is kept for the spool, and the most of it in ms. */
const SAVE_SHARE = 0.25;
const SAVE_MS_MAX = 2000;
/** Part of the time at an exit that is kept for turns to end what they put on disk. */
const EXIT_STOP_SHARE = 0.1;
const IDLE_MS = 200;
const MAIN_REGION = 1;
/** How often it is looked whether a lane fills up, in ms. */
const WATCH_MS = 1000;

/** Lanes that another thread fills. */
interface PortSeats {
  readonly seats: readonly Seat[];
  readonly channel: MessagePort;
}

/** One engine: lanes, workers, and their accounts, from construction to close. */
export class Engine {
  readonly plan: EnginePlan;
  readonly inlet: Inlet;
  readonly accounts: Accounts;
  readonly journal: Journal;
  readonly #options: InletOptions;
  readonly #control: Control;
  readonly #ledger: LedgerWriter;
  readonly #supervisor: Supervisor;
  readonly #onError: (error: MillraceError) => void;
  readonly #changes: Watch;
  readonly #leaveExitHook: () => void;
  readonly #spool: SpoolKeeper | undefined;
  readonly #watch: NodeJS.Timeout;
  readonly #ports = new Map<number, PortSeats>();
  #regions = MAIN_REGION;
  #state: 'open' | 'closing' | 'closed' = 'open';
  #closed: Promise<Stats> | undefined;
  /** Records that were dropped by the shutdown, and whose callers have not been told yet. */
  readonly #untold: { readonly seat: Seat; readonly gone: SeqSpan }[] = [];
  /** Resolves when the threads that closeSync() has ended are gone. */
  #ended: Promise<void> | undefined;

  constructor(plan: EnginePlan, client: EngineClient) {
    this.plan = plan;
    this.#options = {
      validation: client.validation,
      uuid: client.uuid,
      priorities: client.priorities,
    };
    const { logger, onError, name } = client;
    const origin = { client: name, consumer: plan.consumer };
    this.journal = new Journal({ origin, logger, onError });
    this.#onError = (error) => this.journal.error(error);
    const filename = workerEntry(plan.entry, plan.workerFile);
    this.#control = Control.create();
    this.#ledger = new LedgerWriter(this.#control.floats, this.#control.slotFloatAt(ENGINE_SLOT));
    this.#spool = this.#makeSpool();
    this.#supervisor = this.#makeSupervisor(filename, client.text);
    this.inlet = this.#makeInlet();
    this.accounts = new Accounts({
      plan,
      inlet: this.inlet,
      portSeats: () => this.#portSeats(),
      backlogSeat: this.#spool?.seat,
      control: this.#control,
      supervisor: this.#supervisor,
    });
    this.#leaveExitHook = joinExitHook({
      hurryAtExit: () => this.#hurryAtExit(),
      flushAtExit: (startMs) => this.#flushAtExit(startMs),
      hurrySavingAtExit: () => this.#hurrySavingAtExit(),
      saveAtExit: (startMs) => this.#saveAtExit(startMs),
    });
    this.#spool?.start();
    this.#changes = new Watch(this.journal, this.#control);
    this.#watch = this.#startWatch();
    this.#noteClient('open');
  }

  #makeSpool(): SpoolKeeper | undefined {
    const { plan } = this;
    if (plan.spool === undefined) return undefined;
    return new SpoolKeeper(plan, plan.spool, {
      post: (seat) => this.#supervisor.post(seat),
      onError: this.#onError,
      control: this.#control,
    });
  }

  #makeSupervisor(filename: string, text: TranscoderOptions): Supervisor {
    const { plan } = this;
    return new Supervisor({
      filename,
      threads: plan.workers,
      heapMb: plan.workerHeapMb,
      closesSinks: plan.entry === 'custom',
      config: this.#workerConfig(text),
      control: this.#control,
      ledger: this.#ledger,
      onError: this.#onError,
      triage: {
        patienceMs: plan.workerPatienceMs,
        handRecordsMax: plan.batch.recordsMax * plan.inFlightMax,
        hasSpool: plan.spool !== undefined,
        keepsDeadLetters: plan.deadLetter !== undefined,
        onError: this.#onError,
        onDropped: (seat, gone) => this.#tellDropped(seat, gone, 'crashed'),
        onGivenUp: (seat) => this.#spool?.noteGivenUp(seat),
      },
      onGaveWay: (seat, gone) => this.#tellDropped(seat, gone, 'overflow'),
      onNote: (note) => this.#hear(note),
      onThread: (event, threadId) => this.#noteThread(event, threadId),
    });
  }

  #makeInlet(): Inlet {
    return new Inlet({
      region: this.#newRegion(MAIN_REGION),
      plan: this.plan,
      options: this.#options,
      committer: 'supervisor',
      host: {
        post: (seat) => this.#supervisor.post(seat),
        tend: () => this.#supervisor.look(),
        isOpen: () => this.#state === 'open',
        isOver: () => this.#state === 'closed',
        lateCalls: () => {
          const isClosing = this.#state === 'closing';
          return lateCalls(this.#control, { isClosing, validation: this.#options.validation });
        },
        onError: this.#onError,
      },
    });
  }

  #startWatch(): NodeJS.Timeout {
    const highWater = new HighWaterMark(this.#onError);
    const timer = setInterval(() => {
      highWater.look(this.#allSeats());
      this.#changes.look(this.accounts.readings());
    }, WATCH_MS);
    return timer.unref();
  }

  #noteClient(event: 'open' | 'close'): void {
    const stats = this.stats();
    const isOpen = event === 'open';
    if (isHeard('client')) publish('client', { ...this.journal.origin, event, stats });
    this.journal.log({
      level: 'info',
      code: isOpen ? 'MILLRACE_OPENED' : 'MILLRACE_ENDED',
      message: isOpen ? 'the client is open' : 'the client is closed',
      facts: isOpen ? { workers: this.plan.workers, lanes: this.plan.lanes } : { stats },
    });
  }

  #noteThread(event: ThreadEvent, threadId: number): void {
    if (isHeard('worker')) publish('worker', { ...this.journal.origin, event, threadId });
    if (event !== 'start') return;
    const message = 'a worker thread has loaded';
    this.journal.log({
      level: 'debug',
      code: 'MILLRACE_WORKER_STARTED',
      message,
      facts: { threadId },
    });
  }

  #newRegion(id: number): Region {
    const { lanes, laneBytes } = this.plan;
    return Region.create({ lanes, laneBytes, id, baseMs: Date.now() });
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
      spool: this.#spool?.plan,
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
    return this.inlet.record(kind, fields, required);
  }

  /** A signal is about to end the process: from now on no call throws because it comes late. */
  noteSignal(): void {
    Atomics.store(this.#control.words, SIGNALLED_WORD, 1);
  }

  /** Opens lanes for another thread; the port carries everything it needs, and is to be transferred. */
  openPort(): MessagePort {
    if (this.#state !== 'open') throw closedError();
    this.#regions += 1;
    const id = this.#regions;
    const region = this.#newRegion(id);
    const seats = Array.from(
      { length: region.lanes },
      (_, lane) => new Seat(region, lane, 'supervisor'),
    );
    const { port1: channel, port2 } = new MessageChannel();
    this.#ports.set(id, { seats, channel });
    channel.on('message', (message: unknown) => {
      if (isPortMessage(message)) this.#postForPort(seats, message.post);
    });
    channel.on('close', () => this.#retirePort(id));
    channel.unref();
    const start: PortStart = {
      millrace: 'port',
      memory: region.memory,
      control: this.#control.memory,
      options: this.#options,
      supers: this.inlet.recorder.getSuperProperties(),
      plan: inletPlanOf(this.plan),
    };
    channel.postMessage(start);
    return port2;
  }

  #postForPort(seats: readonly Seat[], lane: number): void {
    const seat = seats[lane];
    if (seat !== undefined && this.#state !== 'closed') this.#supervisor.post(seat);
  }

  /** The thread behind a port is gone: what it left is delivered, then its lanes are only numbers. */
  #retirePort(id: number): void {
    const port = this.#ports.get(id);
    if (port === undefined || this.#state === 'closed') return;
    for (const seat of port.seats) seat.takeBackUnpublished();
    for (const seat of port.seats) {
      // The thread may have ended after it had won the lane and before it could say so.
      if (seat.requestFlush() || (seat.isAttended && !seat.hasTurn)) this.#supervisor.post(seat);
    }
    const isEmpty = () =>
      port.seats.every(
        (seat) => !seat.hasTurn && seat.isSettledUpTo(seat.tail) && seat.spooled === 0,
      );
    const timer = setInterval(() => {
      if (this.#state === 'open' && !isEmpty()) return;
      clearInterval(timer);
      if (this.#state !== 'open' || this.#ports.get(id) !== port) return;
      this.accounts.retire(port.seats);
      this.#supervisor.forget(port.seats);
      this.#ports.delete(id);
    }, IDLE_MS);
    timer.unref();
  }

  /** Resolves when everything accepted before the call, by this thread, is settled. */
  async flush(deadline: Deadline = {}): Promise<void> {
    if (this.#state === 'closed') return;
    const startMs = performance.now();
    try {
      await this.inlet.flush(deadline);
    } finally {
      this.#observeFlush(startMs);
    }
  }

  #observeFlush(startMs: number): void {
    this.#ledger.observe('flush_seconds', (performance.now() - startMs) / 1000);
  }

  /** As flush(), blocking this thread. True: all settled in time. */
  flushSync(deadline: Deadline = {}): boolean {
    if (this.#state === 'closed') return true;
    const startMs = performance.now();
    const isInTime = this.inlet.flushSync(deadline);
    this.#observeFlush(startMs);
    return isInTime;
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
    const endMs = performance.now() + timeoutMs;
    const deadlineMs = endMs - this.#saveMs(timeoutMs);
    this.#control.mode = MODE_DRAIN;
    try {
      await this.flush({ timeoutMs: Math.max(0, deadlineMs - performance.now()) });
    } catch (error) {
      // What the spool takes in the time that is left is no trouble.
      if (!(error instanceof MillraceError)) throw error;
      if (error.code !== 'MILLRACE_TIMEOUT') this.#onError(error);
      else if (this.#spool === undefined) this.#onError(closeTimeoutError(timeoutMs, this.stats()));
    }
    await this.#drainPorts(deadlineMs);
    await this.#drainSpool(deadlineMs);
    await this.#save(endMs);
    if (!this.#isOver) this.#stop();
    await this.#endTurns(stopMsFor(timeoutMs));
    if (!this.#isOver) {
      this.#endSpooling();
      this.#dropRest();
      const end = await this.#supervisor.close();
      if (!this.#isOver) {
        this.#finish();
        this.#leave(end);
      }
    }
    // closeSync() came meanwhile.
    await this.#ended;
    return this.stats();
  }

  async #endTurns(stopMs: number): Promise<void> {
    while (this.#supervisor.running > 0 && performance.now() < stopMs) {
      await delay(1);
    }
  }

  get #isOver(): boolean {
    return this.#state === 'closed';
  }

  #leave(end: 'ended' | 'late'): void {
    if (end === 'ended') this.#spool?.mend(this.#allSeats());
    this.#spool?.leave(end);
    // Workers have told all they had to tell by now, also of records that had their answer and still were in a ring.
    for (const { seat, gone } of this.#untold.splice(0)) this.#tellDropped(seat, gone, 'shutdown');
    this.inlet.tellRest('shutdown');
    for (const { channel } of this.#ports.values()) channel.close();
  }

  /** As close(), blocking this thread; the threads end as soon as the event loop runs. */
  closeSync({ timeoutMs = CLOSE_TIMEOUT_MS }: Deadline = {}): Stats {
    if (this.#state === 'closed') return this.stats();
    this.#state = 'closing';
    // Turns that were told to stop by a close() under way don't come back.
    if (this.#control.mode !== MODE_STOP) {
      this.#control.mode = MODE_DRAIN;
      this.#flushOrSave(timeoutMs);
    }
    this.#stop();
    this.#endSpoolingSync(stopMsFor(timeoutMs));
    this.#dropRest();
    const stopMs = stopMsFor(timeoutMs);
    const ended = holdOpen(() => this.#endTurns(stopMs)).then(() => this.#supervisor.close());
    this.#finish();
    this.#ended = ended.then((end) => this.#leave(end));
    this.#closed ??= this.#ended.then(() => this.stats());
    return this.stats();
  }

  #allSeats(): readonly Seat[] {
    return [...this.inlet.seats, ...this.#portSeats()];
  }

  #portSeats(): readonly Seat[] {
    return [...this.#ports.values()].flatMap(({ seats }) => seats);
  }

  /** Lanes of other threads: what is in them goes out, too. */
  async #drainPorts(deadlineMs: number): Promise<void> {
    const seats = this.#portSeats();
    for (const seat of seats) if (seat.requestFlush()) this.#supervisor.post(seat);
    const isDone = () => seats.every((seat) => seat.isSettledUpTo(seat.tail));
    while (!this.#isOver && !isDone() && performance.now() < deadlineMs) {
      await delay(1);
    }
  }

  #saveMs(timeoutMs: number): number {
    return this.#spool === undefined ? 0 : Math.min(SAVE_MS_MAX, timeoutMs * SAVE_SHARE);
  }

  /** Waits for what is on disk, as long as the receiver takes it. */
  async #drainSpool(deadlineMs: number): Promise<void> {
    const spool = this.#spool;
    if (spool === undefined) return;
    const isInTrouble = () => Atomics.load(this.#control.words, GATE_TROUBLE) !== 0;
    const isEmpty = (seat: Seat) => seat.spooled === 0 || this.#supervisor.isStuck(seat);
    const isDone = () =>
      (spool.isReplayed || this.#supervisor.isStuck(spool.seat)) && this.#allSeats().every(isEmpty);
    while (!this.#isOver && !isDone() && !isInTrouble() && performance.now() < deadlineMs) {
      await delay(2);
    }
  }

  #startSaving(): readonly Seat[] {
    this.#control.mode = MODE_SAVE;
    const seats = this.#allSeats();
    for (const seat of seats) if (seat.wake()) this.#supervisor.post(seat);
    return seats;
  }

  /** What is still in the ring goes to the disk. */
  async #save(endMs: number): Promise<void> {
    if (this.#isOver || this.#spool === undefined || this.stats().queued === 0) return;
    const seats = this.#startSaving();
    const isDone = () => seats.every((seat) => seat.isSettledUpTo(seat.tail));
    while (!this.#isOver && !isDone() && performance.now() < endMs) {
      await delay(1);
    }
  }

  /** Delivers what it can in the time, blocking this thread; what is left goes to the disk if there is a spool. */
  #flushOrSave(timeoutMs: number): void {
    const endMs = performance.now() + timeoutMs;
    this.#flushAll(endMs - this.#saveMs(timeoutMs));
    this.#saveSync(endMs);
  }

  /** Delivers what it can until then, blocking this thread. */
  #flushAll(deadlineMs: number): void {
    // Other threads' lanes are delivered side by side with ours.
    this.#hearPorts();
    const seats = this.#portSeats();
    for (const seat of seats) if (seat.requestFlush()) this.#supervisor.post(seat);
    this.flushSync({ timeoutMs: deadlineMs - performance.now() });
    for (const seat of seats) this.#blockUntilSettled(seat, deadlineMs);
  }

  /** What other threads have asked for and the event loop has not told yet. */
  #hearPorts(): void {
    for (const { seats, channel } of this.#ports.values()) {
      for (let got = receiveMessageOnPort(channel); got !== undefined; ) {
        if (isPortMessage(got.message)) this.#postForPort(seats, got.message.post);
        got = receiveMessageOnPort(channel);
      }
    }
  }

  #blockUntilSettled(seat: Seat, deadlineMs: number): void {
    const word = { words: seat.region.words, index: seat.settlement.commitAt };
    const tend = () => {
      this.#hearPorts();
      this.#supervisor.look();
    };
    blockUntil(() => seat.isSettledUpTo(seat.tail), word, { deadlineMs, tend });
  }

  /** As save, blocking this thread. */
  #saveSync(endMs: number): void {
    if (this.#spool === undefined || this.stats().queued === 0) return;
    this.#hearPorts();
    for (const seat of this.#startSaving()) this.#blockUntilSettled(seat, endMs);
  }

  #stop(): void {
    this.#control.mode = MODE_STOP;
    for (const seat of this.#allSeats()) seat.wake();
  }

  /** What is in the rings from now on stays there: see W1. */
  #endSpooling(): void {
    if (this.#spool === undefined) return;
    for (const seat of this.#allSeats()) seat.endSpooling('none');
  }

  /** As endSpooling, but blocks this thread until turns have ended that are in the middle of it. */
  #endSpoolingSync(deadlineMs: number): void {
    if (this.#spool === undefined) return;
    const tend = () => this.#supervisor.look();
    for (const seat of this.#allSeats()) {
      const word = { words: seat.region.words, index: seat.spooling.wordAt };
      blockUntil(() => seat.spooling.isOver || !seat.isAttended, word, { deadlineMs, tend });
    }
    this.#endSpooling();
  }

  #dropRest(): void {
    for (const seat of this.#allSeats()) {
      // A turn that has nothing left keeps its lane, and ends in good order.
      if (seat.isSettledUpTo(seat.tail)) continue;
      this.#untold.push({ seat, gone: seat.dropRest(SHUTDOWN) });
    }
  }

  /** Tells those whose records were dropped, on whatever thread they are. */
  #tellDropped(seat: Seat, gone: SeqSpan, reason: string): void {
    if (seat.region.id === MAIN_REGION) this.inlet.tellDropped(seat, gone, reason);
    else if (gone.fromSeq !== gone.toSeq) {
      const notice = { region: seat.region.id, lane: seat.lane, ...gone, state: 'dropped', reason };
      this.#ports.get(seat.region.id)?.channel.postMessage({ millrace: 'notice', notice });
    }
  }

  #finish(): void {
    this.#state = 'closed';
    this.#leaveExitHook();
    clearInterval(this.#watch);
    this.#changes.look(this.accounts.readings());
    this.#noteClient('close');
  }

  #hurryAtExit(): void {
    if (this.#state !== 'open') return;
    for (const seat of this.#allSeats()) if (seat.requestFlush()) this.#supervisor.post(seat);
  }

  /** An exit in the middle of close() was asked for by somebody who does not wait: only the disk gets its time then. */
  #flushAtExit(startMs: number): void {
    if (this.#state !== 'open' || this.stats().queued === 0) return;
    const saveMs = this.#exitSaveMs;
    this.#flushAll(startMs + saveMs - this.#saveMs(saveMs));
  }

  #hurrySavingAtExit(): void {
    const isWanted = this.#spool !== undefined && this.#state !== 'closed';
    if (isWanted && this.stats().queued > 0) this.#startSaving();
  }

  #saveAtExit(startMs: number): number {
    if (this.#state === 'closed') return 0;
    this.#saveSync(startMs + this.#exitSaveMs);
    if (this.#spool !== undefined && this.stats().queued > 0) {
      this.#stop();
      this.#endSpoolingSync(startMs + this.plan.exitFlushMs);
    }
    const { queued, dropped } = this.stats();
    return queued + dropped.shutdown;
  }

  /** The time at an exit without what turns get to end what they are at. */
  get #exitSaveMs(): number {
    const share = this.#spool === undefined ? 0 : EXIT_STOP_SHARE;
    return this.plan.exitFlushMs * (1 - share);
  }

  #hear(note: WorkerNote): void {
    if (note.millrace === 'trouble') {
      this.#onError(MillraceError.from(note.report));
      return;
    }
    if (note.millrace === 'attempt') {
      this.#hearAttempt(note.attempt);
      return;
    }
    for (const notice of note.notices) {
      if (notice.region === MAIN_REGION) this.inlet.hear(notice);
      else this.#ports.get(notice.region)?.channel.postMessage({ millrace: 'notice', notice });
    }
  }

  #hearAttempt(attempt: AttemptNote): void {
    const message = { ...this.journal.origin, ...attempt };
    if (isHeard('batch')) publish('batch', message);
    if (attempt.reason !== '' && isHeard('retry')) publish('retry', message);
  }

  /** An exact snapshot, also after close. */
  stats(): Stats {
    // Another thread may have been in the middle of a call when the lanes were given up.
    if (this.#isOver) this.#dropRest();
    return this.accounts.stats();
  }
}

/** Until when turns may take to notice that the engine stops. */
function stopMsFor(timeoutMs: number): number {
  return performance.now() + Math.min(STOP_MS, 100 + timeoutMs / 10);
}

function closeTimeoutError(timeoutMs: number, { queued }: Stats): MillraceError {
  return new MillraceError(
    'MILLRACE_TIMEOUT',
    `close() ran out of its ${Math.round(timeoutMs)} ms: ${queued} records that wait are dropped (reason shutdown)`,
  );
}
