import type { Contestant, Result } from '../arena.ts';
import type { Task } from '../exercises.ts';
import { interleave } from '../measure.ts';
import { COMPUTING_ALONE, COMPUTING_BESIDE } from '../peers/baselines.ts';
import { peersTo } from '../peers/registry.ts';
import { type Metric, rowsOf, type Section, type SuiteRun } from './suite.ts';

const RATE: Metric = { key: 'rate', title: 'records/s', digits: 0, better: 'more' };
const CPU: Metric = { key: 'cpu', title: 'CPU s / million', digits: 2, better: 'less' };
const LOST: Metric = { key: 'lost', title: 'lost, %', digits: 2, better: 'less' };
const WIRE: Metric = { key: 'wire', title: 'bytes a record', digits: 0, better: 'less' };
/** What the loss is looked at with: a rate all can hold, and a receiver that fails in the middle. */
const OUTAGE_RATE = 5000;
const OUTAGE_HZ = 50;
const OUTAGE_SECONDS = 3;
const OUTAGE_SECONDS_QUICK = 2;
const OUTAGE_FROM_MS = 500;
const OUTAGE_MS = 1000;

const FIGURES = {
  rate: ({ arrived, seconds }: Result) => arrived / seconds,
  cpu: ({ arrived, cpuSeconds }: Result) => (cpuSeconds * 1e6) / arrived,
  lost: ({ arrived, sent }: Result) => (100 * (sent - arrived)) / sent,
};

/** Sustained delivery: as fast as it arrives, by HTTP and into files; and what a short outage of the receiver costs. */
export async function* benchPipeline(bench: SuiteRun): AsyncIterable<Section> {
  const http = await bench.enter(peersTo('http').map((peer) => ({ peer })));
  const alone = await bench.enter([{ peer: COMPUTING_ALONE }, { peer: COMPUTING_BESIDE }]);
  const all = [...http, ...alone];
  yield {
    key: 'pipeline-http',
    title: 'Sustained by HTTP, batches of 500',
    note: `${bench.seconds} s a round as fast as records arrive, at most 20 000 on their way where the product lets one know. The rate is of what arrived. "${COMPUTING_ALONE}" sends nothing: it bounds what a worker can reach; the row behind it does so where receiver and callers need a core, too (whose time is in its CPU seconds).`,
    metrics: [RATE, CPU, LOST, WIRE],
    rows: rowsOf(all, await streams(all, bench), {
      ...FIGURES,
      wire: ({ receiver, arrived }: Result) => receiver.bytesWire / arrived,
    }),
    against: 'thinkingdata-node async',
    chart: 'bars',
  };
  const outage = await interleave(
    http.map((contestant) => () => runThroughOutage(contestant, bench)),
    { rounds: 1, warmUps: 0 },
  );
  yield {
    key: 'pipeline-outage',
    title: 'Lost to a receiver that answers 503 for a second',
    note: `${OUTAGE_RATE} records a second for ${outageSeconds(bench)} s; then each is given the time it wants to deliver the rest.`,
    metrics: [
      LOST,
      { key: 'sent', title: 'sent', digits: 0, better: 'more' },
      { key: 'arrived', title: 'arrived', digits: 0, better: 'more' },
    ],
    rows: rowsOf(http, outage, {
      lost: FIGURES.lost,
      sent: ({ sent }: Result) => sent,
      arrived: ({ arrived }: Result) => arrived,
    }),
    chart: 'bars',
  };
  const files = await bench.enter(peersTo('files').map((peer) => ({ peer })));
  yield {
    key: 'pipeline-files',
    title: 'Sustained into files',
    note: `${bench.seconds} s a round as fast as lines are in the file.`,
    metrics: [RATE, CPU, LOST],
    rows: rowsOf(files, await streams(files, bench), FIGURES),
    against: 'pino, worker transport',
    chart: 'bars',
  };
}

function streams(contestants: readonly Contestant[], { rounds, seconds }: SuiteRun) {
  const task: Task = { exercise: 'stream', seconds };
  return interleave(
    contestants.map((contestant) => () => contestant.run(task)),
    { rounds, warmUps: 1 },
  );
}

function outageSeconds({ isQuick }: SuiteRun): number {
  return isQuick ? OUTAGE_SECONDS_QUICK : OUTAGE_SECONDS;
}

function runThroughOutage(contestant: Contestant, bench: SuiteRun): Promise<Result> {
  const { receiver } = bench;
  return contestant.run(
    { exercise: 'paced', seconds: outageSeconds(bench), rate: OUTAGE_RATE, hz: OUTAGE_HZ },
    {
      during: async () => {
        await new Promise((resolve) => setTimeout(resolve, OUTAGE_FROM_MS));
        await receiver.failFor(OUTAGE_MS);
      },
    },
  );
}
