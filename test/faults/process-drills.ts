import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Worker } from 'node:worker_threads';
import { Analytics, AsyncBatchConsumer, type Stats } from '../../src/index.ts';
import { newDirectory, until } from '../support.ts';
import {
  assertNoLoss,
  type Drill,
  type DrillTools,
  delay,
  type Finding,
  optionsOf,
  Receiver,
  reconcile,
  Sender,
} from './drill.ts';
import { uuidOf } from './sender.ts';

const DEAD = [{ action: { kind: 'status', status: 503 } }] as const;
const MIB: number = 1024 * 1024;

function trackOne(ta: Analytics, index: number): boolean {
  return ta.track({
    accountId: `u${index % 50}`,
    event: 'fault',
    uuid: uuidOf(index),
    properties: { index },
  });
}

function open(receiver: Receiver, more: Parameters<typeof optionsOf>[1] = {}): Analytics {
  return new Analytics(new AsyncBatchConsumer(optionsOf(receiver, more)), {
    onError: () => {
      // The account tells.
    },
  });
}

async function workersKilled({ random, scale }: DrillTools): Promise<Finding> {
  const threads = new Set<Worker>();
  const watch = (thread: Worker) => {
    thread.once('message', () => threads.add(thread));
    thread.once('exit', () => threads.delete(thread));
  };
  process.on('worker', watch);
  const receiver = await Receiver.start();
  const ta = open(receiver, { overflow: 'block' });
  let tracked = 0;
  const kills = Math.ceil(200 * scale);
  for (let round = 0; round < kills; round += 1) {
    for (let index = 0; index < 200; index += 1, tracked += 1) trackOne(ta, tracked);
    await delay(random(30));
    await until(() => threads.size > 0, 'there is a thread');
    await [...threads][random(threads.size)]?.terminate();
  }
  await ta.flush({ timeoutMs: 60_000 });
  const stats = await ta.close();
  process.off('worker', watch);
  await receiver.stop();
  assert.ok(stats.workers.restarts >= kills - 1);
  return assertNoLoss(reconcile(stats, receiver.numbers()));
}

async function stalled(): Promise<Finding> {
  const receiver = await Receiver.start();
  const sender = new Sender({
    options: optionsOf(receiver),
    from: 0,
    to: 20_000,
    perTick: 5000,
    tickMs: 1,
    stall: { at: 10_000, ms: 10_000 },
    end: 'close',
  });
  await delay(6000);
  // All that was tracked before the main thread stood still has been delivered by the workers alone.
  assert.equal(new Set(receiver.numbers()).size, 10_000);
  assert.equal(await sender.ended, 0);
  await receiver.stop();
  return assertNoLoss(reconcile(sender.account, receiver.numbers()));
}

/** Fills a small ring while the receiver is dead, and tells which records survive. */
async function overflown(overflow: 'drop-newest' | 'drop-oldest'): Promise<Finding> {
  const receiver = await Receiver.start();
  await receiver.process.setFaults(DEAD);
  const ta = open(receiver, { overflow, lanes: 1, workers: 1, ringBytes: 64 * 1024 });
  const taken: number[] = [];
  for (let index = 0; index < 5000; index += 1) if (trackOne(ta, index)) taken.push(index);
  await receiver.process.setFaults([]);
  await until(() => ta.stats().queued === 0, 'the queue is empty');
  const stats = await ta.close();
  await receiver.stop();
  const numbers = receiver.numbers().sort((a, b) => a - b);
  const finding = reconcile(stats, numbers);
  if (overflow === 'drop-newest') assert.deepEqual([...new Set(numbers)], taken);
  else {
    // The newest arrive without a gap; a worker may have had the very first ones in its hands.
    const first = 5000 - (stats.delivered - numbers.filter((n) => n < 1000).length);
    assert.deepEqual(
      numbers.filter((n) => n >= 1000),
      Array.from({ length: 5000 - first }, (_, at) => first + at),
    );
  }
  return finding;
}

async function blocked({ scale }: DrillTools): Promise<Finding> {
  const receiver = await Receiver.start();
  const ta = open(receiver, { overflow: 'block', ringBytes: 64 * 1024 });
  const count = 200_000 * scale;
  for (let index = 0; index < count; index += 1) assert.ok(trackOne(ta, index));
  const stats = await ta.close();
  await receiver.stop();
  return assertNoLoss(reconcile(stats, receiver.numbers()));
}

async function spilled({ scale }: DrillTools): Promise<Finding> {
  const receiver = await Receiver.start();
  await receiver.process.setFaults(DEAD);
  const ta = open(receiver, { ringBytes: 64 * 1024, spool: { directory: newDirectory() } });
  for (let index = 0; index < 100_000 * scale; index += 1) assert.ok(trackOne(ta, index));
  assert.ok(ta.stats().spooled > 0);
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
  return assertNoLoss(reconcile(stats, numbers));
}

async function killed({ random, scale }: DrillTools): Promise<Finding> {
  const receiver = await Receiver.start();
  const directory = newDirectory();
  const options = optionsOf(receiver, { durability: 'spool-first', spool: { directory } });
  const kills = Math.ceil(50 * scale);
  let durable = 0;
  for (let round = 0; round < kills; round += 1) {
    await receiver.process.setFaults(round % 3 === 0 ? DEAD : []);
    const job = { from: durable, perTick: 50, tickMs: 1, tellsDurable: true, end: 'stay' } as const;
    const sender = new Sender({ options, ...job });
    await until(() => sender.durable > durable, 'something is on disk');
    await delay(random(150));
    durable = sender.durable;
    await sender.kill();
  }
  await receiver.process.setFaults([]);
  const ta = open(receiver, { spool: { directory } });
  const stats = await ta.close({ timeoutMs: 60_000 });
  await receiver.stop();
  assert.equal(stats.spooled, 0);
  const numbers = receiver.numbers();
  const arrived = new Set(numbers);
  for (let index = 0; index < durable; index += 1)
    assert.ok(arrived.has(index), `${index} is lost`);
  return {
    enqueued: durable,
    arrived: [...arrived].filter((index) => index < durable).length,
    dropped: {},
    duplicates: numbers.length - arrived.size,
    note: `${kills} kills`,
  };
}

async function killedInMemory({ random }: DrillTools): Promise<Finding> {
  const receiver = await Receiver.start();
  const job = { from: 0, perTick: 100, tickMs: 5, end: 'stay' } as const;
  const sender = new Sender({ options: optionsOf(receiver), ...job });
  await until(() => (sender.stats?.accepted ?? 0) > 2000, 'it is under way');
  await delay(random(300));
  const known: Stats = sender.account;
  await sender.kill();
  await receiver.stop();
  const numbers = receiver.numbers();
  const arrived = new Set(numbers).size;
  // Its last word is older than its death: what was delivered by then has arrived.
  assert.ok(arrived >= known.delivered);
  const lost = Math.max(0, known.accepted - arrived);
  assert.ok(lost <= known.queued, `${lost} lost, ${known.queued} were queued`);
  return {
    enqueued: known.accepted,
    arrived,
    dropped: { queue: lost },
    duplicates: numbers.length - arrived,
  };
}

async function signalled(): Promise<Finding> {
  const receiver = await Receiver.start();
  await receiver.process.setFaults([{ action: { kind: 'hang' } }]);
  const directory = newDirectory();
  const options = optionsOf(receiver, { spool: { directory }, timeoutMs: 30_000 });
  const job = { from: 0, to: 5000, perTick: 500, tickMs: 1, end: 'stay' } as const;
  const sender = new Sender({ options, ...job, signalTimeoutMs: 5000 });
  await until(() => (sender.stats?.accepted ?? 0) === 5000, 'all is tracked');
  const startMs = Date.now();
  sender.child.kill('SIGTERM');
  assert.equal(await sender.ended, 0);
  const tookMs = Date.now() - startMs;
  assert.ok(tookMs < 6000, `it took ${tookMs} ms`);
  await receiver.process.setFaults([]);
  const stats = await open(receiver, { spool: { directory } }).close();
  await receiver.stop();
  const finding = assertNoLoss(reconcile(stats, receiver.numbers()));
  assert.equal(finding.enqueued, 5000);
  return { ...finding, note: `${tookMs} ms` };
}

function ending(end: 'exit' | 'throw'): () => Promise<Finding> {
  return async () => {
    const receiver = await Receiver.start();
    const job = { from: 0, to: 5000, perTick: 5000, tickMs: 0, end } as const;
    const sender = new Sender({ options: optionsOf(receiver), ...job });
    const code = await sender.ended;
    assert.equal(code, end === 'exit' ? 0 : 1);
    await receiver.stop();
    const numbers = receiver.numbers();
    const arrived = new Set(numbers).size;
    assert.equal(arrived, 5000);
    return { enqueued: 5000, arrived, dropped: {}, duplicates: numbers.length - arrived };
  };
}

/** A small disk: a tmpfs of 2 MiB, where this process may mount one. */
function smallDisk(): string | undefined {
  const directory = newDirectory();
  try {
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=2m', 'tmpfs', directory], {
      stdio: 'ignore',
    });
    return directory;
  } catch {
    return undefined;
  }
}

async function diskFull(): Promise<Finding> {
  const disk = smallDisk();
  if (disk === undefined) throw new Error('this machine lets nobody mount a small disk');
  const ballast = join(disk, 'ballast');
  try {
    const receiver = await Receiver.start();
    await receiver.process.setFaults(DEAD);
    writeFileSync(ballast, Buffer.alloc(MIB));
    const spool = { directory: join(disk, 'spool'), maxBytes: 512 * MIB };
    const ta = open(receiver, { ringBytes: MIB, lanes: 2, queueSize: 1e6, spool });
    let index = 0;
    const track = (count: number) => {
      for (const end = index + count; index < end; index += 1) assert.ok(trackOne(ta, index));
    };
    for (let round = 0; round < 12; round += 1) {
      track(1000);
      await delay(10);
    }
    await until(() => ta.stats().spooled > 0, 'the disk was used');
    assert.equal(ta.stats().imbalance, 0);
    // Space comes back: the rest finds room on disk or in the ring, and all goes out.
    execFileSync('rm', [ballast]);
    track(1000);
    await delay(500);
    await receiver.process.setFaults([]);
    await until(() => ta.stats().spooled + ta.stats().queued === 0, 'all is delivered');
    const stats = await ta.close();
    await receiver.stop();
    return assertNoLoss(reconcile(stats, receiver.numbers()));
  } finally {
    execFileSync('umount', ['-l', disk]);
  }
}

async function damaged({ random, scale }: DrillTools): Promise<Finding> {
  const receiver = await Receiver.start();
  const directory = newDirectory();
  let enqueued = 0;
  let lost = 0;
  const rounds = Math.ceil(100 * scale);
  for (let round = 0; round < rounds; round += 1) {
    await receiver.process.setFaults(DEAD);
    const first = open(receiver, { lanes: 1, workers: 1, spool: { directory } });
    for (let index = 0; index < 100; index += 1) trackOne(first, round * 100 + index);
    assert.equal((await first.close({ timeoutMs: 500 })).spooled, 100);
    for (const name of readdirSync(directory, { recursive: true, encoding: 'utf8' })) {
      if (!name.endsWith('.seg')) continue;
      const path = join(directory, name);
      const bytes = readFileSync(path);
      const at = random(bytes.length);
      if (random(2) === 0) bytes[at] = (bytes[at] ?? 0) ^ (1 << random(8));
      writeFileSync(path, random(3) === 0 ? bytes.subarray(0, at) : bytes);
    }
    await receiver.process.setFaults([]);
    const second = open(receiver, { workers: 1, spool: { directory } });
    const stats = await second.close();
    assert.equal(stats.imbalance, 0);
    assert.equal(stats.delivered + stats.dropped.corrupt, stats.recovered);
    enqueued += stats.recovered;
    lost += stats.dropped.corrupt;
  }
  await receiver.stop();
  const numbers = receiver.numbers();
  const arrived = new Set(numbers).size;
  assert.equal(arrived, enqueued - lost);
  return {
    enqueued,
    arrived,
    dropped: { corrupt: lost },
    duplicates: numbers.length - arrived,
    note: `${rounds} damaged files; what a cut took is not counted as enqueued`,
  };
}

async function shared(): Promise<Finding> {
  const receiver = await Receiver.start();
  await receiver.process.setFaults(DEAD);
  const directory = newDirectory();
  const options = optionsOf(receiver, { durability: 'spool-first', spool: { directory } });
  const senders = [0, 1, 2].map(
    (number) =>
      new Sender({
        options,
        from: number * 2000,
        to: (number + 1) * 2000,
        perTick: 100,
        tickMs: 1,
        tellsDurable: true,
        end: 'stay',
      }),
  );
  await until(
    () => senders.every(({ durable }, number) => durable === (number + 1) * 2000),
    'all is on disk',
  );
  for (const sender of senders) await sender.kill();
  await receiver.process.setFaults([]);
  const stats = await open(receiver, { spool: { directory } }).close();
  await receiver.stop();
  const finding = assertNoLoss(reconcile(stats, receiver.numbers()));
  assert.deepEqual([finding.enqueued, finding.duplicates], [6000, 0]);
  return finding;
}

async function manyClients(): Promise<Finding> {
  const receiver = await Receiver.start();
  let index = 0;
  let threads = 0;
  const count = () =>
    (process.getActiveResourcesInfo?.() ?? []).filter((n) => n === 'Worker').length;
  const before = count();
  let rssBytes = 0;
  for (let round = 0; round < 100; round += 1) {
    const ta = open(receiver, { workers: 1, lanes: 2, ringBytes: 1 * MIB });
    for (let more = 0; more < 20; more += 1, index += 1) trackOne(ta, index);
    const stats = await ta.close();
    assert.equal(stats.delivered, 20);
    if (round === 30) rssBytes = process.memoryUsage.rss();
  }
  await delay(100);
  threads = count() - before;
  assert.equal(threads, 0, 'threads are left');
  const grown = process.memoryUsage.rss() - rssBytes;
  assert.ok(grown < 100 * MIB, `memory grew by ${grown} bytes`);
  await receiver.stop();
  const numbers = receiver.numbers();
  const arrived = new Set(numbers).size;
  assert.equal(arrived, index);
  return {
    enqueued: index,
    arrived,
    dropped: {},
    duplicates: numbers.length - arrived,
    note: `${Math.round(grown / MIB)} MB grown over 70 clients`,
  };
}

/** Every scrape, whenever it comes, adds up. */
async function scraped({ scale }: DrillTools): Promise<Finding> {
  const receiver = await Receiver.start();
  const ta = open(receiver, { overflow: 'block', spool: { directory: newDirectory() } });
  const endMs = Date.now() + 10_000 * scale;
  let index = 0;
  let scrapes = 0;
  while (Date.now() < endMs) {
    for (let burst = 0; burst < 300; burst += 1, index += 1) trackOne(ta, index);
    const text = await ta.register.metrics();
    const sum = (name: string, leaveOut = '') =>
      [...text.matchAll(new RegExp(`^${name}(\\{[^}]*\\})? (\\S+)$`, 'gm'))]
        .filter(([, labels = '']) => leaveOut === '' || !new RegExp(leaveOut).test(labels))
        .reduce((total, [, , value]) => total + Number(value), 0);
    const kept = 'reason="(overflow_newest|invalid)"';
    const left = sum('millrace_records_accepted_total') + sum('millrace_recovery_records_total');
    const right =
      sum('millrace_records_delivered_total') +
      sum('millrace_records_rejected_total') +
      sum('millrace_records_dropped_total', kept) +
      sum('millrace_queue_records') +
      sum('millrace_spool_records');
    assert.equal(left, right, 'a scrape adds up');
    assert.equal(sum('millrace_ledger_imbalance_records'), 0);
    scrapes += 1;
    await delay(5);
  }
  await ta.flush();
  const stats = await ta.close();
  await receiver.stop();
  return { ...assertNoLoss(reconcile(stats, receiver.numbers())), note: `${scrapes} scrapes` };
}

async function readOnly(): Promise<Finding> {
  const receiver = await Receiver.start();
  const directory = join(newDirectory(), 'spool');
  mkdirSync(directory);
  const ta = open(receiver, { durability: 'spool-first', spool: { directory } });
  // The folder gives way to a file: nothing can be written below it any more.
  execFileSync('rm', ['-rf', directory]);
  writeFileSync(directory, 'in the way');
  for (let index = 0; index < 5000; index += 1) trackOne(ta, index);
  await until(
    () => ta.stats().queued + ta.stats().spooled === 0,
    'all is delivered without a disk',
  );
  const stats = await ta.close();
  await receiver.stop();
  assert.ok(existsSync(directory));
  return assertNoLoss(reconcile(stats, receiver.numbers()));
}

/** What becomes of processes, threads and disks. */
export const PROCESS_DRILLS: readonly Drill[] = [
  {
    id: 'F12',
    fault: 'worker threads terminated 200 times',
    promise: 'all arrive',
    run: workersKilled,
  },
  {
    id: 'F14',
    fault: 'the main thread stands still for 10 s',
    promise: 'all arrive, those before it meanwhile',
    run: stalled,
  },
  { id: 'F15', fault: 'ring full, `block`', promise: 'all arrive', run: blocked },
  {
    id: 'F16a',
    fault: 'ring full, `drop-newest`',
    promise: 'exactly those taken arrive',
    run: () => overflown('drop-newest'),
  },
  {
    id: 'F16b',
    fault: 'ring full, `drop-oldest`',
    promise: 'exactly the newest arrive',
    run: () => overflown('drop-oldest'),
  },
  { id: 'F17', fault: 'ring full, `spool`', promise: 'all arrive, in order', run: spilled },
  {
    id: 'F18',
    fault: '`kill -9`, `spool-first`, 50 times',
    promise: 'all that were on disk arrive (the sender tracks again what it had no word of)',
    run: killed,
  },
  {
    id: 'F19',
    fault: '`kill -9`, in memory',
    promise: 'what was queued is lost, no more',
    run: killedInMemory,
  },
  {
    id: 'F21',
    fault: "the spool's disk is full, then has room again",
    promise: 'all arrive',
    run: diskFull,
  },
  {
    id: 'F22',
    fault: "the spool's folder can't be written",
    promise: 'all arrive, from memory',
    run: readOnly,
  },
  {
    id: 'F23',
    fault: 'segments with flipped bits or cut off',
    promise: 'no wrong record; the loss is counted',
    run: damaged,
  },
  {
    id: 'F26',
    fault: 'three processes on one spool folder, killed',
    promise: 'all arrive, none twice',
    run: shared,
  },
  {
    id: 'F33',
    fault: 'scraped 100 times a second under load',
    promise: 'each scrape adds up; all arrive',
    run: scraped,
  },
  {
    id: 'F30',
    fault: 'SIGTERM with a dead receiver',
    promise: 'ends in 5 s with code 0; all arrive after the next start',
    run: signalled,
  },
  {
    id: 'F31a',
    fault: '`process.exit()` with a full queue',
    promise: 'all arrive',
    run: ending('exit'),
  },
  {
    id: 'F31b',
    fault: 'an uncaught exception with a full queue',
    promise: 'all arrive',
    run: ending('throw'),
  },
  {
    id: 'L14',
    fault: '100 clients opened and closed',
    promise: 'no thread and no memory is left',
    run: manyClients,
  },
];
