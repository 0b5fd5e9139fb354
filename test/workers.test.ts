import assert from 'node:assert/strict';
import { after, before, beforeEach, test } from 'node:test';
import type { Worker } from 'node:worker_threads';
import { Pulses } from '../src/engine/pulses.ts';
import { workerFlags } from '../src/engine/worker-flags.ts';
import { Analytics, AsyncBatchConsumer, type MillraceError } from '../src/index.ts';
import { Control } from '../src/lane/control.ts';
import { assertBalanced, TestReceiver, until } from './support.ts';

let receiver: TestReceiver;
const threads = new Set<Worker>();

before(async () => {
  receiver = await TestReceiver.start();
  process.on('worker', (thread: Worker) => {
    // Node 20 ends the process when a thread is terminated while it loads a module: its first message says it has.
    thread.once('message', () => threads.add(thread));
    thread.once('exit', () => threads.delete(thread));
  });
});
beforeEach(() => receiver.reset());
after(() => receiver.stop());

function pick<T>(items: Iterable<T>, seed: number): T | undefined {
  const list = [...items];
  return list[seed % list.length];
}

/** Threads that died, by the reason the metrics give. */
async function deathsOf(ta: Analytics): Promise<Map<string, number>> {
  const metric = ta.register.getSingleMetric('millrace_worker_restarts_total');
  const { values = [] } = (await metric?.get()) ?? {};
  return new Map(values.map(({ labels, value }) => [String(labels.reason), value]));
}

/** The fault suite terminates two hundred. */
const TERMINATIONS = 20;

// Goal: a thread that ends at any moment costs no record. Method: terminate() at random moments while records flow, then count
// at the receiver.
test('threads terminated again and again lose nothing, and each is replaced', async (context) => {
  const seed = Date.now() % 100_000;
  context.diagnostic(`seed ${seed}`);
  const errors: MillraceError[] = [];
  const ta = new Analytics(
    new AsyncBatchConsumer({
      url: receiver.url,
      appId: 'A',
      workers: 2,
      batchSize: 50,
      lingerMs: 2,
      overflow: 'block',
    }),
    { onError: (error) => errors.push(error) },
  );
  let tracked = 0;
  for (let round = 0; round < TERMINATIONS; round += 1) {
    for (let burst = 0; burst < 5; burst += 1) {
      for (let index = 0; index < 100; index += 1) {
        ta.track({ accountId: `u${tracked % 50}`, event: 'e', properties: { tracked } });
        tracked += 1;
      }
      await new Promise((resolve) => setTimeout(resolve, (seed + round * 7 + burst * 3) % 11));
    }
    await until(() => threads.size > 0, 'there is a thread');
    await pick(threads, seed + round)?.terminate();
  }
  await ta.flush({ timeoutMs: 30_000 });
  assert.equal((await deathsOf(ta)).get('exit'), TERMINATIONS);
  const stats = await ta.close();
  assertBalanced(stats);
  assert.equal(stats.delivered, tracked);
  const { unique, duplicates } = await receiver.snapshot();
  assert.equal(unique, tracked);
  // A thread that dies between the receiver's answer and the commit sends its batches again: one a lane at most.
  assert.ok(duplicates <= TERMINATIONS * 50 * 8, `${duplicates} repeated`);
  assert.equal(stats.workers.restarts, TERMINATIONS);
  assert.ok(errors.every(({ code }) => code === 'MILLRACE_WORKER'));
  const last = new Map<unknown, number>();
  for (const event of await receiver.events()) {
    const { tracked: number } = event.properties as { tracked: number };
    assert.ok(number > (last.get(event['#account_id']) ?? -1), 'in order, without repeats');
    last.set(event['#account_id'], number);
  }
});

test('a thread that hangs is noticed within seconds, and another takes over', async () => {
  process.env.MILLRACE_TEST_HANG_AFTER = '3';
  const ta = new Analytics(
    new AsyncBatchConsumer({
      url: receiver.url,
      appId: 'A',
      workers: 2,
      batchSize: 50,
      workerFile: new URL('./hanging-worker.js', import.meta.url),
    }),
    { onError: () => {} },
  );
  for (let index = 0; index < 5000; index += 1) {
    ta.track({ accountId: `u${index % 50}`, event: 'e', properties: { index } });
    if (index % 100 === 0) await new Promise((resolve) => setImmediate(resolve));
  }
  await ta.flush({ timeoutMs: 30_000 });
  await until(() => ta.stats().workers.alive === 2, 'the hung thread was replaced');
  assert.equal((await deathsOf(ta)).get('hung'), 1);
  const stats = await ta.close();
  assertBalanced(stats);
  assert.equal(stats.delivered, 5000);
  assert.equal((await receiver.snapshot()).unique, 5000);
});

// Goal: a thread that runs out of memory is a thread that died, no more. Method: an entry that fills its heap while it delivers.
// A thread that ends in good order frees its slot, and the one that takes its place begins with the same beat.
test('a new thread is not taken for hung because of the silence of the one before', () => {
  const control = Control.create();
  const pulses = new Pulses(control);
  const slot = control.claimSlot(7);
  assert.equal(pulses.silentMs(slot, 1000), 0);
  assert.equal(pulses.silentMs(slot, 1900), 900);
  control.freeSlot(slot);
  assert.equal(control.claimSlot(8), slot);
  assert.equal(pulses.silentMs(slot, 5000), 0);
  pulses.excuse(2000);
  assert.equal(pulses.silentMs(slot, 9000), 2000);
});

test('threads that run out of memory cost no record, and are counted for what they died of', async () => {
  process.env.MILLRACE_TEST_STARVE_AFTER = '5';
  process.env.MILLRACE_TEST_STARVE_TIMES = '3';
  const errors: MillraceError[] = [];
  const ta = new Analytics(
    new AsyncBatchConsumer({
      url: receiver.url,
      appId: 'A',
      workers: 2,
      workerHeapMb: 32,
      batchSize: 50,
      workerFile: new URL('./starving-worker.js', import.meta.url),
    }),
    { onError: (error) => errors.push(error) },
  );
  for (let index = 0; index < 5000; index += 1) {
    ta.track({ accountId: `u${index % 50}`, event: 'e', properties: { index } });
    if (index % 100 === 0) await new Promise((resolve) => setImmediate(resolve));
  }
  await ta.flush({ timeoutMs: 30_000 });
  // On a slow machine a thread may be taken for hung, because of all the garbage it collects, before it gives up.
  const starved = async () => {
    const deaths = await deathsOf(ta);
    return [deaths.get('out_of_memory') ?? 0, deaths.get('hung') ?? 0] as const;
  };
  await until(async () => (await starved()).reduce((sum, count) => sum + count) === 3, 'all died');
  const [outOfMemory] = await starved();
  const stats = await ta.close();
  assertBalanced(stats);
  assert.equal(stats.delivered, 5000);
  const { unique, duplicates } = await receiver.snapshot();
  assert.equal(unique, 5000);
  // The batch under way in each of the lanes of a thread that died may be repeated, under the same uuids.
  assert.ok(duplicates <= 3 * 8 * 50, `${duplicates} repeated`);
  assert.equal(stats.workers.restarts, 3);
  const told = errors.some(({ message }) => /memory/.test(message));
  assert.ok(told || outOfMemory === 0, errors.map(({ message }) => message).join('\n'));
  assert.ok(errors.every(({ code }) => code === 'MILLRACE_WORKER'));
});

/** The fault suite opens a hundred, with --full a thousand. */
const CLIENTS = 12;

test('many clients in one process, opened and closed in turn, leave nothing behind', async () => {
  const before = threads.size;
  for (let round = 0; round < CLIENTS; round += 1) {
    const ta = new Analytics(new AsyncBatchConsumer({ url: receiver.url, appId: 'A', workers: 1 }));
    ta.track({ accountId: 'u', event: 'e', properties: { round } });
    const stats = await ta.close();
    assertBalanced(stats);
    assert.equal(stats.delivered, 1);
  }
  await until(() => threads.size === before, 'all threads have ended');
  assert.equal((await receiver.snapshot()).unique, CLIENTS);
});

test('a worker entry that can not be loaded is told, again and again, and never ends the process', async () => {
  const errors: MillraceError[] = [];
  const ta = new Analytics(
    new AsyncBatchConsumer({
      url: receiver.url,
      appId: 'A',
      workers: 1,
      workerFile: new URL('./broken-worker.js', import.meta.url),
    }),
    { onError: (error) => errors.push(error) },
  );
  ta.track({ accountId: 'u', event: 'e' });
  await until(() => errors.length > 1, 'onError hears of it');
  assert.ok(errors.every(({ code }) => code === 'MILLRACE_WORKER'));
  const stats = await ta.close({ timeoutMs: 100 });
  assertBalanced(stats);
  assert.equal(stats.dropped.shutdown, 1);
});

test('a worker entry that is never loaded is given up in the end, and its records are counted', async () => {
  const errors: MillraceError[] = [];
  const ta = new Analytics(
    new AsyncBatchConsumer({
      url: receiver.url,
      appId: 'A',
      workers: 1,
      lanes: 1,
      workerFile: new URL('./broken-worker.js', import.meta.url),
      workerPatienceMs: 100,
    }),
    { onError: (error) => errors.push(error) },
  );
  ta.track({ accountId: 'u', event: 'e' });
  const givenUp = () => errors.filter(({ code }) => code === 'MILLRACE_GIVEN_UP');
  await until(() => givenUp().length > 0, 'the lane is given up');
  assert.match(givenUp()[0]?.message ?? '', /can not be loaded/);
  ta.track({ accountId: 'u', event: 'e' });
  await until(() => ta.stats().dropped.crashed === 2, 'what comes later is dropped as well');
  const stats = await ta.close({ timeoutMs: 5000 });
  assertBalanced(stats);
  assert.equal(stats.dropped.shutdown, 0);
  assert.equal(givenUp().length, 1);
});

test('a thread whose replacement can not be loaded is replaced all the same', async () => {
  const ta = new Analytics(
    new AsyncBatchConsumer({
      url: receiver.url,
      appId: 'A',
      workers: 2,
      workerFile: new URL('./unloadable-worker.js', import.meta.url),
    }),
    { onError: () => {} },
  );
  ta.track({ accountId: 'u', event: 'e' });
  await ta.flush();
  await pick(threads, 0)?.terminate();
  await until(() => ta.stats().workers.restarts === 2, 'the replacement has died as well');
  await until(() => ta.stats().workers.alive === 2, 'both threads are there again');
  ta.track({ accountId: 'u', event: 'e' });
  await ta.flush();
  const stats = await ta.close();
  assertBalanced(stats);
  assert.equal(stats.delivered, 2);
  assert.equal((await receiver.snapshot()).unique, 2);
});

test('worker threads take over the flags that loading depends on, and no others', () => {
  const flags =
    '--import a.mjs --test --max-old-space-size=99 -r b.cjs --stack-trace-limit=10 -e 1 --require=c.cjs --enable-source-maps';
  assert.deepEqual(workerFlags(flags.split(' ')), [
    '--import',
    'a.mjs',
    '-r',
    'b.cjs',
    '--require=c.cjs',
    '--enable-source-maps',
  ]);
});
