import { setTimeout as delay } from 'node:timers/promises';
import { MillraceError } from '../base/errors.ts';
import { Machine } from '../codec/machine.ts';
import { OptionReader } from '../engine/option-reader.ts';
import { LIBRARY_VERSION } from '../engine/version.ts';
import { exposeValues, newRegistry } from '../metrics/collector.ts';
import { MetricsEndpoint } from '../metrics/endpoint.ts';
import { RELAY_CATALOGUE } from '../metrics/relay-catalogue.ts';
import { parseEndpoint } from '../sink/endpoint.ts';
import { FileSink, prepareDirectory } from '../sink/file.ts';
import { HttpSink } from '../sink/http.ts';
import type { Sink } from '../sink/sink.ts';
import { RawDelivery } from '../worker/raw-delivery.ts';
import { readUpstream } from './options.ts';
import { PartitionRelay, type RelayCounts } from './partition.ts';
import type {
  Feed,
  PartitionState,
  PartitionWork,
  ReplaySpan,
  Source,
  SourceHost,
  Upstream,
} from './source.ts';

export interface RelayOptions {
  /** `nats://host:4222/STREAM` or `kafka://host:9092/TOPIC`, several hosts separated by commas; `user:password@` before them. */
  readonly from: string;
  /** The receiver; either this and `appId`, or `toFiles`. */
  readonly url?: string;
  readonly appId?: string;
  /** Folder for log files instead of a receiver. */
  readonly toFiles?: string;
  /** NATS: as the senders have it; default: the stream's name in lower case. */
  readonly subjectPrefix?: string;
  /** NATS: as the senders have it; default 16. A topic of Kafka knows its own. */
  readonly partitions?: number;
  /** Relays of one group share the partitions; default 'relay'. */
  readonly group?: string;
  /** Records of one request; default 500, at most 2000. */
  readonly batchSize?: number;
  /** NATS: longest wait for more messages of a partition, in ms; default 20. */
  readonly lingerMs?: number;
  /** How long a relay that is not heard of keeps its partitions, in ms; default 5000, with Kafka (its session timeout) 10 000. */
  readonly leaseMs?: number;
  /** Subject or topic that takes what is refused for good, and lines that are no records; a stream must have it, the topic must be there. */
  readonly deadLetter?: string;
  /** NATS: takes settled messages out of the stream; default: they stay until the stream's limits. */
  readonly trim?: boolean;
  /** Only the messages of a time, all partitions, in this process; ends when they are settled. */
  readonly replay?: ReplaySpan;
  /** Ends when everything that is there for this relay is settled; the broker must be there at the start. */
  readonly once?: boolean;
  /** NATS: path of a `.creds` file. */
  readonly credentials?: string;
  /** NATS. */
  readonly token?: string;
  /** Kafka: of user and password; default 'plain'. */
  readonly mechanism?: 'plain' | 'scram-sha-256' | 'scram-sha-512';
  /** Kafka: TLS with Node's own certificates, or those of a PEM file. NATS: `tls://` in `from`. */
  readonly tls?: boolean | string;
  /** `GET /metrics`. Default host: 127.0.0.1. */
  readonly metricsServer?: { readonly port: number; readonly host?: string };
  /** Ends the work in good order: what is in hand is settled, then the partitions go to others. */
  readonly signal?: AbortSignal;
  readonly onError?: (error: MillraceError) => void;
  readonly onProgress?: (account: RelayAccount) => void;
}

/** Counts of records since the start, unless said otherwise. */
export interface RelayAccount extends Readonly<RelayCounts> {
  /** Partitions that are this relay's now. */
  readonly partitions: number;
  /** Living relays of the group; undefined: the brokers do not say. */
  readonly members: number | undefined;
  /** Whether the broker answers; before it first did, the relay waits for it. */
  readonly isConnected: boolean;
  /** Messages behind, of this relay's partitions. */
  readonly lag: number;
  /** `records - delivered - rejected - bad - handedOver - inHand`; always 0. */
  readonly imbalance: number;
}

const ATTEMPT_MS = 30_000;
const DAY_MS = 86_400_000;
const BYTES_A_TAKE: number = 512 * 1024;
const PROGRESS_MS = 1000;
const STOP_MS = 10_000;
const OPEN_MS_MIN = 250;
const OPEN_MS_MAX = 10_000;

/**
 * Takes records from a broker to the receiver: partitions are shared among all relays of the group, each user's records stay in
 * order, and what is acknowledged to the broker is settled at the receiver. A broker, stream or topic that is not there yet is
 * waited for. Resolves when `signal` ends it, or what `replay` or `once` asks for is done.
 *
 * @throws MillraceError MILLRACE_OPTIONS with everything that is wrong; MILLRACE_UNAVAILABLE when the broker can't be reached, with
 * `replay` or `once`
 */
export async function relay(options: RelayOptions): Promise<RelayAccount> {
  const plan = readOptions(options);
  const relaying = new Relay(options, plan);
  await relaying.run();
  return relaying.account;
}

/**
 * What a relay would find: owner, position and lag of each partition. Takes and changes nothing.
 *
 * @throws MillraceError MILLRACE_OPTIONS, MILLRACE_UNAVAILABLE
 */
export function relayState(options: RelayOptions): Promise<PartitionState[]> {
  return readOptions(options).upstream.states();
}

interface RelayPlan {
  readonly upstream: Upstream;
  readonly once: boolean;
  readonly batchSize: number;
  readonly lingerMs: number;
  readonly openSink: () => Sink;
}

class Relay {
  readonly #options: RelayOptions;
  readonly #plan: RelayPlan;
  readonly #sink: Sink;
  readonly #delivery: RawDelivery;
  readonly #work = new Set<PartitionRelay>();
  readonly #counts: RelayCounts = {
    messages: 0,
    records: 0,
    delivered: 0,
    rejected: 0,
    bad: 0,
    handedOver: 0,
    inHand: 0,
    bytes: 0,
  };
  #source: Source | undefined;
  #isStopped = false;

  constructor(options: RelayOptions, plan: RelayPlan) {
    this.#options = options;
    this.#plan = plan;
    this.#sink = plan.openSink();
    this.#delivery = new RawDelivery({
      sink: this.#sink,
      attemptTimeoutMs: ATTEMPT_MS,
      onTrouble: (error) => options.onError?.(error),
    });
  }

  get account(): RelayAccount {
    const counts = { ...this.#counts };
    const { records, delivered, rejected, bad, handedOver, inHand } = counts;
    const feeds = this.#source?.feeds ?? [];
    return {
      ...counts,
      partitions: feeds.length,
      members: this.#source?.members,
      isConnected: this.#source?.isConnected ?? false,
      lag: feeds.reduce((sum, { lag }) => sum + lag, 0),
      imbalance: records - delivered - rejected - bad - handedOver - inHand,
    };
  }

  async run(): Promise<void> {
    const endpoint = await this.#openMetrics();
    try {
      this.#source = await this.#opened();
      if (this.#source !== undefined) await this.#untilOver();
    } finally {
      await this.#close();
      await endpoint?.close();
    }
  }

  /** The source, as soon as there is a broker; undefined: the relay was ended before. */
  async #opened(): Promise<Source | undefined> {
    const { signal, replay, onError } = this.#options;
    const isPatient = replay === undefined && !this.#plan.once;
    for (let waitMs = OPEN_MS_MIN; signal?.aborted !== true; waitMs *= 2) {
      try {
        return await this.#open();
      } catch (error) {
        const isAway = error instanceof MillraceError && error.code === 'MILLRACE_UNAVAILABLE';
        if (!isPatient || !isAway) throw error;
        // Once: it would be the same words every few seconds.
        if (waitMs === OPEN_MS_MIN) {
          const { code, message } = error;
          onError?.(new MillraceError(code, `waiting for the broker: ${message}`, error));
        }
      }
      await this.#pause(Math.min(OPEN_MS_MAX, waitMs) * (0.5 + Math.random() / 2));
    }
    return undefined;
  }

  #open(): Promise<Source> {
    const host: SourceHost = {
      begin: (feed) => this.#begin(feed),
      onTrouble: (message) => {
        this.#options.onError?.(new MillraceError('MILLRACE_UNAVAILABLE', message));
      },
    };
    const { replay } = this.#options;
    const { upstream } = this.#plan;
    return replay === undefined ? upstream.open(host) : upstream.replay(replay, host);
  }

  #begin(feed: Feed): PartitionWork {
    const { batchSize, lingerMs } = this.#plan;
    const work = new PartitionRelay({
      feed,
      delivery: this.#delivery,
      separator: this.#sink.separator,
      limits: { messagesMax: batchSize, bytesMax: BYTES_A_TAKE, lingerMs },
      batchRecords: batchSize,
      counts: this.#counts,
      isStopped: () => this.#isStopped,
      bury: async (lines) => this.#source?.bury(lines),
      onTrouble: (message) => {
        this.#options.onError?.(new MillraceError('MILLRACE_WORKER', message));
      },
    });
    this.#work.add(work);
    work.done.finally(() => this.#work.delete(work));
    return work;
  }

  async #untilOver(): Promise<void> {
    const { signal, onProgress } = this.#options;
    while (signal?.aborted !== true && !this.#isDone) {
      await this.#pause(PROGRESS_MS);
      onProgress?.(this.account);
    }
  }

  /** Whether a replay is over, or everything that was there is settled. */
  get #isDone(): boolean {
    if (this.#options.replay !== undefined) return this.#work.size === 0;
    if (!this.#plan.once || this.#source?.hasShare !== true) return false;
    return this.#source.feeds.every(({ isCaughtUp }) => isCaughtUp) && this.#counts.inHand === 0;
  }

  async #pause(ms: number): Promise<void> {
    const { signal } = this.#options;
    await delay(ms, undefined, signal === undefined ? {} : { signal }).catch(() => {
      // Aborted: the loop sees it.
    });
  }

  /** What is in hand is settled; what a dead receiver keeps from it is left to the next relay. */
  async #close(): Promise<void> {
    const timer = setTimeout(() => this.#stop(), STOP_MS / 2);
    await this.#source?.close();
    clearTimeout(timer);
    this.#stop();
    await this.#sink.flush().catch(() => {
      // Each batch was synced when it was written.
    });
    await this.#delivery.close();
  }

  #stop(): void {
    this.#isStopped = true;
    this.#delivery.stop();
  }

  async #openMetrics(): Promise<MetricsEndpoint | undefined> {
    const { metricsServer } = this.#options;
    if (metricsServer === undefined) return undefined;
    const registry = newRegistry();
    exposeValues(registry, RELAY_CATALOGUE, () => ({
      ...this.account,
      partitionLags: (this.#source?.feeds ?? []).map(({ partition, lag }) => ({ partition, lag })),
    }));
    return MetricsEndpoint.open({ registry, ...metricsServer });
  }
}

function readOptions(options: RelayOptions): RelayPlan {
  const reader = new OptionReader('relay', options);
  const upstream = readUpstream(reader);
  const openSink = readPlace(reader);
  const once = reader.flag('once', 'off');
  if (once && options.replay !== undefined) reader.fail('once and replay exclude each other');
  for (const name of ['replay', 'metricsServer', 'signal', 'onError', 'onProgress']) {
    reader.raw(name);
  }
  const batchSize = reader.integer('batchSize', { min: 1, max: 2000, fallback: 500 });
  const lingerMs = reader.integer('lingerMs', { min: 0, max: DAY_MS, fallback: 20 });
  checkReplay(reader, options.replay);
  reader.finish();
  return { upstream, openSink, once, batchSize, lingerMs };
}

function checkReplay(reader: OptionReader, replay: RelayOptions['replay']): void {
  if (replay === undefined) return;
  const isTime = (time: unknown) => time instanceof Date && !Number.isNaN(time.getTime());
  if (!isTime(replay.from) || !isTime(replay.to) || replay.from > replay.to) {
    reader.fail('replay must have two Dates, from not after to');
  }
}

/** The receiver, or a folder. */
function readPlace(reader: OptionReader): () => Sink {
  const directory = reader.text('toFiles');
  const url = reader.text('url');
  const appId = reader.text('appId');
  if (directory !== undefined) {
    if (url !== undefined) reader.fail('url and toFiles exclude each other');
    reader.check(() => prepareDirectory({ directory }));
    return () =>
      FileSink.open({ kind: 'file', directory, rotate: 'day', fsync: 'batch', mode: 0o644 });
  }
  if (url === undefined || appId === undefined)
    reader.fail('url and appId, or toFiles, is missing');
  const endpoint = url === undefined ? undefined : reader.check(() => parseEndpoint(url));
  return () => {
    if (endpoint === undefined) throw new Error('millrace: a relay without a receiver');
    return HttpSink.open(
      {
        kind: 'http',
        endpoint,
        appId: appId ?? '',
        headers: {},
        level: 'fast',
        timeoutMs: ATTEMPT_MS,
        connections: 16,
        version: LIBRARY_VERSION,
      },
      Machine.open(),
    );
  };
}
