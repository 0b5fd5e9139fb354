import type { BatchLimits, DeadLetterPlan, RetryLimits } from '../worker/contract.ts';
import type { WorkerName } from './entry.ts';

export type ConsumerKind = 'async' | 'batch' | 'debug' | 'logging' | 'sink' | 'nats' | 'kafka';

/** What is done with a record that finds its lane full. */
export type OverflowPolicy = 'drop-newest' | 'drop-oldest' | 'block' | 'spool';

/** Where records wait on disk. */
export interface SpoolOptionsPlan {
  readonly directory: string;
  readonly maxBytes: number;
  readonly segmentBytes: number;
  readonly fsync: 'never' | 'interval' | 'batch';
  /** Permission of the files. */
  readonly mode: number;
  /** 'always': on disk before anything is sent; 'pressure': what the ring can't hold or a dead receiver keeps. */
  readonly use: 'always' | 'pressure';
  /** When what earlier runs left is delivered: beside the live records, or before them. */
  readonly replay: 'beside' | 'first';
}

/** All a consumer says about its engine, checked and complete: made by `options.ts`, never changed. */
export interface EnginePlan {
  readonly consumer: ConsumerKind;
  readonly entry: WorkerName;
  readonly workerFile: URL | string | undefined;
  /** What the worker entry opens its sink with: plain data. */
  readonly sink: unknown;
  readonly workers: number;
  /** Most memory of a worker's heap, in MB; undefined: as much as Node gives it. */
  readonly workerHeapMb: number | undefined;
  /** How long workers may die without progress before their lane is given up, in ms. */
  readonly workerPatienceMs: number;
  readonly lanes: number;
  /** Bytes of one lane's frames: a power of two. */
  readonly laneBytes: number;
  readonly overflow: OverflowPolicy;
  readonly blockTimeoutMs: number;
  /** Most records in all lanes together. */
  readonly queueRecordsMax: number;
  readonly batch: BatchLimits;
  readonly retry: RetryLimits;
  readonly pace: 'stream' | 'rounds';
  /** What happens to records whose attempts ran out. */
  readonly onExhausted: 'expire' | 'keep';
  /** 'rounds': records after which the caller waits for their delivery. */
  readonly roundRecords: number;
  /** 'rounds': most records kept for another attempt. */
  readonly keptRecordsMax: number;
  readonly inFlightMax: number;
  readonly attemptTimeoutMs: number;
  /** 'settled': a flush ends with the records' outcome; 'synced': the sink is flushed as well. */
  readonly flush: 'settled' | 'synced';
  readonly deadLetter: DeadLetterPlan | undefined;
  readonly spool: SpoolOptionsPlan | undefined;
  /** Whether records get a uuid unless the client says otherwise. */
  readonly uuid: boolean;
  /** How long the process's 'exit' may be held to save what is queued, in ms. */
  readonly exitFlushMs: number;
}
