import { performance } from 'node:perf_hooks';
import { setTimeout as delay } from 'node:timers/promises';
import { Analytics } from '../analytics.ts';
import { letOthersRun } from '../base/event-loop.ts';
import { AsyncBatchConsumer } from '../consumers/async-batch.ts';
import type { SampleCall } from './sample.ts';
import type { Load, Measurement, Setting } from './setting.ts';

/** Where the records of a trial go. */
export interface Target {
  readonly url: string;
  readonly appId: string;
}

const HZ = 200;
const SLICE = 200;
/** Every so many records one is watched until it is settled. */
const WATCH_EVERY = 50;
const WARM_UP_RECORDS = 5000;
const CLOSE_MS = 10_000;
/** At a rate, what the last records may take is no part of the time. */
const GRACE_MS = 1000;
const KIB = 1024;
/** Just below the 1 MiB that the engine's deflate takes at once. */
const BATCH_BYTES_LARGE: number = 1000 * KIB;
const BATCH_BYTES: number = 512 * KIB;
const LARGE_BATCH = 500;

/** A long batch of records has to fit into the bound on its bytes. */
export function batchBytesOf({ batchSize }: Setting): number {
  return batchSize > LARGE_BATCH ? BATCH_BYTES_LARGE : BATCH_BYTES;
}

/** Runs one setting under one load, in this process. */
export class TrialRun {
  readonly #calls: readonly SampleCall[];
  readonly #ta: Analytics;
  readonly #load: Load;
  readonly #workers: number;
  #sent = 0;
  #callMs = 0;
  #latenciesMs: number[] = [];
  #frameBytes = Number.NaN;

  private constructor(
    setting: Setting,
    { calls, target, load }: { calls: readonly SampleCall[]; target: Target; load: Load },
  ) {
    const { lingerMs, ...rest } = setting;
    const consumer = new AsyncBatchConsumer({
      ...target,
      ...rest,
      lingerMs,
      batchBytes: batchBytesOf(setting),
      queueSize: 1e9,
      overflow: load.kind === 'most' ? 'block' : 'drop-newest',
    });
    this.#ta = new Analytics(consumer);
    this.#calls = calls;
    this.#load = load;
    this.#workers = setting.workers;
  }

  /**
   * @throws MillraceError for what the calls of the sample do wrong
   */
  static async measure(
    setting: Setting,
    parts: { calls: readonly SampleCall[]; target: Target; load: Load },
  ): Promise<Measurement> {
    const trial = new TrialRun(setting, parts);
    try {
      return await trial.#measure();
    } finally {
      await trial.#ta.close({ timeoutMs: CLOSE_MS });
    }
  }

  async #measure(): Promise<Measurement> {
    // Code gets fast, and sockets open, before it counts.
    for (let count = 0; count < WARM_UP_RECORDS; count += 1) this.#track();
    await this.#ta.flush();
    this.#sent = 0;
    this.#callMs = 0;
    this.#latenciesMs = [];
    const before = this.#ta.stats();
    const busyBefore = await this.#busySeconds();
    const cpu = process.cpuUsage();
    const startMs = performance.now();
    if (this.#load.kind === 'most') await this.#most(this.#load.seconds);
    else await this.#paced(this.#load);
    const callsMs = performance.now();
    await this.#ta.flush();
    const graceMs = this.#load.kind === 'rate' ? GRACE_MS : 0;
    const flushMs = Math.max(0, performance.now() - callsMs - graceMs);
    const seconds = (callsMs - startMs + flushMs) / 1000;
    const { user, system } = process.cpuUsage(cpu);
    const stats = this.#ta.stats();
    const delivered = stats.delivered - before.delivered;
    const sorted = this.#latenciesMs.toSorted((a, b) => a - b);
    const quantile = (share: number) => sorted[Math.floor(share * (sorted.length - 1))] ?? 0;
    return {
      rate: delivered / seconds,
      cpuPerMillion: (user + system) / delivered,
      wireBytes: (stats.bytesSent - before.bytesSent) / delivered,
      textBytes: (stats.bytesRaw - before.bytesRaw) / delivered,
      frameBytes: this.#frameBytes,
      callNs: this.#load.kind === 'most' ? Number.NaN : (this.#callMs * 1e6) / this.#sent,
      latencyMs: { p50: quantile(0.5), p99: quantile(0.99) },
      workersBusy: ((await this.#busySeconds()) - busyBefore) / seconds / this.#workers,
      cores: (user + system) / 1e6 / seconds,
      lostShare: 1 - delivered / this.#sent,
    };
  }

  async #most(seconds: number): Promise<void> {
    const endMs = performance.now() + seconds * 1000;
    while (performance.now() < endMs) {
      for (let count = 0; count < SLICE; count += 1) this.#track();
      await letOthersRun();
      this.#weigh();
    }
  }

  async #paced({ rate, seconds }: { rate: number; seconds: number }): Promise<void> {
    const startMs = performance.now();
    for (let tick = 1; tick <= Math.round(seconds * HZ); tick += 1) {
      const leftMs = startMs + (tick * 1000) / HZ - performance.now();
      if (leftMs > 0) await delay(Math.ceil(leftMs));
      const fromMs = performance.now();
      const until = Math.round((rate * tick) / HZ);
      while (this.#sent < until) this.#track();
      this.#callMs += performance.now() - fromMs;
      this.#weigh();
    }
  }

  #track(): void {
    const call = this.#calls[this.#sent % this.#calls.length];
    const fromMs = performance.now();
    const onSettled =
      this.#sent % WATCH_EVERY === 0
        ? () => this.#latenciesMs.push(performance.now() - fromMs)
        : undefined;
    this.#sent += 1;
    call?.(this.#ta, onSettled);
  }

  #weigh(): void {
    const { queued, bytesQueued } = this.#ta.stats();
    if (queued > 0) this.#frameBytes = bytesQueued / queued;
  }

  async #busySeconds(): Promise<number> {
    const metric = this.#ta.register.getSingleMetric('millrace_worker_busy_seconds_total');
    const { values } = (await metric?.get()) ?? { values: [] };
    return values.reduce((sum, { value }) => sum + value, 0);
  }
}
