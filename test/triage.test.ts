import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, beforeEach, test } from 'node:test';
import { type Crash, CrashStreak, type Remedy } from '../src/engine/crash-streak.ts';
import { Seat } from '../src/engine/seat.ts';
import { Triage } from '../src/engine/triage.ts';
import {
  Analytics,
  AsyncBatchConsumer,
  BatchConsumer,
  type MillraceError,
  type Stats,
} from '../src/index.ts';
import { Control } from '../src/lane/control.ts';
import { LANE_BYTES_MIN } from '../src/lane/layout.ts';
import { LedgerWriter } from '../src/lane/ledger.ts';
import { LaneProducer } from '../src/lane/producer.ts';
import { Region } from '../src/lane/region.ts';
import { CRASHED, EXPIRED } from '../src/lane/settlement.ts';
import type { Sink } from '../src/sink/sink.ts';
import { Delivery, type DeliveryJob } from '../src/worker/delivery.ts';
import { Gate } from '../src/worker/gate.ts';
import { makeFrame } from './lane-frames.ts';
import { assertBalanced, newDirectory, runProgram, TestReceiver, until } from './support.ts';

const PATIENCE_MS = 1000;
const POISONED = new URL('./poisoned-worker.js', import.meta.url);

let receiver: TestReceiver;

before(async () => {
  receiver = await TestReceiver.start();
});
beforeEach(() => receiver.reset());
after(() => receiver.stop());

/** Notes crashes of turns that lived a millisecond each, `everyMs` apart. */
function crashes(
  count: number,
  { everyMs = 100, of = () => ({}) }: { everyMs?: number; of?: (index: number) => Partial<Crash> },
): Remedy[] {
  const streak = new CrashStreak(PATIENCE_MS);
  return Array.from({ length: count }, (_, index) => {
    const nowMs = 5000 + index * everyMs;
    return streak.note({
      nowMs,
      postedMs: nowMs - 1,
      done: 7,
      isSole: true,
      culprit: undefined,
      ...of(index),
    });
  });
}

test('a lane whose workers get something done in between is never given up', () => {
  const remedies = crashes(1000, { of: (index) => ({ done: index }) });
  assert.deepEqual([...new Set(remedies)], ['again']);
});

test('a lane is not given up for workers that lived long', () => {
  const of = (index: number) => ({ postedMs: 5000 + index * 20_000 - 15_000 });
  assert.deepEqual([...new Set(crashes(100, { everyMs: 20_000, of }))], ['again']);
});

test('a lane is given up after eight deaths, and the time its workers are given', () => {
  assert.equal(crashes(100, { everyMs: 1 }).indexOf('give-up'), -1, 'many deaths in no time');
  assert.equal(crashes(100, { everyMs: 100 }).indexOf('give-up'), 10, 'the time is over');
  assert.equal(crashes(100, { everyMs: 1000 }).indexOf('give-up'), 7, 'eight deaths');
});

test('a record is dropped when it has killed three workers alone, but not the fourth in a row', () => {
  const remedies = crashes(30, {
    everyMs: 1,
    of: (index) => ({ culprit: `ring ${Math.floor(index / 3)}` }),
  });
  const drops = remedies.flatMap((remedy, index) => (remedy === 'drop' ? [index] : []));
  assert.deepEqual(drops, [2, 5, 8]);
});

test('deaths that other lanes may have to do with are no reason to give a lane up', () => {
  assert.deepEqual(
    [...new Set(crashes(1000, { of: () => ({ isSole: false }) }))],
    ['again', 'alone'],
  );
});

test('deaths of several records prove nothing of any', () => {
  const remedies = crashes(30, { everyMs: 1, of: (index) => ({ culprit: `ring ${index % 2}` }) });
  assert.ok(!remedies.includes('drop'));
});

interface Run {
  readonly ta: Analytics;
  readonly errors: MillraceError[];
  readonly outcomes: Map<string, number>;
}

function open(options: object): Run {
  const errors: MillraceError[] = [];
  const consumer = new AsyncBatchConsumer({
    url: receiver.url,
    appId: 'A',
    workers: 1,
    lanes: 4,
    batchSize: 20,
    workerHeapMb: 32,
    workerFile: POISONED,
    ...options,
  });
  const ta = new Analytics(consumer, { onError: (error) => errors.push(error) });
  return { ta, errors, outcomes: new Map() };
}

function track({ ta, outcomes }: Run, index: number, word: string): boolean {
  return ta.track({
    accountId: `u${index % 20}`,
    event: 'e',
    properties: { index, word },
    onSettled: ({ state, reason }) => {
      const outcome = `${state} ${reason ?? ''}`.trim();
      outcomes.set(outcome, (outcomes.get(outcome) ?? 0) + 1);
    },
  });
}

// Goal: one bad record costs itself and nothing else. Method: a worker entry that dies of batches with a certain word, in three
// ways; the receiver's list is compared record by record. Each death takes the time of a new thread: one way is enough for two records.
const WAYS = { exit: [123, 301], late: [123], memory: [301] };
for (const [way, poison] of Object.entries(WAYS)) {
  test(`a record that kills whoever has it is found and dropped, and its neighbours arrive (${way})`, async () => {
    process.env.MILLRACE_TEST_POISON = way;
    const run = open({});
    const { ta, errors, outcomes } = run;
    for (let index = 0; index < 400; index += 1) {
      track(run, index, poison.includes(index) ? 'poison' : 'water');
    }
    await ta.flush({ timeoutMs: 60_000 });
    const stats = await ta.close();
    assertBalanced(stats);
    assert.equal(stats.delivered, 400 - poison.length);
    assert.equal(stats.dropped.crashed, poison.length);
    assert.equal(stats.dropped.expired, poison.length);
    const found = (await receiver.events()).map(
      ({ properties }) => (properties as { index: number }).index,
    );
    assert.deepEqual(
      [...new Set(found)].sort((a, b) => a - b),
      Array.from({ length: 400 }, (_, index) => index).filter((n) => !poison.includes(n)),
    );
    assert.equal(errors.filter(({ code }) => code === 'MILLRACE_POISON').length, poison.length);
    assert.ok(!errors.some(({ code }) => code === 'MILLRACE_GIVEN_UP'));
    assert.equal(outcomes.get('dropped crashed'), poison.length);
  });
}

// Goal: such a record is not lost for whoever wants to look at it. Method: the dead-letter file, which is a worker's to write.
for (const way of ['exit', 'late']) {
  test(`a record that kills whoever has it is kept in the dead-letter file (${way})`, async () => {
    process.env.MILLRACE_TEST_POISON = way;
    const deadLetter = join(newDirectory(), 'dead.jsonl');
    const run = open({ deadLetter });
    const { ta, errors, outcomes } = run;
    for (let index = 0; index < 200; index += 1) {
      track(run, index, index === 57 ? 'poison' : 'water');
    }
    await ta.flush({ timeoutMs: 60_000 });
    const stats = await ta.close();
    assertBalanced(stats);
    assert.equal(stats.delivered, 199);
    assert.equal(stats.dropped.crashed, 1);
    assert.equal(stats.dropped.expired, 1);
    const letters = readFileSync(deadLetter, 'utf8').trimEnd().split('\n');
    const kept = letters.map((letter) => JSON.parse(letter));
    assert.deepEqual(
      kept.map(({ record, reason }) => [record.properties.index, reason]),
      [[57, 'workers die of it']],
    );
    assert.equal(errors.filter(({ code }) => code === 'MILLRACE_POISON').length, 1);
    assert.equal(outcomes.get('dropped crashed'), 1);
  });
}

// Method: the job of such a record, which gave way (drop-oldest) before the worker could hold it, or whose lane went to another turn.
test('a record that gave way before it could be given up has its fate, and the turn goes on', () => {
  const control = Control.create();
  const delivery = new Delivery({
    sink: { deliver: () => assert.fail('nothing is sent') } as unknown as Sink,
    gate: new Gate(control, 'breaker'),
    ledger: new LedgerWriter(control.floats, control.slotFloatAt(0)),
    limits: { retries: 'forever', baseMs: 1, capMs: 1 },
    attemptTimeoutMs: 1000,
    onExhausted: 'expire',
    deadLetter: undefined,
    onTrouble: () => undefined,
  });
  const jobThat = (hold: number) =>
    ({ hold: () => hold, settle: () => assert.fail('it is settled') }) as unknown as DeliveryJob;
  assert.equal(delivery.giveUpFirst(jobThat(1)).kind, 'done');
  assert.equal(delivery.giveUpFirst(jobThat(-1)).kind, 'stopped');
});

// Method: the same verdict again and again, on a lane that nobody reads.
test('a record that kills even whoever is to give it up is dropped without one', () => {
  const region = Region.create({ lanes: 1, laneBytes: LANE_BYTES_MIN, id: 1, baseMs: 0 });
  const producer = new LaneProducer(region, 0);
  for (let index = 0; index < 3; index += 1) assert.ok(producer.offer(makeFrame(index, 10)));
  const seat = new Seat(region, 0, 'supervisor');
  const told: string[] = [];
  const triage = new Triage({
    patienceMs: PATIENCE_MS,
    handRecordsMax: 20,
    hasSpool: false,
    keepsDeadLetters: true,
    onError: ({ code }) => told.push(code),
    onDropped: (_, { fromSeq, toSeq }) => told.push(`dropped ${fromSeq} to ${toSeq}`),
    onGivenUp: () => told.push('given up'),
    onRelease: () => undefined,
  });
  const { headSeq } = seat;
  while (triage.careOf(seat)?.killerInRing === undefined) {
    assert.equal(seat.headSeq, headSeq);
    seat.beginTerm(performance.now());
    triage.judge(seat, 'head', new Error('it ended'));
  }
  assert.deepEqual(told, ['MILLRACE_WORKER', 'MILLRACE_POISON']);
  triage.judge(seat, 'head', new Error('it ended'));
  assert.deepEqual(told.slice(2), [`dropped ${headSeq} to ${headSeq + 1}`]);
  assert.equal(seat.headSeq, headSeq + 1);
  assert.equal(seat.read().count(CRASHED), 1);
  assert.equal(seat.read().count(EXPIRED), 1);
});

// Goal: lanes that are busy all the time don't hide the one that kills. Method: one thread for all lanes, an error that is thrown when
// the thread may be at any lane's records, and records that keep coming.
test('a record that kills is found while the other lanes of the thread are busy', async () => {
  process.env.MILLRACE_TEST_POISON = 'late';
  const run = open({});
  let tracked = 0;
  while (!run.errors.some(({ code }) => code === 'MILLRACE_POISON')) {
    for (let burst = 0; burst < 20; burst += 1, tracked += 1) {
      track(run, tracked, tracked === 50 ? 'poison' : 'water');
    }
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  await run.ta.flush({ timeoutMs: 60_000 });
  const stats = await run.ta.close();
  assertBalanced(stats);
  assert.equal(stats.dropped.crashed, 1);
  assert.equal(stats.delivered, tracked - 1);
  assert.ok(!run.errors.some(({ code }) => code === 'MILLRACE_GIVEN_UP'));
});

const RECORDS = 200;

function trackPoisoned(run: Run, poison: readonly number[]): void {
  for (let index = 0; index < RECORDS; index += 1) {
    track(run, index, poison.includes(index) ? 'poison' : 'water');
  }
}

/**
 * Asserts that all but the poison has arrived, in order by user, and that the poison is in the dead-letter file. A thread that dies late
 * may have sent it before.
 */
async function assertIsolated(poison: readonly number[], deadLetter: string): Promise<void> {
  const events = await receiver.events();
  const lasts = new Map<unknown, number>();
  const found = new Set<number>();
  for (const { '#account_id': user, properties } of events) {
    const { index } = properties as { index: number };
    if (!found.has(index)) assert.ok(index > (lasts.get(user) ?? -1), `${index} is in order`);
    lasts.set(user, Math.max(index, lasts.get(user) ?? -1));
    found.add(index);
  }
  for (const index of poison) found.delete(index);
  assert.equal(found.size, RECORDS - poison.length);
  const letters = readFileSync(deadLetter, 'utf8').trimEnd().split('\n');
  const dead = letters.map((line) => JSON.parse(line) as { reason: string; record: object });
  assert.deepEqual(
    dead.map(({ record }) => (record as { properties: { index: number } }).properties.index).sort(),
    poison,
  );
  for (const { reason } of dead) assert.equal(reason, 'workers die of it');
}

// Goal: the same for records on disk, where what kills stays, and comes up again after every death. Method: all records go through the
// spool; two of one user are poison.
test('a record on disk that kills whoever has it is found, and its neighbours arrive', async () => {
  process.env.MILLRACE_TEST_POISON = 'late';
  const poison = [123, 143];
  const directory = newDirectory();
  const deadLetter = join(directory, 'dead.jsonl');
  const spool = { directory };
  const run = open({ lanes: 2, spool, durability: 'spool-first', deadLetter });
  trackPoisoned(run, poison);
  const { ta, errors } = run;
  await ta.flush();
  await until(() => ta.stats().spooled === 0, 'the spool is empty');
  const stats = await ta.close();
  assertBalanced(stats);
  assert.equal(stats.delivered, RECORDS - poison.length);
  assert.equal(stats.dropped.crashed, poison.length);
  assert.equal(stats.dropped.expired, poison.length);
  assert.equal(errors.filter(({ code }) => code === 'MILLRACE_POISON').length, poison.length);
  assert.ok(!errors.some(({ code }) => code === 'MILLRACE_GIVEN_UP'));
  await assertIsolated(poison, deadLetter);
});

const POISON = 123;

/** Leaves a spool with poison in it, as a process does that never reaches its receiver. */
async function leavePoison(poison: number, spool: { directory: string }): Promise<void> {
  const unreachable = { url: 'http://127.0.0.1:1', workerFile: undefined };
  const run = open({ lanes: 2, spool, durability: 'spool-first', ...unreachable });
  trackPoisoned(run, [poison]);
  await run.ta.flush();
  const stats = await run.ta.close({ timeoutMs: 100 });
  assertBalanced(stats);
  assert.equal(stats.spooled, RECORDS);
}

test('a record that an earlier run left and that kills whoever has it is found, and its neighbours arrive', async () => {
  process.env.MILLRACE_TEST_POISON = 'exit';
  const directory = newDirectory();
  const deadLetter = join(directory, 'dead.jsonl');
  const spool = { directory };
  await leavePoison(POISON, spool);
  const { ta, errors } = open({ lanes: 2, spool, deadLetter });
  await until(
    () => ta.stats().recovered === RECORDS && ta.stats().spooled === 0,
    'all is replayed',
  );
  const stats = await ta.close();
  assertBalanced(stats);
  assert.equal(stats.delivered, RECORDS - 1);
  assert.equal(stats.dropped.crashed, 1);
  assert.ok(!errors.some(({ code }) => code === 'MILLRACE_GIVEN_UP'));
  await assertIsolated([POISON], deadLetter);
});

// Goal: what ends the whole process is found by the processes that come after it. Method: a worker entry that kills the process.
test('a record that ends every process that replays it is found by those who come later', async () => {
  const directory = newDirectory();
  const deadLetter = join(directory, 'dead.jsonl');
  await leavePoison(POISON, { directory });
  const env = { MILLRACE_TEST_POISON: 'process' };
  const args = [receiver.url, directory, deadLetter, './poisoned-worker.js'];
  let starts = 1;
  let end = await runProgram('replay', args, { env });
  for (; end.signal === 'SIGKILL'; starts += 1) {
    assert.ok(starts < 20, 'it comes to an end');
    end = await runProgram('replay', args, { env });
  }
  assert.equal(end.code, 0, end.stderr);
  assertBalanced(end.messages[0] as Stats);
  await assertIsolated([POISON], deadLetter);
  assert.ok(starts > 3, 'no record is given up that killed less than three processes');
});

/** Tracks only poison, until every lane is given up. */
async function poisonAll(run: Run): Promise<void> {
  process.env.MILLRACE_TEST_POISON = 'exit';
  for (let index = 0; index < 2000; index += 1) track(run, index, 'poison');
  const told = () => run.errors.filter(({ code }) => code === 'MILLRACE_GIVEN_UP').length;
  await until(() => told() >= 2, 'every lane is given up');
}

test('lanes that no worker survives are given up aloud, and their records dropped and counted', async () => {
  const run = open({ workerPatienceMs: 100, lanes: 2 });
  const { ta, outcomes } = run;
  await poisonAll(run);
  await ta.flush({ timeoutMs: 10_000 });
  assert.equal(ta.stats().queued, 0);
  for (let index = 0; index < 100; index += 1) track(run, index, 'water');
  await until(() => ta.stats().queued === 0, 'later records are dropped, too');
  const stats = await ta.close({ timeoutMs: 5000 });
  assertBalanced(stats);
  assert.equal(stats.delivered, 0);
  assert.equal(stats.dropped.crashed, 2100);
  assert.equal(stats.dropped.shutdown, 0);
  assert.equal(outcomes.get('dropped crashed'), 2100);
});

test('a caller that waits for room in a lane that is given up gets it', async () => {
  const run = open({
    workerPatienceMs: 100,
    overflow: 'block',
    blockTimeoutMs: 10,
    ringBytes: 64 * 1024,
    lanes: 1,
  });
  process.env.MILLRACE_TEST_POISON = 'exit';
  const isGivenUp = () => run.errors.some(({ code }) => code === 'MILLRACE_GIVEN_UP');
  while (!isGivenUp()) {
    track(run, 0, 'poison');
    await new Promise((resolve) => setImmediate(resolve));
  }
  // Far more than the ring holds, in one go.
  for (let index = 0; index < 5000; index += 1) assert.ok(track(run, index, 'water'));
  const stats = await run.ta.close({ timeoutMs: 5000 });
  assertBalanced(stats);
  assert.equal(stats.delivered, 0);
  assert.equal(stats.dropped.crashed, stats.accepted);
});

test('with a spool, what a lane that is given up holds goes to disk, and the next start delivers it', async () => {
  const directory = newDirectory();
  const spool = { directory };
  const run = open({ workerPatienceMs: 100, lanes: 2, spool });
  await poisonAll(run);
  await run.ta.flush({ timeoutMs: 10_000 });
  const left = await run.ta.close({ timeoutMs: 5000 });
  assertBalanced(left);
  // Up to three a lane were taken for the culprits first.
  assert.ok(left.dropped.crashed <= 6, `${left.dropped.crashed} dropped`);
  assert.equal(left.spooled + left.dropped.crashed, 2000);
  const next = new Analytics(
    new AsyncBatchConsumer({ url: receiver.url, appId: 'A', workers: 1, spool }),
  );
  await until(() => next.stats().delivered === left.spooled, 'all of it is delivered');
  const stats: Stats = await next.close();
  assertBalanced(stats);
  assert.equal(stats.recovered, left.spooled);
  assert.equal((await receiver.snapshot()).unique, left.spooled);
});

test('a consumer that waits for its records throws when its lane is given up', async () => {
  process.env.MILLRACE_TEST_POISON = 'exit';
  const ta = new Analytics(
    new BatchConsumer({
      url: receiver.url,
      appId: 'A',
      workerPatienceMs: 100,
      workerFile: POISONED,
    }),
    { onError: () => {} },
  );
  for (let index = 0; index < 5; index += 1) {
    ta.track({ accountId: 'u', event: 'e', properties: { word: 'poison' } });
  }
  await assert.rejects(ta.flush({ timeoutMs: 30_000 }), { code: 'MILLRACE_GIVEN_UP' });
  const stats = await ta.close({ timeoutMs: 2000 });
  assertBalanced(stats);
  assert.equal(stats.dropped.crashed, 5);
});
