import assert from 'node:assert/strict';
import { type ChildProcess, execFile, fork } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, beforeEach, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import type { Worker } from 'node:worker_threads';
import {
  Analytics,
  AsyncBatchConsumer,
  type AsyncBatchConsumerOptions,
  type MillraceError,
} from '../src/index.ts';
import { assertBalanced, newDirectory, TestReceiver, until } from './support.ts';

let receiver: TestReceiver;
const threads = new Set<Worker>();

before(async () => {
  receiver = await TestReceiver.start(['--appid', 'A']);
  process.on('worker', (thread: Worker) => {
    thread.once('message', () => threads.add(thread));
    thread.once('exit', () => threads.delete(thread));
  });
});
beforeEach(async () => {
  await receiver.setFaults([]);
  await receiver.reset();
});
after(() => receiver.stop());

const BATCH_SIZE = 50;
const DEAD = [{ action: { kind: 'status', status: 503 } }] as const;

function open(
  directory: string,
  options: Partial<AsyncBatchConsumerOptions> = {},
): { ta: Analytics; errors: MillraceError[] } {
  const errors: MillraceError[] = [];
  const consumer = new AsyncBatchConsumer({
    url: receiver.url,
    appId: 'A',
    workers: 1,
    lanes: 2,
    batchSize: BATCH_SIZE,
    lingerMs: 5,
    timeoutMs: 2000,
    spool: { directory },
    ...options,
  });
  return { ta: new Analytics(consumer, { onError: (error) => errors.push(error) }), errors };
}

function trackMany(ta: Analytics, count: number, from = 0): void {
  for (let index = from; index < from + count; index += 1) {
    ta.track({ accountId: `u${index % 10}`, event: 'e', properties: { index } });
  }
}

/** The numbers of each user's records in the order of their arrival rise, each once. */
async function assertOrder(): Promise<void> {
  const last = new Map<unknown, number>();
  for (const event of await receiver.events()) {
    const { index } = event.properties as { index: number };
    const user = event['#account_id'];
    assert.ok(index > (last.get(user) ?? -1), `${user}: ${index} after ${last.get(user)}`);
    last.set(user, index);
  }
}

function segmentsIn(directory: string): string[] {
  return readdirSync(directory, { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.seg'))
    .map((name) => join(directory, name));
}

test('a full ring with a dead receiver goes to disk, and from there in order to the receiver', async () => {
  await receiver.setFaults(DEAD);
  const { ta } = open(newDirectory(), { ringBytes: 64 * 1024 });
  trackMany(ta, 20_000);
  const during = ta.stats();
  assertBalanced(during);
  assert.equal(during.accepted, 20_000);
  assert.ok(during.spooled > 10_000, `${during.spooled} on disk`);
  assert.ok(during.oldestAgeMs >= 0);
  await receiver.setFaults([]);
  await until(() => ta.stats().delivered === 20_000, 'all is delivered');
  assert.equal(ta.stats().spooled, 0);
  const stats = await ta.close();
  assertBalanced(stats);
  const { unique } = await receiver.snapshot();
  assert.equal(unique, 20_000);
  await assertOrder();
});

test('spool-first: all goes through the disk, and nothing of it stays there', async () => {
  const directory = newDirectory();
  const { ta } = open(directory, { durability: 'spool-first' });
  const states: string[] = [];
  ta.track({
    accountId: 'u',
    event: 'first',
    properties: { index: -1 },
    onSettled: ({ state }) => states.push(state),
  });
  trackMany(ta, 3000);
  const stats = await ta.close();
  assertBalanced(stats);
  assert.equal(stats.delivered, 3001);
  assert.equal(stats.spooled, 0);
  assert.deepEqual(states, ['spooled']);
  const { unique, duplicates } = await receiver.snapshot();
  assert.deepEqual({ unique, duplicates }, { unique: 3001, duplicates: 0 });
  assert.deepEqual(segmentsIn(directory), []);
});

test('close() with a dead receiver leaves the records on disk, and the next client delivers them', async () => {
  const directory = newDirectory();
  await receiver.setFaults(DEAD);
  const first = open(directory);
  trackMany(first.ta, 2000);
  const left = await first.ta.close({ timeoutMs: 15_000 });
  assertBalanced(left);
  assert.equal(left.dropped.shutdown, 0);
  assert.equal(left.spooled, 2000);
  await receiver.setFaults([]);
  const second = open(directory);
  trackMany(second.ta, 100, 2000);
  await until(() => second.ta.stats().delivered === 2100, 'old and new are delivered');
  const stats = await second.ta.close();
  assertBalanced(stats);
  assert.equal(stats.recovered, 2000);
  assert.equal(stats.accepted, 100);
  assert.equal((await receiver.snapshot()).unique, 2100);
  assert.deepEqual(segmentsIn(directory), []);
});

test('close() right after a start delivers what an earlier run left', async () => {
  const directory = newDirectory();
  await receiver.setFaults(DEAD);
  const first = open(directory);
  trackMany(first.ta, 500);
  first.ta.closeSync({ timeoutMs: 15_000 });
  assert.equal(first.ta.stats().spooled, 500);
  await first.ta.close();
  await receiver.setFaults([]);
  const stats = await open(directory).ta.close();
  assertBalanced(stats);
  assert.equal(stats.recovered, 500);
  assert.equal(stats.delivered, 500);
});

test("replay: 'first' keeps the order of a user's records across a restart", async () => {
  const directory = newDirectory();
  await receiver.setFaults(DEAD);
  const first = open(directory);
  trackMany(first.ta, 500);
  assert.equal((await first.ta.close({ timeoutMs: 15_000 })).spooled, 500);
  await receiver.setFaults([{ action: { kind: 'delay', ms: 20 } }]);
  const { ta } = open(directory, { spool: { directory, replay: 'first' } });
  trackMany(ta, 500, 500);
  await until(() => ta.stats().delivered === 1000, 'all is delivered');
  assertBalanced(await ta.close());
  const { unique, duplicates } = await receiver.snapshot();
  assert.deepEqual({ unique, duplicates }, { unique: 1000, duplicates: 0 });
  await assertOrder();
});

// Goal: whoever watches one number learns that something is stuck. Method: hold records in each place where they can be.
test('the age of the oldest record rises in the ring, on disk, in a backlog, and when the clock is set back', async () => {
  const isOld = (ta: Analytics) => () => ta.stats().oldestAgeMs > 200;
  await receiver.setFaults(DEAD);
  const directory = newDirectory();
  const inRing = open(newDirectory());
  trackMany(inRing.ta, 10);
  const onDisk = open(directory, { durability: 'spool-first' });
  trackMany(onDisk.ta, 10);
  await until(isOld(inRing.ta), 'the ring is seen to be stuck');
  await until(() => onDisk.ta.stats().spooled === 10, 'all is on disk');
  await until(isOld(onDisk.ta), 'the disk is seen to be stuck');
  const realNow = Date.now;
  Date.now = () => realNow() - 3_600_000;
  try {
    await until(isOld(inRing.ta), 'the clock makes no difference');
    await until(isOld(onDisk.ta), 'nor on disk');
  } finally {
    Date.now = realNow;
  }
  assertBalanced(await inRing.ta.close({ timeoutMs: 15_000 }));
  assertBalanced(await onDisk.ta.close({ timeoutMs: 15_000 }));
  const later = open(directory);
  await until(isOld(later.ta), 'the backlog is seen to be stuck');
  await receiver.setFaults([]);
  // Not left to close(), which waits for no receiver whose latest answer was 503.
  await until(() => later.ta.stats().spooled === 0, 'the backlog is delivered');
  assertBalanced(await later.ta.close());
});

test('threads terminated while records go to disk and back lose nothing', async (context) => {
  const seed = Date.now() % 100_000;
  context.diagnostic(`seed ${seed}`);
  const { ta } = open(newDirectory(), {
    workers: 2,
    lanes: 4,
    durability: 'spool-first',
    overflow: 'block',
  });
  let tracked = 0;
  for (let round = 0; round < 20; round += 1) {
    for (let burst = 0; burst < 4; burst += 1) {
      trackMany(ta, 100, tracked);
      tracked += 100;
      await delay((seed + round * 7 + burst * 3) % 13);
    }
    await until(() => threads.size > 0, 'there is a thread');
    const list = [...threads];
    await list[(seed + round) % list.length]?.terminate();
    assert.equal(ta.stats().imbalance, 0);
  }
  await until(() => ta.stats().delivered === tracked, 'all is delivered');
  const stats = await ta.close();
  assertBalanced(stats);
  assert.equal((await receiver.snapshot()).unique, tracked);
});

test('threads terminated during a replay lose nothing', async (context) => {
  const seed = Date.now() % 100_000;
  context.diagnostic(`seed ${seed}`);
  const directory = newDirectory();
  await receiver.setFaults(DEAD);
  const first = open(directory);
  trackMany(first.ta, 5000);
  assert.equal((await first.ta.close({ timeoutMs: 15_000 })).spooled, 5000);
  await receiver.setFaults([{ action: { kind: 'delay', ms: 5 } }]);
  const { ta } = open(directory);
  for (let round = 0; round < 10; round += 1) {
    await delay(10 + ((seed + round * 13) % 40));
    const [thread] = threads;
    await thread?.terminate();
    assert.equal(ta.stats().imbalance, 0);
  }
  await until(() => ta.stats().spooled === 0 && ta.stats().recovered >= 5000, 'all is replayed');
  assertBalanced(await ta.close());
  assert.equal((await receiver.snapshot()).unique, 5000);
});

test('kill -9 loses no record that has reached the disk', async (context) => {
  const seed = Date.now() % 100_000;
  context.diagnostic(`seed ${seed}`);
  const directory = newDirectory();
  const saved = newDirectory();
  const keeper = await TestReceiver.start(['--appid', 'A', '--save', saved]);
  const program = fileURLToPath(new URL('./programs.js', import.meta.url));
  let durable = 0;
  for (let round = 0; round < 4; round += 1) {
    await keeper.setFaults(round % 2 === 0 ? DEAD : []);
    const args = ['spool-forever', keeper.url, directory, String(durable)];
    const child: ChildProcess = fork(program, args, { execArgv: [] });
    let known = durable;
    child.on('message', (count: number) => {
      known = count;
    });
    await delay(400 + ((seed + round * 97) % 300));
    await until(() => known > durable, 'the program has saved something');
    child.kill('SIGKILL');
    await once(child, 'close');
    durable = known;
  }
  await keeper.setFaults([]);
  const stats = await open(directory, { url: keeper.url }).ta.close();
  await keeper.stop();
  assertBalanced(stats);
  assert.equal(stats.spooled, 0);
  const arrived = new Set(
    readdirSync(saved, { recursive: true, encoding: 'utf8', withFileTypes: true })
      .filter((entry) => entry.isFile())
      .flatMap(({ parentPath, name }) => [
        ...readFileSync(join(parentPath, name), 'utf8').matchAll(/"index":(\d+)/g),
      ])
      .map(([, index]) => Number(index)),
  );
  const missing = Array.from({ length: durable }, (_, index) => index).filter(
    (index) => !arrived.has(index),
  );
  assert.deepEqual(missing.slice(0, 10), [], `${missing.length} of ${durable} are missing`);
});

test('clients that share a folder each have a part of it', async () => {
  const directory = newDirectory();
  await receiver.setFaults(DEAD);
  const clients = [open(directory), open(directory), open(directory)];
  for (const [index, { ta }] of clients.entries()) trackMany(ta, 100, index * 100);
  for (const { ta } of clients) {
    const stats = await ta.close({ timeoutMs: 15_000 });
    assertBalanced(stats);
    assert.equal(stats.spooled, 100);
  }
  await receiver.setFaults([]);
  const stats = await open(directory).ta.close();
  assertBalanced(stats);
  assert.equal(stats.recovered, 300);
  const { unique, duplicates } = await receiver.snapshot();
  assert.deepEqual({ unique, duplicates }, { unique: 300, duplicates: 0 });
});

test('damage on disk costs the records it hits, which are counted, and no others', async () => {
  const directory = newDirectory();
  await receiver.setFaults(DEAD);
  const first = open(directory, { lanes: 1 });
  trackMany(first.ta, 1000);
  assert.equal((await first.ta.close({ timeoutMs: 15_000 })).spooled, 1000);
  const [segment = ''] = segmentsIn(directory);
  const bytes = readFileSync(segment);
  for (const at of [0.2, 0.5, 0.8]) {
    const index = Math.floor(bytes.length * at);
    bytes[index] = (bytes[index] ?? 0) ^ 0x10;
  }
  writeFileSync(segment, bytes);
  await receiver.setFaults([]);
  const stats = await open(directory).ta.close();
  assertBalanced(stats);
  assert.equal(stats.recovered, 1000);
  assert.equal(stats.dropped.corrupt, 3);
  assert.equal(stats.dropped.expired, 3);
  const { unique, refused } = await receiver.snapshot();
  assert.deepEqual({ unique, refused }, { unique: 997, refused: 0 });
});

test('the bound of the spool is kept: the oldest records go first, and are counted', async () => {
  const directory = newDirectory();
  await receiver.setFaults(DEAD);
  const { ta, errors } = open(directory, {
    lanes: 1,
    durability: 'spool-first',
    overflow: 'block',
    spool: { directory, maxBytes: 2 * 1024 * 1024, segmentBytes: 128 * 1024 },
  });
  for (let from = 0; from < 20_000; from += 1000) {
    trackMany(ta, 1000, from);
    await delay(5);
  }
  await until(() => ta.stats().queued === 0, 'all is on disk');
  const during = ta.stats();
  assertBalanced(during);
  assert.ok(during.dropped.overflow_oldest > 0);
  const bytes = segmentsIn(directory).reduce((sum, path) => sum + statSync(path).size, 0);
  assert.ok(bytes <= 2 * 1024 * 1024 + 128 * 1024, `${bytes} bytes on disk`);
  assert.ok(errors.some(({ code, message }) => code === 'MILLRACE_SPOOL' && /full/.test(message)));
  await receiver.setFaults([]);
  await until(() => ta.stats().spooled === 0, 'the rest is delivered');
  const stats = await ta.close();
  assertBalanced(stats);
  assert.equal(stats.delivered, 20_000 - stats.dropped.overflow_oldest);
  const arrived = new Set(
    (await receiver.events()).map(({ properties }) => (properties as { index: number }).index),
  );
  assert.equal(arrived.size, stats.delivered);
  // The batch that is being sent while its segment gives way may arrive all the same: all others are the youngest.
  for (let index = stats.dropped.overflow_oldest + BATCH_SIZE; index < 20_000; index += 1) {
    assert.ok(arrived.has(index), `record ${index}`);
  }
});

test('the bound of the spool is kept by many lanes together', async () => {
  const maxBytes = 2 * 1024 * 1024;
  const directory = newDirectory();
  await receiver.setFaults(DEAD);
  const { ta } = open(directory, {
    workers: 2,
    lanes: 8,
    durability: 'spool-first',
    overflow: 'block',
    spool: { directory, maxBytes },
  });
  for (let index = 0; index < 64_000; index += 1) {
    ta.track({ accountId: `u${index % 400}`, event: 'e', properties: { index } });
    if (index % 1000 === 0) await delay(1);
  }
  await until(() => ta.stats().queued === 0, 'all is on disk');
  const during = ta.stats();
  assertBalanced(during);
  assert.ok(during.dropped.overflow_oldest > 0);
  const bytes = segmentsIn(directory).reduce((sum, path) => sum + statSync(path).size, 0);
  assert.ok(bytes > maxBytes / 2 && bytes <= maxBytes, `${bytes} bytes on disk`);
  await receiver.setFaults([]);
  await until(() => ta.stats().spooled === 0, 'the rest is delivered');
  const stats = await ta.close();
  assertBalanced(stats);
  assert.equal(stats.delivered + stats.dropped.overflow_oldest, 64_000);
  assert.equal((await receiver.snapshot()).unique, stats.delivered);
});

// Goal: a sync that failed is no promise, whatever it failed of. Method: each sync of a segment says that the disk is full, and the
// receiver is dead.
test('while a full disk refuses its syncs, nothing counts as spooled, and nothing is lost', async () => {
  const directory = newDirectory();
  const plan = join(newDirectory(), 'plan.json');
  process.env.MILLRACE_TEST_DISK = plan;
  writeFileSync(plan, JSON.stringify({ code: 'ENOSPC', work: 'sync' }));
  await receiver.setFaults(DEAD);
  const { ta, errors } = open(directory, {
    durability: 'spool-first',
    spool: { directory, fsync: 'batch' },
    workerFile: new URL('./failing-disk-worker.js', import.meta.url),
  });
  trackMany(ta, 200);
  const isFull = ({ code, message }: MillraceError) =>
    code === 'MILLRACE_SPOOL' && message.includes('the disk is full');
  await until(() => errors.some(isFull), 'it is told');
  const during = ta.stats();
  assertBalanced(during);
  assert.deepEqual([during.queued, during.spooled], [200, 0]);
  rmSync(plan);
  await until(() => ta.stats().spooled === 200, 'all is on disk');
  delete process.env.MILLRACE_TEST_DISK;
  assertBalanced(await ta.close({ timeoutMs: 5000 }));
  await receiver.setFaults([]);
  const stats = await open(directory).ta.close();
  assertBalanced(stats);
  assert.deepEqual([stats.recovered, stats.delivered], [200, 200]);
  const { unique, duplicates } = await receiver.snapshot();
  assert.deepEqual({ unique, duplicates }, { unique: 200, duplicates: 0 });
});

test('a folder removed while records go to it loses only what was in it', async () => {
  const directory = newDirectory();
  await receiver.setFaults(DEAD);
  const { ta } = open(directory, { lanes: 1, durability: 'spool-first' });
  trackMany(ta, 500);
  await until(() => ta.stats().spooled === 500, 'all is on disk');
  rmSync(directory, { recursive: true });
  trackMany(ta, 500, 500);
  await until(() => ta.stats().queued === 0, 'the new ones are somewhere');
  await receiver.setFaults([]);
  await until(() => ta.stats().spooled === 0, 'the rest is delivered');
  const stats = await ta.close();
  assertBalanced(stats);
  assert.equal(stats.delivered + stats.dropped.corrupt + stats.spooled, 1000);
  assert.ok(stats.delivered >= 500);
});

test('SIGTERM with a dead receiver: the process ends in time with code 0, and all is on disk', async () => {
  const directory = newDirectory();
  await receiver.setFaults([{ action: { kind: 'hang' } }]);
  const program = fileURLToPath(new URL('./programs.js', import.meta.url));
  const child = fork(program, ['spool-signal', receiver.url, directory], { execArgv: [] });
  await once(child, 'message');
  child.kill('SIGTERM');
  const [code] = (await once(child, 'close')) as [number | null];
  assert.equal(code, 0);
  await receiver.setFaults([]);
  const stats = await open(directory).ta.close();
  assertBalanced(stats);
  assert.equal(stats.recovered, 1000);
  assert.equal((await receiver.snapshot()).unique, 1000);
});

test('millrace spool: verify, dump and drain', async () => {
  const directory = newDirectory();
  await receiver.setFaults(DEAD);
  const { ta } = open(directory);
  trackMany(ta, 300);
  await ta.close({ timeoutMs: 15_000 });
  await receiver.setFaults([]);
  const main = fileURLToPath(new URL('../src/cli/main.js', import.meta.url));
  const run = (...flags: string[]) =>
    new Promise<{ code: unknown; stdout: string }>((resolve) => {
      execFile(process.execPath, [main, 'spool', ...flags], (error, stdout) => {
        resolve({ code: error === null ? 0 : error.code, stdout });
      });
    });
  const repaired = await run('repair', directory);
  assert.equal(repaired.code, 0);
  assert.match(repaired.stdout, /nothing to mend[\s\S]*: sound; 300 records wait/);
  assert.doesNotMatch(repaired.stdout, /in use/, 'its own locks are nobody else');
  const verified = await run('verify', directory, '--json');
  assert.equal(verified.code, 0);
  assert.equal((JSON.parse(verified.stdout) as { pending: number }).pending, 300);
  const dumped = await run('dump', directory);
  assert.equal(dumped.stdout.trimEnd().split('\n').length, 300);
  const drained = await run('drain', directory, '--url', receiver.url, '--appid', 'A', '--json');
  assert.equal(drained.code, 0);
  assert.equal((JSON.parse(drained.stdout) as { delivered: number }).delivered, 300);
  assert.equal((await receiver.snapshot()).unique, 300);
  for (const look of ['verify', 'repair', 'dump'])
    assert.equal((await run(look, directory)).code, 0);
  assert.match((await run('verify', directory)).stdout, /: empty; 0 records wait\n$/);
  writeFileSync(join(directory, 'notes.txt'), 'no spool');
  for (const never of [directory, join(directory, 'not-there')]) {
    const refused = await run('verify', never);
    assert.deepEqual([refused.code, refused.stdout], [1, ''], never);
  }
});

test('wrong spool options are told, all of them', () => {
  assert.throws(
    () =>
      new Analytics(
        new AsyncBatchConsumer({
          url: receiver.url,
          appId: 'A',
          spool: { directory: '', maxBytes: 1 },
        }),
      ),
    (error: MillraceError) =>
      error.code === 'MILLRACE_OPTIONS' &&
      /directory/.test(error.message) &&
      /maxBytes/.test(error.message),
  );
  assert.throws(
    () =>
      new Analytics(new AsyncBatchConsumer({ url: receiver.url, appId: 'A', overflow: 'spool' })),
    /spool: \{ directory \}/,
  );
  assert.throws(
    () =>
      new Analytics(
        new AsyncBatchConsumer({
          url: receiver.url,
          appId: 'A',
          spool: { directory: '/dev/null/x' },
        }),
      ),
    (error: MillraceError) =>
      error.code === 'MILLRACE_SPOOL' && /\/dev\/null\/x/.test(error.message),
  );
});
