import { join, resolve } from 'node:path';
import { type MillraceError, show } from '../base/errors.ts';
import type { BodyLevel } from '../codec/gzip.ts';
import { Machine } from '../codec/machine.ts';
import { OptionReader } from '../engine/option-reader.ts';
import { LIBRARY_VERSION } from '../engine/version.ts';
import { STATE_FOLDER } from '../lines/marks.ts';
import { exposeValues, type MetricsRegistry, newRegistry } from '../metrics/collector.ts';
import { MetricsEndpoint } from '../metrics/endpoint.ts';
import { SHIP_CATALOGUE } from '../metrics/ship-catalogue.ts';
import { type Endpoint, parseEndpoint } from '../sink/endpoint.ts';
import { RawDelivery } from '../worker/raw-delivery.ts';
import { type ShipAccount, type ShipPlan, Shipper } from './shipper.ts';

export type { ShipAccount } from './shipper.ts';

export interface ShipOptions {
  /** Folder of log files. */
  readonly directory: string;
  /** The receiver: http or https, with or without a path. */
  readonly url: string;
  readonly appId: string;
  /** End when everything there is has been shipped; default: follow the folder. */
  readonly once?: boolean;
  /** Records of one request, at most 2000 (default). */
  readonly batchSize?: number;
  /** JSON text of one request before compression, in bytes; default 512 KiB. A longer line goes alone. */
  readonly batchBytes?: number;
  /** A level of zlib, 1 to 9, or 0 for none; default: the deflate of the workers. */
  readonly compress?: number;
  /** Longest time of one request, in ms; default 30 000. */
  readonly timeoutMs?: number;
  /** How often the folder is looked at, in ms; default 500. */
  readonly pollMs?: number;
  /** Sequences of files shipped at the same time; default 4. */
  readonly concurrency?: number;
  /** 'head' (default): files that differ only in date and number go one after the other; 'file': each by itself, in order of its lines only. */
  readonly ordering?: 'head' | 'file';
  /** Most records a second; default: no limit. */
  readonly rate?: number;
  /** What a line must be: 'contract' (default), or 'json': any JSON object; other lines go to the quarantine. */
  readonly lines?: 'contract' | 'json';
  /** Names of log files; default: as this library and the official SDKs give them, plain or `.gz`. */
  readonly match?: RegExp;
  /** Files that are done with and this old are removed; default: none is. */
  readonly removeAfterDays?: number;
  /** Folder for checkpoint, lock and quarantine; default `.millrace-ship` in the folder. */
  readonly stateDirectory?: string;
  /** File for lines that are no records, and those refused for good; default `bad.jsonl` in the state directory. */
  readonly quarantine?: string;
  /** Serves the metrics at this port of `metricsHost`; default: not at all. */
  readonly metricsPort?: number;
  /** Default 127.0.0.1. */
  readonly metricsHost?: string;
  /** A prom-client Registry to add the metrics to. */
  readonly register?: MetricsRegistry;
  /** Ends the work in good order: what is under way has five seconds. */
  readonly signal?: AbortSignal;
  /** Hears of trouble with files and the receiver; default: a process warning. */
  readonly onError?: (error: MillraceError) => void;
  /** Hears of the counts, at most ten times a second. */
  readonly onProgress?: (account: ShipAccount) => void;
}

interface CheckedOptions {
  readonly plan: ShipPlan;
  readonly endpoint: Endpoint;
  readonly appId: string;
  readonly level: BodyLevel;
  readonly timeoutMs: number;
  readonly metricsPort: number | undefined;
  readonly metricsHost: string;
}

const KIB = 1024;
const QUARANTINE_NAME = 'bad.jsonl';
const PORT_MAX = 65_535;
const DAY_MS = 86_400_000;

/**
 * Delivers a folder of log files by HTTP, as LogBus does: complete lines, each file in its order, at least once, and once at the receiver for
 * records with a `#uuid`. What is acknowledged is noted, so it goes on there after any end. The work is done on the
 * calling thread: in a game server's place run `millrace ship` as a process of its own.
 *
 * @returns the counts, when the signal came, or with `once` when all is shipped
 * @throws MillraceError MILLRACE_OPTIONS with everything that is wrong with the options; MILLRACE_UNAVAILABLE when the folder
 * can't be read, or another shipper has it
 */
export async function ship(options: ShipOptions): Promise<ShipAccount> {
  const checked = checkOptions(options);
  const { endpoint, appId, level, timeoutMs, plan } = checked;
  const onError = options.onError ?? warn;
  // Loaded here only: a game server that never ships is spared the HTTP client's memory on its own thread.
  const { HttpSink } = await import('../sink/http.ts');
  const sink = HttpSink.open(
    {
      kind: 'http',
      endpoint,
      appId,
      headers: {},
      level,
      timeoutMs,
      connections: plan.concurrency,
      version: LIBRARY_VERSION,
    },
    Machine.open(),
  );
  const delivery = new RawDelivery({ sink, attemptTimeoutMs: timeoutMs, onTrouble: onError });
  try {
    const shipper = Shipper.open(plan, {
      delivery,
      signal: options.signal,
      onError,
      onProgress: options.onProgress ?? (() => undefined),
    });
    return await runMeasured(shipper, options.register, checked);
  } finally {
    await delivery.close();
  }
}

async function runMeasured(
  shipper: Shipper,
  register: MetricsRegistry | undefined,
  { metricsPort, metricsHost }: CheckedOptions,
): Promise<ShipAccount> {
  const registry = register ?? newRegistry();
  let withdraw: (() => void) | undefined;
  let metrics: MetricsEndpoint | undefined;
  try {
    withdraw = exposeValues(registry, SHIP_CATALOGUE, () => shipper.readings);
    if (metricsPort !== undefined) {
      metrics = await MetricsEndpoint.open({ registry, port: metricsPort, host: metricsHost });
    }
    await shipper.run();
    return shipper.account;
  } finally {
    withdraw?.();
    await metrics?.close();
    await shipper.close();
  }
}

function checkOptions(options: ShipOptions): CheckedOptions {
  const reader = new OptionReader('ship', options);
  for (const name of ['signal', 'register']) reader.raw(name);
  for (const name of ['onError', 'onProgress']) reader.callback(name);
  const url = reader.requiredText('url');
  const endpoint = url === '' ? undefined : reader.check(() => parseEndpoint(url));
  const timeoutMs = reader.integer('timeoutMs', { min: 1, max: DAY_MS, fallback: 30_000 });
  const compress = reader.integer('compress', { min: 0, max: 9 }) ?? 'fast';
  const metricsPort = reader.integer('metricsPort', { min: 0, max: PORT_MAX });
  const metricsHost = reader.text('metricsHost') ?? '127.0.0.1';
  const appId = reader.requiredText('appId');
  const plan = readPlan(reader);
  reader.finish();
  // finish() has thrown when there is none.
  const known = endpoint ?? parseEndpoint(url);
  const level = compress === 0 ? 'none' : compress;
  return { plan, endpoint: known, appId, level, timeoutMs, metricsPort, metricsHost };
}

function readPlan(reader: OptionReader): ShipPlan {
  const directory = resolve(reader.requiredText('directory'));
  const stateDirectory = reader.text('stateDirectory') ?? join(directory, STATE_FOLDER);
  const match = reader.raw('match');
  if (match !== undefined && !(match instanceof RegExp)) {
    reader.fail(`match is ${show(match)}; it must be a RegExp`);
  }
  const removeAfterDays = reader.number('removeAfterDays', { min: 0, max: 1e6 });
  const rate = reader.number('rate', { min: 1, max: 1e9 });
  return {
    directory,
    stateDirectory,
    quarantine: reader.text('quarantine') ?? join(stateDirectory, QUARANTINE_NAME),
    match: match instanceof RegExp ? match : undefined,
    limits: {
      recordsMax: reader.integer('batchSize', { min: 1, max: 2000, fallback: 2000 }),
      bytesMax: reader.integer('batchBytes', {
        min: KIB,
        max: 16 * KIB * KIB,
        fallback: 512 * KIB,
      }),
      rule: reader.oneOf('lines', ['contract', 'json'] as const, 'contract'),
    },
    isOnce: reader.flag('once', 'off'),
    pollMs: reader.integer('pollMs', { min: 1, max: DAY_MS, fallback: 500 }),
    removeAfterMs: removeAfterDays === undefined ? undefined : removeAfterDays * DAY_MS,
    concurrency: reader.integer('concurrency', { min: 1, max: 256, fallback: 4 }),
    ordering: reader.oneOf('ordering', ['head', 'file'] as const, 'head'),
    rate,
  };
}

function warn(error: MillraceError): void {
  process.emitWarning(error);
}
