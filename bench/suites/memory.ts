import type { Entry, Result } from '../arena.ts';
import { rowsOf, type Section, type SuiteRun } from './suite.ts';

const MIB: number = 1024 * 1024;
const BASE = 'no tracking';
const ENTRIES: readonly (Entry & { readonly name: string })[] = [
  { name: BASE, peer: BASE },
  ...[16, 64].map((mib) => ({
    name: `millrace http, ring of ${mib} MiB`,
    peer: 'millrace http',
    options: { ringBytes: mib * MIB, queueSize: 1e9 },
  })),
  { name: 'millrace files, ring of 64 MiB', peer: 'millrace files' },
  ...[
    'thinkingdata-node async',
    'thinkingdata-node logging',
    'sa-sdk-node',
    'posthog-node',
    '@segment/analytics-node',
    'pino, worker transport',
    'winston',
  ].map((peer) => ({ name: peer, peer })),
];

/** Most memory of the process at full rate, and what of it is there without any tracking. */
export async function* benchMemory(bench: SuiteRun): AsyncIterable<Section> {
  const seconds = bench.isQuick ? bench.seconds : 2 * bench.seconds;
  const named: { name: string }[] = [];
  const results: Result[][] = [];
  for (const { name, ...entry } of ENTRIES) {
    // One by one: the most memory of a process is that of its whole life.
    for (const contestant of await bench.enter([entry])) {
      const result = await contestant.run({ exercise: 'stream', seconds });
      named.push({ name });
      results.push([result]);
    }
  }
  const base = results[0]?.[0]?.rssPeakMb ?? 0;
  yield {
    key: 'memory',
    title: 'Most memory at full rate',
    note: `Resident set of the whole process after ${seconds} s as fast as records arrive, at most 20 000 on their way for the others; our ring runs full.`,
    metrics: [
      { key: 'over', title: `MB over "${BASE}"`, digits: 0, better: 'less' },
      { key: 'rss', title: 'MB in all', digits: 0, better: 'less' },
      { key: 'rate', title: 'records/s', digits: 0, better: 'more' },
      { key: 'lost', title: 'lost, %', digits: 2, better: 'less' },
    ],
    rows: rowsOf(named, results, {
      over: ({ rssPeakMb }: Result) => rssPeakMb - base,
      rss: ({ rssPeakMb }: Result) => rssPeakMb,
      rate: ({ arrived, seconds: took }: Result) => arrived / took,
      lost: ({ arrived, sent }: Result) => (100 * (sent - arrived)) / sent,
    }),
    chart: 'bars',
  };
}
