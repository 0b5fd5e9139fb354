import type { InvalidReason } from './layout.ts';
import type { HistogramReading, WorkerCounter, WorkerHistogram } from './ledger.ts';

/** What worker threads die of, as a metric label. 'exit': ended by itself, or by somebody else in the process. */
export type DeathReason = 'exit' | 'uncaught' | 'out_of_memory' | 'hung';

/** One consistent look at an engine, read from shared memory without waiting. Counts are of records unless said otherwise. */
export interface Readings {
  /** What runs: version of the package and of Node, and what turns frames into text. */
  readonly build: { readonly version: string; readonly node: string; readonly codec: string };
  readonly accepted: number;
  readonly delivered: number;
  readonly rejected: number;
  readonly dropped: {
    readonly overflow_newest: number;
    readonly overflow_oldest: number;
    readonly invalid: number;
    readonly expired: number;
    readonly shutdown: number;
    readonly corrupt: number;
    readonly crashed: number;
  };
  /** Wrong calls, by what was wrong; they are in `dropped`, too. */
  readonly invalid: Readonly<Record<InvalidReason, number>>;
  readonly deadLettered: number;
  readonly recovered: number;
  readonly queued: number;
  readonly inFlight: number;
  /** Attempts under way, of all workers. */
  readonly inFlightRequests: number;
  readonly queuedBytes: number;
  /** Shared memory for frames, all lanes together, in bytes. */
  readonly capacityBytes: number;
  readonly rawBytes: number;
  readonly sentBytes: number;
  readonly oldestQueuedAgeMs: number;
  readonly oldestSpooledAgeMs: number;
  readonly imbalance: number;
  /** Records sent though the receiver may cut them (long texts, ids, huge numbers). */
  readonly warnings: number;
  /** Records kept out for more important ones, by priority; they are in overflow_newest, too. */
  readonly shed: { readonly low: number; readonly normal: number };
  /** Time callers were held by `overflow: 'block'`, in ms. */
  readonly blockedMs: number;
  readonly spool: {
    readonly records: number;
    readonly bytes: number;
    readonly segments: number;
    readonly capacityBytes: number;
    readonly spooledTotal: number;
    readonly unspooledTotal: number;
    readonly corruptFrames: number;
  };
  readonly workers: {
    readonly alive: number;
    readonly restarts: number;
    /** Of the restarts: what the threads died of. */
    readonly deaths: Readonly<Record<DeathReason, number>>;
    readonly configured: number;
  };
  /** Of the circuit breaker: 0 closed, 1 half-open, 2 open. */
  readonly breakerState: 0 | 1 | 2;
  /** Wall time of the latest acknowledged batch in ms since 1970; 0: none yet. */
  readonly lastSuccessMs: number;
  readonly lanes: readonly LaneReading[];
  /** Slots that ever had a worker thread; a new thread goes on with the numbers of the dead one it replaces. */
  readonly threads: readonly ThreadReading[];
  /** Cost of a tracking call to its caller, sampled. */
  readonly callSeconds: HistogramReading;
  /** A worker counter summed over all workers that ever were. */
  counter(name: WorkerCounter): number;
  histogram(name: WorkerHistogram): HistogramReading;
}

/** One lane's part. */
export interface LaneReading {
  /** Unique within the engine: lanes of other threads come after those of the main one. */
  readonly lane: number;
  readonly queued: number;
  readonly queuedBytes: number;
  readonly inFlight: number;
  readonly delivered: number;
  readonly spooled: number;
  /** Age of the oldest record in the ring, in ms; 0: none. */
  readonly oldestAgeMs: number;
}

/** One worker thread's part. */
export interface ThreadReading {
  readonly worker: number;
  readonly busyMs: number;
  readonly turns: number;
  readonly batches: number;
  readonly requestsInFlight: number;
  /** Since the latest sign of life, in ms; undefined: the slot has no thread now. */
  readonly heartbeatAgeMs: number | undefined;
}
