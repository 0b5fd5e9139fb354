import { Analytics, AsyncBatchConsumer, type AsyncBatchConsumerOptions } from '../../src/index.ts';
import { partFromParent } from './end-with-parent.ts';

/** What a sending process does: plain data on its command line. */
export interface SenderJob {
  readonly options: AsyncBatchConsumerOptions;
  /** Number of the first record, and the number after the last one; undefined: until it is killed. */
  readonly from: number;
  readonly to?: number;
  readonly perTick: number;
  readonly tickMs: number;
  /** Every so many records one has a text of so many bytes. */
  readonly large?: { readonly every: number; readonly bytes: number };
  /** Every so many records one has `poison: true`. */
  readonly poisonEvery?: number;
  /** Number of a record at which the main thread stands still, and for how long in ms. */
  readonly stall?: { readonly at: number; readonly ms: number };
  /** Tells after each tick which records are on disk for certain. */
  readonly tellsDurable?: boolean;
  /** Tells when a call of `track` that took longer than this, in ms, came back. */
  readonly tellsHeldMs?: number;
  /** Ends at SIGTERM in this time, in ms. */
  readonly signalTimeoutMs?: number;
  /** Ends at SIGTERM by `process.exit()`. */
  readonly exitsAtSignal?: boolean;
  /** SIGUSR2 ends its tracking. */
  readonly stopsAtSignal?: boolean;
  /** How the sender ends after its last record. */
  readonly end: 'close' | 'exit' | 'throw' | 'stay';
}

export type SenderMessage =
  | { readonly durable: number }
  | { readonly resumedMs: number }
  | {
      readonly rssBytes: number;
      readonly stats: ReturnType<Analytics['stats']>;
      readonly metrics?: string;
    };

/** A record's uuid follows from its number, so that a record is known wherever it turns up. */
export function uuidOf(index: number): string {
  return `00000000-0000-4000-8000-${String(index).padStart(12, '0')}`;
}

const SETTLE_MS = 120_000;
const REPORT_MS = 50;

class Program {
  readonly #job: SenderJob;
  readonly #ta: Analytics;
  #reportedMs = 0;
  #isStopped = false;

  constructor(job: SenderJob) {
    this.#job = job;
    this.#ta = new Analytics(new AsyncBatchConsumer(job.options), {
      onError: () => {
        // The account tells.
      },
    });
  }

  async run(): Promise<void> {
    const { from, to = Number.MAX_SAFE_INTEGER, perTick, tickMs } = this.#job;
    this.#listen();
    for (let index = from; index < to && !this.#isStopped; ) {
      const next = Math.min(to, index + perTick);
      for (; index < next; index += 1) this.#trackOne(index);
      if (this.#job.tellsDurable === true) {
        await this.#ta.flush();
        send({ durable: index });
      }
      this.#report(index === to ? 0 : REPORT_MS);
      await pause(tickMs);
    }
    await this.#end();
  }

  #listen(): void {
    const { signalTimeoutMs, exitsAtSignal, stopsAtSignal } = this.#job;
    if (stopsAtSignal === true) {
      process.on('SIGUSR2', () => {
        this.#isStopped = true;
      });
    }
    if (signalTimeoutMs !== undefined) this.#ta.closeOnSignals({ timeoutMs: signalTimeoutMs });
    if (exitsAtSignal === true) process.on('SIGTERM', () => process.exit(0));
  }

  #trackOne(index: number): void {
    const { stall, tellsHeldMs } = this.#job;
    if (index === stall?.at) {
      this.#report(0);
      stand(stall.ms);
    }
    const startMs = performance.now();
    this.#ta.track({
      accountId: `u${index % 50}`,
      event: 'fault',
      uuid: uuidOf(index),
      properties: { index, text: this.#textOf(index), ...this.#marksOf(index) },
    });
    if (tellsHeldMs !== undefined && performance.now() - startMs > tellsHeldMs) {
      send({ resumedMs: performance.timeOrigin + performance.now() });
    }
  }

  #textOf(index: number): string {
    const { large } = this.#job;
    if (large === undefined || index % large.every !== 0) return 'a little something to carry';
    return 'x'.repeat(large.bytes);
  }

  #marksOf(index: number): { poison?: true } {
    const { poisonEvery } = this.#job;
    return poisonEvery !== undefined && index % poisonEvery === poisonEvery - 1
      ? { poison: true }
      : {};
  }

  #report(quietMs: number): void {
    const now = performance.now();
    if (now - this.#reportedMs < quietMs) return;
    this.#reportedMs = now;
    send({ rssBytes: process.memoryUsage.rss(), stats: this.#ta.stats() });
  }

  async #end(): Promise<void> {
    const ta = this.#ta;
    const { end } = this.#job;
    if (end === 'exit') process.exit(0);
    if (end === 'throw') throw new Error('the game server has a bug');
    if (end === 'stay') {
      setInterval(() => this.#report(0), REPORT_MS);
      return;
    }
    const deadline = Date.now() + SETTLE_MS;
    while (ta.stats().queued + ta.stats().spooled > 0 && Date.now() < deadline) {
      this.#report(REPORT_MS);
      await pause(20);
    }
    // A closed client takes its metrics out of the registry.
    const metrics = await ta.register.metrics();
    const stats = await ta.close();
    send({ rssBytes: process.memoryUsage.rss(), stats, metrics });
    partFromParent();
  }
}

function send(message: SenderMessage): void {
  process.send?.(message);
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

function stand(ms: number): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms);
}

const [text] = process.argv.slice(2);
if (process.argv[1]?.endsWith('sender.js') === true && text !== undefined) {
  await new Program(JSON.parse(text) as SenderJob).run();
}
