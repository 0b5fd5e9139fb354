import type { NatsServer, NatsStream } from '../broker/nats.ts';
import type { NatsSinkOptions } from '../broker/nats-sink.ts';
import { checkInstalled, NATS_PACKAGES } from '../broker/packages.ts';
import type { OptionReader } from '../engine/option-reader.ts';
import { BROKER_BATCH_RECORDS, planSink, readLevel } from '../engine/options.ts';
import type { EnginePlan } from '../engine/plan.ts';
import type { EngineOptions, StreamOptions } from './options.ts';

/** How NATS is reached. */
export interface NatsServerOptions {
  /** `nats://host:4222`, or several of one cluster; `tls://` for TLS. */
  readonly servers: string | readonly string[];
  readonly user?: string;
  readonly pass?: string;
  readonly token?: string;
  /** Path of a `.creds` file. */
  readonly credentials?: string;
  /** Paths of PEM files. */
  readonly tls?: { readonly ca?: string; readonly cert?: string; readonly key?: string };
}

export interface NatsConsumerOptions
  extends NatsServerOptions,
    Omit<EngineOptions, 'sink' | 'sinkOptions'>,
    StreamOptions {
  /** The JetStream stream. */
  readonly stream: string;
  /** Records go to `prefix.<partition>`; default: the stream's name in lower case. */
  readonly subjectPrefix?: string;
  /** Partitions of the users; the same in all servers and relays, and never changed while records wait; default 16. */
  readonly partitions?: number;
  /** 'batch' (default): one message for all records of a partition in a batch. 'record': one each. */
  readonly message?: 'batch' | 'record';
  /** gzip of batch messages: true (default), false, or a level from 0 (none) to 9. */
  readonly compress?: boolean | 0 | 1 | 2 | 3 | 4 | 5 | 6 | 7 | 8 | 9;
  /** 'create' (default): make the stream if it is missing. 'check': it must be there. Either way it must be as the options that are given say. */
  readonly provision?: 'create' | 'check';
  /** Default 'file'. */
  readonly storage?: 'file' | 'memory';
  /** 'limits' (default): messages stay until the limits; relays need that. */
  readonly retention?: 'limits' | 'interest' | 'workqueue';
  /** What a full stream does. 'new' (default): refuses, and records wait here. 'old': drops its oldest. */
  readonly discard?: 'new' | 'old';
  /** Size of the stream in bytes; default -1: no limit. */
  readonly maxBytes?: number;
  /** Age of a message after which it goes, in ms; default 0: no limit. */
  readonly maxAgeMs?: number;
  /** Copies of the stream in a cluster; default 1. */
  readonly replicas?: number;
  /** How long the server knows a message again, in ms; default 120 000. */
  readonly duplicateWindowMs?: number;
  /** Longest wait for the acknowledgement of one message, in ms; default 5000. */
  readonly ackTimeoutMs?: number;
  /** Most unacknowledged messages of one batch; default 256. */
  readonly inFlight?: number;
  /** Longest time of one attempt at a batch, in ms; default 30 000. */
  readonly timeoutMs?: number;
}

const ATTEMPT_MS = 30_000;
/** A cluster has a new leader after seconds, and is asked as soon. */
const RETRY_CAP_MS = 1000;
const DAY_MS = 86_400_000;
const STREAM_SETTINGS = [
  'storage',
  'retention',
  'discard',
  'maxBytes',
  'maxAgeMs',
  'replicas',
  'duplicateWindowMs',
];
const SUBJECT_TOKEN = /^[^\s.*>]+(\.[^\s.*>]+)*$/;
const STREAM_NAME = /^[^\s.*>/\\]+$/;

/**
 * Publishes to a NATS JetStream stream, from which relays take the records to the receiver: batches, order per user,
 * back-pressure, spool, account and metrics as with HTTP.
 */
export class NatsConsumer {
  readonly plan: EnginePlan;

  /** @throws MillraceError MILLRACE_OPTIONS with everything that is wrong, and when the client's packages are not installed */
  constructor(options: NatsConsumerOptions) {
    checkInstalled(NATS_PACKAGES);
    this.plan = planSink(options, {
      owner: 'NatsConsumer',
      consumer: 'nats',
      attemptTimeoutMs: ATTEMPT_MS,
      retryCapMs: RETRY_CAP_MS,
      batchRecords: BROKER_BATCH_RECORDS,
      read: (reader) => ({ module: sinkModule(), options: readNatsSink(reader) }),
    });
  }
}

function sinkModule(): string {
  const extension = import.meta.url.endsWith('.ts') ? 'ts' : 'js';
  return new URL(`../broker/nats-sink.${extension}`, import.meta.url).href;
}

function readNatsSink(reader: OptionReader): NatsSinkOptions {
  const ackTimeoutMs = reader.integer('ackTimeoutMs', { min: 1, max: DAY_MS, fallback: 5000 });
  return {
    server: readNatsServer(reader),
    ...readNatsStream(reader),
    message: reader.oneOf('message', ['batch', 'record'] as const, 'batch'),
    level: readLevel(reader),
    ackTimeoutMs,
    inFlight: reader.integer('inFlight', { min: 1, max: 100_000, fallback: 256 }),
  };
}

/** The options that say where NATS is. */
function readNatsServer(reader: OptionReader): NatsServer {
  const raw = reader.raw('servers');
  const servers: unknown[] = Array.isArray(raw) ? raw : raw === undefined ? [] : [raw];
  if (servers.length === 0) reader.fail('servers is missing');
  const texts = servers.filter((server) => typeof server === 'string' && server !== '');
  if (texts.length < servers.length) reader.fail('servers must be a URL, or a list of URLs');
  const { user, pass, token, credentials } = {
    user: reader.text('user'),
    pass: reader.text('pass'),
    token: reader.text('token'),
    credentials: reader.text('credentials'),
  };
  const tls = reader.texts('tls');
  for (const name of Object.keys(tls ?? {})) {
    if (!['ca', 'cert', 'key'].includes(name)) reader.fail(`tls.${name} is unknown`);
  }
  return {
    servers: texts as string[],
    ...(user === undefined ? {} : { user }),
    ...(pass === undefined ? {} : { pass }),
    ...(token === undefined ? {} : { token }),
    ...(credentials === undefined ? {} : { credentials }),
    ...(tls === undefined ? {} : { tls }),
  };
}

function readNatsStream(reader: OptionReader): NatsStream {
  const stream = reader.requiredText('stream');
  if (stream !== '' && !STREAM_NAME.test(stream)) {
    reader.fail(`stream is ${stream}; a name of a stream has no blanks, dots, stars or slashes`);
  }
  const subjectPrefix = reader.text('subjectPrefix') ?? stream.toLowerCase();
  if (subjectPrefix !== '' && !SUBJECT_TOKEN.test(subjectPrefix)) {
    reader.fail(`subjectPrefix is ${subjectPrefix}; it must be a subject without wildcards`);
  }
  const whole = Number.MAX_SAFE_INTEGER;
  return {
    stream,
    subjectPrefix,
    partitions: reader.integer('partitions', { min: 1, max: 4096, fallback: 16 }),
    provision: reader.oneOf('provision', ['create', 'check'] as const, 'create'),
    storage: reader.oneOf('storage', ['file', 'memory'] as const, 'file'),
    retention: reader.oneOf('retention', ['limits', 'interest', 'workqueue'] as const, 'limits'),
    discard: reader.oneOf('discard', ['new', 'old'] as const, 'new'),
    maxBytes: reader.integer('maxBytes', { min: -1, max: whole, fallback: -1 }),
    maxAgeMs: reader.integer('maxAgeMs', { min: 0, max: 10_000 * DAY_MS, fallback: 0 }),
    replicas: reader.integer('replicas', { min: 1, max: 5, fallback: 1 }),
    duplicateWindowMs: reader.integer('duplicateWindowMs', {
      min: 100,
      max: DAY_MS,
      fallback: 120_000,
    }),
    stated: STREAM_SETTINGS.filter((name) => reader.has(name)),
  };
}
