import type { Result } from '../arena.ts';
import { interleave } from '../measure.ts';
import { rowsOf, type Section, type SuiteRun } from './suite.ts';

const RATE = 10_000;
const HZ = 200;
const LINGER_MS = 5;
const NAMES = [
  'millrace http',
  'millrace spool-first',
  'thinkingdata-node async',
  'sa-sdk-node',
  'posthog-node',
  '@segment/analytics-node',
] as const;

/** From the call to the receiver, at a steady rate, each told to wait as little. */
export async function* benchLatency(bench: SuiteRun): AsyncIterable<Section> {
  const seconds = bench.isQuick ? Math.max(1, bench.seconds) : bench.seconds;
  const entries = NAMES.map((peer) => ({ peer, lingerMs: LINGER_MS }));
  const contestants = await bench.enter(entries);
  const results = await interleave(
    contestants.map((contestant) => () => {
      const task = { exercise: 'paced', seconds, rate: RATE, hz: HZ, stamps: true } as const;
      return contestant.run(task, { looksAtTimes: true });
    }),
    { rounds: bench.isQuick ? 1 : bench.rounds, warmUps: 1 },
  );
  yield {
    key: 'latency',
    title: `From the call to the receiver, ${RATE / 1000} 000 records a second`,
    note: `Batches of at most 500, longest wait ${LINGER_MS} ms for all. ${seconds} s a round, a burst every ${1000 / HZ} ms.`,
    metrics: [
      { key: 'p99', title: 'p99, ms', digits: 1, better: 'less' },
      { key: 'p50', title: 'p50, ms', digits: 1, better: 'less' },
      { key: 'max', title: 'most, ms', digits: 1, better: 'less' },
      { key: 'lost', title: 'lost, %', digits: 2, better: 'less' },
    ],
    rows: rowsOf(contestants, results, {
      p99: ({ receiver }: Result) => receiver.latencyMs.p99,
      p50: ({ receiver }: Result) => receiver.latencyMs.p50,
      max: ({ receiver }: Result) => receiver.latencyMs.max,
      lost: ({ arrived, sent }: Result) => (100 * (sent - arrived)) / sent,
    }),
    chart: 'bars',
  };
}
