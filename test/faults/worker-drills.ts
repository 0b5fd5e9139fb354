import assert from 'node:assert/strict';
import { BroadcastChannel, type Worker } from 'node:worker_threads';
import type { Analytics } from '../../src/index.ts';
import { DEATH_CHANNEL, type Death } from '../dying-worker.ts';
import { metricIn, until } from '../support.ts';
import {
  assertNoLoss,
  type Drill,
  type DrillTools,
  delay,
  type Finding,
  optionsOf,
  quantile,
  reconcile,
} from './drill.ts';
import { open, Receiver, Sender, trackOne } from './stage.ts';

/** The worker threads of this process, and how long each took from its birth to its first words. */
class ThreadWatch {
  readonly ready = new Set<Worker>();
  readonly #watch = (thread: Worker) => {
    thread.once('message', () => {
      this.ready.add(thread);
      this.#readyMs.push(performance.now());
    });
    thread.once('exit', () => this.ready.delete(thread));
  };
  #readyMs: number[] = [];

  constructor() {
    process.on('worker', this.#watch);
  }

  /** When a thread that was not there at `sinceMs` was ready. */
  async nextReadyMs(sinceMs: number): Promise<number> {
    const found = () => this.#readyMs.find((ms) => ms > sinceMs);
    await until(() => found() !== undefined, 'another thread is ready');
    return found() ?? Number.NaN;
  }

  pick(random: (below: number) => number): Worker | undefined {
    return [...this.ready][random(this.ready.size)];
  }

  stop(): void {
    process.off('worker', this.#watch);
  }
}

const BATCH = 100;

/** Lets threads die at random moments under load, one after the other. */
async function workersKilled(
  death: Death | 'terminate',
  { random, pick }: DrillTools,
): Promise<Finding> {
  const kills = pick({ quick: 5, usual: death === 'terminate' ? 200 : 20, full: 1000 });
  const threads = new ThreadWatch();
  const orders = new BroadcastChannel(DEATH_CHANNEL);
  const receiver = await Receiver.start();
  const workerFile = new URL('../dying-worker.js', import.meta.url);
  // One lane a thread: what is in the hands of one that dies is one batch.
  const ta = open(receiver, {
    overflow: 'block',
    lanes: 2,
    batchSize: BATCH,
    workerFile,
    workerHeapMb: 32,
  });
  const respawnsMs: number[] = [];
  let tracked = 0;
  for (let round = 0; round < kills; round += 1) {
    for (let index = 0; index < 200; index += 1, tracked += 1) trackOne(ta, tracked);
    await until(() => threads.ready.size === 2, 'both threads are there');
    await delay(random(30));
    const victim = threads.pick(random);
    assert.ok(victim !== undefined);
    const gone = new Promise((resolve) => victim.once('exit', resolve));
    if (death === 'terminate') victim.terminate();
    else orders.postMessage({ threadId: victim.threadId, death });
    await gone;
    const goneMs = performance.now();
    respawnsMs.push((await threads.nextReadyMs(goneMs)) - goneMs);
  }
  orders.close();
  await ta.flush({ timeoutMs: 60_000 });
  const restarts = metricIn(await ta.register.metrics(), 'millrace_worker_restarts_total');
  const stats = await ta.close();
  threads.stop();
  await receiver.stop();
  assert.deepEqual([restarts, stats.workers.restarts], [kills, kills]);
  const slowest = Math.max(...respawnsMs);
  assert.ok(slowest <= 1000, `a thread was replaced after ${slowest} ms`);
  const finding = assertNoLoss(reconcile(stats, receiver.numbers()));
  assert.ok(finding.duplicates <= kills * BATCH, `${finding.duplicates} repeated`);
  const measured = `${kills} kills = millrace_worker_restarts_total ${restarts}; replaced after ${Math.round(quantile(respawnsMs, 0.5))} ms, at most ${Math.round(slowest)}; bound of repeats ${kills * BATCH}`;
  return { ...finding, measured };
}

/** Calls `track` for so long, and tells the 99th percentile of a call in ns; the median of several windows. */
async function trackCost(
  ta: Analytics,
  { from, forMs }: { from: number; forMs: number },
): Promise<{ p99: number; next: number }> {
  const costs: number[] = [];
  let index = from;
  const endMs = performance.now() + forMs;
  while (performance.now() < endMs) {
    for (let burst = 0; burst < 100; burst += 1, index += 1) {
      const before = process.hrtime.bigint();
      trackOne(ta, index);
      costs.push(Number(process.hrtime.bigint() - before));
    }
    await delay(5);
  }
  return { p99: quantile(costs, 0.99), next: index };
}

const WINDOW_MS = 2500;

/** A thread falls into an endless loop, several times; the costs of calls before and meanwhile are compared. */
async function workerHangs({ random, pick }: DrillTools): Promise<Finding> {
  const rounds = pick({ quick: 1, usual: 3, full: 20 });
  const threads = new ThreadWatch();
  const orders = new BroadcastChannel(DEATH_CHANNEL);
  const receiver = await Receiver.start();
  const workerFile = new URL('../dying-worker.js', import.meta.url);
  const ta = open(receiver, { overflow: 'block', lanes: 2, batchSize: BATCH, workerFile });
  let { next } = await trackCost(ta, { from: 0, forMs: WINDOW_MS });
  const noticedMs: number[] = [];
  const [calm, hung]: [number[], number[]] = [[], []];
  for (let round = 0; round < rounds; round += 1) {
    await until(() => threads.ready.size === 2, 'both threads are there');
    const before = await trackCost(ta, { from: next, forMs: WINDOW_MS });
    const victim = threads.pick(random);
    assert.ok(victim !== undefined);
    const gone = new Promise((resolve) => victim.once('exit', resolve));
    const orderedMs = performance.now();
    orders.postMessage({ threadId: victim.threadId, death: 'hang' });
    const meanwhile = await trackCost(ta, { from: before.next, forMs: WINDOW_MS });
    await gone;
    noticedMs.push(performance.now() - orderedMs);
    calm.push(before.p99);
    hung.push(meanwhile.p99);
    next = meanwhile.next;
  }
  orders.close();
  await ta.flush({ timeoutMs: 60_000 });
  const stats = await ta.close();
  threads.stop();
  await receiver.stop();
  const slowest = Math.max(...noticedMs);
  assert.ok(slowest <= 5000, `noticed after ${slowest} ms`);
  assert.equal(stats.workers.restarts, rounds);
  const [before, meanwhile] = [quantile(calm, 0.5), quantile(hung, 0.5)];
  const change = (meanwhile / before - 1) * 100;
  assert.ok(change <= 20, `p99 of track went from ${before} to ${meanwhile} ns`);
  const finding = assertNoLoss(reconcile(stats, receiver.numbers()));
  assert.ok(finding.duplicates <= rounds * BATCH, `${finding.duplicates} repeated`);
  const measured = `ended after at most ${(slowest / 1000).toFixed(1)} s; p99 of track() ${before} ns before, ${meanwhile} ns meanwhile (${change.toFixed(0)} %)`;
  return { ...finding, measured };
}

/** Longest wait of a batch plus what a busy machine needs to deliver 10 000 records. */
const LINGER_MS = 10;
const DELIVERY_MS = 2000;

async function stalled({ pick }: DrillTools): Promise<Finding> {
  const stallMs = pick({ quick: 3000, usual: 10_000, full: 10_000 });
  const receiver = await Receiver.start();
  const job = { from: 0, to: 20_000, perTick: 5000, tickMs: 1, end: 'close' } as const;
  const stall = { at: 10_000, ms: stallMs };
  const options = optionsOf(receiver, { lingerMs: LINGER_MS });
  const sender = new Sender({ options, ...job, stall });
  await sender.untilAccepted(10_000);
  const startMs = performance.now();
  // All that was tracked before the main thread stood still is delivered by the workers alone.
  const records = async () => (await receiver.process.snapshot()).records;
  await until(async () => (await records()) === 10_000, 'the first half has arrived');
  const tookMs = performance.now() - startMs;
  assert.ok(tookMs < LINGER_MS + DELIVERY_MS, `it took ${tookMs} ms`);
  const stats = await sender.finish();
  await receiver.stop();
  const turns = metricIn(sender.metrics, 'millrace_turns_total');
  // A lane gets a turn when it has something, and another after it was idle: no storm of turns when the loop goes on.
  assert.ok(turns <= 4 * 4, `${turns} turns`);
  assert.equal(stats.workers.restarts, 0);
  const measured = `all of before arrived ${Math.round(tookMs)} ms into the stall of ${stallMs} ms; ${turns} turns of 4 lanes in all, no thread replaced`;
  return { ...assertNoLoss(reconcile(stats, receiver.numbers())), measured };
}

function killDrill(id: string, death: Death | 'terminate', fault: string): Drill {
  return {
    row: 'F12',
    id,
    fault,
    promise: 'all arrive',
    run: (tools) => workersKilled(death, tools),
  };
}

/** What becomes of threads. */
export const WORKER_DRILLS: readonly Drill[] = [
  killDrill('F12a', 'terminate', 'worker threads terminated at random moments'),
  killDrill('F12b', 'exit', 'worker threads call `process.exit(1)`'),
  killDrill('F12c', 'throw', 'worker threads throw what nobody catches'),
  killDrill('F12d', 'starve', 'worker threads use up their heap'),
  {
    row: 'F13',
    id: 'F13',
    fault: 'worker threads fall into an endless loop',
    promise: 'ended and replaced within 5 s; all arrive',
    run: workerHangs,
  },
  {
    row: 'F14',
    id: 'F14',
    fault: 'the main thread stands still for 10 s',
    promise: 'all arrive, those before it meanwhile',
    run: stalled,
  },
];
