import type { ErrorReport } from '../base/errors.ts';
import type { TranscoderOptions } from '../codec/transcode.ts';
import type { DiskRecord } from '../lane/from-disk.ts';
import type { RequestOutcome } from '../lane/ledger.ts';

/** Plain data that crosses between the engine's thread and the workers. */

/** When a batch is complete: whichever comes first. */
export interface BatchLimits {
  readonly recordsMax: number;
  /** JSON text before compression, in bytes. */
  readonly bytesMax: number;
  /** Longest wait of the oldest record, in ms. */
  readonly lingerMs: number;
}

/** How often and how slowly a failed attempt is repeated. */
export interface RetryLimits {
  /** Repeated attempts before a record expires. */
  readonly retries: number | 'forever';
  /** Longest time from the first attempt of a batch until its records expire, in ms; undefined: there is no limit. */
  readonly forMs?: number | undefined;
  readonly baseMs: number;
  readonly capMs: number;
}

/** `workerData` of every worker of one engine. */
export interface WorkerConfig {
  readonly control: SharedArrayBuffer;
  readonly text: TranscoderOptions;
  readonly batch: BatchLimits;
  readonly retry: RetryLimits;
  /** 'stream': batches go out as they fill up; 'rounds': only when the producer asks, and it waits for the result. */
  readonly pace: 'stream' | 'rounds';
  /** What happens to records whose attempts ran out. */
  readonly onExhausted: 'expire' | 'keep';
  /** Batches of one lane that may be under way at once; above 1 their order is not kept. */
  readonly inFlightMax: number;
  /** Longest time of one attempt, in ms. */
  readonly attemptTimeoutMs: number;
  /** How long a lane may be idle before its turn ends, in ms. */
  readonly idleMs: number;
  /** Where records wait that can't be delivered now; undefined: only in memory. */
  readonly spool: SpoolPlan | undefined;
  /** Where records go that were given up. */
  readonly deadLetter: DeadLetterPlan | undefined;
  /** What the worker entry opens its sink with. */
  readonly sink: unknown;
}

/** The file of records that were refused for good, or expired. */
export interface DeadLetterPlan {
  readonly path: string;
  /** Permission of the file; a folder made for it follows. */
  readonly mode: number;
}

/** The spool of one run, as its workers use it. */
export interface SpoolPlan {
  /** Folder of this run. */
  readonly directory: string;
  readonly segmentBytes: number;
  /** Bound of the whole spool, earlier runs included, in bytes. */
  readonly maxBytes: number;
  /** Lanes that share the bound. */
  readonly lanes: number;
  readonly fsync: 'never' | 'interval' | 'batch';
  /** Permission of the files. */
  readonly mode: number;
  /** 'always': on disk before anything is sent; 'pressure': what the ring can't hold or a dead receiver keeps. */
  readonly use: 'always' | 'pressure';
  /** Records of one lane from which on it goes to the spool. */
  readonly laneRecords: number;
}

/** One task: attend one lane until it is idle. */
export interface TurnTask {
  readonly memory: SharedArrayBuffer;
  readonly lane: number;
  readonly term: number;
  /** Instead of a lane: folders of earlier runs, to be replayed one after the other. */
  readonly backlogs?: readonly string[];
  readonly care?: TurnCare;
}

/** What a turn does differently because turns before it have died. */
export interface TurnCare {
  /** Records of the ring below this number are read and sent one at a time: one of them may be what the workers died of. */
  readonly aloneBelow: number;
  /** The same for records from disk, until so many of them have their fate. */
  readonly aloneBelowOnDisk: number;
  /** The record from disk that workers die of: it is given up unsent. */
  readonly killer: DiskKiller | undefined;
  /** The same for one of the ring, by its number. */
  readonly killerInRing: number | undefined;
  /** 'save': what the ring has goes to the disk and stays there, and the sink is left alone. */
  readonly aim: 'deliver' | 'save';
}

/** A record that comes up when so many of the lane's records from disk have their fate: runs may have others of its number. */
export interface DiskKiller extends DiskRecord {
  readonly settled: number;
}

/** The last task of a thread: its sink is closed, and no turn comes after it. */
export interface FarewellTask {
  readonly farewell: true;
}

/** How a turn ended. 'fenced': the lane had been given to a later turn; 'hopeless': processes die of what it is to replay. */
export type TurnEnd = 'idle' | 'fenced' | 'stopped' | 'hopeless';

/** What a worker tells the engine's thread between turns; nothing waits for it. */
export type WorkerNote =
  | { readonly millrace: 'trouble'; readonly report: ErrorReport }
  | { readonly millrace: 'settled'; readonly notices: readonly Notice[] }
  | { readonly millrace: 'attempt'; readonly attempt: AttemptNote };

/** One attempt to deliver records, told only while somebody listens. */
export interface AttemptNote {
  /** Lane of the records; -1: unknown. */
  readonly lane: number;
  readonly threadId: number;
  readonly records: number;
  readonly outcome: RequestOutcome;
  /** What failed, as the label of `millrace_retries_total`; empty: nothing. */
  readonly reason: string;
  /** The receiver's or the system's words; empty: there are none. */
  readonly message: string;
  /** HTTP status of the reply; 0: there was none. */
  readonly status: number;
  readonly durationMs: number;
  /** Bytes sent or written for what was delivered. */
  readonly sentBytes: number;
}

/** Outcome of the records `[fromSeq, toSeq)` of a lane. */
export interface Notice {
  readonly region: number;
  readonly lane: number;
  readonly fromSeq: number;
  readonly toSeq: number;
  readonly state: 'delivered' | 'rejected' | 'dropped' | 'spooled';
  readonly reason: string;
}
