import type { Admin, Kafka, MemberDescription } from 'kafkajs';
import { MillraceError, textOfError } from '../base/errors.ts';
import { type KafkaServer, loadKafka, openKafka } from '../broker/kafka.ts';
import { endWithin } from './deadline.ts';
import type { PartitionState } from './source.ts';

export interface KafkaSourceConfig {
  readonly server: KafkaServer;
  readonly topic: string;
  /** Relays of one group share the partitions. */
  readonly group: string;
  /** How long a relay that is not heard of keeps its partitions, in ms: the session timeout. */
  readonly leaseMs: number;
  /** Topic of dead letters; undefined: there is none. */
  readonly deadLetterTopic: string | undefined;
}

/** Longest wait for a broker that may be gone, when nothing hangs on it any more. */
export const GOODBYE_MS = 5000;

/** What a relay has open to look at its topic. */
export interface KafkaLinks {
  readonly kafka: Kafka;
  readonly admin: Admin;
  /** Of the topic. */
  readonly partitions: number;
}

/** Where a partition of the topic stands. */
export interface KafkaPlace {
  readonly partition: number;
  /** Offset of its first message, and behind its last one. */
  readonly low: number;
  readonly high: number;
  /** Offset where the group goes on. */
  readonly committed: number;
}

/** Group of all relays that share the topic: its name has to be of the cluster's only one. */
export function groupOf({ group, topic }: KafkaSourceConfig): string {
  return `millrace-${group}-${topic}`;
}

/** @throws MillraceError MILLRACE_UNAVAILABLE, also when there is no such topic yet; MILLRACE_OPTIONS */
export async function linkKafka(config: KafkaSourceConfig): Promise<KafkaLinks> {
  const { topic, deadLetterTopic } = config;
  const kafka = await openKafka(config.server, 'millrace-relay');
  const admin = kafka.admin();
  try {
    await admin.connect();
    // Asking for a topic by name would make it on many brokers.
    const topics = await admin.listTopics();
    if (!topics.includes(topic)) throw new Error(`there is no topic ${topic}`);
    if (deadLetterTopic !== undefined && !topics.includes(deadLetterTopic)) {
      throw new MillraceError(
        'MILLRACE_OPTIONS',
        `there is no topic ${deadLetterTopic}; dead letters would be lost`,
      );
    }
    const { topics: found } = await admin.fetchTopicMetadata({ topics: [topic] });
    return { kafka, admin, partitions: found[0]?.partitions.length ?? 1 };
  } catch (error) {
    await endWithin(admin.disconnect(), GOODBYE_MS);
    throw unavailable(config, error);
  }
}

export function unavailable({ server, topic }: KafkaSourceConfig, error: unknown): MillraceError {
  if (error instanceof MillraceError) return error;
  const place = `Kafka at ${server.brokers.join(', ')}, topic ${topic}`;
  return new MillraceError('MILLRACE_UNAVAILABLE', `${place}: ${textOfError(error)}`, error);
}

/** Where all partitions of the topic and the group in them stand, by partition. */
export async function readPlaces(admin: Admin, config: KafkaSourceConfig): Promise<KafkaPlace[]> {
  const { topic } = config;
  const [ends, groups] = await Promise.all([
    admin.fetchTopicOffsets(topic),
    admin.fetchOffsets({ groupId: groupOf(config), topics: [topic] }),
  ]);
  const offsets = new Map(
    groups.flatMap(({ partitions }) =>
      partitions.map(({ partition, offset }) => [partition, Number(offset)] as const),
    ),
  );
  return ends
    .map(({ partition, low, high }) => ({
      partition,
      low: Number(low),
      high: Number(high),
      // Less than the first: the group has committed nothing, or what it stopped at is gone.
      committed: Math.max(Number(low), offsets.get(partition) ?? -1),
    }))
    .sort((one, other) => one.partition - other.partition);
}

/** Who is in the group; undefined: the brokers do not say. */
export async function readMembers(
  admin: Admin,
  config: KafkaSourceConfig,
): Promise<MemberDescription[] | undefined> {
  try {
    const { groups } = await admin.describeGroups([groupOf(config)]);
    return groups[0]?.members ?? [];
  } catch {
    // An old broker, or no right to ask.
    return undefined;
  }
}

export async function readKafkaStates(config: KafkaSourceConfig): Promise<PartitionState[]> {
  const { admin } = await linkKafka(config);
  try {
    const places = await readPlaces(admin, config);
    const owners = await readOwners(admin, config);
    return places.map(({ partition, high, committed }) => ({
      partition,
      owner: owners === undefined ? undefined : (owners.get(partition) ?? ''),
      settled: committed - 1,
      lag: high - committed,
    }));
  } catch (error) {
    throw unavailable(config, error);
  } finally {
    await endWithin(admin.disconnect(), GOODBYE_MS);
  }
}

async function readOwners(
  admin: Admin,
  config: KafkaSourceConfig,
): Promise<Map<number, string> | undefined> {
  const { MemberAssignment } = (await loadKafka()).AssignerProtocol;
  const members = await readMembers(admin, config);
  return (
    members &&
    new Map(
      members.flatMap(({ memberId, memberAssignment }) => {
        const given = MemberAssignment.decode(memberAssignment)?.assignment[config.topic] ?? [];
        return given.map((partition) => [partition, memberId] as const);
      }),
    )
  );
}
