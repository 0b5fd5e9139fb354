import { readFileSync } from 'node:fs';
import type { Admin, Kafka, KafkaConfig, SASLOptions } from 'kafkajs';
import { MillraceError } from '../base/errors.ts';

/** How a Kafka cluster is reached: plain data. */
export interface KafkaServer {
  /** `host:port` of some of its brokers. */
  readonly brokers: readonly string[];
  readonly user?: string;
  readonly pass?: string;
  /** With user and pass; default 'plain'. */
  readonly mechanism?: 'plain' | 'scram-sha-256' | 'scram-sha-512';
  /** TLS with Node's own certificates, or those of a PEM file. */
  readonly tls?: boolean | string;
}

/** What a topic must be like; it is created like that if it is not there. */
export interface KafkaTopic {
  readonly topic: string;
  readonly partitions: number;
  readonly replicas: number;
  /** 'create': make the topic if it is missing. 'auto': the brokers make it when it is first used. 'check': it must be there. */
  readonly provision: 'create' | 'auto' | 'check';
}

/** Loads the client only where it is used: it is the user's to install. */
export async function loadKafka(): Promise<typeof import('kafkajs')> {
  return (await import('kafkajs')).default;
}

/** A client; it connects to nothing yet. */
export async function openKafka(server: KafkaServer, clientId: string): Promise<Kafka> {
  const { Kafka: Client, logLevel } = await loadKafka();
  const { brokers, tls } = server;
  const config: KafkaConfig = {
    clientId,
    brokers: [...brokers],
    // What goes wrong is told by the engine, in one place.
    logLevel: logLevel.NOTHING,
    connectionTimeout: 5000,
    requestTimeout: 10_000,
    retry: { retries: 3, initialRetryTime: 100, maxRetryTime: 1000 },
    ...(tls === undefined || tls === false
      ? {}
      : { ssl: tls === true || { ca: readFileSync(tls) } }),
    ...saslOf(server),
  };
  return new Client(config);
}

function saslOf({ user, pass, mechanism = 'plain' }: KafkaServer): { sasl?: SASLOptions } {
  if (user === undefined || pass === undefined) return {};
  return { sasl: { mechanism, username: user, password: pass } as SASLOptions };
}

/**
 * Creates the topic, or compares it with what is wanted.
 *
 * @throws MillraceError MILLRACE_OPTIONS that names what differs
 */
export async function ensureTopic(kafka: Kafka, wanted: KafkaTopic): Promise<void> {
  // Nothing is there to be compared before the first use.
  if (wanted.provision === 'auto') return;
  const admin = kafka.admin();
  await admin.connect();
  try {
    const partitions = await countPartitions(admin, wanted.topic);
    if (partitions === wanted.partitions) return;
    if (partitions !== undefined) {
      throw new MillraceError(
        'MILLRACE_OPTIONS',
        `topic ${wanted.topic} has ${partitions} partitions, wanted ${wanted.partitions}`,
      );
    }
    if (wanted.provision === 'check') {
      throw new MillraceError(
        'MILLRACE_OPTIONS',
        `topic ${wanted.topic} is not there; provision: 'create' makes it`,
      );
    }
    const { topic, partitions: numPartitions, replicas: replicationFactor } = wanted;
    await admin.createTopics({ topics: [{ topic, numPartitions, replicationFactor }] });
  } finally {
    await admin.disconnect();
  }
}

/** Partitions of a topic; undefined: there is no such topic. */
async function countPartitions(admin: Admin, topic: string): Promise<number | undefined> {
  // Asking for one topic by name would make it on many brokers.
  const topics = await admin.listTopics();
  if (!topics.includes(topic)) return undefined;
  const { topics: found } = await admin.fetchTopicMetadata({ topics: [topic] });
  return found[0]?.partitions.length;
}
