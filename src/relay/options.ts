import { accessSync, constants } from 'node:fs';
import { MillraceError, show, textOfError } from '../base/errors.ts';
import { checkInstalled, KAFKA_PACKAGES, NATS_PACKAGES } from '../broker/packages.ts';
import type { OptionReader } from '../engine/option-reader.ts';
import { kafkaUpstream } from './kafka-source.ts';
import { natsUpstream } from './nats-source.ts';
import type { Upstream } from './source.ts';

/** Where a relay reads, from a URL. */
export interface RelayOrigin {
  readonly broker: 'nats' | 'kafka';
  /** `nats://host:port` or `tls://host:port` of each server; of Kafka `host:port`. */
  readonly servers: readonly string[];
  /** The stream, or the topic. */
  readonly name: string;
  readonly user?: string;
  readonly pass?: string;
}

const PATTERN = /^(nats|tls|kafka):\/\/(?:([^@/]*)@)?([^/?#]+)\/([^/?#\s]+)$/;
const KAFKA_PORT = 9092;
const DAY_MS = 86_400_000;
const NATS_LEASE_MS = 5000;
/** Brokers of Kafka take 6 s and more, unless they are told otherwise. */
const KAFKA_LEASE_MS = 10_000;
const MECHANISMS = ['plain', 'scram-sha-256', 'scram-sha-512'] as const;
/** What only one of the brokers has. */
const NATS_ONLY = ['subjectPrefix', 'partitions', 'lingerMs', 'trim', 'credentials', 'token'];
const KAFKA_ONLY = ['mechanism', 'tls'];

/**
 * Reads `nats://host:4222,host2:4222/STREAM` (with TLS `tls://…`) or `kafka://host:9092,host2:9092/TOPIC`; `user:password@` before the hosts.
 *
 * @throws MillraceError MILLRACE_OPTIONS; a password is not repeated
 */
export function parseOrigin(from: string): RelayOrigin {
  const match = PATTERN.exec(from);
  if (match === null) {
    const shown = from.replace(/\/\/[^@/]*@/, '//***@');
    throw new MillraceError(
      'MILLRACE_OPTIONS',
      `from is ${show(shown)}; it must be nats://HOST:PORT/STREAM or kafka://HOST:PORT/TOPIC`,
    );
  }
  const [, scheme = '', account, hosts = '', name = ''] = match;
  const broker = scheme === 'kafka' ? 'kafka' : 'nats';
  const servers = hosts
    .split(',')
    .map((host) => (broker === 'kafka' ? withPort(host) : `${scheme}://${host}`));
  const [user, pass] = (account ?? '').split(':').map(decodeURIComponent);
  return {
    broker,
    servers,
    name,
    ...(user === undefined || user === '' ? {} : { user }),
    ...(pass === undefined ? {} : { pass }),
  };
}

function withPort(host: string): string {
  return /:\d+$/.test(host) ? host : `${host}:${KAFKA_PORT}`;
}

/** The broker that the options name; what is wrong with them the reader knows. */
export function readUpstream(reader: OptionReader): Upstream {
  const from = reader.requiredText('from');
  const origin = from === '' ? undefined : reader.check(() => parseOrigin(from));
  // Asked for in any case, so that none of them counts as unknown.
  const foreign = origin?.broker === 'kafka' ? NATS_ONLY : KAFKA_ONLY;
  for (const name of [...NATS_ONLY, ...KAFKA_ONLY]) {
    if (reader.has(name) && origin !== undefined && foreign.includes(name)) {
      reader.fail(`${name} means nothing to a relay from ${origin.broker}`);
    }
  }
  return origin?.broker === 'kafka' ? readKafka(reader, origin) : readNats(reader, origin);
}

function readGroup(reader: OptionReader, leaseMs: number): { group: string; leaseMs: number } {
  return {
    group: reader.text('group') ?? 'relay',
    leaseMs: reader.integer('leaseMs', { min: 200, max: DAY_MS, fallback: leaseMs }),
  };
}

function readNats(reader: OptionReader, origin: RelayOrigin | undefined): Upstream {
  reader.check(() => checkInstalled(NATS_PACKAGES));
  const { servers = [], name = '', user, pass } = origin ?? {};
  const token = reader.text('token');
  const credentials = reader.text('credentials');
  if (credentials !== undefined) checkFile(reader, 'credentials', credentials);
  return natsUpstream({
    server: {
      servers,
      ...(user === undefined ? {} : { user }),
      ...(pass === undefined ? {} : { pass }),
      ...(token === undefined ? {} : { token }),
      ...(credentials === undefined ? {} : { credentials }),
    },
    stream: name,
    subjectPrefix: reader.text('subjectPrefix') ?? name.toLowerCase(),
    partitions: reader.integer('partitions', { min: 1, max: 4096, fallback: 16 }),
    ...readGroup(reader, NATS_LEASE_MS),
    deadLetterSubject: reader.text('deadLetter'),
    trim: reader.flag('trim', 'off') ? 'settled' : 'never',
  });
}

function readKafka(reader: OptionReader, { servers, name, user, pass }: RelayOrigin): Upstream {
  reader.check(() => checkInstalled(KAFKA_PACKAGES));
  const tls = reader.raw('tls');
  if (tls !== undefined && typeof tls !== 'boolean' && typeof tls !== 'string') {
    reader.fail('tls must be true, false, or the path of a PEM file');
  }
  if (typeof tls === 'string') checkFile(reader, 'tls', tls);
  if (user !== undefined && pass === undefined) reader.fail('from has a user without password');
  return kafkaUpstream({
    server: {
      brokers: servers,
      mechanism: reader.oneOf('mechanism', MECHANISMS, 'plain'),
      ...(user === undefined ? {} : { user }),
      ...(pass === undefined ? {} : { pass }),
      ...(typeof tls === 'boolean' || typeof tls === 'string' ? { tls } : {}),
    },
    topic: name,
    ...readGroup(reader, KAFKA_LEASE_MS),
    deadLetterTopic: reader.text('deadLetter'),
  });
}

/** What can't be read is told now, not by each attempt to connect. */
function checkFile(reader: OptionReader, name: string, path: string): void {
  try {
    accessSync(path, constants.R_OK);
  } catch (error) {
    reader.fail(`${name} is ${show(path)}; it can't be read: ${textOfError(error)}`);
  }
}
