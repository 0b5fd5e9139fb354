import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { createServer, type Server } from 'node:net';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import type { Stats } from '../src/index.ts';
import {
  assertBalanced,
  newDirectory,
  repositoryRoot,
  runProgram,
  TestReceiver,
} from './support.ts';

const MIB: number = 1024 * 1024;
/** What docs/delivery.md promises: so much for an engine, and again for each of its workers. */
const BESIDE_RING_MIB = 32;
const WORKERS = 2;
const RING_MIB = 16;
const STEPS = 12;
const CALLS_A_STEP = 200_000;
/** Steps until the ring is full, every buffer has its size, and the code is compiled. */
const WARM_STEPS = 4;
/** Below ten bytes a call after that: garbage that has not been collected yet, but no list. */
const GROWTH_MIB = 16;

let hole: Server;
let receiver: TestReceiver;

before(async () => {
  // Takes connections and what comes through them, and never answers.
  hole = createServer((socket) => {
    socket.on('error', () => {});
    socket.resume();
  });
  await new Promise<void>((resolve) => hole.listen(0, '127.0.0.1', resolve));
  receiver = await TestReceiver.start();
  await receiver.setFaults([{ action: { kind: 'status', status: 503 } }]);
});
after(async () => {
  hole.close();
  await receiver.stop();
});

test('the bound is the one the documentation states', () => {
  const text = readFileSync(join(repositoryRoot(), 'docs', 'delivery.md'), 'utf8');
  const words = `at most ${BESIDE_RING_MIB} MiB for itself and ${BESIDE_RING_MIB} MiB a worker`;
  assert.ok(text.includes(words), words);
});

interface Measured {
  readonly rss: number;
  readonly heapUsed: number;
}

// Goal: a dead receiver costs the ring and a constant, never more with time. Method: a process of its own tracks as fast as it can;
// after each step it collects its garbage and looks at all of its memory, that of its threads included.
const CASES: readonly (readonly [string, 'hole' | '503', () => object])[] = [
  ['drop-newest, a receiver that never answers', 'hole', () => ({ overflow: 'drop-newest' })],
  ['drop-oldest, a receiver that refuses', '503', () => ({ overflow: 'drop-oldest' })],
  [
    'spool, a receiver that refuses',
    '503',
    () => ({ spool: { directory: newDirectory(), maxBytes: 8 * MIB, fsync: 'never' } }),
  ],
];

for (const [what, target, more] of CASES) {
  test(`memory stays below the ring and a constant, and does not grow (${what})`, async (context) => {
    const address = hole.address();
    assert.ok(typeof address === 'object' && address !== null);
    const url = target === 'hole' ? `http://127.0.0.1:${address.port}` : receiver.url;
    const options = { workers: WORKERS, ringBytes: RING_MIB * MIB, ...more() };
    const run = await runProgram(
      'memory',
      [url, JSON.stringify(options), String(CALLS_A_STEP), String(STEPS)],
      { timeoutMs: 120_000 },
    );
    assert.equal(run.code, 0, run.stderr);
    const steps = run.messages.slice(0, STEPS) as Measured[];
    const stats = run.messages.at(-1) as Stats;
    assertBalanced(stats);
    assert.equal(stats.delivered, 0);
    const dropped = stats.dropped.overflow_newest + stats.dropped.overflow_oldest;
    assert.ok(dropped > (CALLS_A_STEP * STEPS) / 2, `${dropped} found no room`);

    const shown = steps.map(({ rss }) => Math.round(rss / MIB)).join(' ');
    context.diagnostic(`MiB after each step: ${shown}`);
    const most = Math.max(...steps.map(({ rss }) => rss)) / MIB;
    assert.ok(most <= RING_MIB + BESIDE_RING_MIB * (1 + WORKERS), shown);
    const [warm, last] = [steps[WARM_STEPS - 1], steps.at(-1)];
    assert.ok(warm !== undefined && last !== undefined);
    assert.ok((last.rss - warm.rss) / MIB <= GROWTH_MIB, shown);
    assert.ok((last.heapUsed - warm.heapUsed) / MIB <= GROWTH_MIB / 4, 'objects of the caller');
  });
}
