import { performance } from 'node:perf_hooks';
import { setTimeout as delay } from 'node:timers/promises';
import type { EventFields } from '../src/index.ts';
import { type Quantiles, quantilesOf } from './measure.ts';
import { at, type PeerClient } from './peers/peer.ts';

/** So many calls, one after the other, then a flush that is not timed. */
export interface CallsTask {
  readonly exercise: 'calls';
  readonly calls: number;
}

/** As fast as they are delivered, for so long. */
export interface StreamTask {
  readonly exercise: 'stream';
  readonly seconds: number;
}

/** At a rate, in ticks. */
export interface PacedTask {
  readonly exercise: 'paced';
  readonly seconds: number;
  /** Records a second. */
  readonly rate: number;
  /** Ticks a second. */
  readonly hz: number;
  /** Whether each record says when it was sent, as `sent_us` of the monotonic clock. */
  readonly stamps?: boolean;
}

export type Task = CallsTask | StreamTask | PacedTask;

/** What an exercise says of itself; a figure that it doesn't measure is left out. */
export interface Outcome {
  readonly sent: number;
  /** From the first call until the last record was delivered, or lost. */
  readonly seconds: number;
  /** The main thread's busy time for one record, calls and all that comes after them. */
  readonly loopNs: number;
  /** Of the whole process in that time. */
  readonly cpuSeconds: number;
  /** Most memory of the process so far. */
  readonly rssPeakMb: number;
  /** Cost of one call to its caller. */
  readonly callNs: number;
  /** Allocated for one call on the caller's heap; only where the collector can be kept away. */
  readonly callBytes?: number;
  /** How late ticks began. */
  readonly lateMs?: Quantiles;
  /** Time of a tick spent in calls. */
  readonly tickMs?: Quantiles;
}

/** Records that may be on their way: without a bound some products only fill the memory. */
const OUTSTANDING_MAX = 20_000;
/** Calls between two looks at the clock. */
const SLICE = 500;
/** Calls whose allocations are measured: the young generation must hold all of it. */
const ALLOCATION_CALLS = 1000;

/** Runs one exercise with one contestant that tracks these events. */
export async function run(athlete: Athlete, task: Task): Promise<Outcome> {
  const before = process.cpuUsage();
  const loop = performance.eventLoopUtilization();
  const startMs = performance.now();
  const part = await start(athlete, task);
  const endMs = await athlete.client.flush();
  const { user, system } = process.cpuUsage(before);
  const { active } = performance.eventLoopUtilization(loop);
  return {
    ...part,
    seconds: (endMs - startMs) / 1000,
    loopNs: (active * 1e6) / Math.max(1, part.sent),
    cpuSeconds: (user + system) / 1e6,
    rssPeakMb: process.resourceUsage().maxRSS / 1024,
  };
}

/** A contestant, and what it is given. */
export interface Athlete {
  readonly client: PeerClient;
  readonly events: readonly EventFields[];
}

type Part = Pick<Outcome, 'sent' | 'callNs' | 'callBytes' | 'lateMs' | 'tickMs'>;

function start({ client, events }: Athlete, task: Task): Part | Promise<Part> {
  if (task.exercise === 'calls') return calls(client, task);
  if (task.exercise === 'stream') return stream(client, task);
  return pace(task.stamps === true ? stamping(client, events) : client, task);
}

/** The same contestant with a fresh time in each event. */
function stamping(client: PeerClient, events: readonly EventFields[]): PeerClient {
  const zeroUs = Number(process.hrtime.bigint() / 1000n) - performance.now() * 1000;
  return {
    ...client,
    track: (index) => {
      const { properties } = at(events, index);
      const fresh = { sent_us: Math.round(zeroUs + performance.now() * 1000) };
      Object.assign(properties ?? {}, fresh);
      client.track(index);
    },
  };
}

function calls(client: PeerClient, { calls }: CallsTask): Part {
  const startMs = performance.now();
  for (let index = 0; index < calls; index += 1) client.track(index);
  const callNs = ((performance.now() - startMs) * 1e6) / calls;
  const callBytes = allocation(client);
  return callBytes === undefined
    ? { sent: calls, callNs }
    : { sent: calls + ALLOCATION_CALLS, callNs, callBytes };
}

/** Only where a collection can be asked for, so that none comes in between. */
function allocation(client: PeerClient): number | undefined {
  if (globalThis.gc === undefined) return undefined;
  globalThis.gc();
  const before = process.memoryUsage().heapUsed;
  for (let index = 0; index < ALLOCATION_CALLS; index += 1) client.track(index);
  return Math.max(0, process.memoryUsage().heapUsed - before) / ALLOCATION_CALLS;
}

async function stream(client: PeerClient, { seconds }: StreamTask): Promise<Part> {
  const endMs = performance.now() + seconds * 1000;
  let sent = 0;
  let callMs = 0;
  while (performance.now() < endMs) {
    const fromMs = performance.now();
    for (let index = 0; index < SLICE; index += 1) client.track(sent + index);
    callMs += performance.now() - fromMs;
    sent += SLICE;
    // A game's loop turns, too.
    await new Promise((resolve) => setImmediate(resolve));
    while ((client.outstanding?.() ?? 0) > OUTSTANDING_MAX && performance.now() < endMs) {
      await delay(1);
    }
  }
  return { sent, callNs: (callMs * 1e6) / sent };
}

async function pace(client: PeerClient, { seconds, rate, hz }: PacedTask): Promise<Part> {
  const lateMs: number[] = [];
  const tickMs: number[] = [];
  const startMs = performance.now();
  const ticks = Math.round(seconds * hz);
  let sent = 0;
  for (let tick = 1; tick <= ticks; tick += 1) {
    const dueMs = startMs + (tick * 1000) / hz;
    const leftMs = dueMs - performance.now();
    // setTimeout() may be a little early; a tick never is.
    if (leftMs > 0) await delay(Math.ceil(leftMs));
    const fromMs = performance.now();
    lateMs.push(fromMs - dueMs);
    const until = Math.round((rate * tick) / hz);
    for (; sent < until; sent += 1) client.track(sent);
    tickMs.push(performance.now() - fromMs);
  }
  const callMs = tickMs.reduce((sum, ms) => sum + ms, 0);
  return {
    sent,
    callNs: (callMs * 1e6) / Math.max(1, sent),
    lateMs: quantilesOf(lateMs),
    tickMs: quantilesOf(tickMs),
  };
}
