import assert from 'node:assert/strict';

/**
 * Runs pieces of real code as threads over shared words, in every order their accesses to those words can have.
 *
 * A thread is a function. It is run up to its next access and broken off there by an exception; to go on, it is run again from
 * the beginning, the accesses it has made answered from the record. So no thread of the machine is needed,
 * nothing is timed, and a state is the words together with what each thread has seen: a state reached twice is explored once.
 */
export interface Litmus {
  /** Words that the threads share; changed only by them. */
  readonly memory: SharedArrayBuffer;
  /** Int32 indices between whose accesses others may run; all other accesses go with the one before. */
  readonly isShared: (word: number) => boolean;
  readonly threads: readonly LitmusThread[];
  /** Whether waits may end by their time-out. */
  readonly timesOut?: boolean;
  /** Checks the end of one run, when no thread can go on; throws what is wrong. */
  readonly finish: (end: LitmusEnd) => void;
}

export interface LitmusThread {
  readonly name: string;
  /**
   * What it returns is what {@link LitmusEnd} tells. Must depend on nothing but the words. {@link AGAIN}: it goes on from its
   * beginning and remembers nothing: a loop whose states repeat.
   */
  readonly run: (views: LitmusViews) => unknown;
  /** Whether it has been started; default: from the beginning. */
  readonly isStarted?: (words: Int32Array) => boolean;
}

/** Views whose accesses are steps of the thread that has them. */
export interface LitmusViews {
  readonly words: Int32Array;
  readonly floats: Float64Array;
}

export interface LitmusEnd {
  readonly words: Int32Array;
  readonly floats: Float64Array;
  /** By thread: what it returned; 'asleep', 'not started'. */
  readonly results: readonly unknown[];
}

export interface Exploration {
  readonly states: number;
  readonly ends: number;
}

/** Raised by the code under test or by `finish`, with the order of steps that leads there. */
export class LitmusFailure extends Error {
  readonly trace: readonly string[];

  constructor(cause: unknown, trace: readonly string[]) {
    const words = cause instanceof Error ? cause.message : String(cause);
    super(`${words}\n  ${trace.join('\n  ')}`, { cause });
    this.trace = trace;
  }
}

interface Access {
  readonly what: string;
  readonly result: unknown;
  /** Of a wait that has not ended yet: the word. */
  readonly waitsAt?: number;
}

interface State {
  readonly memory: Int32Array;
  readonly histories: readonly (readonly Access[])[];
  readonly hashes: readonly string[];
  /** By thread: undefined while it runs. */
  readonly results: readonly ({ readonly value: unknown } | undefined)[];
  readonly trace: Trace | undefined;
}

interface Trace {
  readonly step: string;
  readonly before: Trace | undefined;
}

/** See {@link LitmusThread}. */
export const AGAIN = 'again';

const SUSPEND: unique symbol = Symbol('suspend');
const STATES_MAX = 2_000_000;
/** Accesses of one thread: more are a loop without end. */
const ACCESSES_MAX = 20_000;

/** Explores all orders. Throws a {@link LitmusFailure} at the first that breaks something. */
export async function explore(litmus: Litmus): Promise<Exploration> {
  const explorer = new Explorer(litmus);
  const real = globalThis.Atomics;
  globalThis.Atomics = explorer.atomics();
  try {
    return await explorer.run();
  } finally {
    globalThis.Atomics = real;
  }
}

class Explorer {
  readonly #litmus: Litmus;
  readonly #real = globalThis.Atomics;
  readonly #words: Int32Array;
  readonly #floats: Float64Array;
  readonly #views: LitmusViews;
  readonly #behind = new Map<object, Int32Array>();
  #history: Access[] = [];
  #cursor = 0;
  #hasStepped = false;
  #notified: number[] = [];

  constructor(litmus: Litmus) {
    this.#litmus = litmus;
    this.#words = new Int32Array(litmus.memory);
    this.#floats = new Float64Array(litmus.memory);
    const words = this.#watched(this.#words, 1);
    this.#views = { words, floats: this.#watched(this.#floats, 2) };
    this.#behind.set(words, this.#words);
  }

  async run(): Promise<Exploration> {
    const { threads } = this.#litmus;
    const seen = new Set<string>();
    const open: State[] = [
      {
        memory: this.#words.slice(),
        histories: threads.map(() => []),
        hashes: threads.map(() => ''),
        results: threads.map(() => undefined),
        trace: undefined,
      },
    ];
    let ends = 0;
    for (let state = open.pop(); state !== undefined; state = open.pop()) {
      const key = keyOf(state);
      if (seen.has(key)) continue;
      seen.add(key);
      assert.ok(seen.size < STATES_MAX, 'the litmus is too large');
      const next = await this.#nextStates(state);
      if (next.length === 0) {
        ends += 1;
        this.#finish(state);
      }
      open.push(...next);
    }
    return { states: seen.size, ends };
  }

  async #nextStates(state: State): Promise<State[]> {
    const next: State[] = [];
    for (const [index, thread] of this.#litmus.threads.entries()) {
      if (state.results[index] !== undefined) continue;
      this.#words.set(state.memory);
      if (thread.isStarted?.(this.#words) === false) continue;
      if (state.histories[index]?.at(-1)?.waitsAt === undefined) {
        next.push(await this.#step(state, index));
      } else if (this.#litmus.timesOut === true) {
        next.push(ended(state, index, 'timed-out', `${thread.name} times out`));
      }
    }
    return next;
  }

  /** One access of one thread, and what follows up to the next. */
  async #step(state: State, index: number): Promise<State> {
    const thread = this.#litmus.threads[index];
    assert.ok(thread !== undefined);
    const before = state.histories[index] ?? [];
    this.#history = [...before];
    this.#cursor = 0;
    this.#hasStepped = false;
    this.#notified = [];
    let result: { value: unknown } | undefined;
    try {
      result = { value: await thread.run(this.#views) };
    } catch (error) {
      if (error !== SUSPEND) throw new LitmusFailure(error, traceOf(state, this.#said(thread)));
    }
    const isAgain = result?.value === AGAIN;
    const more = this.#history.slice(before.length);
    const known = state.hashes[index] ?? '';
    let next: State = {
      memory: this.#words.slice(),
      histories: state.histories.with(index, isAgain ? [] : this.#history),
      hashes: state.hashes.with(index, isAgain ? '' : hashOf(known, more)),
      results: state.results.with(index, isAgain ? undefined : result),
      trace: { step: this.#said(thread), before: state.trace },
    };
    for (const word of this.#notified) next = this.#wake(next, word);
    return next;
  }

  #said({ name }: LitmusThread): string {
    return `${name}: ${this.#history.at(-1)?.what ?? 'runs'}`;
  }

  #wake(state: State, word: number): State {
    let next = state;
    for (const [index, history] of state.histories.entries()) {
      if (history.at(-1)?.waitsAt !== word) continue;
      const { name = '' } = this.#litmus.threads[index] ?? {};
      next = ended(next, index, 'ok', `${name} is woken`);
    }
    return next;
  }

  #finish(state: State): void {
    this.#words.set(state.memory);
    const results = state.results.map((result, index) => {
      if (result !== undefined) return result.value;
      return state.histories[index]?.at(-1)?.waitsAt === undefined ? 'not started' : 'asleep';
    });
    try {
      this.#litmus.finish({ words: this.#words, floats: this.#floats, results });
    } catch (error) {
      throw new LitmusFailure(error, traceOf(state));
    }
  }

  /** Does an access, or answers it from the record. */
  #access<T>(word: number, what: string, run: () => T, waits?: (result: T) => boolean): T {
    const known = this.#history[this.#cursor];
    if (known !== undefined) {
      this.#cursor += 1;
      return known.result as T;
    }
    assert.ok(this.#history.length < ACCESSES_MAX, `an endless loop: ${what}`);
    const isStep = this.#litmus.isShared(word);
    // Not an error: the thread is broken off here.
    if (isStep && this.#hasStepped) throw SUSPEND;
    if (isStep) this.#hasStepped = true;
    const result = run();
    const isWait = waits?.(result) === true;
    this.#history.push({
      what: `${what} = ${String(result)}`,
      result,
      ...(isWait ? { waitsAt: word } : {}),
    });
    this.#cursor += 1;
    if (isWait) throw SUSPEND;
    return result;
  }

  #watched<A extends Int32Array | Float64Array>(array: A, wordsEach: number): A {
    return new Proxy(array, {
      get: (target, key) => {
        const index = typeof key === 'string' ? Number(key) : Number.NaN;
        if (Number.isNaN(index)) return Reflect.get(target, key, target);
        return this.#access(index * wordsEach, `[${index}]`, () => target[index]);
      },
      set: (target, key, value) => {
        const index = Number(key);
        this.#access(index * wordsEach, `[${index}] :=`, () => {
          target[index] = value;
          return value;
        });
        return true;
      },
    });
  }

  /** In place of the global, as long as the litmus runs. */
  atomics(): typeof Atomics {
    const real = this.#real;
    const through =
      (name: 'add' | 'and' | 'or' | 'sub' | 'exchange' | 'store') =>
      (array: Int32Array, index: number, value: number) => {
        const words = this.#behind.get(array);
        if (words === undefined) return real[name](array, index, value);
        return this.#access(index, `${name}[${index}] ${value}`, () =>
          real[name](words, index, value),
        );
      };
    const shim = {
      load: (array: Int32Array, index: number) => {
        const words = this.#behind.get(array);
        if (words === undefined) return real.load(array, index);
        return this.#access(index, `load[${index}]`, () => real.load(words, index));
      },
      compareExchange: (array: Int32Array, index: number, expected: number, value: number) => {
        const words = this.#behind.get(array);
        if (words === undefined) return real.compareExchange(array, index, expected, value);
        return this.#access(index, `cas[${index}] ${expected}→${value}`, () =>
          real.compareExchange(words, index, expected, value),
        );
      },
      notify: (array: Int32Array, index: number) => {
        if (!this.#behind.has(array)) return 0;
        return this.#access(index, `notify[${index}]`, () => {
          this.#notified.push(index);
          return 0;
        });
      },
      waitAsync: (array: Int32Array, index: number, value: number, timeoutMs?: number) =>
        this.#waitAsync({ array, index, value, timeoutMs }),
    };
    for (const name of ['add', 'and', 'or', 'sub', 'exchange', 'store'] as const) {
      Object.assign(shim, { [name]: through(name) });
    }
    return Object.assign(Object.create(real), shim) as typeof Atomics;
  }

  #waitAsync({
    array,
    index,
    value,
    timeoutMs,
  }: {
    array: Int32Array;
    index: number;
    value: number;
    timeoutMs: number | undefined;
  }): unknown {
    const words = this.#behind.get(array);
    if (words === undefined) return this.#real.waitAsync(array, index, value, timeoutMs);
    const end = this.#access(
      index,
      `wait[${index}] ${value}`,
      () => (words[index] === value ? 'waits' : 'not-equal'),
      (result) => result === 'waits',
    );
    if (end === 'not-equal') return { async: false, value: 'not-equal' };
    return { async: true, value: Promise.resolve(end) };
  }
}

/** The state after a wait of a thread has ended. */
function ended(state: State, index: number, how: string, step: string): State {
  const history = state.histories[index] ?? [];
  const last = history.at(-1);
  assert.ok(last !== undefined);
  const access = { what: `${last.what}, ${how}`, result: how };
  return {
    ...state,
    histories: state.histories.with(index, [...history.slice(0, -1), access]),
    hashes: state.hashes.with(index, hashOf(state.hashes[index] ?? '', [access])),
    trace: { step, before: state.trace },
  };
}

function traceOf(state: State, last?: string): string[] {
  const steps = last === undefined ? [] : [last];
  for (let at = state.trace; at !== undefined; at = at.before) steps.push(at.step);
  return steps.reverse();
}

function keyOf({ memory, hashes, results }: State): string {
  const ends = results.map((result) => (result === undefined ? '-' : '+')).join('');
  return `${hashes.join('|')}|${ends}|${hash(memory)}`;
}

function hashOf(before: string, accesses: readonly Access[]): string {
  let text = before;
  for (const { what } of accesses) text = hash(Buffer.from(text + what));
  return text;
}

/** 64 bits of two independent mixes. */
function hash(values: Uint8Array | Int32Array): string {
  let a = 0x811c9dc5;
  let b = 0x9747b28c;
  for (const value of values) {
    a = Math.imul(a ^ value, 0x01000193);
    b = Math.imul(b ^ value, 0x5bd1e995);
    a ^= a >>> 15;
    b ^= b >>> 13;
  }
  return `${(a >>> 0).toString(36)}.${(b >>> 0).toString(36)}`;
}
