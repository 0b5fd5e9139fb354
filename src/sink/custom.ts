import { pathToFileURL } from 'node:url';
import { threadId } from 'node:worker_threads';
import { textOfError } from '../base/errors.ts';
import { checkOutcome, configTrouble, type SinkOutcome } from './outcomes.ts';
import { RecordBatch } from './record-batch.ts';
import type { AttemptFacts, Batch, Outcome, Sink } from './sink.ts';

/** What a custom sink is opened with: plain data. */
export interface CustomSinkConfig {
  readonly kind: 'custom';
  /** URL or path of a module that exports `open(options)`. */
  readonly module: string;
  /** The user's `sinkOptions`. */
  readonly options: unknown;
}

/** What `open` is told besides its options. */
export interface SinkContext {
  /** Number of the worker thread: each opens a sink of its own. */
  readonly threadId: number;
}

/**
 * A place of your own that records go to. Opened once a worker thread and kept; several `deliver` calls may be under way
 * at once, one for each lane the thread attends, so records of one user never are in two of them.
 */
export interface RecordSink {
  /**
   * True: `deliver` looks at the batch only before it settles and before its signal aborts, and keeps no view of it. Then the
   * batch is the engine's own memory, and a copy is saved.
   */
  readonly borrows?: boolean;
  /**
   * Attempts one delivery, and says what came of it. Called again with the same records after 'retry'. A throw counts as
   * 'retry'. `signal` aborts when the attempt has taken too long (`timeoutMs`); what is settled after that is not heard.
   */
  deliver(batch: RecordBatch, signal: AbortSignal): SinkOutcome | Promise<SinkOutcome>;
  /** Puts what is delivered on stable storage, where there is such a thing. */
  flush?(): void | Promise<void>;
  /** Frees sockets, timers and files; the thread ends. */
  close?(): void | Promise<void>;
}

/** How long a sink may go on after its signal before the attempt ends without it, in ms. */
const GRACE_MS = 250;
const FLUSH_MS = 10_000;

/**
 * Runs a user's sink on a worker, and stands between it and the engine: whatever it throws, gives or forgets, the
 * worker goes on and no record is lost.
 */
export class CustomSink implements Sink {
  readonly separator = '\n';
  readonly #config: CustomSinkConfig;
  #inner: Promise<RecordSink> | undefined;
  #facts: AttemptFacts = { status: 0, durationMs: 0 };

  private constructor(config: CustomSinkConfig) {
    this.#config = config;
  }

  /** The module is loaded with the first delivery, and again while that fails. */
  static open(config: CustomSinkConfig): CustomSink {
    return new CustomSink(config);
  }

  get lastAttempt(): AttemptFacts {
    return this.#facts;
  }

  async deliver(batch: Batch, signal: AbortSignal): Promise<Outcome> {
    const startMs = performance.now();
    const outcome = await this.#attempt(batch, signal);
    this.#facts = { status: statusOf(outcome), durationMs: performance.now() - startMs };
    return outcome;
  }

  async #attempt(batch: Batch, signal: AbortSignal): Promise<Outcome> {
    let inner: RecordSink;
    try {
      inner = await inTime(this.#open(), signal);
    } catch (error) {
      if (error === LATE) return late('open');
      return configTrouble(
        `the sink ${this.#config.module} can't be opened: ${textOfError(error)}`,
      );
    }
    const view = new RecordBatch(batch, inner.borrows === true ? 'borrowed' : 'own');
    try {
      const given: unknown = await inTime(invoke(inner, view, signal), signal);
      return checkOutcome(given, { count: view.count, bytes: view.lines().length });
    } catch (error) {
      if (error === LATE || signal.aborted) return late('deliver');
      const message = `the sink threw: ${textOfError(error)}`;
      return { kind: 'retry', reason: 'network', message, budget: 'normal' };
    }
  }

  #open(): Promise<RecordSink> {
    this.#inner ??= load(this.#config).catch((error: unknown) => {
      this.#inner = undefined;
      throw error;
    });
    return this.#inner;
  }

  /** Rejects with what the sink's own flush rejects with, or when it takes too long: its lane waits meanwhile. */
  async flush(): Promise<void> {
    const inner = await this.#inner;
    if (inner?.flush === undefined) return;
    const work = Promise.resolve(inner.flush());
    try {
      await inTime(work, AbortSignal.timeout(FLUSH_MS));
    } catch (error) {
      throw error === LATE ? new Error(`the sink's flush took over ${FLUSH_MS} ms`) : error;
    }
  }

  async close(): Promise<void> {
    const opened = this.#inner;
    this.#inner = undefined;
    const inner = await opened?.catch(() => undefined);
    await inner?.close?.();
  }
}

const LATE: unique symbol = Symbol('late');

/** The result, or LATE thrown a moment after the signal: a sink that hangs must not hold its lane. */
async function inTime<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  let listen: (() => void) | undefined;
  const limit = new Promise<never>((_, reject) => {
    listen = () => {
      timer = setTimeout(() => reject(LATE), GRACE_MS);
    };
    if (signal.aborted) listen();
    else signal.addEventListener('abort', listen, { once: true });
  });
  try {
    return await Promise.race([work, limit]);
  } finally {
    clearTimeout(timer);
    if (listen !== undefined) signal.removeEventListener('abort', listen);
    // One that fails after its time has nobody to tell.
    work.catch(() => undefined);
  }
}

/** A throw before the first await is a rejection like any other. */
async function invoke(sink: RecordSink, batch: RecordBatch, signal: AbortSignal): Promise<unknown> {
  return sink.deliver(batch, signal);
}

function late(step: string): Outcome {
  const message = `the sink's ${step} took too long`;
  return { kind: 'retry', reason: 'timeout', message, budget: 'normal' };
}

/** An own sink has no HTTP status; metrics show what a receiver would have said. */
function statusOf(outcome: Outcome): number {
  if (outcome.kind === 'delivered' || outcome.kind === 'partial') return 200;
  if (outcome.kind === 'split') return 413;
  return outcome.kind === 'retry' ? 0 : 400;
}

async function load({ module, options }: CustomSinkConfig): Promise<RecordSink> {
  const url = /^[a-z]{2,}:/i.test(module) ? module : pathToFileURL(module).href;
  const loaded: unknown = await import(url);
  const open = openOf(loaded);
  if (open === undefined) throw new Error('it must export a function open(options)');
  const context: SinkContext = { threadId };
  const sink = await open(options, context);
  if (!isSink(sink)) {
    throw new Error('open(options) must give an object with a function deliver(batch, signal)');
  }
  return sink;
}

type Open = (options: unknown, context: SinkContext) => unknown;

/** `export function open`, or that of a CommonJS module's exports. */
function openOf(module: unknown): Open | undefined {
  for (const place of [module, memberOf(module, 'default')]) {
    const open = memberOf(place, 'open');
    if (typeof open === 'function') return open as Open;
  }
  return undefined;
}

function memberOf(value: unknown, name: string): unknown {
  if (typeof value !== 'object' || value === null) return undefined;
  return (value as Readonly<Record<string, unknown>>)[name];
}

function isSink(value: unknown): value is RecordSink {
  const isAbsentOrFunction = (member: unknown) =>
    member === undefined || typeof member === 'function';
  return (
    typeof memberOf(value, 'deliver') === 'function' &&
    isAbsentOrFunction(memberOf(value, 'flush')) &&
    isAbsentOrFunction(memberOf(value, 'close'))
  );
}
