import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import { newDirectory, until } from '../support.ts';
import {
  assertNoLoss,
  type Drill,
  type DrillTools,
  delay,
  type Finding,
  MIB,
  optionsOf,
  reconcile,
} from './drill.ts';
import { open, Receiver, Sender, trackOne } from './stage.ts';

const DEAD = [{ action: { kind: 'status', status: 503 } }] as const;
const LANES = 4;
const BATCH = 100;
/** Records of each run have numbers of their own. */
const RUN_RECORDS = 1_000_000;

/** Kills a process that tells what is on disk again and again; the next one sends what the last one left. */
async function killed({ random, pick }: DrillTools): Promise<Finding> {
  const receiver = await Receiver.start();
  const directory = newDirectory();
  const options = optionsOf(receiver, { durability: 'spool-first', spool: { directory } });
  const kills = pick({ quick: 3, usual: 50, full: 2000 });
  const durable: number[] = [];
  for (let round = 0; round < kills; round += 1) {
    await receiver.process.setFaults(round % 3 === 0 ? DEAD : []);
    const from = round * RUN_RECORDS;
    const job = { from, perTick: 50, tickMs: 1, tellsDurable: true, end: 'stay' } as const;
    const sender = new Sender({ options, ...job });
    await until(() => sender.durable > 0, 'something is on disk');
    await delay(random(150));
    durable.push(sender.durable);
    await sender.kill();
  }
  await receiver.process.setFaults([]);
  const stats = await open(receiver, { spool: { directory } }).close({ timeoutMs: 60_000 });
  await receiver.stop();
  assert.equal(stats.spooled, 0);
  const numbers = receiver.numbers();
  const arrived = new Set(numbers);
  let enqueued = 0;
  for (const [round, to] of durable.entries()) {
    for (let index = round * RUN_RECORDS; index < to; index += 1, enqueued += 1) {
      assert.ok(arrived.has(index), `${index} was on disk and is lost`);
    }
  }
  const duplicates = numbers.length - arrived.size;
  // Sent by the process that died, and not noted: one batch a lane of it, and of each backlog it was sending.
  const inFlight = kills * (LANES + 1) * BATCH;
  assert.ok(duplicates <= inFlight, `${duplicates} repeated, ${inFlight} can have been in flight`);
  const measured = `${kills} kills; ${arrived.size - enqueued} more arrived of which the sender had no word yet; bound of repeats ${inFlight}`;
  return { enqueued, arrived: enqueued, dropped: {}, duplicates, measured };
}

async function killedInMemory({ random, pick }: DrillTools): Promise<Finding> {
  const kills = pick({ quick: 1, usual: 10, full: 200 });
  let [enqueued, arrived, lost, duplicates] = [0, 0, 0, 0];
  for (let round = 0; round < kills; round += 1) {
    const receiver = await Receiver.start();
    const job = { from: 0, perTick: 100, tickMs: 5, end: 'stay' } as const;
    const sender = new Sender({ options: optionsOf(receiver), ...job });
    await sender.untilAccepted(2000);
    await delay(random(300));
    await sender.kill();
    const known = sender.account;
    await receiver.stop();
    const numbers = receiver.numbers();
    const there = new Set(numbers.filter((index) => index < known.accepted));
    // Its last word is older than its death: what was delivered by then has arrived.
    assert.ok(there.size >= known.delivered);
    const missing = known.accepted - there.size;
    assert.ok(missing <= known.queued, `${missing} lost, ${known.queued} were queued`);
    enqueued += known.accepted;
    arrived += there.size;
    lost += missing;
    duplicates += numbers.length - new Set(numbers).size;
  }
  return {
    enqueued,
    arrived,
    dropped: { 'in the ring': lost },
    duplicates,
    measured: `${kills} kills; never more lost than the last report had as queued (the account of a dead run: docs/delivery.md)`,
  };
}

async function shared(): Promise<Finding> {
  const receiver = await Receiver.start();
  await receiver.process.setFaults(DEAD);
  const directory = newDirectory();
  const options = optionsOf(receiver, { durability: 'spool-first', spool: { directory } });
  const job = { perTick: 100, tickMs: 1, tellsDurable: true, end: 'stay' } as const;
  const senders = [0, 1, 2].map(
    (number) => new Sender({ options, from: number * 2000, to: (number + 1) * 2000, ...job }),
  );
  const ends = (number: number) => (number + 1) * 2000;
  await until(
    () => senders.every(({ durable }, number) => durable === ends(number)),
    'all is on disk',
  );
  const parts = readdirSync(directory).sort();
  assert.deepEqual(parts, ['instance-0', 'instance-1', 'instance-2']);
  for (const sender of senders) await sender.kill();
  await receiver.process.setFaults([]);
  const stats = await open(receiver, { spool: { directory } }).close();
  await receiver.stop();
  const finding = assertNoLoss(reconcile(stats, receiver.numbers()));
  assert.deepEqual([finding.enqueued, finding.duplicates], [6000, 0]);
  const measured = `each took a part of its own (${parts.join(', ')}); the locks of the dead were taken over`;
  return { ...finding, measured };
}

const RECORDS = 5000;

async function signalled(): Promise<Finding> {
  const receiver = await Receiver.start();
  await receiver.process.setFaults([{ action: { kind: 'hang' } }]);
  const directory = newDirectory();
  const options = optionsOf(receiver, { spool: { directory }, timeoutMs: 30_000 });
  const job = { from: 0, to: RECORDS, perTick: 500, tickMs: 1, end: 'stay' } as const;
  const sender = new Sender({ options, ...job, signalTimeoutMs: 5000 });
  await sender.untilAccepted(RECORDS);
  const startMs = performance.now();
  sender.child.kill('SIGTERM');
  assert.equal(await sender.ended, 0);
  const tookMs = performance.now() - startMs;
  assert.ok(tookMs <= 5500, `it took ${tookMs} ms`);
  await receiver.process.setFaults([]);
  const stats = await open(receiver, { spool: { directory } }).close();
  await receiver.stop();
  assert.equal(stats.recovered, RECORDS);
  const finding = assertNoLoss(reconcile(stats, receiver.numbers()));
  const measured = `ended after ${Math.round(tookMs)} ms with code 0; ${stats.recovered} found on disk by the next start`;
  return { ...finding, measured };
}

function ending(end: 'exit' | 'throw'): () => Promise<Finding> {
  return async () => {
    const receiver = await Receiver.start();
    const job = { from: 0, to: RECORDS, perTick: RECORDS, tickMs: 0, end } as const;
    const sender = new Sender({ options: optionsOf(receiver), ...job });
    const code = await sender.ended;
    assert.equal(code, end === 'exit' ? 0 : 1);
    assert.doesNotMatch(sender.stderr, /millrace:/);
    await receiver.stop();
    const numbers = receiver.numbers();
    const arrived = new Set(numbers).size;
    assert.equal(arrived, RECORDS);
    return { enqueued: RECORDS, arrived, dropped: {}, duplicates: numbers.length - arrived };
  };
}

type Leaving = 'exit' | 'throw' | 'signal twice' | 'exit in a handler';

const EXIT_FLUSH_MS = 1000;
/** Longer, and it hangs. */
const HANG_MS = 10_000;
const CODES: Readonly<Record<Leaving, number>> = {
  exit: 0,
  throw: 1,
  'signal twice': 128 + 15,
  'exit in a handler': 0,
};

/** With a dead receiver and no spool something has to be lost: in time, and with a word about how much. */
function leaving(how: Leaving): () => Promise<Finding> {
  return async () => {
    const receiver = await Receiver.start();
    await receiver.process.setFaults(DEAD);
    const job = { from: 0, to: RECORDS, perTick: 500, tickMs: 1 } as const;
    const end = how === 'exit' || how === 'throw' ? how : 'stay';
    const signals =
      how === 'signal twice' ? { signalTimeoutMs: 30_000 } : { exitsAtSignal: end === 'stay' };
    const options = optionsOf(receiver, { exitFlushMs: EXIT_FLUSH_MS });
    const sender = new Sender({ options, ...job, ...signals, end });
    await sender.untilAccepted(RECORDS);
    const startMs = performance.now();
    if (end === 'stay') sender.child.kill('SIGTERM');
    if (how === 'signal twice') {
      await delay(200);
      sender.child.kill('SIGTERM');
    }
    assert.equal(await sender.ended, CODES[how], sender.stderr);
    const tookMs = performance.now() - startMs;
    assert.ok(tookMs < HANG_MS, `it took ${tookMs} ms`);
    await receiver.stop();
    const arrived = new Set(receiver.numbers()).size;
    const line = /^millrace: the process ended with (\d+) records neither delivered nor saved$/m;
    const [warning = '', count] = line.exec(sender.stderr) ?? [];
    assert.equal(Number(count), RECORDS - arrived, sender.stderr);
    const measured = `ended after ${Math.round(tookMs)} ms with code ${CODES[how]}; \`${warning}\``;
    return {
      enqueued: RECORDS,
      arrived,
      dropped: { 'in the ring': Number(count) },
      duplicates: 0,
      measured,
    };
  };
}

/** What a process holds: threads, handles and descriptors. */
function holdings(): { resources: string[]; descriptors: number } {
  return {
    resources: process.getActiveResourcesInfo().sort(),
    descriptors: readdirSync('/proc/self/fd').length,
  };
}

async function manyClients({ pick }: DrillTools): Promise<Finding> {
  const clients = pick({ quick: 10, usual: 100, full: 1000 });
  const receiver = await Receiver.start();
  let index = 0;
  const useClient = async () => {
    const ta = open(receiver, { workers: 1, lanes: 2, ringBytes: MIB });
    for (let more = 0; more < 20; more += 1, index += 1) trackOne(ta, index);
    const stats = await ta.close();
    assert.equal(stats.delivered, 20);
  };
  // The first clients load what stays for good: code, pools of memory.
  for (let round = 0; round < clients * 0.3; round += 1) await useClient();
  await until(() => !process.getActiveResourcesInfo().includes('Worker'), 'threads have ended');
  const before = holdings();
  const rssBytes = process.memoryUsage.rss();
  for (let round = 0; round < clients * 0.7; round += 1) await useClient();
  await until(() => holdings().descriptors <= before.descriptors, 'descriptors are given back');
  assert.deepEqual(holdings().resources, before.resources);
  const grown = process.memoryUsage.rss() - rssBytes;
  assert.ok(grown < 32 * MIB, `memory grew by ${grown} bytes`);
  await receiver.stop();
  const numbers = receiver.numbers();
  const arrived = new Set(numbers).size;
  const duplicates = numbers.length - arrived;
  const measured = `the same threads, handles and descriptors as after the first third; ${Math.round(grown / MIB)} MB grown since then`;
  return assertNoLoss({ enqueued: index, arrived, dropped: {}, duplicates, measured });
}

function leavingDrill(id: string, how: Leaving, fault: string): Drill {
  return {
    row: 'F31',
    id,
    fault,
    promise: 'ends in time and says how many are lost',
    run: leaving(how),
  };
}

/** What becomes of processes. */
export const LIFE_DRILLS: readonly Drill[] = [
  {
    row: 'F18',
    id: 'F18',
    fault: '`kill -9` at random moments, `spool-first`',
    promise: 'all that were on disk arrive',
    run: killed,
  },
  {
    row: 'F19',
    id: 'F19',
    fault: '`kill -9`, in memory',
    promise: 'what was queued is lost, no more',
    run: killedInMemory,
  },
  {
    row: 'F26',
    id: 'F26',
    fault: 'three processes on one spool folder, killed',
    promise: 'all arrive, none twice',
    run: shared,
  },
  {
    row: 'F30',
    id: 'F30',
    fault: 'SIGTERM with a dead receiver and a spool',
    promise: 'ends in 5 s with code 0; all arrive after the next start',
    run: signalled,
  },
  {
    row: 'F31',
    id: 'F31a',
    fault: '`process.exit()` with a full queue',
    promise: 'all arrive',
    run: ending('exit'),
  },
  {
    row: 'F31',
    id: 'F31b',
    fault: 'an uncaught exception with a full queue',
    promise: 'all arrive',
    run: ending('throw'),
  },
  leavingDrill('F31c', 'exit', '`process.exit()` with a dead receiver'),
  leavingDrill('F31d', 'throw', 'an uncaught exception with a dead receiver'),
  leavingDrill('F31e', 'signal twice', 'SIGTERM twice with a dead receiver'),
  leavingDrill(
    'F31f',
    'exit in a handler',
    '`process.exit()` in a signal handler, with a dead receiver',
  ),
  {
    row: 'L14',
    id: 'L14',
    fault: '100 clients opened and closed',
    promise: 'no thread and no memory is left',
    run: manyClients,
  },
];
