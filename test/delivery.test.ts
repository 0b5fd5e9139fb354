import assert from 'node:assert/strict';
import { appendFileSync, readFileSync, writeFileSync } from 'node:fs';
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net';
import { join } from 'node:path';
import { after, before, beforeEach, test } from 'node:test';
import {
  Analytics,
  AsyncBatchConsumer,
  type AsyncBatchConsumerOptions,
  BatchConsumer,
  DebugConsumer,
  MillraceError,
} from '../src/index.ts';
import { Control, GATE_SHUT_UNTIL } from '../src/lane/control.ts';
import { LedgerWriter } from '../src/lane/ledger.ts';
import { EXPIRED } from '../src/lane/settlement.ts';
import type { FaultAction } from '../src/receiver/index.ts';
import { Delivery } from '../src/worker/delivery.ts';
import { Gate } from '../src/worker/gate.ts';
import { assertBalanced, layOut, newDirectory, TestReceiver, until } from './support.ts';

let receiver: TestReceiver;

before(async () => {
  receiver = await TestReceiver.start(['--appid', 'A']);
});
beforeEach(async () => {
  await receiver.setFaults([]);
  await receiver.reset();
});
after(() => receiver.stop());

function open(options: Partial<AsyncBatchConsumerOptions> = {}): {
  ta: Analytics;
  errors: MillraceError[];
} {
  const errors: MillraceError[] = [];
  const consumer = new AsyncBatchConsumer({
    url: receiver.url,
    appId: 'A',
    workers: 1,
    lanes: 2,
    batchSize: 50,
    lingerMs: 5,
    ...options,
  });
  const ta = new Analytics(consumer, { onError: (error) => errors.push(error) });
  return { ta, errors };
}

/** Waits until onError has heard of it; a slow machine may have it hear of workers that load slowly before. */
async function untilTold(errors: readonly MillraceError[], words: RegExp): Promise<void> {
  await until(() => errors.some(({ message }) => words.test(message)), `told: ${words}`);
}

/** A port where connections are taken, and nothing is ever answered. */
class Hole {
  readonly sockets: Set<Socket> = new Set();
  readonly #server: Server;

  private constructor(server: Server) {
    this.#server = server;
    server.on('connection', (socket) => {
      this.sockets.add(socket);
      socket.on('error', () => {});
      socket.on('close', () => this.sockets.delete(socket));
    });
  }

  static async open(): Promise<Hole> {
    const server = createServer();
    const hole = new Hole(server);
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    return hole;
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  close(): void {
    for (const socket of this.sockets) socket.destroy();
    this.#server.close();
  }
}

function trackMany(ta: Analytics, count: number): void {
  for (let index = 0; index < count; index += 1) {
    ta.track({ accountId: `u${index % 10}`, event: 'e', properties: { index } });
  }
}

// Goal: whatever goes wrong for a while, every record arrives once in the end. Method: one fault at a time, for a few requests.
const PASSING: readonly (readonly [string, FaultAction])[] = [
  ['503', { kind: 'status', status: 503 }],
  ['500', { kind: 'status', status: 500 }],
  ['429 with Retry-After', { kind: 'status', status: 429, headers: { 'retry-after': '0.2' } }],
  ['408', { kind: 'status', status: 408 }],
  ['a connection cut before the body', { kind: 'reset', when: 'start' }],
  ['a connection cut in the body', { kind: 'reset', when: 'body' }],
  ['a connection cut after the records were taken', { kind: 'reset', when: 'after' }],
  ['half a reply', { kind: 'half' }],
  ['a reply that is not JSON', { kind: 'wrong-json' }],
  ['an empty reply', { kind: 'empty' }],
  ['an unknown code', { kind: 'code', code: -7 }],
  ['no answer at all', { kind: 'hang' }],
  ['one byte of answer a second', { kind: 'slow', byteMs: 1000 }],
];

for (const [what, action] of PASSING) {
  test(`every record arrives in spite of ${what}`, async () => {
    await receiver.setFaults([{ action, requests: 2 }]);
    const { ta, errors } = open({ timeoutMs: 400 });
    trackMany(ta, 500);
    await ta.flush({ timeoutMs: 60_000 });
    const stats = await ta.close();
    assertBalanced(stats);
    assert.equal(stats.delivered, 500);
    assert.ok(stats.retries >= 2, `${stats.retries} retries`);
    assert.equal((await receiver.snapshot()).unique, 500);
    assert.ok(errors.some(({ code }) => code === 'MILLRACE_UNAVAILABLE'));
  });
}

test('413 splits batches until they fit', async () => {
  await receiver.setFaults([{ action: { kind: 'too-large', bytes: 900 } }]);
  const { ta } = open({ compress: false });
  trackMany(ta, 300);
  await ta.flush({ timeoutMs: 60_000 });
  const stats = await ta.close();
  assertBalanced(stats);
  assert.equal(stats.delivered, 300);
  assert.equal((await receiver.snapshot()).unique, 300);
});

test('a record that is too large by itself is rejected, its neighbours arrive', async () => {
  await receiver.setFaults([{ action: { kind: 'too-large', bytes: 2000 } }]);
  const { ta, errors } = open({ compress: false });
  trackMany(ta, 100);
  ta.track({ accountId: 'u3', event: 'huge', properties: { text: 'x'.repeat(3000) } });
  trackMany(ta, 100);
  await ta.flush({ timeoutMs: 60_000 });
  const stats = await ta.close();
  assertBalanced(stats);
  assert.equal(stats.rejected, 1);
  assert.equal(stats.delivered, 200);
  assert.ok(errors.some(({ code }) => code === 'MILLRACE_REJECTED'));
});

test('poison is isolated, kept in the dead-letter file with the reason, and healthy records arrive', async () => {
  const deadLetter = join(newDirectory(), 'dead', 'letters.jsonl');
  await receiver.setFaults([{ action: { kind: 'poison', text: 'POISON' } }]);
  const { ta } = open({ deadLetter });
  for (let index = 0; index < 1000; index += 1) {
    const text = index % 100 === 50 ? 'POISON' : 'fine';
    ta.track({ accountId: `u${index % 10}`, event: 'e', properties: { index, text } });
  }
  await ta.flush({ timeoutMs: 60_000 });
  const stats = await ta.close();
  assertBalanced(stats);
  assert.equal(stats.rejected, 10);
  assert.equal(stats.delivered, 990);
  const letters = readFileSync(deadLetter, 'utf8').trimEnd().split('\n');
  assert.equal(letters.length, 10);
  for (const letter of letters) {
    const { reason, record } = JSON.parse(letter);
    assert.match(reason, /poison/);
    assert.equal(record.properties.text, 'POISON');
  }
});

test('an unknown app id keeps the records and tells once', async () => {
  const { ta, errors } = open({ appId: 'B' });
  trackMany(ta, 200);
  await untilTold(errors, /appid "\*\*\*" is not known/);
  const stats = await ta.close({ timeoutMs: 300 });
  assertBalanced(stats);
  assert.equal(stats.delivered, 0);
  assert.equal(stats.dropped.shutdown, 200);
  assert.ok(errors.length <= 3, errors.map(({ message }) => message).join('\n'));
});

test('a redirect is not followed, and told with its location', async () => {
  await receiver.setFaults([
    { action: { kind: 'redirect', location: 'http://elsewhere.example/' } },
  ]);
  const { ta, errors } = open();
  trackMany(ta, 10);
  await untilTold(errors, /elsewhere\.example/);
  const stats = await ta.close({ timeoutMs: 200 });
  assertBalanced(stats);
  assert.equal(stats.delivered, 0);
});

test('a retry budget that runs out expires the records, and counts them', async () => {
  await receiver.setFaults([{ action: { kind: 'status', status: 503 } }]);
  const { ta, errors } = open({ retries: 1 });
  const outcomes: string[] = [];
  ta.track({
    accountId: 'u',
    event: 'e',
    onSettled: ({ state, reason }) => outcomes.push(`${state}: ${reason}`),
  });
  trackMany(ta, 99);
  await ta.flush({ timeoutMs: 60_000 });
  const stats = await ta.close();
  assertBalanced(stats);
  assert.equal(stats.dropped.expired, 100);
  assert.match(outcomes[0] ?? '', /^dropped: status 503/);
  assert.ok(errors.some(({ message }) => message.includes('dropped after')));
});

// [what is wrong, for how long a batch may be tried in ms, what the dead letters say]. On a busy machine, or when the circuit is open,
// the time of a batch may be over before it is sent, or answered, for the first time; not that of all of them.
const OVERDUE: readonly (readonly [string, FaultAction, number, RegExp])[] = [
  ['a dead receiver', { kind: 'status', status: 503 }, 500, /^status 503/],
  ['a hole', { kind: 'hang' }, 300, /^no answer in time/],
];
const UNASKED = /could not be asked in time|^no answer in time/;

for (const [what, action, retryForMs, words] of OVERDUE) {
  test(`what is not delivered in the time of its batch expires, and is kept with the reason (${what})`, async () => {
    const deadLetter = join(newDirectory(), 'letters.jsonl');
    await receiver.setFaults([{ action }]);
    const { ta } = open({ retryForMs, timeoutMs: 30_000, deadLetter });
    trackMany(ta, 100);
    // Two batches a lane at most, one after the other: far less than one request may take.
    await ta.flush({ timeoutMs: 60_000 });
    await receiver.setFaults([]);
    const metric = await ta.register.getSingleMetric('millrace_records_dead_lettered_total')?.get();
    const stats = await ta.close();
    assertBalanced(stats);
    assert.equal(stats.dropped.expired, 100);
    const letters = readFileSync(deadLetter, 'utf8').trimEnd().split('\n');
    assert.equal(letters.length, 100);
    const reasons = letters.map((letter) => String(JSON.parse(letter).reason));
    assert.ok(
      reasons.some((reason) => words.test(reason)),
      reasons[0],
    );
    for (const reason of reasons) assert.ok(words.test(reason) || UNASKED.test(reason), reason);
    const counted = metric?.values.find(({ labels }) => labels.reason === 'expired');
    assert.equal(counted?.value, 100);
  });
}

test('a batch that is delivered in its time is, whatever came before', async () => {
  await receiver.setFaults([{ action: { kind: 'status', status: 503 }, requests: 2 }]);
  const { ta } = open({ retryForMs: 20_000 });
  trackMany(ta, 100);
  await ta.flush({ timeoutMs: 60_000 });
  const stats = await ta.close();
  assertBalanced(stats);
  assert.equal(stats.delivered, 100);
  assert.equal((await receiver.snapshot()).unique, 100);
});

test('a call of BatchConsumer takes no longer than its batch may be tried, and the batch is kept', async () => {
  await receiver.setFaults([{ action: { kind: 'hang' } }]);
  const ta = new Analytics(
    new BatchConsumer({ url: receiver.url, appId: 'A', retries: 1000, retryForMs: 200 }),
    { onError: () => {} },
  );
  for (let index = 0; index < 10; index += 1) ta.track({ accountId: 'u', event: 'e' });
  await assert.rejects(ta.flush({ timeoutMs: 20_000 }), { code: 'MILLRACE_UNAVAILABLE' });
  assert.equal(ta.stats().queued, 10);
  await receiver.setFaults([]);
  // A busy machine may not answer within the time of a batch; the batch is kept each time.
  await until(async () => {
    await ta.flush({ timeoutMs: 60_000 }).catch((error: MillraceError) => {
      assert.equal(error.code, 'MILLRACE_UNAVAILABLE');
    });
    return ta.stats().queued === 0;
  }, 'the batch is delivered');
  const stats = await ta.close();
  assertBalanced(stats);
  assert.equal(stats.delivered, 10);
});

test('during Retry-After no worker sends anything', async () => {
  await receiver.setFaults([
    { action: { kind: 'status', status: 429, headers: { 'retry-after': '2' } }, requests: 1 },
  ]);
  const { ta } = open({ workers: 3, lanes: 6, batchSize: 10 });
  ta.track({ accountId: 'first', event: 'e' });
  await until(() => ta.stats().retries === 1, 'the worker knows of the pause');
  const startMs = performance.now();
  trackMany(ta, 500);
  await until(async () => (await receiver.snapshot()).requests > 1, 'the next request');
  const waitedMs = performance.now() - startMs;
  assert.ok(waitedMs > 1500, `the next request came after ${waitedMs} ms`);
  const stats = await ta.close();
  assertBalanced(stats);
  assert.equal(stats.delivered, 501);
});

test('a dead receiver costs few requests, and recovery is noticed', async () => {
  await receiver.setFaults([{ action: { kind: 'status', status: 500 } }]);
  const { ta } = open({ workers: 2, lanes: 8, batchSize: 10 });
  trackMany(ta, 2000);
  await until(async () => (await receiver.snapshot()).requests >= 5, 'the breaker has opened');
  const before = (await receiver.snapshot()).requests;
  await new Promise((resolve) => setTimeout(resolve, 1000));
  const after = (await receiver.snapshot()).requests;
  assert.ok(after - before <= 14, `${after - before} requests in a second, of 8 lanes`);
  await receiver.setFaults([]);
  await ta.flush({ timeoutMs: 30_000 });
  const stats = await ta.close();
  assertBalanced(stats);
  assert.equal(stats.delivered, 2000);
});

test('a receiver that accepts and never answers costs a time-out, not sockets without end', async () => {
  const hole = await Hole.open();
  const { ta, errors } = open({ url: hole.url, timeoutMs: 100, lanes: 4 });
  trackMany(ta, 1000);
  await untilTold(errors, /timeout/);
  await until(() => ta.stats().retries > 4, 'several time-outs');
  assert.ok(hole.sockets.size <= 16, `${hole.sockets.size} sockets`);
  const stats = await ta.close({ timeoutMs: 200 });
  assertBalanced(stats);
  hole.close();
});

test('a full ring drops the newest, and says how many', async () => {
  const hole = await Hole.open();
  const { ta } = open({ url: hole.url, ringBytes: 65_536, lanes: 1, batchSize: 10 });
  let accepted = 0;
  const first: number[] = [];
  for (let index = 0; index < 2000; index += 1) {
    if (ta.track({ accountId: 'u', event: 'e', properties: { index } })) {
      accepted += 1;
      first.push(index);
    }
  }
  const stats = ta.stats();
  assertBalanced(stats);
  assert.equal(stats.accepted, accepted);
  assert.equal(stats.dropped.overflow_newest, 2000 - accepted);
  assert.deepEqual(
    first,
    Array.from({ length: accepted }, (_, index) => index),
  );
  await ta.close({ timeoutMs: 100 });
  assertBalanced(ta.stats());
  hole.close();
});

test('a full ring drops the oldest: the newest arrive, all else is counted', async () => {
  await receiver.setFaults([{ action: { kind: 'status', status: 503 } }]);
  const { ta } = open({ ringBytes: 65_536, lanes: 1, batchSize: 10, overflow: 'drop-oldest' });
  const count = 5000;
  const outcomes = { dropped: 0, delivered: 0 };
  for (let index = 0; index < count; index += 1) {
    const isIn = ta.track({
      accountId: 'u',
      event: 'e',
      properties: { index },
      onSettled: ({ state }) => {
        if (state === 'dropped' || state === 'delivered') outcomes[state] += 1;
      },
    });
    assert.ok(isIn);
    if (index % 100 === 0) await new Promise((resolve) => setImmediate(resolve));
    assertBalanced(ta.stats());
  }
  await receiver.setFaults([]);
  await ta.flush({ timeoutMs: 60_000 });
  const stats = await ta.close();
  assertBalanced(stats);
  assert.equal(stats.accepted, count);
  assert.ok(stats.dropped.overflow_oldest > 0);
  assert.equal(stats.delivered + stats.dropped.overflow_oldest, count);
  const arrived = (await receiver.events()).map(
    (event) => (event.properties as { index: number }).index,
  );
  assert.equal(new Set(arrived).size, stats.delivered);
  // The survivors are the newest, without a gap.
  assert.deepEqual(
    arrived.slice(-200),
    Array.from({ length: 200 }, (_, index) => count - 200 + index),
  );
  await until(() => outcomes.dropped + outcomes.delivered === count, 'all outcomes are told');
  assert.equal(outcomes.delivered, stats.delivered);
});

test('queueSize bounds the records of all lanes', async () => {
  const hole = await Hole.open();
  const { ta } = open({ url: hole.url, queueSize: 100, lanes: 4 });
  trackMany(ta, 300);
  const stats = ta.stats();
  assertBalanced(stats);
  assert.equal(stats.queued, 100);
  assert.equal(stats.dropped.overflow_newest, 200);
  await ta.close({ timeoutMs: 100 });
  hole.close();
});

test("'block' ends at its time-out, and counts the record", async () => {
  const hole = await Hole.open();
  const { ta } = open({ url: hole.url, queueSize: 10, overflow: 'block', blockTimeoutMs: 50 });
  trackMany(ta, 12);
  const stats = ta.stats();
  assertBalanced(stats);
  assert.equal(stats.accepted, 10);
  assert.equal(stats.dropped.overflow_newest, 2);
  await ta.close({ timeoutMs: 100 });
  hole.close();
});

test("ordering 'none' keeps several batches under way, and loses none", async () => {
  await receiver.setFaults([{ action: { kind: 'delay', ms: 30 }, probability: 0.5 }]);
  const { ta } = open({ ordering: 'none', lanes: 1, batchSize: 20 });
  trackMany(ta, 2000);
  await ta.flush({ timeoutMs: 60_000 });
  const stats = await ta.close();
  assertBalanced(stats);
  assert.equal(stats.delivered, 2000);
  const { unique, duplicates } = await receiver.snapshot();
  assert.deepEqual([unique, duplicates], [2000, 0]);
});

test('answers are heard while the batch behind them waits to be filled up', async () => {
  const { ta } = open({
    ordering: 'none',
    lanes: 1,
    batchSize: 2000,
    batchBytes: 64 * 1024,
    lingerMs: 3_600_000,
  });
  for (let index = 0; index < 90; index += 1) {
    ta.track({ accountId: 'u', event: 'e', properties: { text: 'x'.repeat(1000) } });
  }
  await until(() => ta.stats().delivered > 0, 'the full batches are settled');
  await ta.flush({ timeoutMs: 60_000 });
  const stats = await ta.close();
  assertBalanced(stats);
  assert.equal(stats.delivered, 90);
});

test('records that take half of the ring go out, however long they might wait', async () => {
  const { ta } = open({ ringBytes: 64 * 1024, lanes: 1, batchSize: 2000, lingerMs: 3_600_000 });
  while (ta.track({ accountId: 'u', event: 'e' }) && ta.stats().accepted < 1000);
  await until(() => ta.stats().delivered > 0, 'they are delivered');
  assertBalanced(await ta.close());
});

test('a BatchConsumer has delivered a batch when the call that fills it returns', async () => {
  const ta = new Analytics(new BatchConsumer({ url: receiver.url, appId: 'A', batchSize: 20 }));
  trackMany(ta, 19);
  assert.equal(ta.stats().delivered, 0);
  trackMany(ta, 1);
  assert.equal(ta.stats().delivered, 20);
  trackMany(ta, 5);
  await ta.flush();
  assert.equal(ta.stats().delivered, 25);
  assertBalanced(await ta.close());
});

test('a BatchConsumer keeps failed batches in order, drops the oldest beyond its bound, and flush() says why', async () => {
  const errors: string[] = [];
  const ta = new Analytics(
    new BatchConsumer({
      url: receiver.url,
      appId: 'A',
      batchSize: 10,
      maxCachedBatches: 3,
      retries: 0,
    }),
    { onError: ({ message }) => errors.push(message) },
  );
  await receiver.setFaults([
    { action: { kind: 'status', status: 500, body: '{"msg":"out of order"}' } },
  ]);
  trackMany(ta, 50);
  const stats = ta.stats();
  assertBalanced(stats);
  assert.equal(stats.queued, 30);
  assert.equal(stats.dropped.overflow_oldest, 20);
  await assert.rejects(ta.flush(), /out of order/);
  await receiver.setFaults([]);
  trackMany(ta, 10);
  assert.equal(ta.stats().queued, 0);
  const arrived = (await receiver.events()).map(
    (event) => (event.properties as { index: number }).index,
  );
  const kept = [20, 30, 40].flatMap((from) =>
    Array.from({ length: 10 }, (_, index) => from + index),
  );
  assert.deepEqual(arrived, [...kept, ...Array.from({ length: 10 }, (_, index) => index)]);
  assertBalanced(await ta.close());
});

test('a DebugConsumer throws what the receiver says, and tells refusal from connection trouble', async () => {
  const open = (url: string, more: object = {}) =>
    new Analytics(new DebugConsumer({ url, appId: 'A', timeoutMs: 300, ...more }), {
      validation: 'off',
      onError: () => {},
    });
  const ta = open(receiver.url);
  assert.equal(ta.track({ accountId: 'u', event: 'fine' }), true);
  assert.throws(
    () => ta.track({ accountId: 'u', event: 'fine', properties: { 'not a name': 1 } }),
    (error) =>
      error instanceof MillraceError &&
      error.code === 'MILLRACE_DEBUG_REJECTED' &&
      error.message.includes('not a name'),
  );
  assert.throws(() => ta.track({ accountId: 'u', event: 'not a name' }), {
    code: 'MILLRACE_DEBUG_REJECTED',
  });
  const stats = await ta.close();
  assertBalanced(stats);
  assert.deepEqual([stats.delivered, stats.rejected], [1, 2]);
  const dead = await TestReceiver.start();
  await dead.stop();
  const lost = open(dead.url);
  assert.throws(() => lost.track({ accountId: 'u', event: 'fine' }), {
    code: 'MILLRACE_UNAVAILABLE',
  });
  assertBalanced(await lost.close());
  const dry = open(receiver.url, { dryRun: true, deviceId: 'd1' });
  await receiver.reset();
  dry.track({ accountId: 'u', event: 'fine' });
  assertBalanced(await dry.close());
  const { debugRecords, records } = await receiver.snapshot();
  assert.deepEqual([debugRecords, records], [1, 0]);
});

test('an open circuit is shut for longer and longer, but never longer than the pauses between attempts may be', () => {
  const control = Control.create();
  const gate = new Gate(control, 'breaker', 1000);
  const shut: number[] = [];
  for (let failures = 1; failures <= 40; failures += 1) {
    gate.fail('network');
    if (failures < 5) continue;
    shut.push((Atomics.load(control.words, GATE_SHUT_UNTIL) - control.nowMs()) | 0);
  }
  // From a half to the whole of it.
  assert.ok(Math.max(...shut) <= 1000, `${shut}`);
  assert.ok((shut.at(-1) ?? 0) > 400, `${shut}`);
});

// A maintenance page of a proxy is answered with 200 more often than it should be.
test('records wait for as long as somebody else than the receiver answers', async () => {
  await receiver.setFaults([{ action: { kind: 'wrong-json' }, requests: 7 }]);
  const { ta, errors } = open();
  trackMany(ta, 20);
  await ta.flush({ timeoutMs: 60_000 });
  const stats = await ta.close();
  assertBalanced(stats);
  assert.equal(stats.delivered, 20);
  assert.ok(!errors.some(({ code }) => code === 'MILLRACE_REJECTED'));
});

test('a flush tells once what went wrong in a round', async () => {
  await receiver.setFaults([{ action: { kind: 'code', code: -1, msg: 'bad' } }]);
  const ta = new Analytics(new BatchConsumer({ url: receiver.url, appId: 'A', batchSize: 20 }), {
    onError: () => {},
  });
  ta.track({ accountId: 'u', event: 'e' });
  await assert.rejects(ta.flush(), { code: 'MILLRACE_REJECTED' });
  await ta.flush();
  await receiver.setFaults([]);
  const stats = await ta.close();
  assertBalanced(stats);
  assert.equal(stats.rejected, 1);
});

// Method: a gate that notes how long it is asked to wait, and waits for nothing.
for (const [retries, isSlow] of [
  ['forever', true],
  [2, false],
] as const) {
  test(`what only people can mend is tried ${isSlow ? 'slowly' : 'at the usual pace'} (retries: ${retries})`, async () => {
    const pausesMs: number[] = [];
    class NotingGate extends Gate {
      override wait(ms: number): Promise<void> {
        pausesMs.push(ms);
        return Promise.resolve();
      }
    }
    const control = Control.create();
    const refused = { kind: 'retry', reason: 'config', message: 'no', budget: 'config' } as const;
    const delivery = new Delivery({
      sink: {
        separator: ',',
        lastAttempt: { status: 401, durationMs: 1 },
        deliver: () => Promise.resolve(refused),
        flush: () => Promise.resolve(),
        close: () => Promise.resolve(),
      },
      gate: new NotingGate(control, 'pauses'),
      ledger: new LedgerWriter(control.floats, control.slotFloatAt(0)),
      limits: { retries, baseMs: 1, capMs: 10 },
      attemptTimeoutMs: 1000,
      onExhausted: 'expire',
      deadLetter: undefined,
      onTrouble: () => {},
    });
    const settled: number[] = [];
    const { count, text, starts, ends } = layOut(['{}'], ',');
    const end = await delivery.run({
      batch: { count, text: { bytes: text }, starts, ends },
      hold: () => (pausesMs.length < 2 || retries === 2 ? 0 : -1),
      release: () => {},
      settle: (_, counter) => settled.push(counter),
      countDeadLettered: () => {},
    });
    assert.equal(pausesMs.length, 2);
    for (const ms of pausesMs) assert.equal(ms === 30_000, isSlow, `${ms} ms`);
    assert.equal(end.kind, isSlow ? 'stopped' : 'done');
    assert.deepEqual(settled, isSlow ? [] : [EXPIRED]);
  });
}

test('half a line that a killed process left in the dead-letter file spoils no other', async () => {
  const deadLetter = join(newDirectory(), 'letters.jsonl');
  const half = '{"time":"2026-01-01T00:00:00.000Z","reas';
  writeFileSync(deadLetter, half);
  await receiver.setFaults([{ action: { kind: 'status', status: 503 } }]);
  const { ta } = open({ retries: 0, deadLetter, lanes: 1, batchSize: 1 });
  trackMany(ta, 1);
  await ta.flush({ timeoutMs: 20_000 });
  appendFileSync(deadLetter, half);
  trackMany(ta, 1);
  await ta.flush({ timeoutMs: 20_000 });
  const stats = await ta.close();
  assertBalanced(stats);
  assert.equal(stats.dropped.expired, 2);
  const text = readFileSync(deadLetter, 'utf8');
  assert.ok(text.endsWith('\n'));
  const [first, letter = '', second, last = ''] = text.trimEnd().split('\n');
  assert.deepEqual([first, second], [half, half]);
  for (const line of [letter, last]) assert.equal(typeof JSON.parse(line).record, 'object');
});
