/**
 * The contract between the worker's delivery and the places records go to.
 * A sink makes one attempt and says what came of it; whether and when to try again is decided
 * above it, in one place (`worker/delivery.ts`).
 */

import type { UpkeepFailure } from './upkeep.ts';

/**
 * Records of one attempt, as JSON text in UTF-8.
 *
 * `text[0]` is a spare byte (an HTTP sink writes `[` there). Record `i` fills
 * `[starts[i], ends[i])`, and the one byte at `ends[i]` is the separator a sink may overwrite:
 * `,` or `\n` as the sink's `separator` says. So records `a..b` with their separators are
 * `text.subarray(starts[a], ends[b - 1] + 1)`. Valid until `deliver` settles.
 */
export interface Batch {
  readonly count: number;
  readonly text: Uint8Array;
  readonly starts: Uint32Array;
  readonly ends: Uint32Array;
}

/** Why an attempt did not succeed, as metric labels: a closed set. Names are added at the end only. */
export const FAILURE_REASONS = [
  'timeout',
  'reset',
  'dns',
  'tls',
  'network',
  'redirect',
  'http_4xx',
  'http_429',
  'http_5xx',
  'bad_reply',
  'receiver_code',
  'too_large',
  'config',
  'disk_full',
  'disk',
] as const;

export type FailureReason = (typeof FAILURE_REASONS)[number];

/** What came of one attempt. `message` is for people: the receiver's or the system's words, cut at 512 characters. */
export type Outcome =
  /** Acknowledged, or written. `sentBytes`: bytes that went over the wire or into the file. */
  | { readonly kind: 'delivered'; readonly sentBytes: number }
  /**
   * May succeed later. `afterMs`: the receiver asked to wait that long. `budget`: 'normal' for trouble in
   * between, 'few' for a reply nobody can explain (rejected after a few tries), 'config' for a mistake that
   * people mend (wrong app id, closed door, redirect): kept and tried slowly.
   */
  | {
      readonly kind: 'retry';
      readonly reason: FailureReason;
      readonly message: string;
      readonly budget: 'normal' | 'few' | 'config';
      readonly afterMs?: number;
    }
  /** Too large as a whole: send it in halves. */
  | { readonly kind: 'split'; readonly message: string }
  /** Refused for its content: find the culprits by halving; a single record is rejected. */
  | { readonly kind: 'bisect'; readonly message: string }
  /** Refused for good, all of it. */
  | { readonly kind: 'rejected'; readonly message: string }
  /** The first `count` records are in for good, the rest is as `rest` says (file: disk filled up in between). */
  | {
      readonly kind: 'partial';
      readonly count: number;
      readonly sentBytes: number;
      readonly rest: Outcome;
    };

/** What one attempt showed, for the ledger. Plain numbers; filled by the sink. */
export interface AttemptFacts {
  /** HTTP status of the reply; 0: no reply. */
  status: number;
  /** Time of the attempt in ms. */
  durationMs: number;
  /** Part of it in which the body was made and compressed, in ms. */
  bodyMs?: number;
  /** The `code` of the receiver's reply. */
  code?: number;
}

/** Why a file was begun: the first one, another day or hour, the last one was full, or it was gone. */
export type RotationCause = 'start' | 'period' | 'size' | 'reopen';

/** What a sink did to the disk since it was asked last. */
export interface DiskWork {
  readonly writtenBytes: number;
  readonly rotations: readonly RotationCause[];
  /** How long each sync took, in ms. */
  readonly syncsMs: readonly number[];
  /** What could not be done with finished files. */
  readonly upkeepFailures: readonly UpkeepFailure[];
  /** Words for people, when that has begun to fail. */
  readonly upkeepNews: string | undefined;
}

/** A place records go to. Opened once a thread; several `deliver` calls may be under way at once. */
export interface Sink {
  /** The byte put after each record. */
  readonly separator: ',' | '\n';
  /** Attempts one delivery. Never throws for what the world does; `signal` ends the attempt early (counted as 'timeout'). */
  deliver(batch: Batch, signal: AbortSignal): Promise<Outcome>;
  /** Facts of the latest finished attempt of this thread. */
  readonly lastAttempt: AttemptFacts;
  /** Where the sink writes files: what it did since the last call. */
  takeDiskWork?(): DiskWork;
  /** Puts what is written on stable storage, where the sink knows of such a thing. Rejects only with a MillraceError. */
  flush(): Promise<void>;
  /** Frees sockets, timers and file handles. Idempotent. */
  close(): Promise<void>;
}
