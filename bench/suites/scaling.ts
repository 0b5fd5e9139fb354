import type { Contestant, Entry, Result } from '../arena.ts';
import type { Task } from '../exercises.ts';
import { interleave } from '../measure.ts';
import { type Metric, rowsOf, type Section, type SuiteRun } from './suite.ts';

const PEER = 'millrace http';
const KIB = 1024;
const MIB: number = 1024 * KIB;
const METRICS: readonly Metric[] = [
  { key: 'rate', title: 'records/s', digits: 0, better: 'more' },
  { key: 'cpu', title: 'CPU s / million', digits: 2, better: 'less' },
  { key: 'wire', title: 'bytes a record', digits: 0, better: 'less' },
  { key: 'batch', title: 'records a request', digits: 0, better: 'more' },
  { key: 'rss', title: 'most memory, MB', digits: 0, better: 'less' },
];
/** For knobs that only show at a rate below the limit. */
const PACED_METRICS: readonly Metric[] = [
  { key: 'p99', title: 'call to receiver p99, ms', digits: 1, better: 'less' },
  { key: 'p50', title: 'p50, ms', digits: 1, better: 'less' },
  { key: 'cpu', title: 'CPU s / million', digits: 2, better: 'less' },
  { key: 'wire', title: 'bytes a record', digits: 0, better: 'less' },
  { key: 'batch', title: 'records a request', digits: 0, better: 'more' },
];
/** So many that in a lane of its own an event comes again only when it is out of the window of the compression. */
const EVENTS = 16_000;
const PACED = { exercise: 'paced', rate: 10_000, hz: 200, stamps: true } as const;

/** One knob: its settings, all else as by default. */
interface Knob {
  readonly key: string;
  readonly title: string;
  readonly load: 'stream' | 'paced';
  readonly settings: readonly (Entry & { readonly name: string })[];
}

const KNOBS: readonly Knob[] = [
  knob('workers', [1, 2, 4], (workers) => ({ options: { workers } })),
  knob('lanes', [1, 2, 4, 8, 16, 64], (lanes) => ({ options: { lanes } })),
  knob('ringBytes', [1, 4, 16, 64], (mib) => ({ options: { ringBytes: mib * MIB } }), 'MiB'),
  knob('batchSize', [20, 100, 500, 2000], (batchSize) => ({
    batchSize,
    // Room for the largest of them.
    options: { batchBytes: 1200 * KIB },
  })),
  knob('compress', [0, true, 1, 4, 6, 9], (compress) => ({ options: { compress } })),
  {
    key: 'workers-lanes',
    title: 'workers × lanes',
    load: 'stream',
    settings: [1, 2].flatMap((workers) =>
      [2, 8, 32].map((lanes) => ({
        name: `${workers} × ${lanes}`,
        peer: PEER,
        options: { workers, lanes },
      })),
    ),
  },
  {
    ...knob('lingerMs', [0, 1, 5, 25, 100], (lingerMs) => ({ lingerMs })),
    load: 'paced',
  },
];

/** Each knob by itself, at every other setting. */
const KNOBS_QUICK: readonly Knob[] = KNOBS.filter(({ key }) => key !== 'workers-lanes').map(
  (knob) => ({ ...knob, settings: knob.settings.filter((_, index) => index % 2 === 0) }),
);

/** What each knob does, one at a time from the defaults: workers, lanes, ring, batch, compression, linger; and workers by lanes. */
export async function* benchScaling(bench: SuiteRun): AsyncIterable<Section> {
  for (const { key, title, load, settings } of bench.isQuick ? KNOBS_QUICK : KNOBS) {
    const task: Task =
      load === 'stream'
        ? { exercise: 'stream', seconds: bench.seconds }
        : { ...PACED, seconds: Math.max(1, bench.seconds) };
    const results = await runSettings(settings, task, bench);
    yield {
      key: `scaling-${key}`,
      title,
      note:
        load === 'stream'
          ? `As fast as records arrive, ${bench.seconds} s a round; all other options as by default, overflow 'block'.`
          : `${PACED.rate} records a second in bursts of ${PACED.rate / PACED.hz}.`,
      metrics: load === 'stream' ? METRICS : PACED_METRICS,
      rows: rowsOf(settings, results, FIGURES),
      chart: 'curve',
    };
  }
}

const FIGURES: Readonly<Record<string, (result: Result) => number>> = {
  rate: ({ arrived, seconds }) => arrived / seconds,
  cpu: ({ arrived, cpuSeconds }) => (cpuSeconds * 1e6) / arrived,
  wire: ({ receiver, arrived }) => receiver.bytesWire / arrived,
  batch: ({ receiver, arrived }) => arrived / receiver.requests,
  rss: ({ rssPeakMb }) => rssPeakMb,
  p99: ({ receiver }) => receiver.latencyMs.p99,
  p50: ({ receiver }) => receiver.latencyMs.p50,
};

async function runSettings(
  settings: Knob['settings'],
  task: Task,
  { rounds, isQuick, enter }: SuiteRun,
): Promise<Result[][]> {
  const entries = settings.map(({ name, ...entry }) => ({ ...entry, events: EVENTS }));
  const contestants: Contestant[] = await enter(entries);
  const looksAtTimes = task.exercise === 'paced';
  return interleave(
    contestants.map((contestant) => () => contestant.run(task, { looksAtTimes })),
    isQuick ? { rounds: 1, warmUps: 0 } : { rounds, warmUps: 1 },
  );
}

function knob<T extends number | boolean>(
  key: string,
  values: readonly T[],
  entryOf: (value: T) => Omit<Entry, 'peer'>,
  unit = '',
): Knob {
  const settings = values.map((value) => ({
    name: `${value} ${unit}`.trim(),
    peer: PEER,
    ...entryOf(value),
  }));
  return { key, title: unit === '' ? key : `${key}, ${unit}`, load: 'stream', settings };
}
