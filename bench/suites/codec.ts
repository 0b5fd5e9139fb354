import { gzipSync } from 'node:zlib';
import { Machine } from '../../src/codec/machine.ts';
import { pack, unpack } from '../../src/codec/msgpack.ts';
import { FilledLane, LANE_RECORDS } from '../filled-lane.ts';
import { interleave } from '../measure.ts';
import type { Row, Section, SuiteRun } from './suite.ts';

const REPEATS = 40;
const REPEATS_QUICK = 15;
const WARM_UPS = 3;
const LEVELS = [1, 2, 4, 6, 9] as const;
const FIRST = 'msgpackr unpack + JSON.stringify';
const WIRE = 'frames → JSON → gzip, as by default';

/** One step on a worker: what it costs, and how long its text is. */
interface Step {
  readonly name: string;
  /** Works on a whole batch, and returns the bytes of the result. */
  readonly run: () => number;
}

/** The worker's side, without sockets, files and threads: nanoseconds of one batch of 500 on one core. */
export async function* benchCodec({ rounds, isQuick }: SuiteRun): AsyncIterable<Section> {
  const steps = makeSteps();
  const repeats = isQuick ? REPEATS_QUICK : REPEATS;
  const results = await interleave(
    steps.map((step) => () => timed(step, repeats)),
    { rounds, warmUps: WARM_UPS },
  );
  const rows = steps.map(({ name }, index): Row => {
    const list = results[index] ?? [];
    return {
      name,
      values: {
        ns: list.map(({ ns }) => ns),
        rate: list.map(({ ns }) => 1e9 / ns),
        bytes: list.slice(0, 1).map(({ bytes }) => bytes),
      },
    };
  });
  yield {
    key: 'codec',
    title: 'Worker, one core, no network',
    note: `Batches of ${LANE_RECORDS}; the texts of all ways were compared before. "${WIRE}" is all that an HTTP worker has to compute.`,
    metrics: [
      { key: 'ns', title: 'ns a record', digits: 0, better: 'less' },
      { key: 'rate', title: 'records/s of one core', digits: 0, better: 'more' },
      { key: 'bytes', title: 'bytes a record', digits: 0, better: 'less' },
    ],
    rows,
    against: FIRST,
    chart: 'bars',
  };
}

function makeSteps(): Step[] {
  const machine = Machine.open();
  const lane = new FilledLane();
  const reader = lane.reader(machine);
  const reference = lane.reader(undefined);
  const objects = JSON.parse(`[${reader().toString()}]`) as object[];
  const packed = objects.map((object) => Buffer.from(pack(object)));
  const texts = objects.map((object) => JSON.stringify(object));
  if (!reader().equals(reference()) || texts.join(',') !== reader().toString()) {
    throw new Error('the ways from frames to JSON differ');
  }
  const json = Buffer.from(`[${reader()}]`);
  const gzipSteps = LEVELS.map(
    (level): Step => ({
      name: `gzip, zlib level ${level}`,
      run: () => lane.gzip(level, undefined),
    }),
  );
  return [
    {
      name: FIRST,
      run: () => packed.reduce((sum, bytes) => sum + JSON.stringify(unpack(bytes)).length, 0),
    },
    {
      name: 'JSON.stringify of finished records',
      run: () => objects.reduce((sum, object) => sum + JSON.stringify(object).length, 0),
    },
    { name: 'frames → JSON', run: () => reader().length },
    { name: 'frames → JSON, reference without WebAssembly', run: () => reference().length },
    { name: 'gzip, our deflate', run: () => lane.gzip('fast', machine) },
    ...gzipSteps,
    { name: 'gzip as zlib does it by default', run: () => gzipSync(json).length },
    {
      name: WIRE,
      run: () => {
        reader();
        return lane.gzip('fast', machine);
      },
    },
  ];
}

function timed({ run }: Step, repeats: number): { ns: number; bytes: number } {
  let bytes = 0;
  const startMs = performance.now();
  for (let count = 0; count < repeats; count += 1) bytes = run();
  const records = repeats * LANE_RECORDS;
  return { ns: ((performance.now() - startMs) * 1e6) / records, bytes: bytes / LANE_RECORDS };
}
