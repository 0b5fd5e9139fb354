import assert from 'node:assert/strict';
import { MemoryDisk } from '../memory-disk.ts';
import { ModelProcess, type Weather } from './lane-world.ts';
import { ModelReceiver } from './model-receiver.ts';
import { loadSubject } from './subject.ts';
import { World } from './world.ts';

export interface OutagePlan {
  readonly seed: number;
  /** How long the receiver is dead, in the world's time. */
  readonly hours: number;
  readonly perSecond: number;
}

export interface OutageResult {
  readonly enqueued: number;
  readonly arrived: number;
  /** Gave way to newer ones. */
  readonly dropped: number;
  /** Requests that the dead receiver saw. */
  readonly requests: number;
  readonly longestPauseMs: number;
  /** Memory of this process after the first hour, and at the end. */
  readonly rssBytesStart: number;
  readonly rssBytesEnd: number;
}

const WEATHER: Weather = {
  lanes: 1,
  inFlightMax: 1,
  overflow: 'drop-oldest',
  spool: 'pressure',
  fsync: 'interval',
  retries: 'forever',
  spoolBytesMax: 64 * 1024,
  kills: 0,
  takeovers: 0,
  killers: 'none',
  keepsDeadLetters: false,
  bytesBefore: 0,
  tracks: 0,
  crowding: 0,
  diskFailures: 0,
};
const HOUR_MS = 3_600_000;
const SECOND_MS = 1000;
const TICK_MS = 10_000;

/**
 * A receiver that is dead for hours while records keep coming: the engine's lanes, turns and spool in a world whose time is
 * moved by hand. Asserts that the account adds up all the while, and that all is drained when the receiver is back.
 */
export async function simulateOutage(plan: OutagePlan): Promise<OutageResult> {
  const subject = await loadSubject();
  const world = new World(plan.seed);
  const receiver = new ModelReceiver(world, () => false);
  receiver.mood = 'dead';
  const parts = { world, subject, weather: WEATHER, receiver, disk: new MemoryDisk() };
  return world.live(async () => {
    const process = new ModelProcess(parts, 1);
    const tracked = new Offering(world, process, plan);
    await tracked.until(HOUR_MS);
    const rssBytesStart = rssBytes();
    await tracked.until(plan.hours * HOUR_MS);
    const rssBytesEnd = rssBytes();
    const { requests, longestPauseMs } = receiver;
    receiver.mood = 'well';
    process.flush();
    const isDrained = await world.run(() => process.isDrained, { eventsMax: 10_000_000 });
    assert.ok(isDrained, `something is stuck\n${process.describe()}`);
    process.check();
    return {
      enqueued: tracked.count,
      arrived: new Set(receiver.taken).size,
      dropped: process.dropped,
      requests,
      longestPauseMs,
      rssBytesStart,
      rssBytesEnd,
    };
  });
}

function rssBytes(): number {
  globalThis.gc?.();
  return process.memoryUsage.rss();
}

/** Tracks records at a steady rate of the world's time. */
class Offering {
  count = 0;
  readonly #world: World;
  readonly #process: ModelProcess;
  readonly #startMs: number;
  readonly #plan: OutagePlan;

  constructor(world: World, process: ModelProcess, plan: OutagePlan) {
    this.#world = world;
    this.#process = process;
    this.#plan = plan;
    this.#startMs = world.nowMs;
    this.#tick();
  }

  get #elapsedMs(): number {
    return this.#world.nowMs - this.#startMs;
  }

  #tick(): void {
    if (this.#elapsedMs >= this.#plan.hours * HOUR_MS) return;
    const due = (this.#elapsedMs / SECOND_MS) * this.#plan.perSecond;
    for (; this.count < due; this.count += 1) {
      assert.ok(this.#process.track(this.count % WEATHER.lanes, this.count), 'it is taken');
    }
    this.#process.check();
    this.#process.look();
    this.#world.at(TICK_MS, this.#world.main, () => this.#tick());
  }

  async until(ms: number): Promise<void> {
    const isOver = () => this.#elapsedMs >= ms;
    const isThere = await this.#world.run(isOver, { eventsMax: Number.MAX_SAFE_INTEGER });
    assert.ok(isThere, 'time goes on');
  }
}
