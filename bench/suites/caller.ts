import type { Result } from '../arena.ts';
import { interleave } from '../measure.ts';
import { peersTo } from '../peers/registry.ts';
import { rowsOf, type Section, type SuiteRun } from './suite.ts';

const CALLS = 20_000;
const CALLS_QUICK = 3000;
const WARM_UPS = 5;
const WARM_UPS_QUICK = 3;
/** Room for what a thousand calls allocate, so that no collection comes in between. */
const ALLOCATION_FLAGS = [
  '--expose-gc',
  '--min-semi-space-size=64',
  '--max-semi-space-size=64',
] as const;
const FIRST = 'JSON.stringify of the finished record';

/** Cost of one call to its caller, checks and uuid on, super properties set; what happens afterwards is not timed. */
export async function* benchCaller(bench: SuiteRun): AsyncIterable<Section> {
  const names = [FIRST, ...peersTo('http'), ...peersTo('files')];
  const calls = bench.isQuick ? CALLS_QUICK : CALLS;
  const entries = names.map((peer) => ({ peer }));
  const timed = await bench.enter(entries);
  const times = await interleave(
    timed.map((contestant) => () => contestant.run({ exercise: 'calls', calls })),
    { rounds: bench.rounds, warmUps: bench.isQuick ? WARM_UPS_QUICK : WARM_UPS },
  );
  const weighed = await bench.enter(
    entries.map((entry) => ({ ...entry, flags: ALLOCATION_FLAGS })),
  );
  const weights = await interleave(
    weighed.map((contestant) => () => contestant.run({ exercise: 'calls', calls: CALLS_QUICK })),
    { rounds: 1, warmUps: 2 },
  );
  const both = times.map((results, index) => [...results, ...(weights[index] ?? [])]);
  yield {
    key: 'caller',
    title: 'Caller',
    note: `${calls} calls a round, each contestant in a process of its own, in turn; what it does afterwards is waited for, and only in "main thread in all": ns a record until everything has arrived.`,
    metrics: [
      { key: 'ns', title: 'ns a call', digits: 0, better: 'less' },
      { key: 'loop', title: 'main thread in all', digits: 0, better: 'less' },
      { key: 'bytes', title: 'bytes allocated a call', digits: 0, better: 'less' },
    ],
    rows: rowsOf(timed, both, {
      // Growing a heap by force is no part of the time.
      ns: ({ callNs, callBytes }: Result) => (callBytes === undefined ? callNs : undefined),
      loop: ({ callBytes, loopNs }: Result) => (callBytes === undefined ? loopNs : undefined),
      bytes: ({ callBytes }: Result) => callBytes,
    }),
    against: FIRST,
    chart: 'bars',
  };
}
