import type { HistogramReading, WorkerCounter, WorkerHistogram } from '../lane/ledger.ts';

/** What the collector reads at a scrape: one engine's numbers, all from shared memory, without waiting. */
export interface MetricsSource {
  /** Name of the client, label `client`; unique within a registry. */
  readonly client: string;
  /** Kind of consumer, label `consumer`. */
  readonly consumer: 'async' | 'batch' | 'debug' | 'logging';
  readings(): Readings;
}

/** One consistent look at an engine. Counts are of records unless said otherwise. */
export interface Readings {
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
  };
  readonly deadLettered: number;
  readonly recovered: number;
  readonly queued: number;
  readonly inFlight: number;
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
    readonly configured: number;
    /** Oldest heartbeat of a living worker, in ms. */
    readonly heartbeatAgeMs: number;
  };
  /** Of the circuit breaker: 0 closed, 1 half-open, 2 open. */
  readonly breakerState: 0 | 1 | 2;
  /** Wall time of the latest acknowledged batch in ms since 1970; 0: none yet. */
  readonly lastSuccessMs: number;
  readonly lanes: readonly LaneReading[];
  /** Cost of a tracking call to its caller, sampled. */
  readonly callSeconds: HistogramReading;
  /** A worker counter summed over all workers that ever were. */
  counter(name: WorkerCounter): number;
  histogram(name: WorkerHistogram): HistogramReading;
}

/** One lane's part of the queue. */
export interface LaneReading {
  readonly lane: number;
  readonly queued: number;
  readonly queuedBytes: number;
  readonly capacityBytes: number;
}
