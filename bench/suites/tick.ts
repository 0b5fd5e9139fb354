import type { Result } from '../arena.ts';
import { interleave } from '../measure.ts';
import { rowsOf, type Section, type SuiteRun } from './suite.ts';

const BASE = 'no tracking';
const NAMES = [
  BASE,
  'millrace http',
  'millrace files',
  'thinkingdata-node async',
  'thinkingdata-node logging',
  'posthog-node',
  'pino, worker transport',
] as const;
const LOADS = [
  { hz: 20, rate: 50_000 },
  { hz: 60, rate: 50_000 },
  { hz: 20, rate: 100_000 },
  { hz: 60, rate: 100_000 },
] as const;
const LOADS_QUICK = LOADS.filter(({ hz, rate }) => (hz === 60) === (rate === 50_000));

/** A game loop that tracks in each tick: how late its ticks begin, and how much of a tick the calls take. */
export async function* benchTick(bench: SuiteRun): AsyncIterable<Section> {
  const { rounds, isQuick, enter } = bench;
  const seconds = isQuick ? Math.max(bench.seconds, 1) : 2 * bench.seconds;
  const contestants = await enter(NAMES.map((peer) => ({ peer })));
  for (const { hz, rate } of isQuick ? LOADS_QUICK : LOADS) {
    const results = await interleave(
      contestants.map((contestant) => () => {
        return contestant.run({ exercise: 'paced', seconds, hz, rate });
      }),
      { rounds: isQuick ? 1 : rounds, warmUps: isQuick ? 0 : 1 },
    );
    yield {
      key: `tick-${hz}-${rate}`,
      title: `${hz} Hz, ${rate / 1000} 000 records a second`,
      note: `${seconds} s a round. "late": from when a tick was due to when it began; setTimeout() itself is up to 1 ms late, see "${BASE}".`,
      metrics: [
        { key: 'late', title: 'late p99, ms', digits: 2, better: 'less' },
        { key: 'max', title: 'late most, ms', digits: 1, better: 'less' },
        { key: 'tick', title: 'calls of a tick p50, ms', digits: 2, better: 'less' },
        { key: 'rate', title: 'records/s held', digits: 0, better: 'more' },
        { key: 'lost', title: 'lost, %', digits: 2, better: 'less' },
      ],
      rows: rowsOf(contestants, results, {
        late: ({ lateMs }: Result) => lateMs?.p99,
        max: ({ lateMs }: Result) => lateMs?.max,
        tick: ({ tickMs }: Result) => tickMs?.p50,
        rate: ({ arrived, seconds: took }: Result) => arrived / took,
        lost: ({ arrived, sent }: Result) => (100 * (sent - arrived)) / sent,
      }),
      chart: 'bars',
    };
  }
}
