import assert from 'node:assert/strict';
import { after, before, beforeEach, test } from 'node:test';
import { Analytics, AsyncBatchConsumer, type MillraceError } from '../src/index.ts';
import { assertBalanced, TestReceiver, until } from './support.ts';

let receiver: TestReceiver;

before(async () => {
  receiver = await TestReceiver.start(['--appid', 'A']);
});
beforeEach(async () => {
  await receiver.setFaults([{ action: { kind: 'status', status: 503 } }]);
  await receiver.reset();
});
after(() => receiver.stop());

function open(options: ConstructorParameters<typeof Analytics>[1] = {}): Analytics {
  const consumer = new AsyncBatchConsumer({
    url: receiver.url,
    appId: 'A',
    workers: 1,
    lanes: 1,
    ringBytes: 64 * 1024,
    overflow: 'drop-newest',
  });
  return new Analytics(consumer, { onError: () => undefined, ...options });
}

test('under pressure low records are kept out first, high ones last, each class is counted, and order is kept', async () => {
  const ta = open({ priorities: { ping: 'low', pay: 'high' } });
  const taken = { ping: 0, move: 0, pay: 0 };
  const firstLost = { ping: -1, move: -1, pay: -1 };
  const events = ['ping', 'move', 'pay'] as const;
  for (let index = 0; index < 3000; index += 1) {
    const event = events[index % 3] ?? 'move';
    if (ta.track({ accountId: 'u', event, properties: { index } })) taken[event] += 1;
    else if (firstLost[event] < 0) firstLost[event] = index;
  }
  assert.ok(taken.ping < taken.move && taken.move < taken.pay, JSON.stringify(taken));
  assert.ok(firstLost.ping < firstLost.move && firstLost.move < firstLost.pay);
  const text = await ta.register.metrics();
  const shed = (priority: string) =>
    Number(
      new RegExp(`records_shed_total\\{[^}]*priority="${priority}"\\} (\\d+)`).exec(text)?.[1] ??
        -1,
    );
  assert.equal(shed('low'), 1000 - taken.ping);
  assert.ok(shed('normal') > 0);
  await receiver.setFaults([]);
  await until(() => ta.stats().queued === 0, 'all is delivered');
  const stats = await ta.close();
  assertBalanced(stats);
  assert.equal(stats.dropped.overflow_newest, 3000 - taken.ping - taken.move - taken.pay);
  const numbers = (await receiver.events()).map(
    ({ properties }) => (properties as { index: number }).index,
  );
  assert.deepEqual(
    numbers,
    numbers.toSorted((a, b) => a - b),
  );
});

test('a wrong priority is a wrong call, and no reason to lose a trusted record', async () => {
  const strict = open();
  assert.throws(
    () => strict.track({ accountId: 'u', event: 'e', priority: 'urgent' as never }),
    (error: MillraceError) =>
      error.code === 'MILLRACE_INVALID_VALUE' && /urgent/.test(error.message),
  );
  assert.throws(() => open({ priorities: { ping: 'least' as never } }), /priorities\.ping/);
  const trusting = open({ validation: 'off' });
  assert.equal(trusting.track({ accountId: 'u', event: 'e', priority: 'urgent' as never }), true);
  await receiver.setFaults([]);
  await strict.close();
  assertBalanced(await trusting.close());
  assert.equal((await receiver.snapshot()).unique, 1);
});

test('a lane that fills up is told once an episode', async () => {
  const errors: MillraceError[] = [];
  const ta = open({ onError: (error) => errors.push(error) });
  const told = () => errors.filter(({ message }) => /% full/.test(message)).length;
  const fill = () => {
    for (let index = 0; index < 2000; index += 1) ta.track({ accountId: 'u', event: 'e' });
  };
  fill();
  await until(() => told() === 1, 'it is told');
  fill();
  await receiver.setFaults([]);
  await until(() => ta.stats().queued === 0, 'it is calm again');
  await new Promise((resolve) => setTimeout(resolve, 1500));
  assert.equal(told(), 1);
  await receiver.setFaults([{ action: { kind: 'status', status: 503 } }]);
  fill();
  await until(() => told() === 2, 'it is told again');
  await receiver.setFaults([]);
  assertBalanced(await ta.close());
});
