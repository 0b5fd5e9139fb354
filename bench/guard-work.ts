import { gzipSync } from 'node:zlib';
import { Machine } from '../src/codec/machine.ts';
import { makeEvents } from '../src/tune/game-events.ts';
import { finishedRecord } from './events.ts';
import { FilledLane, LANE_RECORDS } from './filled-lane.ts';

/**
 * Does one piece of work for so many batches of 500, on one thread: what the guard counts instructions of. Prints processor nanoseconds of a
 * record in the later half, and bytes of a record in the result. `node guard-work.js WORK BATCHES`
 */
const [work = '', batchesText = '2'] = process.argv.slice(2);
const batches = Number(batchesText);

/** Each makes what it needs, and returns what does one batch and tells the bytes of the result. */
const WORKS: Readonly<Record<string, () => () => number>> = {
  stringify: () => {
    const records = makeEvents(LANE_RECORDS).map((event) => finishedRecord(event));
    return () => records.reduce((sum, record) => sum + JSON.stringify(record).length, 0);
  },
  track: () => {
    const lane = new FilledLane();
    return () => lane.refill();
  },
  transcode: () => {
    const read = new FilledLane().reader(Machine.open());
    return () => read().length;
  },
  gzip: () => {
    const machine = Machine.open();
    const lane = new FilledLane();
    lane.reader(machine)();
    return () => lane.gzip('fast', machine);
  },
  zlib: () => {
    const text = Buffer.from(`[${new FilledLane().reader(Machine.open())()}]`);
    return () => gzipSync(text).length;
  },
};

const make = WORKS[work];
if (make === undefined) throw new Error(`there is no work ${work}`);
const run = make();
const warmUps = batches >> 1;
let bytes = 0;
for (let batch = 0; batch < warmUps; batch += 1) bytes = run();
const before = process.cpuUsage();
for (let batch = warmUps; batch < batches; batch += 1) bytes = run();
const { user, system } = process.cpuUsage(before);
const records = (batches - warmUps) * LANE_RECORDS;
console.log(
  JSON.stringify({ ns: ((user + system) * 1000) / records, bytes: bytes / LANE_RECORDS }),
);
