import { readFileSync } from 'node:fs';
import type {
  DiscardPolicy,
  JetStreamManager,
  RetentionPolicy,
  StorageType,
  StreamConfig,
} from '@nats-io/jetstream';
import type { NatsConnection, TlsOptions } from '@nats-io/transport-node';
import { MillraceError } from '../base/errors.ts';

/** How a NATS server is reached: plain data. */
export interface NatsServer {
  /** `nats://host:port`, `tls://…`; several of one cluster. */
  readonly servers: readonly string[];
  readonly user?: string;
  readonly pass?: string;
  readonly token?: string;
  /** A `.creds` file. */
  readonly credentials?: string;
  /** PEM files. */
  readonly tls?: { readonly ca?: string; readonly cert?: string; readonly key?: string };
}

/** What a stream must be like; it is created like that if it is not there. */
export interface NatsStream {
  readonly stream: string;
  readonly subjectPrefix: string;
  readonly partitions: number;
  /** 'create': make the stream if it is missing. 'check': it must be there. */
  readonly provision: 'create' | 'check';
  readonly storage: 'file' | 'memory';
  readonly retention: 'limits' | 'interest' | 'workqueue';
  /** 'new': a full stream refuses, and senders wait. 'old': it drops its oldest. */
  readonly discard: 'new' | 'old';
  /** -1: no limit. */
  readonly maxBytes: number;
  /** 0: no limit. */
  readonly maxAgeMs: number;
  readonly replicas: number;
  readonly duplicateWindowMs: number;
  /** Names of the settings above that a stream must have to be taken: those that the user stated. */
  readonly stated: readonly string[];
}

const NANOS_PER_MS = 1e6;
const STREAM_NOT_FOUND = 10_059;

/** Loads the client only where it is used: it is the user's to install. */
export function loadTransport(): Promise<typeof import('@nats-io/transport-node')> {
  return import('@nats-io/transport-node');
}

export function loadJetStream(): Promise<typeof import('@nats-io/jetstream')> {
  return import('@nats-io/jetstream');
}

export function loadKv(): Promise<typeof import('@nats-io/kv')> {
  return import('@nats-io/kv');
}

/** Connects, and from then on reconnects for ever. Rejects when no server answers. */
export async function connectNats(server: NatsServer, name: string): Promise<NatsConnection> {
  const { connect, credsAuthenticator } = await loadTransport();
  const { servers, user, pass, token, credentials, tls } = server;
  return connect({
    servers: [...servers],
    name,
    maxReconnectAttempts: -1,
    reconnectTimeWait: 250,
    timeout: 5000,
    // A trace of every request costs more than to send it.
    noAsyncTraces: true,
    ...(user === undefined ? {} : { user }),
    ...(pass === undefined ? {} : { pass }),
    ...(token === undefined ? {} : { token }),
    ...(credentials === undefined
      ? {}
      : { authenticator: credsAuthenticator(readFileSync(credentials)) }),
    ...(tls === undefined ? {} : { tls: tlsOptions(tls) }),
  });
}

function tlsOptions({ ca, cert, key }: NonNullable<NatsServer['tls']>): TlsOptions {
  return {
    ...(ca === undefined ? {} : { caFile: ca }),
    ...(cert === undefined ? {} : { certFile: cert }),
    ...(key === undefined ? {} : { keyFile: key }),
  };
}

/** Subject of a partition. */
export function subjectOf(prefix: string, partition: number): string {
  return `${prefix}.${partition}`;
}

/**
 * Creates the stream, or compares it with what is wanted.
 *
 * @throws MillraceError MILLRACE_OPTIONS that names what differs
 */
export async function ensureStream(jsm: JetStreamManager, wanted: NatsStream): Promise<void> {
  const present = await findStream(jsm, wanted.stream);
  if (present !== undefined) {
    compare(present, wanted);
    return;
  }
  if (wanted.provision === 'check') {
    throw new MillraceError(
      'MILLRACE_OPTIONS',
      `stream ${wanted.stream} is not there; provision: 'create' makes it`,
    );
  }
  await jsm.streams.add({
    name: wanted.stream,
    subjects: [`${wanted.subjectPrefix}.*`],
    storage: wanted.storage as StorageType,
    retention: wanted.retention as RetentionPolicy,
    discard: wanted.discard as DiscardPolicy,
    max_bytes: wanted.maxBytes,
    max_age: wanted.maxAgeMs * NANOS_PER_MS,
    num_replicas: wanted.replicas,
    duplicate_window: wanted.duplicateWindowMs * NANOS_PER_MS,
    allow_direct: true,
  });
}

async function findStream(jsm: JetStreamManager, name: string): Promise<StreamConfig | undefined> {
  try {
    return (await jsm.streams.info(name)).config;
  } catch (error) {
    if (apiCodeOf(error) === STREAM_NOT_FOUND) return undefined;
    throw error;
  }
}

function compare(present: StreamConfig, wanted: NatsStream): void {
  const first = subjectOf(wanted.subjectPrefix, 0);
  const subjects = present.subjects ?? [];
  if (!subjects.some((pattern) => covers(pattern, first))) {
    throw new MillraceError(
      'MILLRACE_OPTIONS',
      `stream ${wanted.stream} has the subjects ${subjects.join(', ')}; ${wanted.subjectPrefix}.* is not among them`,
    );
  }
  const facts: readonly (readonly [string, unknown, unknown])[] = [
    ['retention', present.retention, wanted.retention],
    ['storage', present.storage, wanted.storage],
    ['replicas', present.num_replicas, wanted.replicas],
    ['duplicateWindowMs', present.duplicate_window / NANOS_PER_MS, wanted.duplicateWindowMs],
    ['maxBytes', present.max_bytes, wanted.maxBytes],
    ['maxAgeMs', present.max_age / NANOS_PER_MS, wanted.maxAgeMs],
    ['discard', present.discard, wanted.discard],
  ];
  const wrong = facts.filter(([name, is, should]) => wanted.stated.includes(name) && is !== should);
  if (wrong.length === 0) return;
  const words = wrong.map(([name, is, should]) => `${name} ${is}, wanted ${should}`).join('; ');
  throw new MillraceError('MILLRACE_OPTIONS', `stream ${wanted.stream} has ${words}`);
}

/** Whether a subject pattern of NATS takes the subject. */
export function covers(pattern: string, subject: string): boolean {
  const parts = pattern.split('.');
  const tokens = subject.split('.');
  for (const [index, part] of parts.entries()) {
    if (part === '>') return tokens.length > index;
    if (tokens[index] === undefined) return false;
    if (part !== '*' && part !== tokens[index]) return false;
  }
  return parts.length === tokens.length;
}

/** Code of a JetStream API error; undefined: it is none. */
export function apiCodeOf(error: unknown): number | undefined {
  if (typeof error !== 'object' || error === null || !('code' in error)) return undefined;
  return typeof error.code === 'number' ? error.code : undefined;
}
