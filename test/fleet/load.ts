import { randomUUID } from 'node:crypto';
import { Analytics, type Consumer, type Properties } from '../../src/index.ts';
import type { Batch } from '../../src/sink/sink.ts';
import { assertBalanced, layOut } from '../support.ts';
import { type Run, stopwatch } from './rounds.ts';

/** Records of a batch when batches are full: so many of these events fill `batchBytes`. */
const BATCH = 1400;
/** Batches that a sink has under way: a worker has as many as it attends lanes. */
export const BATCHES_IN_FLIGHT = 4;

/** Id of the stage that senders to brokers are compared with. */
export const HTTP_SENDER = 'http sender gzip';

/** The events that all stages move, as finished records in batches. */
export interface Load {
  readonly records: number;
  readonly batches: readonly Batch[];
}

export function makeLoad(records: number): Load {
  const batches: Batch[] = [];
  for (let from = 0; from < records; from += BATCH) {
    const count = Math.min(BATCH, records - from);
    batches.push(
      layOut(
        Array.from({ length: count }, (_, index) => JSON.stringify(eventOf(from + index))),
        '\n',
      ),
    );
  }
  return { records, batches };
}

export function propertiesOf(n: number): Properties {
  return {
    n,
    level: n % 80,
    hero: 'Aria',
    won: n % 2 === 0,
    seconds: 312.5,
    map: 'frozen-pass',
    mode: 'ranked',
    kills: n % 17,
    deaths: n % 7,
    gold: 1200 + (n % 500),
    server: 'eu-west-12',
  };
}

/** A finished record, as {@link track} comes out. */
export function eventOf(n: number): Readonly<Record<string, unknown>> {
  return {
    '#type': 'track',
    '#time': '2026-03-08 12:00:00.123',
    '#event_name': 'battle_end',
    '#account_id': `player-${n % 5000}`,
    '#distinct_id': `device-${n % 5000}`,
    '#uuid': randomUUID(),
    properties: propertiesOf(n),
  };
}

export function track(ta: Analytics, n: number): void {
  ta.track({
    accountId: `player-${n % 5000}`,
    distinctId: `device-${n % 5000}`,
    event: 'battle_end',
    properties: propertiesOf(n),
  });
}

/** Options of the senders that are measured: one worker, nothing given up. */
export const SENDER = { workers: 1, overflow: 'block', queueSize: 1_000_000 } as const;

/** A whole game server: calls, ring, worker, sink, until everything is acknowledged. */
export async function runSender(
  consumer: Consumer,
  { records, broker }: { records: number; broker: number | undefined },
): Promise<Run> {
  const ta = new Analytics(consumer, { onError: (error) => console.error(error.message) });
  track(ta, 0);
  await ta.flush();
  const measured = stopwatch(records, { broker });
  for (let n = 1; n < records; n += 1) {
    track(ta, n);
    if (n % 500 === 0) await new Promise((resolve) => setImmediate(resolve));
  }
  await ta.flush();
  const run = measured(ta.stats().bytesSent);
  const stats = await ta.close();
  assertBalanced(stats);
  if (stats.delivered !== records) throw new Error(`${stats.delivered} of ${records} delivered`);
  return run;
}
