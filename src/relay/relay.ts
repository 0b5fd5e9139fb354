import { setTimeout as delay } from 'node:timers/promises';
import { MillraceError } from '../base/errors.ts';
import { checkInstalled, NATS_PACKAGES } from '../broker/packages.ts';
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

import { NatsSource, type NatsSourceConfig, openNatsReplay, readNatsState } from './nats-source.ts';
import { parseOrigin, type RelayOrigin } from './options.ts';
import { PartitionRelay, type RelayCounts } from './partition.ts';
import type { Feed, PartitionState, PartitionWork, Source, SourceHost } from './source.ts';

export interface RelayOptions {
  /** `nats://host:4222/STREAM`, several hosts separated by commas. */
  readonly from: string;
  /** The receiver; either this and `appId`, or `toFiles`. */
  readonly url?: string;
  readonly appId?: string;
  /** Folder for log files instead of a receiver. */
  readonly toFiles?: string;
  /** As the senders have it; default: the stream's name in lower case. */
  readonly subjectPrefix?: string;
  /** As the senders have it; default 16. */
  readonly partitions?: number;
  /** Relays of one group share the partitions; default 'relay'. */
  readonly group?: string;
  /** Records of one request; default 500, at most 2000. */
  readonly batchSize?: number;
  /** Longest wait for more messages of a partition, in ms; default 20. */
  readonly lingerMs?: number;
  /** How long a relay that is not heard of keeps its partitions, in ms; default 5000. */
  readonly leaseMs?: number;
  /** Subject that takes what is refused for good, and lines that are no records; a stream must have it. */
  readonly deadLetter?: string;
  /** Takes settled messages out of the stream; default: they stay until the stream's limits. */
  readonly trim?: boolean;
  /** Only the messages of a time, all partitions, in this process; ends when they are settled. */
  readonly replay?: { readonly from: Date; readonly to: Date };
  /** Path of a `.creds` file. */
  readonly credentials?: string;
  readonly token?: string;
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
  /** Living relays of the group. */
  readonly members: number;
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

/**
 * Takes records from a broker to the receiver: partitions are shared among all relays of the group, each user's records stay in
 * order, and what is acknowledged to the broker is settled at the receiver. Resolves when `signal` ends it, or a replay is over.
 *
 * @throws MillraceError MILLRACE_OPTIONS with everything that is wrong; MILLRACE_UNAVAILABLE when the broker can't be reached
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
  return readNatsState(readOptions(options).source);
}

interface RelayPlan {
  readonly source: NatsSourceConfig;
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
      members: this.#source?.members ?? 1,
      lag: feeds.reduce((sum, { lag }) => sum + lag, 0),
      imbalance: records - delivered - rejected - bad - handedOver - inHand,
    };
  }

  async run(): Promise<void> {
    const endpoint = await this.#openMetrics();
    try {
      this.#source = await this.#open();
      await this.#untilOver();
    } finally {
      await this.#close();
      await endpoint?.close();
    }
  }

  #open(): Promise<Source> {
    const host: SourceHost = {
      begin: (feed) => this.#begin(feed),
      onTrouble: (message) => {
        this.#options.onError?.(new MillraceError('MILLRACE_UNAVAILABLE', message));
      },
    };
    const { replay } = this.#options;
    const { source } = this.#plan;
    return replay === undefined
      ? NatsSource.open(source, host)
      : openNatsReplay(source, { ...replay, host });
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
    const { signal, replay, onProgress } = this.#options;
    while (signal?.aborted !== true && !(replay !== undefined && this.#work.size === 0)) {
      await delay(PROGRESS_MS, undefined, signal === undefined ? {} : { signal }).catch(() => {
        // Aborted: the loop sees it.
      });
      onProgress?.(this.account);
    }
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
  const from = reader.requiredText('from');
  const origin = from === '' ? undefined : reader.check(() => parseOrigin(from));
  reader.check(() => checkInstalled(NATS_PACKAGES));
  const source = readSource(reader, origin);
  const openSink = readPlace(reader);
  for (const name of ['replay', 'metricsServer', 'signal', 'onError', 'onProgress']) {
    reader.raw(name);
  }
  const plan = {
    source,
    openSink,
    batchSize: reader.integer('batchSize', { min: 1, max: 2000, fallback: 500 }),
    lingerMs: reader.integer('lingerMs', { min: 0, max: DAY_MS, fallback: 20 }),
  };
  checkReplay(reader, options.replay);
  reader.finish();
  return plan;
}

function checkReplay(reader: OptionReader, replay: RelayOptions['replay']): void {
  if (replay === undefined) return;
  const isTime = (time: unknown) => time instanceof Date && !Number.isNaN(time.getTime());
  if (!isTime(replay.from) || !isTime(replay.to) || replay.from > replay.to) {
    reader.fail('replay must have two Dates, from not after to');
  }
}

function readSource(reader: OptionReader, origin: RelayOrigin | undefined): NatsSourceConfig {
  const name = origin?.name ?? '';
  const token = reader.text('token');
  const credentials = reader.text('credentials');
  return {
    server: {
      servers: origin?.servers ?? [],
      ...(origin?.user === undefined ? {} : { user: origin.user }),
      ...(origin?.pass === undefined ? {} : { pass: origin.pass }),
      ...(token === undefined ? {} : { token }),
      ...(credentials === undefined ? {} : { credentials }),
    },
    stream: name,
    subjectPrefix: reader.text('subjectPrefix') ?? name.toLowerCase(),
    partitions: reader.integer('partitions', { min: 1, max: 4096, fallback: 16 }),
    group: reader.text('group') ?? 'relay',
    leaseMs: reader.integer('leaseMs', { min: 200, max: DAY_MS, fallback: 5000 }),
    deadLetterSubject: reader.text('deadLetter'),
    trim: reader.flag('trim', 'off') ? 'settled' : 'never',
  };
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
