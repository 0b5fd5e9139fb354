import type { KafkaServer } from '../broker/kafka.ts';
import type { KafkaSinkOptions } from '../broker/kafka-sink.ts';
import { checkInstalled, KAFKA_PACKAGES } from '../broker/packages.ts';
import type { OptionReader } from '../engine/option-reader.ts';
import { BROKER_BATCH_RECORDS, planSink, readLevel } from '../engine/options.ts';
import type { EnginePlan } from '../engine/plan.ts';
import type { EngineOptions, StreamOptions } from './options.ts';

export interface KafkaConsumerOptions
  extends Omit<EngineOptions, 'sink' | 'sinkOptions'>,
    StreamOptions {
  /** `host:port` of some brokers. */
  readonly brokers: string | readonly string[];
  readonly topic: string;
  /** Partitions of the topic; default 16. */
  readonly partitions?: number;
  /** Copies of the topic; default 1. */
  readonly replicas?: number;
  /** 'create' (default): make the topic if it is missing. 'check': it must be there. Either way it must have `partitions`. 'auto': the brokers make it on first use, with as many. */
  readonly provision?: 'create' | 'auto' | 'check';
  /** 'batch' (default): one message for all records of a partition in a batch. 'record': one each, its user as the key. */
  readonly message?: 'batch' | 'record';
  /** gzip, of batch messages by us, of record messages by Kafka: true (default), false, or a level from 0 to 9. */
  readonly compress?: boolean | 0 | 1 | 2 | 3 | 4 | 5 | 6 | 7 | 8 | 9;
  /** The brokers drop what the client repeats within one attempt; default true. */
  readonly idempotent?: boolean;
  readonly user?: string;
  readonly pass?: string;
  /** With user and pass; default 'plain'. */
  readonly mechanism?: 'plain' | 'scram-sha-256' | 'scram-sha-512';
  /** TLS: true, or the path of a PEM file to trust. */
  readonly tls?: boolean | string;
  /** Longest time of one attempt at a batch, in ms; default 30 000. */
  readonly timeoutMs?: number;
}

const ATTEMPT_MS = 30_000;
/** A cluster has a new leader after seconds, and is asked as soon. */
const RETRY_CAP_MS = 1000;
const TOPIC_NAME = /^[\w.-]{1,249}$/;
const MECHANISMS = ['plain', 'scram-sha-256', 'scram-sha-512'] as const;

/** Produces to a Kafka topic: batches, order per user, back-pressure, spool, account and metrics as with HTTP. */
export class KafkaConsumer {
  readonly plan: EnginePlan;

  /** @throws MillraceError MILLRACE_OPTIONS with everything that is wrong, and when the client's package is not installed */
  constructor(options: KafkaConsumerOptions) {
    checkInstalled(KAFKA_PACKAGES);
    this.plan = planSink(options, {
      owner: 'KafkaConsumer',
      consumer: 'kafka',
      attemptTimeoutMs: ATTEMPT_MS,
      retryCapMs: RETRY_CAP_MS,
      batchRecords: BROKER_BATCH_RECORDS,
      read: (reader) => ({ module: sinkModule(), options: readKafkaSink(reader) }),
    });
  }
}

function sinkModule(): string {
  const extension = import.meta.url.endsWith('.ts') ? 'ts' : 'js';
  return new URL(`../broker/kafka-sink.${extension}`, import.meta.url).href;
}

function readKafkaSink(reader: OptionReader): KafkaSinkOptions {
  const topic = reader.requiredText('topic');
  if (topic !== '' && !TOPIC_NAME.test(topic)) {
    reader.fail(`topic is ${topic}; it may have letters, digits, dots, dashes and underscores`);
  }
  return {
    server: readServer(reader),
    topic,
    partitions: reader.integer('partitions', { min: 1, max: 4096, fallback: 16 }),
    replicas: reader.integer('replicas', { min: 1, max: 9, fallback: 1 }),
    provision: reader.oneOf('provision', ['create', 'auto', 'check'] as const, 'create'),
    message: reader.oneOf('message', ['batch', 'record'] as const, 'batch'),
    level: readLevel(reader),
    idempotent: reader.flag('idempotent', 'on'),
  };
}

function readServer(reader: OptionReader): KafkaServer {
  const raw = reader.raw('brokers');
  const brokers: unknown[] = Array.isArray(raw) ? raw : raw === undefined ? [] : [raw];
  if (brokers.length === 0) reader.fail('brokers is missing');
  const texts = brokers.filter((broker) => typeof broker === 'string' && /^\S+:\d+$/.test(broker));
  if (texts.length < brokers.length) reader.fail('brokers must be host:port, or a list of those');
  const user = reader.text('user');
  const pass = reader.text('pass');
  if ((user === undefined) !== (pass === undefined)) reader.fail('user and pass go together');
  const mechanism = reader.oneOf('mechanism', MECHANISMS, 'plain');
  const tls = reader.raw('tls');
  if (tls !== undefined && typeof tls !== 'boolean' && typeof tls !== 'string') {
    reader.fail('tls must be true, false, or the path of a PEM file');
  }
  return {
    brokers: texts as string[],
    mechanism,
    ...(user === undefined ? {} : { user }),
    ...(pass === undefined ? {} : { pass }),
    ...(typeof tls === 'boolean' || typeof tls === 'string' ? { tls } : {}),
  };
}
