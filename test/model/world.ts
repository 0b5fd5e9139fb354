import { createRequire, syncBuiltinESMExports } from 'node:module';
import type * as TimersPromises from 'node:timers/promises';

/** Whoever does something in the world: a turn, the engine's thread, the network. */
export interface Actor {
  readonly name: string;
  /** Accesses to shared words and to the disk so far. */
  accesses: number;
  /** Whether its thread is gone: nothing it does has an effect any more. */
  isDead: boolean;
}

/** Drawn from a seed: the same seed draws the same. */
export class Dice {
  #state: number;

  constructor(seed: number) {
    this.#state = seed | 0;
  }

  /** In [0, 1). */
  next(): number {
    this.#state = (this.#state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(this.#state ^ (this.#state >>> 15), 1 | this.#state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  }

  /** A whole number in [0, count). */
  below(count: number): number {
    return Math.floor(this.next() * count);
  }

  isBelow(share: number): boolean {
    return this.next() < share;
  }
}

interface Event {
  readonly atMs: number;
  readonly number: number;
  readonly actor: Actor;
  readonly run: () => void;
}

interface Waiting {
  readonly words: Int32Array;
  readonly index: number;
  readonly wake: (how: 'ok' | 'timed-out') => void;
}

/** What a dead actor meets wherever it goes on. */
export class Killed extends Error {}

/** Time that anything takes at most to follow when it is due, in ms: so due events come in any order. */
const SHUFFLE_MS = 3;
const EPOCH_MS = 1_700_000_000_000;

const timersPromises = createRequire(import.meta.url)(
  'node:timers/promises',
) as typeof TimersPromises;

/**
 * A machine of one thread: time passes only from event to event, and which of the due events comes next is drawn from
 * the seed. Timers, waits and clocks of the code that runs in it are the world's, as long as {@link live} runs.
 */
export class World {
  readonly dice: Dice;
  readonly main: Actor = { name: 'main', accesses: 0, isDead: false };
  /** Who runs now. */
  actor: Actor = this.main;
  nowMs = 1000;
  /** Added to the wall clock. */
  wallShiftMs = 0;
  events = 0;
  /** Called at each access of a living actor other than main; may do anything, also kill it. */
  onAccess: (actor: Actor) => void = () => {};
  readonly #queue: Event[] = [];
  #waiting: Waiting[] = [];
  #number = 0;
  readonly #real = { atomics: globalThis.Atomics };

  constructor(seed: number) {
    this.dice = new Dice(seed);
  }

  /** Does something later, in the name of an actor; if that one is dead by then, not at all. */
  at(ms: number, actor: Actor, run: () => void): () => void {
    const number = this.#number;
    this.#number += 1;
    const atMs = this.nowMs + ms + this.dice.next() * SHUFFLE_MS;
    this.#queue.push({ atMs, number, actor, run });
    return () => {
      const index = this.#queue.findIndex((event) => event.number === number);
      if (index >= 0) this.#queue.splice(index, 1);
    };
  }

  /** Runs events until `isDone`. False: there is none left, or there were too many. */
  async run(
    isDone: () => boolean,
    { eventsMax }: { readonly eventsMax: number },
  ): Promise<boolean> {
    for (let count = 0; count < eventsMax; count += 1) {
      if (isDone()) return true;
      const event = this.#takeNext();
      if (event === undefined) return false;
      this.events += 1;
      this.nowMs = Math.max(this.nowMs, event.atMs);
      if (event.actor.isDead) continue;
      this.as(event.actor, event.run);
      await this.#settle(event.actor);
    }
    return isDone();
  }

  #takeNext(): Event | undefined {
    let best = -1;
    for (const [index, event] of this.#queue.entries()) {
      if (best < 0 || event.atMs < (this.#queue[best]?.atMs ?? 0)) best = index;
    }
    return best < 0 ? undefined : this.#queue.splice(best, 1)[0];
  }

  /** Lets everything that follows from the last event happen, in its actor's name. */
  async #settle(actor: Actor): Promise<void> {
    this.actor = actor;
    // A tick comes when no promise has anything left to do; unlike a turn of the loop it asks the system for nothing.
    await new Promise<void>((resolve) => process.nextTick(resolve));
    this.actor = this.main;
  }

  /** Does something in an actor's name, now. */
  as<T>(actor: Actor, run: () => T): T {
    const before = this.actor;
    this.actor = actor;
    try {
      return run();
    } finally {
      this.actor = before;
    }
  }

  /** An access of whoever runs now; throws {@link Killed} if it must not have happened. */
  access(): void {
    const { actor } = this;
    if (actor === this.main) return;
    if (actor.isDead) throw new Killed();
    actor.accesses += 1;
    this.onAccess(actor);
    if (actor.isDead) throw new Killed();
  }

  /** Runs `work` with the world's time and waits in place of the machine's. */
  async live<T>(work: () => Promise<T>): Promise<T> {
    const restore = this.#takeOver();
    try {
      return await work();
    } finally {
      restore();
    }
  }

  #takeOver(): () => void {
    const before = {
      Atomics: globalThis.Atomics,
      setTimeout: globalThis.setTimeout,
      clearTimeout: globalThis.clearTimeout,
      setImmediate: globalThis.setImmediate,
    };
    const clocks = { now: Date.now, random: Math.random, bigint: process.hrtime.bigint };
    const promised = timersPromises.setTimeout;
    const later = (run: () => void, ms = 0) => this.at(ms, this.actor, run);
    Object.assign(globalThis, {
      Atomics: this.#atomics(),
      setTimeout: later,
      clearTimeout: (cancel: unknown) => typeof cancel === 'function' && cancel(),
      setImmediate: (run: () => void) => this.at(0, this.actor, run),
    });
    performance.now = () => this.nowMs;
    Date.now = () => Math.floor(EPOCH_MS + this.nowMs + this.wallShiftMs);
    Math.random = () => this.dice.next();
    process.hrtime.bigint = () => BigInt(Math.floor(this.nowMs * 1e6));
    const delay = <T>(ms = 0, value?: T) =>
      new Promise<T>((resolve) => later(() => resolve(value as T), ms));
    Object.assign(timersPromises, { setTimeout: delay });
    syncBuiltinESMExports();
    return () => {
      Object.assign(globalThis, before);
      Reflect.deleteProperty(performance, 'now');
      Date.now = clocks.now;
      Math.random = clocks.random;
      process.hrtime.bigint = clocks.bigint;
      Object.assign(timersPromises, { setTimeout: promised });
      syncBuiltinESMExports();
    };
  }

  #atomics(): typeof Atomics {
    const real = this.#real.atomics;
    const shim: Record<string, unknown> = {};
    for (const name of ['load', 'store', 'add', 'exchange', 'compareExchange'] as const) {
      const run = real[name] as (...args: unknown[]) => unknown;
      shim[name] = (...args: unknown[]) => {
        this.access();
        return run(...args);
      };
    }
    shim.notify = (words: Int32Array, index: number) => {
      this.access();
      return this.#notify(words, index);
    };
    shim.waitAsync = (words: Int32Array, index: number, value: number, timeoutMs?: number) => {
      this.access();
      if (real.load(words, index) !== value) return { async: false, value: 'not-equal' };
      return { async: true, value: this.#wait(words, index, timeoutMs) };
    };
    return Object.assign(Object.create(real), shim) as typeof Atomics;
  }

  #wait(words: Int32Array, index: number, timeoutMs = Number.POSITIVE_INFINITY): Promise<unknown> {
    const { actor } = this;
    return new Promise((resolve) => {
      const end = (how: 'ok' | 'timed-out') => {
        this.#waiting = this.#waiting.filter((other) => other !== waiting);
        resolve(how);
      };
      const cancel = Number.isFinite(timeoutMs)
        ? this.at(timeoutMs, actor, () => end('timed-out'))
        : () => {};
      const wake = (how: 'ok' | 'timed-out') => {
        cancel();
        this.at(0, actor, () => end(how));
      };
      const waiting: Waiting = { words, index, wake };
      this.#waiting.push(waiting);
    });
  }

  #notify(words: Int32Array, index: number): number {
    const woken = this.#waiting.filter(
      (waiting) => waiting.index === index && waiting.words.buffer === words.buffer,
    );
    for (const waiting of woken) {
      this.#waiting = this.#waiting.filter((other) => other !== waiting);
      waiting.wake('ok');
    }
    return woken.length;
  }
}
