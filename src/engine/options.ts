import { existsSync } from 'node:fs';
import { availableParallelism, hostname } from 'node:os';
import { resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { show, textOfError } from '../base/errors.ts';
import type { BodyLevel } from '../codec/gzip.ts';
import { LANE_BYTES_MAX, LANE_BYTES_MIN } from '../lane/layout.ts';
import { parseEndpoint } from '../sink/endpoint.ts';
import { prepareDirectory } from '../sink/file.ts';
import { checkNamePart } from '../sink/rotation.ts';
import type { UpkeepRules } from '../sink/upkeep.ts';
import { OptionReader } from './option-reader.ts';
import type { ConsumerKind, EnginePlan, OverflowPolicy, SpoolOptionsPlan } from './plan.ts';
import { LIBRARY_VERSION } from './version.ts';

const KIB = 1024;
const MIB: number = 1024 * KIB;
/** Shared memory of all lanes of a client, in bytes. */
export const RING_BYTES_DEFAULT: number = 64 * MIB;
const RING_BYTES_MIN: number = 64 * KIB;
export const RING_BYTES_MAX: number = 1024 * MIB;
const WORKERS_MAX = 32;
const LANES_MAX = 256;
/** With less a worker can't even load. */
const HEAP_MB_MIN = 16;
const HEAP_MB_MAX: number = 64 * 1024;
const DAY_MS = 86_400_000;
const PATIENCE_MS = 120_000;
/** Longer timers than this run off at once. */
const RETRY_FOR_MS_MAX: number = 2 ** 31 - 1;
const HEADER_NAME = /^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/;
/** Headers that carry the protocol itself. */
const OWN_HEADERS: ReadonlySet<string> = new Set([
  'appid',
  'compress',
  'content-length',
  'content-encoding',
  'transfer-encoding',
  'connection',
  'host',
  'expect',
  'te',
  'upgrade',
]);
const OVERFLOWS: readonly OverflowPolicy[] = ['drop-newest', 'drop-oldest', 'block', 'spool'];
const SPOOL_BYTES_DEFAULT: number = 1024 * MIB;
const SEGMENT_BYTES_DEFAULT: number = 8 * MIB;

/** What consumers of every kind share. */
type EngineShare = Pick<
  EnginePlan,
  | 'workers'
  | 'workerHeapMb'
  | 'workerPatienceMs'
  | 'lanes'
  | 'laneBytes'
  | 'overflow'
  | 'blockTimeoutMs'
  | 'deadLetter'
  | 'spool'
  | 'workerFile'
>;

const RETRY_CAP_MS = 15_000;
const BATCH_RECORDS = 500;
const BATCH_RECORDS_MAX = 2000;
/** A batch for a broker is cut into as many messages as it has partitions: a small one into crumbs. */
export const BROKER_BATCH_RECORDS: number = BATCH_RECORDS_MAX;

/** Most workers the engine starts unless told otherwise. */
function defaultWorkers(): number {
  return Math.max(1, Math.min(4, availableParallelism() - 1));
}

/** @throws MillraceError MILLRACE_OPTIONS with everything that is wrong */
export function planAsync(options: unknown): EnginePlan {
  const reader = new OptionReader('AsyncBatchConsumer', options);
  const share = readEngine(reader, { overflow: 'drop-newest', workers: defaultWorkers() });
  const http = readHttp(reader);
  const plan: EnginePlan = {
    ...share,
    ...http,
    ...readStream(reader, BATCH_RECORDS),
    ...readCustomSink(reader, http),
    consumer: 'async',
    flush: 'settled',
  };
  reader.finish();
  return plan;
}

/** A place that is no receiver: how its consumer is called, and what its own options come to. */
export interface OwnSink {
  readonly owner: string;
  readonly consumer: ConsumerKind;
  /** Reads the place's options; gives the sink's module and what that is opened with. */
  readonly read: (reader: OptionReader) => { module: string; options: unknown };
  readonly attemptTimeoutMs: number;
  /** Longest pause between two attempts, in ms; default 15 000. */
  readonly retryCapMs?: number;
  /** Records of a batch, where the user does not say; default 500. */
  readonly batchRecords?: number;
}

/** @throws MillraceError MILLRACE_OPTIONS with everything that is wrong */
export function planSink(
  options: unknown,
  {
    owner,
    consumer,
    read,
    attemptTimeoutMs,
    retryCapMs = RETRY_CAP_MS,
    batchRecords = BATCH_RECORDS,
  }: OwnSink,
): EnginePlan {
  const reader = new OptionReader(owner, options);
  const share = readEngine(reader, { overflow: 'drop-newest', workers: defaultWorkers() });
  const { module, options: sinkOptions } = read(reader);
  const stream = readStream(reader, batchRecords);
  const plan: EnginePlan = {
    ...share,
    ...stream,
    retry: { ...stream.retry, capMs: retryCapMs },
    consumer,
    entry: 'custom',
    sink: { kind: 'custom', module, options: sinkOptions },
    flush: 'synced',
    attemptTimeoutMs: reader.integer('timeoutMs', {
      min: 1,
      max: DAY_MS,
      fallback: attemptTimeoutMs,
    }),
    exitFlushMs: readExitFlushMs(reader),
  };
  reader.finish();
  return plan;
}

/** What consumers that never wait for their place share: batches, retries, order. */
function readStream(
  reader: OptionReader,
  batchRecords: number,
): Pick<
  EnginePlan,
  | 'queueRecordsMax'
  | 'batch'
  | 'retry'
  | 'pace'
  | 'onExhausted'
  | 'roundRecords'
  | 'keptRecordsMax'
  | 'inFlightMax'
  | 'uuid'
> {
  const ordering = reader.oneOf('ordering', ['user', 'none'] as const, 'user');
  return {
    queueRecordsMax: reader.integer('queueSize', { min: 1, max: 1e9, fallback: 100_000 }),
    batch: {
      recordsMax: reader.integer('batchSize', {
        min: 1,
        max: BATCH_RECORDS_MAX,
        fallback: batchRecords,
      }),
      bytesMax: reader.integer('batchBytes', { min: KIB, max: 16 * MIB, fallback: 512 * KIB }),
      lingerMs: reader.number('lingerMs', { min: 0, max: DAY_MS, fallback: 100 }),
    },
    retry: { ...readRetries(reader, 'forever'), baseMs: 200, capMs: RETRY_CAP_MS },
    pace: 'stream',
    onExhausted: 'expire',
    roundRecords: 0,
    keptRecordsMax: 0,
    inFlightMax: ordering === 'user' ? 1 : 4,
    uuid: true,
  };
}

function readExitFlushMs(reader: OptionReader): number {
  return reader.integer('exitFlushMs', { min: 0, max: DAY_MS, fallback: 3000 });
}

/** @throws MillraceError MILLRACE_OPTIONS with everything that is wrong */
export function planBatch(options: unknown): EnginePlan {
  const reader = new OptionReader('BatchConsumer', options);
  const share = readEngine(reader, { overflow: 'drop-oldest', workers: 1 });
  const http = readHttp(reader);
  if (share.spool !== undefined || share.overflow === 'spool') {
    reader.fail('spool is for AsyncBatchConsumer and LoggingConsumer');
  }
  const batchSize = reader.integer('batchSize', { min: 1, max: BATCH_RECORDS_MAX, fallback: 20 });
  const batches = reader.integer('maxCachedBatches', { min: 0, max: 100_000, fallback: 50 });
  const retries = reader.integer('retries', { min: 0, max: 1000, fallback: 3 });
  const forMs = reader.integer('retryForMs', { min: 1, max: RETRY_FOR_MS_MAX });
  const plan: EnginePlan = {
    ...share,
    ...http,
    ...readCustomSink(reader, http),
    // One lane: batches are sent in the order of the calls, whoever the user.
    lanes: 1,
    laneBytes: share.lanes * share.laneBytes,
    consumer: 'batch',
    queueRecordsMax: 1e9,
    batch: { recordsMax: batchSize, bytesMax: 16 * MIB, lingerMs: DAY_MS },
    retry: { retries, forMs, baseMs: 100, capMs: 2000 },
    pace: 'rounds',
    onExhausted: 'keep',
    roundRecords: batchSize,
    keptRecordsMax: batches * batchSize,
    inFlightMax: 1,
    blockTimeoutMs: reader.has('blockTimeoutMs')
      ? share.blockTimeoutMs
      : Math.min((retries + 1) * (http.attemptTimeoutMs + 2000), (forMs ?? DAY_MS) + 2000),
    flush: 'settled',
    uuid: true,
  };
  reader.finish();
  return plan;
}

/** @throws MillraceError MILLRACE_OPTIONS with everything that is wrong */
export function planDebug(options: unknown): EnginePlan {
  const reader = new OptionReader('DebugConsumer', options);
  const http = readHttp(reader);
  const dryRun = reader.flag('dryRun', 'off');
  const deviceId = reader.text('deviceId');
  const plan: EnginePlan = {
    ...http,
    sink: { ...http.sink, kind: 'debug', dryRun, ...(deviceId === undefined ? {} : { deviceId }) },
    consumer: 'debug',
    workerFile: reader.fileOrUrl('workerFile'),
    workers: 1,
    workerHeapMb: undefined,
    workerPatienceMs: PATIENCE_MS,
    lanes: 1,
    laneBytes: 16 * MIB,
    overflow: 'drop-oldest',
    blockTimeoutMs: http.attemptTimeoutMs + 5000,
    queueRecordsMax: 1e9,
    batch: { recordsMax: 1, bytesMax: 16 * MIB, lingerMs: DAY_MS },
    retry: { retries: 0, baseMs: 0, capMs: 0 },
    pace: 'rounds',
    onExhausted: 'expire',
    roundRecords: 1,
    keptRecordsMax: 0,
    inFlightMax: 1,
    flush: 'settled',
    deadLetter: undefined,
    spool: undefined,
    uuid: true,
  };
  reader.finish();
  return plan;
}

/** @throws MillraceError MILLRACE_OPTIONS with everything that is wrong, an unwritable folder included */
export function planLogging(options: unknown): EnginePlan {
  const reader = new OptionReader('LoggingConsumer', options);
  const share = readEngine(reader, { overflow: 'drop-newest', workers: 1 });
  const maxSizeMb = reader.number('maxSizeMb', { min: 0.0001, max: 1_048_576 });
  const prefix = readNamePart(reader, 'prefix');
  const instance = readInstance(reader);
  const spillDirectory = reader.text('spillDirectory');
  const upkeep = readUpkeep(reader);
  const sink = {
    kind: 'file' as const,
    directory: reader.requiredText('directory'),
    rotate: reader.oneOf('rotate', ['day', 'hour'] as const, 'day'),
    fsync: reader.oneOf('fsync', ['never', 'flush', 'batch'] as const, 'never'),
    mode: reader.integer('mode', { min: 0, max: 0o777, fallback: 0o644 }),
    ...(maxSizeMb === undefined ? {} : { maxBytes: Math.floor(maxSizeMb * MIB) }),
    ...(prefix === undefined ? {} : { prefix }),
    ...(instance === undefined ? {} : { instance }),
    ...(spillDirectory === undefined ? {} : { spillDirectory }),
    ...(Object.keys(upkeep).length === 0 ? {} : { upkeep }),
  };
  const plan: EnginePlan = {
    ...share,
    ...readCustomSink(reader, { entry: 'file', sink }),
    consumer: 'logging',
    queueRecordsMax: 1e9,
    batch: {
      recordsMax: reader.integer('bufferRecords', { min: 1, max: 100_000, fallback: 2000 }),
      bytesMax: reader.integer('bufferSize', { min: 1, max: 64 * MIB, fallback: 64 * KIB }),
      lingerMs: reader.number('lingerMs', { min: 0, max: DAY_MS, fallback: 50 }),
    },
    retry: { ...readRetries(reader, 'forever'), baseMs: 100, capMs: 5000 },
    attemptTimeoutMs: 60_000,
    pace: 'stream',
    onExhausted: 'expire',
    roundRecords: 0,
    keptRecordsMax: 0,
    inFlightMax: 1,
    flush: 'synced',
    uuid: false,
    exitFlushMs: readExitFlushMs(reader),
  };
  if (sink.directory !== '') reader.check(() => prepareDirectory(sink));
  if (spillDirectory !== undefined) {
    reader.check(() => prepareDirectory({ directory: spillDirectory }));
  }
  reader.finish();
  return plan;
}

/** 'auto': machine and process, which no other process has at the same time. */
function readInstance(reader: OptionReader): string | undefined {
  const instance = readNamePart(reader, 'instance');
  if (instance !== 'auto') return instance;
  const machine = hostname()
    .replace(/[^A-Za-z0-9]+/g, '-')
    .slice(0, 40);
  return `${/^[A-Za-z0-9]/.test(machine) ? machine : 'host'}-${process.pid}`;
}

function readUpkeep(reader: OptionReader): UpkeepRules {
  const scaled = (name: string, scale: number) => {
    const value = reader.number(name, { min: 0, max: Number.MAX_SAFE_INTEGER });
    return value === undefined ? undefined : value * scale;
  };
  const packAfterMs = scaled('gzipAfterMs', 1);
  const keepMs = scaled('keepDays', DAY_MS);
  const keepBytes = scaled('keepTotalMb', MIB);
  return {
    ...(packAfterMs === undefined ? {} : { packAfterMs }),
    ...(keepMs === undefined ? {} : { keepMs }),
    ...(keepBytes === undefined ? {} : { keepBytes }),
  };
}

function readNamePart(reader: OptionReader, name: string): string | undefined {
  const part = reader.text(name);
  if (part !== undefined) reader.check(() => checkNamePart(name, part));
  return part;
}

function readEngine(
  reader: OptionReader,
  defaults: { overflow: OverflowPolicy; workers: number },
): EngineShare {
  const workers = reader.integer('workers', {
    min: 1,
    max: WORKERS_MAX,
    fallback: defaults.workers,
  });
  const lanes = reader.integer('lanes', { min: 1, max: LANES_MAX, fallback: 4 * workers });
  const ringBytes = reader.integer('ringBytes', {
    min: RING_BYTES_MIN,
    max: RING_BYTES_MAX,
    fallback: RING_BYTES_DEFAULT,
  });
  if (2 ** Math.floor(Math.log2(ringBytes)) !== ringBytes) {
    reader.fail(`ringBytes is ${ringBytes}; it must be a power of two`);
  }
  const laneBytes = 2 ** Math.floor(Math.log2(ringBytes / lanes));
  if (laneBytes < LANE_BYTES_MIN) {
    reader.fail(
      `lanes is ${lanes}; ${ringBytes} ringBytes leave ${laneBytes} bytes a lane, the least is ${LANE_BYTES_MIN}`,
    );
  }
  const spool = readSpool(reader);
  const overflow = reader.oneOf(
    'overflow',
    OVERFLOWS,
    spool === undefined ? defaults.overflow : 'spool',
  );
  if (overflow === 'spool' && spool === undefined) {
    reader.fail("overflow is 'spool'; that needs spool: { directory }");
  }
  return {
    workers,
    workerHeapMb: reader.integer('workerHeapMb', { min: HEAP_MB_MIN, max: HEAP_MB_MAX }),
    workerPatienceMs: reader.integer('workerPatienceMs', {
      min: 0,
      max: DAY_MS,
      fallback: PATIENCE_MS,
    }),
    lanes,
    laneBytes: Math.min(Math.max(laneBytes, LANE_BYTES_MIN), LANE_BYTES_MAX),
    overflow,
    spool,
    blockTimeoutMs: reader.integer('blockTimeoutMs', { min: 1, max: DAY_MS, fallback: 10_000 }),
    deadLetter: readDeadLetter(reader),
    workerFile: reader.fileOrUrl('workerFile'),
  };
}

function readDeadLetter(reader: OptionReader): EnginePlan['deadLetter'] {
  const path = reader.text('deadLetter');
  if (path === undefined && reader.has('deadLetterMode')) {
    reader.fail('deadLetterMode is the permission of a file that is missing: deadLetter');
  }
  const mode = reader.integer('deadLetterMode', { min: 0, max: 0o777, fallback: 0o600 });
  return path === undefined ? undefined : { path, mode };
}

function readSpool(reader: OptionReader): SpoolOptionsPlan | undefined {
  const durability = reader.oneOf('durability', ['memory', 'spool-first'] as const, 'memory');
  const raw = reader.raw('spool');
  if (raw === undefined) {
    if (durability === 'spool-first') {
      reader.fail("durability is 'spool-first'; that needs spool: { directory }");
    }
    return undefined;
  }
  return reader.check(() => {
    const inner = new OptionReader('spool', raw);
    const directory = inner.requiredText('directory');
    const maxBytes = inner.integer('maxBytes', {
      min: 2 * MIB,
      max: Number.MAX_SAFE_INTEGER,
      fallback: SPOOL_BYTES_DEFAULT,
    });
    const segmentBytes = inner.integer('segmentBytes', {
      min: 64 * KIB,
      max: Math.min(1024 * MIB, maxBytes),
      fallback: Math.min(SEGMENT_BYTES_DEFAULT, maxBytes / 4),
    });
    const fsync = inner.oneOf('fsync', ['never', 'interval', 'batch'] as const, 'interval');
    const mode = inner.integer('mode', { min: 0, max: 0o777, fallback: 0o600 });
    const replay = inner.oneOf('replay', ['beside', 'first'] as const, 'beside');
    inner.finish();
    const use = durability === 'spool-first' ? 'always' : 'pressure';
    return { directory: resolve(directory), maxBytes, segmentBytes, fsync, mode, use, replay };
  });
}

interface HttpShare {
  readonly entry: 'http';
  readonly sink: Readonly<Record<string, unknown>>;
  readonly attemptTimeoutMs: number;
  readonly exitFlushMs: number;
}

function readHttp(reader: OptionReader): HttpShare {
  const url = reader.requiredText('url');
  const endpoint = url === '' ? undefined : reader.check(() => parseEndpoint(url));
  const proxy = reader.text('proxy');
  for (const [name, value] of Object.entries(proxy === undefined ? proxyVariables() : { proxy })) {
    reader.check(() => parseEndpoint(value, name));
  }
  const ca = readCa(reader);
  const timeoutMs = reader.integer('timeoutMs', { min: 1, max: DAY_MS, fallback: 30_000 });
  return {
    entry: 'http',
    attemptTimeoutMs: timeoutMs,
    exitFlushMs: readExitFlushMs(reader),
    sink: {
      kind: 'http',
      endpoint,
      appId: reader.requiredText('appId'),
      headers: readHeaders(reader),
      level: readLevel(reader),
      timeoutMs,
      connections: reader.integer('connections', { min: 1, max: 1024, fallback: 16 }),
      version: LIBRARY_VERSION,
      ...(proxy === undefined ? {} : { proxy }),
      ...(ca === undefined ? {} : { ca }),
    },
  };
}

/** What a request's dispatcher reads; one that is no URL would end each worker. */
function proxyVariables(): Record<string, string> {
  const names = ['http_proxy', 'https_proxy', 'HTTP_PROXY', 'HTTPS_PROXY'];
  const set = names.flatMap((name) => {
    const value = process.env[name] ?? '';
    return value === '' ? [] : [[name, value] as const];
  });
  return Object.fromEntries(set);
}

function readHeaders(reader: OptionReader): Record<string, string> {
  const headers = reader.texts('headers') ?? {};
  for (const [name, value] of Object.entries(headers)) {
    if (!HEADER_NAME.test(name)) reader.fail(`headers: ${show(name)} is not a header name`);
    else if (OWN_HEADERS.has(name.toLowerCase())) {
      reader.fail(`headers: ${show(name)} is the protocol's own`);
    }
    if (/[\r\n\0]/.test(value)) reader.fail(`headers.${name} holds a line break`);
  }
  return headers;
}

function readCa(reader: OptionReader): string | undefined {
  const ca = reader.raw('ca');
  if (ca === undefined) return undefined;
  if (typeof ca === 'string' && ca !== '') return ca;
  if (Buffer.isBuffer(ca)) return ca.toString('utf8');
  reader.fail(`ca is ${show(ca)}; it must be the text of a certificate, or a Buffer of it`);
  return undefined;
}

/** The option `compress`. */
export function readLevel(reader: OptionReader): BodyLevel {
  const compress = reader.raw('compress') ?? true;
  if (compress === true) return 'fast';
  if (compress === false || compress === 0) return 'none';
  if (typeof compress === 'number' && Number.isInteger(compress) && compress > 0 && compress <= 9) {
    return compress;
  }
  reader.fail(`compress is ${show(compress)}; it must be true, false or a level from 0 to 9`);
  return 'none';
}

/** How often, and for how long, a batch is tried. */
function readRetries(
  reader: OptionReader,
  fallback: number | 'forever',
): Pick<EnginePlan['retry'], 'retries' | 'forMs'> {
  const forMs = reader.integer('retryForMs', { min: 1, max: RETRY_FOR_MS_MAX });
  const retries = reader.raw('retries') ?? fallback;
  const isCount = typeof retries === 'number' && Number.isInteger(retries) && retries >= 0;
  if (retries === 'forever' || isCount) return { retries, forMs };
  reader.fail(`retries is ${show(retries)}; it must be a whole number, or 'forever'`);
  return { retries: fallback, forMs };
}

/** An own sink of the user takes the place of ours, on the same workers. */
function readCustomSink(
  reader: OptionReader,
  own: { readonly entry: 'http' | 'file'; readonly sink: unknown },
): Pick<EnginePlan, 'entry' | 'sink'> {
  const module = readModule(reader);
  const options = readSinkOptions(reader);
  if (module !== undefined) {
    return { entry: 'custom', sink: { kind: 'custom', module, options } };
  }
  if (options !== undefined) reader.fail('sinkOptions are for a sink of your own: sink is missing');
  return { entry: own.entry, sink: own.sink };
}

/** The module of a sink, as a URL; a path is taken from the working folder. */
export function readModule(reader: OptionReader): string | undefined {
  const module = reader.fileOrUrl('sink');
  if (module === undefined) return undefined;
  const isUrl = module instanceof URL || /^[a-z]{2,}:/i.test(module);
  const url = isUrl ? new URL(module) : pathToFileURL(module);
  if (url.protocol === 'file:' && !existsSync(url)) {
    reader.fail(`sink is ${show(String(module))}; there is no such file`);
  }
  return url.href;
}

/** Data for the sink's `open`; it goes to other threads, so it must be plain. */
export function readSinkOptions(reader: OptionReader): unknown {
  const options = reader.raw('sinkOptions');
  try {
    return structuredClone(options);
  } catch (error) {
    const why = textOfError(error);
    reader.fail(`sinkOptions can't go to the workers, only plain data can: ${why}`);
    return undefined;
  }
}
