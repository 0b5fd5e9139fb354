import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, afterEach, before, beforeEach, test } from 'node:test';
import { Analytics, AsyncBatchConsumer, type MillraceError } from '../src/index.ts';
import { assertBalanced, isSlowLoading, newDirectory, TestReceiver, until } from './support.ts';

/** Longer than a thread may show no life (engine/supervisor.ts). */
const WRITE_MS = 4500;

let receiver: TestReceiver;

before(async () => {
  receiver = await TestReceiver.start();
});
beforeEach(() => receiver.reset());
afterEach(() => {
  delete process.env.MILLRACE_TEST_PIPE;
  delete process.env.MILLRACE_TEST_WRITE_MS;
});
after(() => receiver.stop());

function open(directory: string): { ta: Analytics; errors: MillraceError[] } {
  const errors: MillraceError[] = [];
  const ta = new Analytics(
    new AsyncBatchConsumer({
      url: receiver.url,
      appId: 'A',
      workers: 2,
      lanes: 2,
      durability: 'spool-first',
      spool: { directory },
      workerFile: new URL('./slow-spool-worker.js', import.meta.url),
    }),
    { onError: (error) => errors.push(error) },
  );
  return { ta, errors };
}

// Goal: a disk that takes seconds costs seconds, and nothing else. Method: the first write of the spool takes longer than a hung
// thread is given; the other worker's lane goes on meanwhile.
test('a write of the spool that takes seconds is waited for, and nobody is taken for hung', async () => {
  process.env.MILLRACE_TEST_WRITE_MS = String(WRITE_MS);
  const { ta, errors } = open(newDirectory());
  for (let index = 0; index < 200; index += 1) {
    ta.track({ accountId: `u${index}`, event: 'e', properties: { index } });
  }
  await until(() => ta.stats().delivered > 0, "the other worker's records are delivered");
  const behind = ta.stats();
  assert.ok(behind.delivered < 200, 'those on the slow disk are not');
  assertBalanced(behind);
  await ta.flush({ timeoutMs: 30_000 });
  const stats = await ta.close({ timeoutMs: 30_000 });
  assertBalanced(stats);
  assert.equal(stats.delivered, 200);
  assert.equal(stats.workers.restarts, 0);
  const { unique, duplicates } = await receiver.snapshot();
  assert.deepEqual([unique, duplicates], [200, 0]);
  assert.deepEqual(
    errors.filter((error) => !isSlowLoading(error)),
    [],
  );
});

test('close() ends in its time though the disk holds a thread, and counts what it could not save', async () => {
  const directory = newDirectory();
  const pipe = join(directory, 'pipe');
  execFileSync('mkfifo', [pipe]);
  process.env.MILLRACE_TEST_PIPE = pipe;
  const spool = join(directory, 'spool');
  const { ta } = open(spool);
  for (let index = 0; index < 200; index += 1) {
    ta.track({ accountId: `u${index}`, event: 'e', properties: { index } });
  }
  await until(() => ta.stats().delivered > 0, "the other worker's records are delivered");
  const startMs = performance.now();
  const stats = await ta.close({ timeoutMs: 1000 });
  const tookMs = performance.now() - startMs;
  assertBalanced(stats);
  assert.ok(stats.dropped.shutdown > 0);
  assert.equal(stats.delivered + stats.dropped.shutdown, 200);
  // The deadline, and what threads are given to be gone.
  assert.ok(tookMs < 10_000, `${tookMs} ms`);
  // The thread that is held might still write: so the folder stays taken, and the next client gets another.
  const next = new Analytics(
    new AsyncBatchConsumer({
      url: receiver.url,
      appId: 'A',
      workers: 1,
      spool: { directory: spool },
    }),
  );
  next.track({ accountId: 'u', event: 'e' });
  const account = await next.close();
  assertBalanced(account);
  assert.equal(account.delivered, 1);
  writeFileSync(pipe, '.');
});

// Goal: what is counted as dropped by the shutdown never comes up again, and what is counted as spooled does. Method: closeSync() comes
// while the disk takes its time for the first append; by the next start it has been in time for that, or too late.
for (const writeMs of [50, 200, 900]) {
  test(`closeSync() in the middle of an append counts it as what becomes of it (${writeMs} ms)`, async () => {
    process.env.MILLRACE_TEST_WRITE_MS = String(writeMs);
    await receiver.setFaults([{ action: { kind: 'hang' } }]);
    const directory = newDirectory();
    const { ta } = open(directory);
    for (let index = 0; index < 200; index += 1) ta.track({ accountId: `u${index}`, event: 'e' });
    const stats = ta.closeSync({ timeoutMs: 20 });
    assertBalanced(stats);
    assert.equal(stats.queued, 0);
    const account = await ta.close();
    assertBalanced(account);
    const left = { spooled: stats.spooled, shutdown: stats.dropped.shutdown };
    assert.deepEqual({ spooled: account.spooled, shutdown: account.dropped.shutdown }, left);
    await receiver.setFaults([]);
    await receiver.reset();
    const next = open(directory).ta;
    await until(() => next.stats().spooled === 0 && next.stats().queued === 0, 'all is replayed');
    const end = await next.close();
    assertBalanced(end);
    assert.equal(end.recovered, stats.spooled);
    assert.equal((await receiver.snapshot()).unique, stats.spooled);
  });
}
