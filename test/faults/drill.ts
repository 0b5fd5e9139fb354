import assert from 'node:assert/strict';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import type { AsyncBatchConsumerOptions, Stats } from '../../src/index.ts';
import { assertBalanced } from '../support.ts';
import type { RowNumber } from './criteria.ts';

/** What one drill found; every number counts records. */
export interface Finding {
  readonly enqueued: number;
  /** Different records at the receiver. */
  readonly arrived: number;
  /** Given up, with the reasons. */
  readonly dropped: Readonly<Record<string, number>>;
  readonly duplicates: number;
  /** What was measured of the row's other criteria. */
  readonly measured?: string;
}

/** One fault of a row of the fault table. `run` throws where the row's criterion is broken. */
export interface Drill {
  readonly row: RowNumber;
  /** The row's number, and a letter where a row has several faults. */
  readonly id: string;
  /** What is done. */
  readonly fault: string;
  /** What is promised, in the README's words. */
  readonly promise: string;
  readonly run: (tools: DrillTools) => Promise<Finding>;
}

/** How long a run is: for the default tests, for an evening, for a night. */
export type Length = 'quick' | 'usual' | 'full';

export interface DrillTools {
  /** Draws a whole number in `[0, below)`; the same seed draws the same. */
  readonly random: (below: number) => number;
  readonly length: Length;
  /** Picks what fits the length of the run. */
  readonly pick: (choices: Readonly<Record<Length, number>>) => number;
}

export const MIB: number = 1024 * 1024;

export function optionsOf(
  receiver: { readonly url: string },
  more: Partial<AsyncBatchConsumerOptions> = {},
): AsyncBatchConsumerOptions {
  return {
    url: receiver.url,
    appId: 'A',
    workers: 2,
    lanes: 4,
    batchSize: 100,
    lingerMs: 10,
    timeoutMs: 1000,
    ...more,
  };
}

/** Compares the account with what is at the receiver: they agree to the record. */
export function reconcile(stats: Stats, numbers: readonly number[]): Finding {
  assertBalanced(stats);
  const { accepted, recovered, delivered, rejected, dropped } = stats;
  const arrived = new Set(numbers).size;
  assert.ok(arrived >= delivered - (numbers.length - arrived), 'what was acknowledged is there');
  const given = Object.fromEntries(
    Object.entries({ ...dropped, rejected }).filter(([, count]) => count > 0),
  );
  return {
    enqueued: accepted + recovered,
    arrived,
    dropped: given,
    duplicates: numbers.length - arrived,
  };
}

/** No record is missing, and none was given up. */
export function assertNoLoss(finding: Finding): Finding {
  assert.equal(finding.arrived, finding.enqueued, JSON.stringify(finding));
  assert.deepEqual(finding.dropped, {});
  return finding;
}

export function delay(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

/**
 * Looks how long the machine keeps this process waiting at a time, which a loaded one does and no engine can help. The function it
 * returns ends that, and tells the longest in ms.
 */
export function watchPauses(): () => number {
  const pauses = monitorEventLoopDelay({ resolution: 1 });
  pauses.enable();
  return () => {
    pauses.disable();
    return pauses.max / 1e6;
  };
}

/** The value below which this share of the values is. */
export function quantile(values: readonly number[], share: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.floor(share * (sorted.length - 1))] ?? Number.NaN;
}
