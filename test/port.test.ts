import assert from 'node:assert/strict';
import { once } from 'node:events';
import { after, before, beforeEach, test } from 'node:test';
import { MessageChannel, Worker } from 'node:worker_threads';
import { Analytics, AsyncBatchConsumer, BatchConsumer, type Consumer } from '../src/index.ts';
import { assertBalanced, TestReceiver, until } from './support.ts';

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
