import { MillraceError, textOfError } from '../base/errors.ts';
import type { LedgerWriter, RequestOutcome, WorkerCounter } from '../lane/ledger.ts';
import { CRASHED, DELIVERED, EXPIRED, REJECTED } from '../lane/settlement.ts';
import { retryDelayMs } from '../sink/retry.ts';
import type { AttemptFacts, Batch, FailureReason, Outcome, Sink } from '../sink/sink.ts';
import type { DeliveryBatch } from './batcher.ts';
import type { AttemptNote, RetryLimits } from './contract.ts';
import type { DeadLetterFile } from './dead-letter.ts';
import type { Gate } from './gate.ts';

/** What a delivery needs of the place its records wait in. */
export interface DeliveryJob {
  readonly batch: DeliveryBatch;
  /** Lane of the records, for those who look for a slow one. */
  readonly lane?: number;
  /**
   * Keeps the records of the batch from being dropped to make room, and tells the index of the first that still
   * waits. -1: the lane was taken away, or the engine stops.
   */
  hold(): number;
  /** Lets the overflow policy have them: a pause begins. */
  release(): void;
  /** The sink is about to be called, and has returned: a thread that dies in between dies of this batch. */
  enter?(): void;
  leave?(): void;
  /** Settles records `[from, to)`. */
  settle(range: Span, counter: number, facts: SettleFacts): void;
  /** Counts records that also went into the dead-letter file. */
  countDeadLettered(count: number): void;
}

export interface Span {
  readonly from: number;
  readonly to: number;
}

export interface SettleFacts {
  readonly sentBytes: number;
  /** Words for whoever asked to hear of the records. */
  readonly reason: string;
}

/** How a delivery ended. 'kept': attempts ran out, and the records stay in the lane (rounds only). */
export type DeliveryEnd =
  | { readonly kind: 'done' }
  | { readonly kind: 'stopped' }
  | { readonly kind: 'kept'; readonly message: string };

export interface DeliveryParts {
  readonly sink: Sink;
  readonly gate: Gate;
  readonly ledger: LedgerWriter;
  readonly limits: RetryLimits;
  readonly attemptTimeoutMs: number;
  /** What happens to records whose attempts ran out. */
  readonly onExhausted: 'expire' | 'keep';
  readonly deadLetter: DeadLetterFile | undefined;
  readonly onTrouble: (error: MillraceError) => void;
  /** Hears of every attempt for which {@link AttemptListener.isListening}. */
  readonly attempts?: AttemptListener;
}

export interface AttemptListener {
  isListening(): boolean;
  hear(attempt: Omit<AttemptNote, 'threadId'>): void;
}

interface Range {
  from: number;
  readonly to: number;
  attempts: number;
}

/** A batch on its way: what is left of it, and until when that is tried. */
interface Run {
  readonly job: DeliveryJob;
  readonly ranges: Range[];
  /** By `performance.now()`. */
  readonly untilMs: number;
  /** What went wrong last. */
  message: string;
}

type Failure = Extract<Outcome, { kind: 'retry' }>;

const DONE: DeliveryEnd = { kind: 'done' };
const STOPPED: DeliveryEnd = { kind: 'stopped' };
/** Attempts at a reply that nobody can explain, before the records count as refused. */
const FEW_ATTEMPTS = 3;
/** Pause between attempts when only people can mend the cause (wrong app id). */
const CONFIG_PAUSE_MS = 30_000;

/**
 * Decides what becomes of a batch: the only place that tries again, splits or gives up.
 * A batch is worked on as a list of ranges, in order, so that the records settled are always a prefix.
 */
export class Delivery {
  readonly #parts: DeliveryParts;
  #underWay = 0;

  constructor(parts: DeliveryParts) {
    this.#parts = parts;
  }

  /** Works on the records of a batch until all are settled, or it must stop. */
  async run(job: DeliveryJob): Promise<DeliveryEnd> {
    const ranges: Range[] = [{ from: 0, to: job.batch.count, attempts: 0 }];
    const untilMs = performance.now() + (this.#parts.limits.forMs ?? Number.POSITIVE_INFINITY);
    const run: Run = { job, ranges, untilMs, message: 'the receiver could not be asked in time' };
    for (let range = ranges.pop(); range !== undefined; range = ranges.pop()) {
      const end = await this.#finish(range, run);
      if (end.kind !== 'done') return end;
    }
    return DONE;
  }

  /** Gives up the first record of a batch, unsent: threads die of it. */
  giveUpFirst(job: DeliveryJob): DeliveryEnd {
    const open = job.hold();
    if (open < 0) return STOPPED;
    // It gave way meanwhile.
    if (open > 0) return DONE;
    const record = { from: 0, to: 1 };
    const message = 'workers die of it';
    this.#keepDeadLetter(record, job, { message, cause: 'crashed' });
    job.settle(record, CRASHED, { sentBytes: 0, reason: 'crashed' });
    return DONE;
  }

  /** Tries one range until it is settled or has been replaced by its halves. */
  async #finish(range: Range, run: Run): Promise<DeliveryEnd> {
    const { job } = run;
    for (;;) {
      const refusal = await this.#admit(range, run);
      if (refusal !== undefined) return refusal;
      let outcome = await this.#attempt(run, range);
      if (outcome.kind === 'partial') {
        const to = range.from + outcome.count;
        job.settle({ from: range.from, to }, DELIVERED, { ...outcome, reason: '' });
        range.from = to;
        outcome = outcome.rest;
      }
      if (outcome.kind !== 'retry') return this.#settle(outcome, range, run);
      const end = await this.#afterFailure(outcome, range, run);
      if (end !== undefined) return end;
    }
  }

  /** Waits until the range may be tried, and leaves out what was settled meanwhile. Else: how the delivery of the range ends. */
  async #admit(range: Range, run: Run): Promise<DeliveryEnd | undefined> {
    const { job, untilMs } = run;
    const isWanted = () => {
      const open = job.hold();
      return open >= 0 && open < range.to && performance.now() < untilMs;
    };
    const mayTry = await this.#parts.gate.pass(isWanted, untilMs);
    const first = job.hold();
    range.from = Math.max(range.from, first);
    const isOpen = first >= 0 && range.from < range.to;
    if (mayTry && isOpen) return undefined;
    // Whoever was let through to see whether the receiver is back leaves that to another.
    if (mayTry) this.#parts.gate.giveBack();
    if (isOpen && performance.now() >= untilMs) return this.#expire(range, run);
    return first >= 0 && range.from >= range.to ? DONE : STOPPED;
  }

  async #attempt({ job, untilMs }: Run, { from, to }: Span): Promise<Outcome> {
    const { sink, attemptTimeoutMs } = this.#parts;
    const { batch, lane } = job;
    const view: Batch = {
      count: to - from,
      text: batch.text.bytes,
      starts: batch.starts.subarray(from, to),
      ends: batch.ends.subarray(from, to),
    };
    // A timer of its own, because AbortSignal.timeout() does not hold the thread's loop open.
    const abort = new AbortController();
    const timeoutMs = Math.min(attemptTimeoutMs, untilMs - performance.now());
    const timer = setTimeout(() => abort.abort(), timeoutMs);
    this.#countUnderWay(1);
    let outcome: Outcome;
    try {
      outcome = await deliverWith(sink, view, { signal: abort.signal, job });
    } catch (error) {
      // A sink promises not to throw; one that does (an own sink of the user) is treated as out of order.
      const message = textOfError(error);
      return { kind: 'retry', reason: 'network', message, budget: 'few' };
    } finally {
      clearTimeout(timer);
      this.#countUnderWay(-1);
    }
    // Nothing that goes wrong in here is the sink's fault.
    this.#observe(outcome, { lane: lane ?? -1, records: to - from });
    return outcome;
  }

  #countUnderWay(change: 1 | -1): void {
    this.#underWay += change;
    this.#parts.ledger.set('inflight_requests', this.#underWay);
  }

  #observe(outcome: Outcome, { lane, records }: { lane: number; records: number }): void {
    const { sink, ledger, attempts } = this.#parts;
    const facts = sink.lastAttempt;
    ledger.add(requestCounter(facts, outcome));
    ledger.observe(`request_${outcomeLabel(outcome)}`, facts.durationMs / 1000, { lane });
    if (facts.bodyMs !== undefined) ledger.observe('compress_seconds', facts.bodyMs / 1000);
    if (facts.code !== undefined) ledger.add(codeCounter(facts.code));
    noteDiskWork(this.#parts);
    if (attempts?.isListening() !== true) return;
    const { status, durationMs } = facts;
    attempts.hear({ lane, records, status, durationMs, ...factsOf(outcome) });
  }

  #settle(
    outcome: Exclude<Outcome, { kind: 'retry' }>,
    range: Range,
    { job, ranges }: Run,
  ): DeliveryEnd {
    // A refusal is an answer, too: the receiver is back, and whoever probed it has found out.
    this.#parts.gate.succeed();
    switch (outcome.kind) {
      case 'delivered':
        job.settle(range, DELIVERED, { sentBytes: outcome.sentBytes, reason: '' });
        return DONE;
      case 'split':
      case 'bisect':
        if (range.to - range.from > 1) this.#halve(range, ranges);
        else this.#reject(range, job, refusalOf(outcome));
        return DONE;
      case 'rejected':
        this.#reject(range, job, refusalOf(outcome));
        return DONE;
      case 'partial':
        throw new Error('millrace: a partial outcome inside a partial outcome');
    }
  }

  #halve({ from, to }: Range, ranges: Range[]): void {
    this.#parts.ledger.add('splits');
    const middle = from + ((to - from) >> 1);
    ranges.push({ from: middle, to, attempts: 0 }, { from, to: middle, attempts: 0 });
  }

  #reject(range: Span, job: DeliveryJob, refusal: Refusal): void {
    const count = range.to - range.from;
    this.#parts.onTrouble(
      new MillraceError(
        'MILLRACE_REJECTED',
        `${count} record(s) refused for good: ${refusal.message}`,
      ),
    );
    this.#keepDeadLetter(range, job, refusal);
    job.settle(range, REJECTED, { sentBytes: 0, reason: refusal.message });
  }

  #keepDeadLetter(range: Span, job: DeliveryJob, { message, cause }: Refusal): void {
    const { deadLetter, ledger } = this.#parts;
    if (deadLetter === undefined) return;
    try {
      deadLetter.append(job.batch, range, message);
      job.countDeadLettered(range.to - range.from);
      ledger.add(`dead_${cause}`, range.to - range.from);
    } catch (error) {
      this.#parts.onTrouble(
        new MillraceError('MILLRACE_UNAVAILABLE', `the dead-letter file took no record: ${error}`),
      );
    }
  }

  /** Undefined: the pause is over, try again. */
  async #afterFailure(failure: Failure, range: Range, run: Run): Promise<DeliveryEnd | undefined> {
    const { gate, ledger } = this.#parts;
    range.attempts += 1;
    run.message = failure.message;
    const isNew = gate.fail(failure.reason);
    if (isNew) {
      this.#parts.onTrouble(
        new MillraceError(
          'MILLRACE_UNAVAILABLE',
          `records wait, the attempt will be repeated: ${failure.message} (${failure.reason})`,
        ),
      );
    }
    if (failure.afterMs !== undefined) ledger.add('retry_after_ms', gate.pause(failure.afterMs));
    const end = this.#giveUp(failure, range, run);
    if (end !== undefined) return end;
    ledger.add(retryCounter(failure.reason));
    ledger.add('again_retry', range.to - range.from);
    run.job.release();
    const leftMs = run.untilMs - performance.now();
    await gate.wait(Math.min(this.#pauseMs(failure, range), leftMs));
    return undefined;
  }

  #pauseMs(failure: Failure, { attempts }: Range): number {
    const { retries, baseMs, capMs } = this.#parts.limits;
    // Who limits the attempts limits how long one batch holds up all behind it.
    if (failure.budget === 'config' && retries === 'forever') return CONFIG_PAUSE_MS;
    return retryDelayMs({ attempt: attempts, random: Math.random(), baseMs, capMs });
  }

  /** Ends a range whose attempts, or whose time, are used up. Undefined: they are not. */
  #giveUp(failure: Failure, range: Range, run: Run): DeliveryEnd | undefined {
    const { limits, onExhausted } = this.#parts;
    const allowed = failure.budget === 'few' ? FEW_ATTEMPTS : limits.retries;
    const isUsedUp = allowed !== 'forever' && range.attempts > allowed;
    if (!isUsedUp && performance.now() < run.untilMs) return undefined;
    if (failure.budget !== 'few' || !isUsedUp || onExhausted === 'keep') {
      return this.#expire(range, run);
    }
    this.#reject(range, run.job, { message: failure.message, cause: 'unexplained' });
    return DONE;
  }

  /** Gives up records that may be fine, because there were attempts enough. */
  #expire(range: Range, { job, message }: Run): DeliveryEnd {
    if (this.#parts.onExhausted === 'keep') return { kind: 'kept', message };
    this.#keepDeadLetter(range, job, { message, cause: 'expired' });
    job.settle(range, EXPIRED, { sentBytes: 0, reason: message });
    this.#parts.onTrouble(
      new MillraceError(
        'MILLRACE_UNAVAILABLE',
        `${range.to - range.from} record(s) dropped after ${range.attempts} attempts: ${message}`,
      ),
    );
    return DONE;
  }
}

/** Begins an attempt between the job's marks: what a thread dies of in there has to do with these records. */
function deliverWith(
  sink: Sink,
  batch: Batch,
  { signal, job }: { readonly signal: AbortSignal; readonly job: DeliveryJob },
): Promise<Outcome> {
  job.enter?.();
  try {
    return sink.deliver(batch, signal);
  } finally {
    job.leave?.();
  }
}

/** Why records are given up. */
interface Refusal {
  readonly message: string;
  readonly cause: 'content' | 'too_large' | 'unexplained' | 'expired' | 'crashed';
}

function refusalOf({
  kind,
  message,
}: Extract<Outcome, { kind: 'split' | 'bisect' | 'rejected' }>): Refusal {
  return { message, cause: kind === 'split' ? 'too_large' : 'content' };
}

/** Puts what a sink did to the disk into the ledger, and tells what it could not do. */
export function noteDiskWork({
  sink,
  ledger,
  onTrouble,
}: Pick<DeliveryParts, 'sink' | 'ledger' | 'onTrouble'>): void {
  const work = sink.takeDiskWork?.();
  if (work === undefined) return;
  ledger.add('written_bytes', work.writtenBytes);
  for (const cause of work.rotations) ledger.add(`rotations_${cause}`);
  for (const ms of work.syncsMs) ledger.observe('fsync_file', ms / 1000);
  for (const { work: kind } of work.upkeepFailures) ledger.add(`upkeep_${kind}`);
  if (work.upkeepNews === undefined) return;
  onTrouble(new MillraceError('MILLRACE_UNAVAILABLE', work.upkeepNews));
}

function requestCounter({ status }: AttemptFacts, outcome: Outcome): WorkerCounter {
  if (status === 413) return 'requests_413';
  if (status === 429) return 'requests_429';
  if (status >= 500) return 'requests_5xx';
  if (status >= 400) return 'requests_4xx';
  if (status >= 300) return 'requests_3xx';
  if (status >= 200) return 'requests_2xx';
  const failure = failureIn(outcome);
  return failure === undefined
    ? 'requests_none'
    : (WITHOUT_REPLY[failure.reason] ?? 'requests_none');
}

/** Counters of attempts that ended without a reply. */
const WITHOUT_REPLY: Readonly<Partial<Record<FailureReason, WorkerCounter>>> = {
  timeout: 'requests_timeout',
  reset: 'requests_reset',
  dns: 'requests_dns',
  tls: 'requests_tls',
  network: 'requests_network',
  disk_full: 'requests_disk',
  disk: 'requests_disk',
};

function failureIn(outcome: Outcome): Failure | undefined {
  if (outcome.kind === 'partial') return failureIn(outcome.rest);
  return outcome.kind === 'retry' ? outcome : undefined;
}

function factsOf(
  outcome: Outcome,
): Pick<AttemptNote, 'outcome' | 'reason' | 'message' | 'sentBytes'> {
  const failure = failureIn(outcome);
  return {
    outcome: outcomeLabel(outcome),
    reason: failure?.reason ?? '',
    message: failure?.message ?? ('message' in outcome ? outcome.message : ''),
    sentBytes: 'sentBytes' in outcome ? outcome.sentBytes : 0,
  };
}

function outcomeLabel(outcome: Outcome): RequestOutcome {
  if (outcome.kind === 'delivered') return 'ok';
  const failure = failureIn(outcome);
  if (failure === undefined) return 'permanent';
  if (failure.reason === 'timeout') return 'timeout';
  return NETWORK_REASONS.has(failure.reason) ? 'network' : 'retryable';
}

const NETWORK_REASONS: ReadonlySet<FailureReason> = new Set(['reset', 'dns', 'tls', 'network']);

function codeCounter(code: number): WorkerCounter {
  switch (code) {
    case 0:
    case -1:
    case -2:
    case -3:
      return `codes_${code}`;
    default:
      return 'codes_other';
  }
}

function retryCounter(reason: FailureReason): WorkerCounter {
  return `retries_${reason}`;
}
