import assert from 'node:assert/strict';
import { once } from 'node:events';
import { after, before, beforeEach, test } from 'node:test';
import { MessageChannel, Worker } from 'node:worker_threads';
import { Analytics, AsyncBatchConsumer, BatchConsumer, type Consumer } from '../src/index.ts';
import {
  assertBalanced,
  isSlowLoading,
  metricIn,
  newDirectory,
  TestReceiver,
  until,
} from './support.ts';

let receiver: TestReceiver;

before(async () => {
  receiver = await TestReceiver.start();
});
beforeEach(() => receiver.reset());
after(() => receiver.stop());

function startThread(ta: Analytics, job: object): Worker {
  const port = ta.port();
  return new Worker(new URL('./port-thread.js', import.meta.url), {
    workerData: { port, ...job },
    transferList: [port],
  });
}

const consumers: Readonly<Record<string, () => Consumer>> = {
  async: () =>
    new AsyncBatchConsumer({
      url: receiver.url,
      appId: 'A',
      workers: 2,
      overflow: 'block',
      ringBytes: 1024 * 1024,
    }),
  batch: () => new BatchConsumer({ url: receiver.url, appId: 'A' }),
};

for (const [name, make] of Object.entries(consumers)) {
  test(`threads with ports of their own share one account (${name})`, async () => {
    const ta = new Analytics(make());
    ta.setSuperProperties({ server: 's1' });
    const count = name === 'batch' ? 400 : 20_000;
    const threads = [0, 1, 2].map((id) => startThread(ta, { id, count, ends: 'flush' }));
    for (let index = 0; index < count; index += 1) {
      ta.track({ accountId: `main${index % 5}`, event: 'e', properties: { index } });
      if (index % 100 === 0) await new Promise((resolve) => setImmediate(resolve));
    }
    const reports = await Promise.all(threads.map((thread) => once(thread, 'message')));
    for (const [report] of reports) assert.deepEqual(report, { accepted: count, outcomes: count });
    await ta.flush();
    const stats = await ta.close();
    assertBalanced(stats);
    assert.equal(stats.delivered, 4 * count);
    assert.equal((await receiver.snapshot()).unique, 4 * count);
    const last = new Map<unknown, number>();
    for (const event of await receiver.events()) {
      const { index, server } = event.properties as { index: number; server: string };
      assert.equal(server, 's1');
      assert.ok(index > (last.get(event['#account_id']) ?? -1), 'in order for each user');
      last.set(event['#account_id'], index);
    }
    await Promise.all(threads.map((thread) => thread.terminate()));
  });
}

test('a thread that dies leaves its records to be delivered, and its lanes to be retired', async () => {
  const ta = new Analytics(new AsyncBatchConsumer({ url: receiver.url, appId: 'A', lingerMs: 5 }));
  for (let round = 0; round < 5; round += 1) {
    const thread = startThread(ta, { id: round, count: 500, ends: 'exit' });
    await once(thread, 'exit');
  }
  await until(() => ta.stats().delivered === 2500, 'all were delivered');
  const stats = await ta.close();
  assertBalanced(stats);
  assert.equal(stats.accepted, 2500);
  assert.equal((await receiver.snapshot()).unique, 2500);
});

const seed = Math.floor(Math.random() * 1e6);

/** A small generator of its own, so that a failing seed can be tried again. */
function randomOf(start: number): (below: number) => number {
  let state = start;
  return (below) => {
    state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0;
    return state % below;
  };
}

test(`threads terminated at any moment leave nothing stuck and nothing uncounted (seed ${seed})`, async () => {
  const random = randomOf(seed);
  const consumer = new AsyncBatchConsumer({
    url: receiver.url,
    appId: 'A',
    lingerMs: 5,
    workers: 2,
  });
  const ta = new Analytics(consumer, {
    onError: (error) => assert.ok(isSlowLoading(error), error.message),
  });
  for (let round = 0; round < 6; round += 1) {
    const before = ta.stats().accepted;
    const threads = [0, 1].map((id) =>
      startThread(ta, { id: 2 * round + id, count: 1e6, ends: 'exit' }),
    );
    const enough = before + random(1500);
    await until(() => ta.stats().accepted > enough, 'the threads track');
    ta.track({ accountId: 'main', event: 'e', properties: { index: round } });
    await Promise.all(threads.map((thread) => thread.terminate()));
  }
  await ta.flush({ timeoutMs: 60_000 });
  const stats = await ta.close();
  assertBalanced(stats);
  assert.deepEqual([stats.queued, stats.delivered, stats.workers.restarts], [0, stats.accepted, 0]);
  assert.equal((await receiver.snapshot()).unique, stats.accepted);
  const last = new Map<unknown, number>();
  for (const event of await receiver.events()) {
    const { index } = event.properties as { index: number };
    const expected =
      event['#account_id'] === 'main'
        ? undefined
        : (last.get(event['#account_id']) ?? index - 5) + 5;
    if (expected !== undefined)
      assert.equal(index, expected, 'each user’s records in order, none missing');
    last.set(event['#account_id'], index);
  }
});

// Method: wrong calls, long texts and calls that are timed, on another thread; its numbers stay when the thread is gone.
test('what another thread does wrong is counted like what this one does', async () => {
  const ta = new Analytics(new AsyncBatchConsumer({ url: receiver.url, appId: 'A', lanes: 2 }), {
    validation: 'drop',
    onError: () => {},
  });
  const value = async (name: string) => metricIn(await ta.register.metrics(), name);
  assert.equal(ta.track({} as { event: string }), false);
  const thread = startThread(ta, { id: 1, count: 640, ends: 'flush', wrong: 10, text: 3000 });
  await once(thread, 'message');
  const look = async () => ({
    invalid: ta.stats().dropped.invalid,
    warned: await value('millrace_records_warned_total'),
    timed: await value('millrace_track_duration_seconds_count'),
  });
  const found = { invalid: 11, warned: 640, timed: 10 };
  assert.deepEqual(await look(), found);
  await thread.terminate();
  await until(async () => !(await ta.register.metrics()).includes('lane="2"'), 'it is forgotten');
  assert.deepEqual(await look(), found);
  const stats = await ta.close();
  assertBalanced(stats);
  assert.equal(stats.delivered, 640);
});

// Method: a thread that tracks while this one never comes to its event loop, so that nobody has heard of the thread's lanes yet.
for (const spool of [false, true]) {
  test(`closeSync() delivers what other threads have tracked${spool ? ', with a spool as well' : ''}`, async () => {
    const ta = new Analytics(
      new AsyncBatchConsumer({
        url: receiver.url,
        appId: 'A',
        workers: 1,
        lanes: 2,
        lingerMs: 60_000,
        ...(spool ? { spool: { directory: newDirectory() } } : {}),
      }),
    );
    // Threads load while this one still has a loop.
    ta.track({ accountId: 'main', event: 'e' });
    await ta.flush();
    const signs = new Int32Array(new SharedArrayBuffer(4));
    const thread = startThread(ta, { id: 1, count: 100, ends: 'sign', signs });
    await once(thread, 'online');
    Atomics.wait(signs, 0, 0, 10_000);
    assert.equal(Atomics.load(signs, 0), 1);
    const stats = ta.closeSync({ timeoutMs: 20_000 });
    assertBalanced(stats);
    assert.deepEqual([stats.delivered, stats.spooled, stats.dropped.shutdown], [101, 0, 0]);
    await ta.close();
    assert.equal((await receiver.snapshot()).unique, 101);
    await thread.terminate();
  });
}

// Method: a thread that ends itself in the middle of its first call, when it has won its lane and can't say so any more.
test('what a thread tracked that ended within its call is delivered', async () => {
  const ta = new Analytics(new AsyncBatchConsumer({ url: receiver.url, appId: 'A', lanes: 1 }));
  const thread = startThread(ta, { id: 1, count: 1, ends: 'within' });
  await once(thread, 'exit');
  await until(() => ta.stats().delivered === 1, 'it is delivered');
  const stats = await ta.close();
  assertBalanced(stats);
  assert.equal((await receiver.snapshot()).unique, 1);
});

// Method: a thread is held by a full lane while the client closes, which makes room.
test('a call of another thread that waits for room while the client closes takes none', async () => {
  await receiver.setFaults([{ action: { kind: 'hang' } }]);
  const ta = new Analytics(
    new AsyncBatchConsumer({
      url: receiver.url,
      appId: 'A',
      lanes: 1,
      workers: 1,
      ringBytes: 64 * 1024,
      overflow: 'block',
      blockTimeoutMs: 60_000,
    }),
    { onError: () => {} },
  );
  const thread = startThread(ta, { id: 1, count: 10_000, ends: 'wait-for-close', text: 1000 });
  // The call after the one that is held throws.
  const refused = once(thread, 'error');
  let seen = -1;
  await until(() => {
    const { accepted } = ta.stats();
    const isHeld = accepted > 10 && accepted === seen;
    seen = accepted;
    return isHeld;
  }, 'the thread is held');
  const stats = await ta.close({ timeoutMs: 300 });
  const [error] = (await refused) as [{ code?: string }];
  assert.equal(error.code, 'MILLRACE_CLOSED');
  await receiver.setFaults([]);
  for (const account of [stats, ta.stats()]) {
    assertBalanced(account);
    assert.equal(account.queued, 0);
  }
});

// Method: threads that come and go, with a spool that all records go through.
test('threads that have ended leave nothing in the numbers of the spool', async () => {
  const ta = new Analytics(
    new AsyncBatchConsumer({
      url: receiver.url,
      appId: 'A',
      workers: 1,
      lanes: 1,
      durability: 'spool-first',
      spool: { directory: newDirectory() },
    }),
  );
  for (let id = 1; id <= 3; id += 1) {
    const thread = startThread(ta, { id, count: 100, ends: 'exit' });
    await once(thread, 'exit');
  }
  const text = async () => await ta.register.metrics();
  await until(async () => !(await text()).includes('lane="3"'), 'the threads are forgotten');
  assert.match(await text(), /millrace_spool_segments\{[^}]*\} 0\n/);
  assert.match(await text(), /millrace_spool_bytes\{[^}]*\} 0\n/);
  const stats = await ta.close();
  assertBalanced(stats);
  assert.equal(stats.delivered, 300);
});

test('calls after the engine has closed are refused in other threads, too', async () => {
  const ta = new Analytics(new AsyncBatchConsumer({ url: receiver.url, appId: 'A' }));
  const thread = startThread(ta, { id: 1, count: 100, ends: 'wait-for-close' });
  assert.equal((await once(thread, 'message'))[0], 'tracked');
  const stats = await ta.close();
  assertBalanced(stats);
  assert.equal(stats.delivered, 100);
  thread.postMessage('closed');
  assert.equal((await once(thread, 'message'))[0], 'MILLRACE_CLOSED');
  await thread.terminate();
  assert.throws(() => ta.port(), { code: 'MILLRACE_CLOSED' });
});

test('a port that is none of ours is refused by name', () => {
  const { port1, port2 } = new MessageChannel();
  assert.throws(() => Analytics.attach(port1), { code: 'MILLRACE_OPTIONS', message: /attach/ });
  port1.close();
  port2.close();
});
