import assert from 'node:assert/strict';
import type { Analytics } from '../../src/index.ts';
import { MillraceError } from '../../src/index.ts';
import { assertBalanced, metricIn, newDirectory, TestReceiver, until } from '../support.ts';
import {
  assertNoLoss,
  type Drill,
  type DrillTools,
  delay,
  type Finding,
  MIB,
  optionsOf,
  quantile,
  reconcile,
  watchPauses,
} from './drill.ts';
import { uuidOf } from './sender.ts';
import { open, peakBytesOf, Receiver, Sender, trackOne } from './stage.ts';
import { Tap, type TapNote } from './tap.ts';

const DEAD = [{ action: { kind: 'status', status: 503 } }] as const;

/** A ring that is full again and again, with one lane that waits for each answer. */
async function blocked({ pick }: DrillTools): Promise<Finding> {
  const receiver = await Receiver.start();
  const ta = open(receiver, { overflow: 'block', ringBytes: 64 * 1024 });
  const count = pick({ quick: 50_000, usual: 1_000_000, full: 1_000_000 });
  for (let index = 0; index < count; index += 1) assert.ok(trackOne(ta, index));
  const stats = await ta.close();
  await receiver.stop();
  return assertNoLoss(reconcile(stats, receiver.numbers()));
}

/** The signal: `track` returns false when there is no room in time, and true when there is again. */
async function refusedThenTaken(): Promise<Finding> {
  const receiver = await Receiver.start();
  await receiver.process.setFaults(DEAD);
  const ta = open(receiver, {
    overflow: 'block',
    lanes: 1,
    ringBytes: 64 * 1024,
    blockTimeoutMs: 50,
  });
  let index = 0;
  while (trackOne(ta, index)) index += 1;
  assert.equal(ta.stats().dropped.overflow_newest, 1);
  await receiver.process.setFaults([]);
  await until(() => ta.stats().queued === 0, 'the ring is empty');
  assert.ok(trackOne(ta, index), 'there is room again');
  const stats = await ta.close();
  await receiver.stop();
  const finding = reconcile(stats, receiver.numbers());
  assert.deepEqual([finding.enqueued, finding.arrived], [index + 1, index + 1]);
  return { ...finding, measured: `the call after ${index} returned false, and true later` };
}

/** What is full: one lane's bytes, or the queue that several lanes share. */
const FULL = {
  ring: { lanes: 1, ringBytes: 64 * 1024 },
  queue: { lanes: 4, queueSize: 500 },
} as const;
const RESUME_MS_MAX = 50;

interface Resumption {
  readonly finding: Finding;
  /** From the answer that made room until the held call was back, in ms. */
  readonly waitsMs: readonly number[];
}

/** Answers come slowly, each makes room for a batch: how soon does a held call come back? */
async function resumedFrom(full: keyof typeof FULL, { pick }: DrillTools): Promise<Resumption> {
  const receiver = await Receiver.start();
  await receiver.process.setFaults([{ action: { kind: 'delay', ms: 200 } }]);
  const tap = await Tap.before(receiver);
  const options = optionsOf(tap, { overflow: 'block', ...FULL[full] });
  const to = pick({ quick: 1500, usual: 5000, full: 20_000 });
  const tellsHeldMs = RESUME_MS_MAX;
  const job = { from: 0, to, perTick: to, tickMs: 1, tellsHeldMs, end: 'close' } as const;
  const sender = new Sender({ options, ...job });
  const stats = await sender.finish();
  await tap.stop();
  await receiver.stop();
  // What took long before there was any answer was not held: the machine was.
  const waitsMs = sender.resumedMs
    .map((ms) => ms - latestAnswerMs(tap.notes, ms))
    .filter(Number.isFinite);
  assert.ok(waitsMs.length > 0, 'calls were held');
  return { finding: assertNoLoss(reconcile(stats, receiver.numbers())), waitsMs };
}

/** Under load the machine lets every process wait now and then: how long is measured beside it, and is not the engine's. */
async function resumed(tools: DrillTools): Promise<Finding> {
  const endWatch = watchPauses();
  const ring = await resumedFrom('ring', tools);
  const queue = await resumedFrom('queue', tools);
  const machineMs = endWatch();
  const words: string[] = [];
  for (const [name, { waitsMs }] of Object.entries({ ring, queue })) {
    const [median, most, longest] = [0.5, 0.9, 1].map((share) => quantile(waitsMs, share));
    const shown = [median, most, longest].map((ms) => ms?.toFixed(1)).join(', ');
    words.push(`${waitsMs.length} calls held by a full ${name}: ${shown} ms`);
    assert.ok(Number(most) <= RESUME_MS_MAX, words.join('; '));
    assert.ok(Number(longest) <= RESUME_MS_MAX + machineMs, words.join('; '));
  }
  const sum = (key: 'enqueued' | 'arrived') => ring.finding[key] + queue.finding[key];
  return {
    enqueued: sum('enqueued'),
    arrived: sum('arrived'),
    dropped: {},
    duplicates: ring.finding.duplicates + queue.finding.duplicates,
    measured: `from the answer that made room until the call was back, median, 90th percentile, longest: ${words.join('; ')} (longest pause of the process that looks on: ${machineMs.toFixed(1)})`,
  };
}

/** When the last answer before `ms` began to go out. Clocks of two processes differ by a little. */
function latestAnswerMs(notes: readonly TapNote[], ms: number): number {
  return Math.max(...notes.map(({ answeredMs }) => answeredMs).filter((at) => at <= ms + 1));
}

const CALLS = 5000;
/** Failed attempts after which the pause between probes is some seconds: time to fill a ring in. */
const FAILURES = 8;

/** Fills a small ring while the receiver is dead and nothing is under way, and tells which records survive. */
async function overflown(overflow: 'drop-newest' | 'drop-oldest'): Promise<Finding> {
  const receiver = await Receiver.start();
  await receiver.process.setFaults(DEAD);
  const ta = open(receiver, { overflow, lanes: 1, workers: 1, ringBytes: 64 * 1024 });
  trackOne(ta, 0);
  await until(() => ta.stats().retries >= FAILURES, 'the receiver is taken for dead');
  await until(async () => (await inFlight(ta)) === 0, 'nothing is under way');
  for (let index = 1; index < CALLS; index += 1) trackOne(ta, index);
  const reason = overflow === 'drop-newest' ? 'overflow_newest' : 'overflow_oldest';
  const labelled = metricIn(
    await ta.register.metrics(),
    'millrace_records_dropped_total',
    `reason="${reason}"`,
  );
  await receiver.process.setFaults([]);
  await until(() => ta.stats().queued === 0, 'the queue is empty');
  const stats = await ta.close();
  await receiver.stop();
  const numbers = receiver.numbers();
  const finding = reconcile(stats, numbers);
  const first = overflow === 'drop-newest' ? 0 : CALLS - finding.arrived;
  assert.deepEqual(
    numbers,
    Array.from({ length: finding.arrived }, (_, at) => first + at),
    'the survivors are exactly those at one end, in order',
  );
  const dropped = CALLS - finding.arrived;
  assert.deepEqual([stats.dropped[reason], labelled], [dropped, dropped]);
  return {
    ...finding,
    measured: `the ${finding.arrived} ${overflow === 'drop-newest' ? 'oldest' : 'newest'} of ${CALLS} calls by sequence; label ${reason} ${labelled}`,
  };
}

async function inFlight(ta: Analytics): Promise<number> {
  return metricIn(await ta.register.metrics(), 'millrace_inflight_requests');
}

async function spilled({ pick }: DrillTools): Promise<Finding> {
  const receiver = await Receiver.start();
  await receiver.process.setFaults(DEAD);
  const ta = open(receiver, { ringBytes: 64 * 1024, spool: { directory: newDirectory() } });
  const count = pick({ quick: 20_000, usual: 100_000, full: 1_000_000 });
  for (let index = 0; index < count; index += 1) assert.ok(trackOne(ta, index));
  const { spooled } = ta.stats();
  assert.ok(spooled > 0);
  await receiver.process.setFaults([]);
  await until(() => ta.stats().spooled + ta.stats().queued === 0, 'the spool is empty');
  const stats = await ta.close();
  await receiver.stop();
  const numbers = receiver.numbers();
  const last = new Map<number, number>();
  for (const index of numbers) {
    assert.ok(index > (last.get(index % 50) ?? -1), "a user's records are in order");
    last.set(index % 50, index);
  }
  return { ...assertNoLoss(reconcile(stats, numbers)), measured: `S rose to ${spooled}, then 0` };
}

/** Properties no one should send; one value each. */
function oddities(): Readonly<Record<string, object>> {
  const cycle: Record<string, unknown> = {};
  cycle.self = cycle;
  return {
    cycle,
    bigint: { big: 10n ** 30n },
    surrogate: { text: 'a\ud800b' },
    long: { text: 'x'.repeat(5 * MIB) },
    getter: Object.defineProperty({}, 'bad', {
      enumerable: true,
      get: () => {
        throw new Error('no value for you');
      },
    }),
    proto: JSON.parse('{"__proto__": {"polluted": true}}') as object,
    symbol: { mark: Symbol('mark') },
    function: { call: () => undefined },
    deep: { list: nest(1000) },
  };
}

function nest(depth: number): unknown {
  let value: unknown = 'bottom';
  for (let level = 0; level < depth; level += 1) value = [value];
  return value;
}

async function odd(validation: 'throw' | 'drop' | 'off'): Promise<Finding> {
  const receiver = await Receiver.start();
  const ta = open(receiver, {}, { validation });
  let index = 0;
  let refused = 0;
  const taken: string[] = [];
  for (const [name, properties] of Object.entries(oddities())) {
    trackOne(ta, index++);
    const at = index++;
    try {
      const isIn = ta.track({
        accountId: 'odd',
        event: 'odd',
        uuid: uuidOf(at),
        properties: Object.defineProperties(
          { index: at },
          Object.getOwnPropertyDescriptors(properties),
        ),
      });
      if (isIn) taken.push(name);
      else refused += 1;
    } catch (error) {
      assert.equal(validation, 'throw', `${name} threw: ${error}`);
      assert.ok(error instanceof MillraceError, `${name}: ${error}`);
      refused += 1;
    }
    trackOne(ta, index++);
  }
  assert.equal(Reflect.get({}, 'polluted'), undefined);
  const metrics = await ta.register.metrics();
  const counted = metricIn(metrics, 'millrace_records_invalid_total');
  assert.deepEqual([counted, ta.stats().dropped.invalid], [refused, refused]);
  const stats = await ta.close();
  await receiver.stop();
  const numbers = receiver.numbers();
  const neighbours = numbers.filter((number) => number % 3 !== 1);
  assert.equal(neighbours.length, (index / 3) * 2, 'neighbours are intact');
  const finding = reconcile(stats, numbers);
  assert.equal(finding.arrived + stats.rejected, stats.accepted);
  return {
    ...finding,
    measured: `\`'${validation}'\`: ${refused} refused and counted by reason; taken: ${taken.join(', ')}`,
  };
}

const RING_BYTES: number = 16 * MIB;

/** A sender that is offered twice what its receiver takes, with a small heap of its own. */
async function pressed({ pick }: DrillTools): Promise<Finding> {
  // By its counts: at full length there are more records than fit into a file that is read at once.
  const receiver = await TestReceiver.start(['--appid', 'A']);
  const place = { execArgv: ['--max-old-space-size=64'] };
  const options = optionsOf(receiver, { ringBytes: RING_BYTES, queueSize: 1_000_000 });
  const idle = new Sender({ options, from: 0, perTick: 1, tickMs: 100, end: 'stay' }, place);
  await until(() => (idle.stats?.delivered ?? 0) > 0, 'all its threads are at work');
  await delay(3000);
  const idleBytes = peakBytesOf(idle.child.pid);
  await idle.kill();
  await receiver.reset();
  // Four lanes with a batch of 100 in 40 ms each: 10 000 a second at most. 40 000 are offered, or half of that by a slow machine.
  await receiver.setFaults([{ action: { kind: 'delay', ms: 40 } }]);
  const forMs = pick({ quick: 15_000, usual: 30_000, full: 1_800_000 });
  const job = { from: 1e9, perTick: 400, tickMs: 10, stopsAtSignal: true, end: 'close' } as const;
  const sender = new Sender({ options, ...job }, place);
  let peakBytes = 0;
  const watch = setInterval(() => {
    if (sender.child.exitCode === null) peakBytes = peakBytesOf(sender.child.pid);
  }, 200);
  await delay(forMs);
  const { delivered } = sender.account;
  sender.child.kill('SIGUSR2');
  const stats = await sender.finish();
  clearInterval(watch);
  const { unique: arrived, duplicates } = await receiver.snapshot();
  await receiver.stop();
  const over = peakBytes - idleBytes;
  assert.ok(over <= RING_BYTES + 64 * MIB, `${over} bytes more than idle`);
  const { overflow_newest } = stats.dropped;
  const times = (stats.accepted + overflow_newest) / delivered;
  assert.ok(times >= 2, `${times} times what the receiver took was offered`);
  assertBalanced(stats);
  assert.equal(arrived, stats.accepted);
  const mb = (bytes: number) => (bytes / MIB).toFixed(0);
  const measured = `${times.toFixed(1)} times what the receiver took, for ${forMs / 60_000} min: idle ${mb(idleBytes)} MB, peak ${mb(peakBytes)} MB: ${mb(over)} MB more, of which the ring is ${mb(RING_BYTES)}; heap limited to 64 MB`;
  return { enqueued: stats.accepted, arrived, dropped: { overflow_newest }, duplicates, measured };
}

/** What becomes of a full ring, and of odd records. */
export const RING_DRILLS: readonly Drill[] = [
  {
    row: 'F15',
    id: 'F15a',
    fault: 'ring full a million times, `block`',
    promise: 'all arrive',
    run: blocked,
  },
  {
    row: 'F15',
    id: 'F15b',
    fault: 'ring full for longer than `blockTimeoutMs`',
    promise: 'the call returns false; all taken arrive',
    run: refusedThenTaken,
  },
  {
    row: 'F15',
    id: 'F15c',
    fault: 'calls held by `block` until slow answers make room',
    promise: 'held calls come back within 50 ms; all arrive',
    run: resumed,
  },
  {
    row: 'F16',
    id: 'F16a',
    fault: 'ring full, `drop-newest`',
    promise: 'exactly the oldest arrive',
    run: () => overflown('drop-newest'),
  },
  {
    row: 'F16',
    id: 'F16b',
    fault: 'ring full, `drop-oldest`',
    promise: 'exactly the newest arrive',
    run: () => overflown('drop-oldest'),
  },
  {
    row: 'F17',
    id: 'F17',
    fault: 'ring full, `spool`',
    promise: 'all arrive, in order',
    run: spilled,
  },
  {
    row: 'F34',
    id: 'F34a',
    fault:
      "cycles, BigInt, lone surrogates, 5 MB texts, throwing getters, `__proto__`; `validation: 'throw'`",
    promise: 'what is refused is counted; neighbours arrive',
    run: () => odd('throw'),
  },
  {
    row: 'F34',
    id: 'F34b',
    fault: "the same, `'drop'`",
    promise: 'what is refused is counted; neighbours arrive',
    run: () => odd('drop'),
  },
  {
    row: 'F34',
    id: 'F34c',
    fault: "the same, `'off'`",
    promise: 'what is refused is counted; neighbours arrive',
    run: () => odd('off'),
  },
  {
    row: 'F35',
    id: 'F35',
    fault: 'twice as many records as the receiver takes, with a small heap',
    promise: 'memory is bounded; all taken arrive',
    run: pressed,
  },
];
