import assert from 'node:assert/strict';
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync } from 'node:fs';
import { after, before, beforeEach, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import type { Worker } from 'node:worker_threads';
import { type ExitParty, saveAll } from '../src/engine/exit-hook.ts';
import {
  Analytics,
  AsyncBatchConsumer,
  LoggingConsumer,
  type SettledOutcome,
  type Stats,
} from '../src/index.ts';
import {
  assertBalanced,
  newDirectory,
  readRecords,
  runProgram,
  TestReceiver,
  until,
} from './support.ts';

let receiver: TestReceiver;

before(async () => {
  receiver = await TestReceiver.start();
});
beforeEach(() => receiver.reset());
after(() => receiver.stop());

interface Flood {
  readonly accepted: number;
  readonly inTime: boolean;
  readonly stats: Stats;
}

function lastMessage<T>(messages: readonly unknown[]): T {
  return messages.at(-1) as T;
}

test('process.exit() right after 10 000 calls delivers all of them by HTTP', async () => {
  const run = await runProgram('exit', ['async', receiver.url, '10000']);
  assert.equal(run.code, 0, run.stderr);
  const { unique, duplicates } = await receiver.snapshot();
  assert.equal(unique, 10_000, run.stderr);
  assert.equal(duplicates, 0);
});

test('process.exit() right after 10 000 calls writes all of them to files', async () => {
  const directory = newDirectory();
  const run = await runProgram('exit', ['file', directory, '10000']);
  assert.equal(run.code, 0, run.stderr);
  assert.equal(readRecords(directory, readdirSync(directory)).length, 10_000);
});

test('process.exit() sends what a BatchConsumer has not sent yet', async () => {
  const run = await runProgram('exit', ['batch', receiver.url, '1007']);
  assert.equal(run.code, 0, run.stderr);
  assert.equal((await receiver.snapshot()).unique, 1007);
});

test('an exit that can not save its records says how many there were', async () => {
  const dead = await TestReceiver.start();
  await dead.stop();
  const run = await runProgram('exit', ['async', dead.url, '1000', '1000']);
  assert.match(run.stderr, /the process ended with 1000 records neither delivered nor saved/);
});

for (const [handler, code] of [
  ['unhandled', 1],
  ['handled', 3],
] as const) {
  test(`an error that nobody catches ends the process, not its records (${handler})`, async () => {
    const run = await runProgram('throw', ['async', receiver.url, '1000', handler]);
    assert.equal(run.code, code, run.stderr);
    assert.equal((await receiver.snapshot()).unique, 1000);
  });
}

test('a client can be closed when nothing else is left to do, and takes records until then', async () => {
  const run = await runProgram('before-exit', ['async', receiver.url, '1000']);
  assert.equal(run.code, 0, run.stderr);
  const stats = lastMessage<Stats>(run.messages);
  assertBalanced(stats);
  assert.equal(stats.delivered, 1001);
  assert.equal((await receiver.snapshot()).unique, 1001);
});

/** All that processes have left in a spool is delivered, once each, by a client that comes after them. */
async function assertDelivered(directory: string, records: number): Promise<void> {
  await receiver.reset();
  const ta = new Analytics(
    new AsyncBatchConsumer({ url: receiver.url, appId: 'A', workers: 1, spool: { directory } }),
  );
  await until(() => ta.stats().delivered === records, 'what was left is delivered');
  const stats = await ta.close();
  assertBalanced(stats);
  assert.equal(stats.recovered, records);
  const { unique, duplicates } = await receiver.snapshot();
  assert.deepEqual([unique, duplicates], [records, 0]);
}

test('forked processes share a spool, each with a folder of its own', async () => {
  const dead = await TestReceiver.start();
  await dead.stop();
  const directory = newDirectory();
  const runs = await Promise.all(
    [1, 2, 3].map(() => runProgram('spool-beside', [dead.url, directory, '3'])),
  );
  for (const { code, stderr, messages } of runs) {
    assert.equal(code, 0, stderr);
    const { instances, stats } = lastMessage<{ instances: string[]; stats: Stats }>(messages);
    assertBalanced(stats);
    assert.equal(stats.spooled, 100);
    assert.deepEqual(instances.sort(), ['instance-0', 'instance-1', 'instance-2']);
  }
  await assertDelivered(directory, 300);
});

test('processes of a cluster share a spool, each with a folder of its own', async () => {
  const dead = await TestReceiver.start();
  await dead.stop();
  const directory = newDirectory();
  const run = await runProgram('cluster-spool', [dead.url, directory, '3']);
  assert.equal(run.code, 0, run.stderr);
  const { codes } = lastMessage<{ codes: { code: number; spooled: number }[] }>(run.messages);
  assert.deepEqual(codes, new Array(3).fill({ code: 0, spooled: 100 }));
  await assertDelivered(directory, 300);
});

for (const kind of ['async', 'file', 'batch']) {
  test(`a process that flushed but never closed ends by itself (${kind})`, async () => {
    const target = kind === 'file' ? newDirectory() : receiver.url;
    const run = await runProgram('idle', [kind, target]);
    assert.equal(run.signal, null, 'it was not killed');
    assert.equal(run.code, 0, run.stderr);
    const stats = lastMessage<Stats>(run.messages);
    assertBalanced(stats);
    assert.equal(stats.delivered, 1000);
  });

  test(`a closed client leaves no thread, handle or timer (${kind})`, async () => {
    const target = kind === 'file' ? newDirectory() : receiver.url;
    const run = await runProgram('closed', [kind, target]);
    assert.equal(run.code, 0, run.stderr);
    const { stats, left } = lastMessage<{ stats: Stats; left: string[][] }>(run.messages);
    assertBalanced(stats);
    for (const kindOfHandle of ['MessagePort', 'Worker', 'Timeout', 'Immediate', 'TCPSocketWrap']) {
      assert.ok(!left.flat().includes(kindOfHandle), `left: ${left.flat()}`);
    }
    assert.deepEqual(left[1], left[0]);
  });
}

test('a process that has no WebAssembly writes the same records, and says so', async () => {
  const directory = newDirectory();
  const run = await runProgram('idle', ['file', directory], {
    env: { NODE_OPTIONS: '--jitless --no-warnings' },
  });
  assert.equal(run.code, 0, run.stderr);
  const stats = lastMessage<Stats & { codec: string }>(run.messages);
  assertBalanced(stats);
  assert.equal(stats.codec, 'js');
  assert.equal(readRecords(directory, readdirSync(directory)).length, 1000);
  const usual = await runProgram('idle', ['file', newDirectory()]);
  assert.equal(lastMessage<{ codec: string }>(usual.messages).codec, 'wasm');
});

for (const [kind, workers] of [
  ['async', '1'],
  ['async', '2'],
  ['file', '1'],
] as const) {
  test(`a loop that never yields, from the first tick on, loses nothing (${kind}, ${workers} workers)`, async () => {
    const directory = newDirectory();
    const target = kind === 'file' ? directory : receiver.url;
    const run = await runProgram('first-tick', [kind, target, '200000', workers]);
    assert.equal(run.code, 0, run.stderr);
    const { accepted, inTime, stats } = lastMessage<Flood>(run.messages);
    assertBalanced(stats);
    assert.equal(accepted, 200_000);
    assert.ok(inTime);
    assert.equal(stats.delivered, 200_000);
    if (kind === 'async') assert.equal((await receiver.snapshot()).unique, 200_000);
    else assert.equal(readRecords(directory, readdirSync(directory)).length, 200_000);
  });
}

test('the same loop loses nothing when one of two workers dies meanwhile', async () => {
  const run = await runProgram('kill-worker', [receiver.url, '200000', '2']);
  assert.equal(run.code, 0, run.stderr);
  const { accepted, inTime, stats } = run.messages.find(
    (message) => 'accepted' in (message as object),
  ) as Flood;
  assertBalanced(stats);
  assert.equal(accepted, 200_000);
  assert.ok(inTime);
  assert.equal(stats.delivered, 200_000);
  assert.equal((await receiver.snapshot()).unique, 200_000);
});

test('a worker that dies in the middle of a batch costs no record, and another takes over', async () => {
  process.env.MILLRACE_TEST_KILL_AFTER = '5';
  const errors: string[] = [];
  const ta = new Analytics(
    new AsyncBatchConsumer({
      url: receiver.url,
      appId: 'A',
      workers: 2,
      batchSize: 50,
      workerFile: new URL('./killing-worker.js', import.meta.url),
    }),
    { onError: (error) => errors.push(error.code) },
  );
  for (let index = 0; index < 20_000; index += 1) {
    ta.track({ accountId: `u${index % 100}`, event: 'kill', properties: { index } });
    if (index % 500 === 0) await new Promise((resolve) => setImmediate(resolve));
  }
  await ta.flush();
  const stats = await ta.close();
  assertBalanced(stats);
  assert.equal(stats.delivered, 20_000);
  assert.equal((await receiver.snapshot()).unique, 20_000);
});

test('records of one user arrive in the order of the calls, with 503s in between', async () => {
  await receiver.setFaults([{ action: { kind: 'status', status: 503 }, probability: 0.2 }]);
  const ta = new Analytics(
    new AsyncBatchConsumer({ url: receiver.url, appId: 'A', workers: 3, batchSize: 100 }),
    { onError: () => {} },
  );
  const users = 50;
  for (let index = 0; index < 20_000; index += 1) {
    ta.track({ accountId: `user${index % users}`, event: 'step', properties: { index } });
    if (index % 1000 === 0) await new Promise((resolve) => setImmediate(resolve));
  }
  await ta.flush();
  await receiver.setFaults([]);
  const stats = await ta.close();
  assertBalanced(stats);
  assert.equal(stats.delivered, 20_000);
  assert.ok(stats.retries > 0, 'there were 503s');
  const last = new Map<unknown, number>();
  for (const event of await receiver.events()) {
    const { index } = event.properties as { index: number };
    const user = event['#account_id'];
    assert.ok(index > (last.get(user) ?? -1), `user ${user}: ${index} after ${last.get(user)}`);
    last.set(user, index);
  }
  assert.equal(last.size, users);
});

test('close() twice gives the same account, and later calls are refused', async () => {
  const ta = new Analytics(new LoggingConsumer(newDirectory()));
  ta.track({ accountId: 'u', event: 'e' });
  const [first, second] = await Promise.all([ta.close(), ta.close()]);
  assert.deepEqual(first, second);
  assert.throws(() => ta.track({ accountId: 'u', event: 'e' }), { code: 'MILLRACE_CLOSED' });
  assertBalanced(ta.stats());
  assert.equal(ta.stats().accepted, 1);
});

for (const overflow of ['drop-newest', 'drop-oldest', 'block', 'spool'] as const) {
  test(`close() of an engine that is overloaded ends in its time, with all accounted for (${overflow})`, async () => {
    await receiver.setFaults([{ action: { kind: 'hang' } }]);
    const ta = new Analytics(
      new AsyncBatchConsumer({
        url: receiver.url,
        appId: 'A',
        workers: 2,
        ringBytes: 256 * 1024,
        lanes: 4,
        overflow,
        blockTimeoutMs: 5,
        ...(overflow === 'spool' ? { spool: { directory: newDirectory() } } : {}),
      }),
      { onError: () => {} },
    );
    let accepted = 0;
    const flood = () => {
      for (let index = 0; index < 200; index += 1) {
        if (ta.track({ accountId: `u${index % 50}`, event: 'e', properties: { index } })) {
          accepted += 1;
        }
      }
    };
    const isFull = () =>
      overflow === 'spool'
        ? ta.stats().spooled > 0
        : Object.values(ta.stats().dropped).some(Boolean);
    for (let round = 0; round < 20 || !isFull(); round += 1) {
      flood();
      // Threads are still loading at first.
      await new Promise((resolve) => setImmediate(resolve));
    }
    const startMs = performance.now();
    const closed = ta.close({ timeoutMs: 2000 });
    // Whoever goes on is told at once.
    assert.throws(flood, { code: 'MILLRACE_CLOSED' });
    const stats = await closed;
    const tookMs = performance.now() - startMs;
    await receiver.setFaults([]);
    assertBalanced(stats);
    assert.equal(stats.accepted, accepted);
    assert.equal(stats.queued, 0);
    if (overflow === 'spool') assert.equal(stats.dropped.shutdown, 0, 'all of it is on disk');
    else assert.ok(stats.dropped.shutdown > 0);
    assert.ok(tookMs < 10_000, `${tookMs} ms`);
    assert.deepEqual(await ta.close(), stats);
  });
}

test('what a dead receiver leaves at the end of close() is counted as dropped by the shutdown', async () => {
  const dead = await TestReceiver.start();
  await dead.stop();
  const outcomes: string[] = [];
  const ta = new Analytics(new AsyncBatchConsumer({ url: dead.url, appId: 'A' }), {
    onError: () => {},
  });
  for (let index = 0; index < 100; index += 1) {
    ta.track({
      accountId: `u${index}`,
      event: 'e',
      onSettled: ({ state, reason }) => outcomes.push(`${state} ${reason}`),
    });
  }
  const stats = await ta.close({ timeoutMs: 300 });
  assertBalanced(stats);
  assert.equal(stats.dropped.shutdown, 100);
  assert.deepEqual(outcomes, new Array(100).fill('dropped shutdown'));
});

test('onSettled hears of every record once, whatever became of it', async () => {
  const counts = new Map<string, number>();
  const count = (state: string) => counts.set(state, (counts.get(state) ?? 0) + 1);
  const ta = new Analytics(new AsyncBatchConsumer({ url: receiver.url, appId: 'A' }), {
    validation: 'drop',
    onError: () => {},
  });
  for (let index = 0; index < 1000; index += 1) {
    ta.track({
      accountId: `u${index % 7}`,
      event: index % 10 === 0 ? 'not a name' : 'fine',
      onSettled: ({ state }) => count(state),
    });
  }
  const stats = await ta.close();
  assertBalanced(stats);
  await until(() => counts.size === 2, 'both outcomes are known');
  assert.equal(counts.get('dropped'), 100);
  assert.equal(counts.get('delivered'), 900);
  assert.equal(stats.dropped.invalid, 100);
});

// Goal: a game loop does not know that the process is about to end, and must not die of that. Method: a server that tracks in each tick,
// and on another thread, while a signal closes its client and answers take their time.
for (const validation of ['throw', 'drop']) {
  test(`closeOnSignals() ends a server that goes on tracking (${validation})`, async () => {
    await receiver.setFaults([{ action: { kind: 'delay', ms: 300 }, requests: 3 }]);
    const program = fileURLToPath(new URL('./programs.js', import.meta.url));
    const child = fork(program, ['signal-busy', receiver.url, validation], {
      execArgv: [],
      stdio: ['ignore', 'pipe', 'inherit', 'ipc'],
    });
    let output = '';
    child.stdout?.on('data', (part: Buffer) => {
      output += part.toString('utf8');
    });
    await once(child, 'message');
    await until(async () => (await receiver.snapshot()).unique > 100, 'records arrive');
    child.kill('SIGTERM');
    const [code] = (await once(child, 'close')) as [number | null];
    assert.equal(code, 0, output);
    const { stats, told } = JSON.parse(output) as { stats: Stats; told: string[] };
    assertBalanced(stats);
    assert.equal(stats.delivered, stats.accepted);
    assert.equal((await receiver.snapshot()).unique, stats.accepted);
    assert.ok(stats.dropped.invalid > 0, 'calls came late, and were counted');
    assert.equal(told.filter((one) => one === 'MILLRACE_CLOSED').length, 1);
  });
}

test("under validation 'drop' a call during close() is counted, and one after it throws", async () => {
  const ta = new Analytics(new AsyncBatchConsumer({ url: receiver.url, appId: 'A' }), {
    validation: 'drop',
    onError: () => {},
  });
  ta.track({ accountId: 'u', event: 'e' });
  const closing = ta.close();
  const outcomes: SettledOutcome[] = [];
  assert.equal(
    ta.track({ accountId: 'u', event: 'late', onSettled: (outcome) => outcomes.push(outcome) }),
    false,
  );
  const metrics = await ta.register.metrics();
  assert.match(metrics, /invalid_total\{[^}]*reason="closed"[^}]*\} 1\n/);
  assertBalanced(await closing);
  assert.deepEqual([ta.stats().delivered, ta.stats().dropped.invalid], [1, 1]);
  assert.equal(outcomes[0]?.state, 'dropped');
  assert.throws(() => ta.track({ accountId: 'u', event: 'e' }), { code: 'MILLRACE_CLOSED' });
});

// Method: close() waits for a receiver that never answers; closeSync() comes meanwhile.
test('closeSync() in the middle of close() ends both', async () => {
  await receiver.setFaults([{ action: { kind: 'hang' } }]);
  const directory = newDirectory();
  const open = () =>
    new Analytics(
      new AsyncBatchConsumer({
        url: receiver.url,
        appId: 'A',
        workers: 1,
        spool: { directory },
        durability: 'spool-first',
      }),
      { onError: () => {} },
    );
  const ta = open();
  for (let index = 0; index < 10; index += 1) ta.track({ accountId: `u${index}`, event: 'e' });
  await ta.flush();
  const closing = ta.close({ timeoutMs: 3_600_000 });
  await new Promise((resolve) => setTimeout(resolve, 50));
  const stats = ta.closeSync({ timeoutMs: 500 });
  assertBalanced(stats);
  assert.equal(stats.spooled, 10);
  const { oldestAgeMs: _, ...account } = await closing;
  const later = ta.stats();
  assert.deepEqual({ ...later, ...account }, later);
  await receiver.setFaults([]);
  // The spool was given back.
  const next = await open().close();
  assertBalanced(next);
  assert.deepEqual([next.recovered, next.delivered], [10, 10]);
});

// Method: a receiver that takes one record at a time; what it has taken by then is not left on disk.
test('closeSync() leaves no more on disk than it says, but for what is under way', async () => {
  await receiver.setFaults([{ action: { kind: 'delay', ms: 5 } }]);
  const directory = newDirectory();
  const open = (more: object = {}) =>
    new Analytics(
      new AsyncBatchConsumer({
        url: receiver.url,
        appId: 'A',
        workers: 1,
        lanes: 2,
        batchSize: 1,
        spool: { directory },
        ...more,
      }),
      { onError: () => {} },
    );
  const ta = open({ durability: 'spool-first' });
  for (let index = 0; index < 200; index += 1) ta.track({ accountId: `u${index}`, event: 'e' });
  await until(() => ta.stats().delivered >= 40, 'some are delivered');
  // It returns when all is on disk; the time is for the workers, to note there what has been delivered.
  const stats = ta.closeSync({ timeoutMs: 20_000 });
  assertBalanced(stats);
  await ta.close();
  await receiver.setFaults([]);
  const next = await open().close();
  assertBalanced(next);
  const underWay = 2;
  assert.ok(next.recovered <= stats.spooled, `${next.recovered} of ${stats.spooled}`);
  assert.ok(next.recovered >= stats.spooled - underWay, `${next.recovered} of ${stats.spooled}`);
  assert.equal((await receiver.snapshot()).unique, stats.accepted - stats.dropped.shutdown);
});

test('a record that waits is as old as it is, however long the client has been open', async () => {
  await receiver.setFaults([{ action: { kind: 'hang' } }]);
  const { now } = Date;
  const daysAgo = 2 ** 32 + 5000;
  Date.now = () => now() - daysAgo;
  const ta = new Analytics(new AsyncBatchConsumer({ url: receiver.url, appId: 'A' }), {
    onError: () => {},
  });
  Date.now = now;
  ta.track({ accountId: 'u', event: 'e' });
  await until(() => ta.stats().oldestAgeMs > 0, 'it waits');
  assert.ok(ta.stats().oldestAgeMs < 60_000, `${ta.stats().oldestAgeMs} ms`);
  assertBalanced(await ta.close({ timeoutMs: 100 }));
  await receiver.setFaults([]);
});

/** Counts what callers were told of their records. */
class Told {
  readonly counts: Record<string, number> = {};

  readonly hear = ({ state, reason }: SettledOutcome): void => {
    const key = reason === undefined ? state : `${state} ${reason}`;
    this.counts[key] = (this.counts[key] ?? 0) + 1;
  };
}

// Goal: what has an answer counts as what it was answered. Method: the first of several batches under way is never answered.
for (const close of ['close', 'closeSync'] as const) {
  test(`with ordering 'none', ${close}() counts what was answered behind a batch that was not`, async () => {
    await receiver.setFaults([{ action: { kind: 'hang' }, requests: 1 }]);
    const told = new Told();
    const ta = new Analytics(
      new AsyncBatchConsumer({
        url: receiver.url,
        appId: 'A',
        workers: 1,
        lanes: 1,
        batchSize: 10,
        ordering: 'none',
      }),
      { onError: () => {} },
    );
    for (let index = 0; index < 40; index += 1) {
      ta.track({ accountId: 'u', event: 'e', onSettled: told.hear });
    }
    await until(() => told.counts.delivered === 30, 'the others are answered');
    const stats =
      close === 'close' ? await ta.close({ timeoutMs: 200 }) : ta.closeSync({ timeoutMs: 200 });
    await ta.close();
    await receiver.setFaults([]);
    assertBalanced(stats);
    assert.deepEqual([stats.delivered, stats.dropped.shutdown, stats.queued], [30, 10, 0]);
    assert.deepEqual(told.counts, { delivered: 30, 'dropped shutdown': 10 });
  });
}

test("with ordering 'none' and a spool, close() saves what is under way", async () => {
  await receiver.setFaults([{ action: { kind: 'hang' } }]);
  const ta = new Analytics(
    new AsyncBatchConsumer({
      url: receiver.url,
      appId: 'A',
      workers: 1,
      lanes: 1,
      ordering: 'none',
      spool: { directory: newDirectory() },
    }),
    { onError: () => {} },
  );
  for (let index = 0; index < 100; index += 1) ta.track({ accountId: 'u', event: 'e' });
  const stats = await ta.close({ timeoutMs: 2000 });
  await receiver.setFaults([]);
  assertBalanced(stats);
  assert.deepEqual([stats.spooled, stats.dropped.shutdown], [100, 0]);
});

// Method: the records of a batch give way while a worker waits for an answer to it; then that worker ends.
test('the caller of a record that gave way in the hands of a worker hears of it when that worker ends', async () => {
  await receiver.setFaults([{ action: { kind: 'hang' } }]);
  const workers = new Set<Worker>();
  const note = (worker: Worker) => workers.add(worker);
  process.on('worker', note);
  const told = new Told();
  const ta = new Analytics(
    new AsyncBatchConsumer({
      url: receiver.url,
      appId: 'A',
      workers: 1,
      lanes: 1,
      batchSize: 10,
      ringBytes: 64 * 1024,
      overflow: 'drop-oldest',
    }),
    { onError: () => {} },
  );
  for (let index = 0; index < 10; index += 1) {
    ta.track({ accountId: 'u', event: 'e', onSettled: told.hear });
  }
  await until(async () => (await receiver.snapshot()).requests > 0, 'the batch is under way');
  let more = 0;
  for (; ta.stats().dropped.overflow_oldest === 0; more += 1)
    ta.track({ accountId: 'u', event: 'more' });
  assert.deepEqual(told.counts, {}, 'nobody knows yet what becomes of them');
  for (const worker of workers) await worker.terminate();
  process.off('worker', note);
  await until(() => told.counts['dropped overflow'] === 10, 'they are told');
  const during = ta.stats();
  assertBalanced(during);
  assert.equal(during.accepted, 10 + more);
  await receiver.setFaults([]);
  const stats = await ta.close();
  assertBalanced(stats);
  assert.equal(stats.delivered + stats.dropped.overflow_oldest, stats.accepted);
  assert.deepEqual(told.counts, { 'dropped overflow': 10 });
});

test('a time that is no number is no time', async () => {
  await receiver.setFaults([{ action: { kind: 'hang' } }]);
  const ta = new Analytics(new AsyncBatchConsumer({ url: receiver.url, appId: 'A' }), {
    onError: () => {},
  });
  ta.track({ accountId: 'u', event: 'e' });
  assert.equal(ta.flushSync({ timeoutMs: Number.NaN }), false);
  await assert.rejects(ta.flush({ timeoutMs: Number.NaN }), { code: 'MILLRACE_TIMEOUT' });
  const stats = await ta.close({ timeoutMs: Number.NaN });
  await receiver.setFaults([]);
  assertBalanced(stats);
  assert.equal(stats.dropped.shutdown, 1);
});

// Goal: together they block no longer than one of them may. Method: parties that note what is asked of them.
test('clients that are open at an exit get their time side by side, not one after the other', () => {
  const steps: string[] = [];
  const starts = new Set<number>();
  const party = (name: string): ExitParty => ({
    hurryAtExit: () => steps.push(`${name} hurries`),
    flushAtExit: (startMs) => {
      starts.add(startMs);
      steps.push(`${name} flushes`);
    },
    hurrySavingAtExit: () => steps.push(`${name} hurries to save`),
    saveAtExit: (startMs) => {
      starts.add(startMs);
      steps.push(`${name} saves`);
      return 0;
    },
  });
  saveAll([party('a'), party('b')]);
  const order = ['hurries', 'flushes', 'hurries to save', 'saves'];
  assert.deepEqual(
    steps,
    order.flatMap((step) => [`a ${step}`, `b ${step}`]),
  );
  assert.equal(starts.size, 1, 'their time begins at once');
});
