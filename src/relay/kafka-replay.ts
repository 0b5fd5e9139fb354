import { randomUUID } from 'node:crypto';
import type { Admin } from 'kafkajs';
import { endWithin } from './deadline.ts';
import { KafkaFeed } from './kafka-feed.ts';
import { KafkaMember } from './kafka-member.ts';
import {
  GOODBYE_MS,
  type KafkaLinks,
  type KafkaSourceConfig,
  linkKafka,
  unavailable,
} from './kafka-topic.ts';
import type { ReplaySpan, Source, SourceHost } from './source.ts';

/** Times of a topic are its producers', whose clocks differ: so far behind the end of a replay's time is still looked. */
const SKEW_MS = 3_600_000;
const REBALANCE_MS = 30_000;
const NEWS_MS = 500;

/** Reads by a group of its own that commits nothing. */
export async function openKafkaReplay(
  config: KafkaSourceConfig,
  { from, to, host }: ReplaySpan & { readonly host: SourceHost },
): Promise<Source> {
  const links = await linkKafka(config);
  try {
    const spans = await readSpans(links.admin, { ...config, from, to });
    const feeds = spans.map(
      ({ partition, start, end }) =>
        new KafkaFeed(partition, { from: start, span: { from, to, end } }),
    );
    const member = await openReplayMember(feeds, { config, links, host });
    for (const feed of feeds) host.begin(feed);
    return {
      feeds,
      members: 1,
      isConnected: true,
      hasShare: true,
      bury: async () => {
        // A replay shows what is refused as rejected; its dead letters are there since the first time.
      },
      close: async () => {
        await Promise.all(feeds.map((feed) => feed.close()));
        await endWithin(member.close(), GOODBYE_MS);
        await endWithin(links.admin.disconnect(), GOODBYE_MS);
      },
    };
  } catch (error) {
    await endWithin(links.admin.disconnect(), GOODBYE_MS);
    throw unavailable(config, error);
  }
}

interface OffsetSpan {
  readonly partition: number;
  readonly start: number;
  readonly end: number;
}

/** Where a replay begins and ends. Messages need not be in the order of their times: the feed looks at each. */
async function readSpans(
  admin: Admin,
  { topic, from, to }: KafkaSourceConfig & ReplaySpan,
): Promise<OffsetSpan[]> {
  const ends = await admin.fetchTopicOffsets(topic);
  const firsts = await offsetsAt(admin, { topic, time: from.getTime() });
  const lasts = await offsetsAt(admin, { topic, time: to.getTime() + SKEW_MS });
  return ends.map(({ partition, low, high }) => ({
    partition,
    // From the beginning of time: no clock has to be asked.
    start: from.getTime() === 0 ? Number(low) : (firsts.get(partition) ?? Number(low)),
    end: Math.min(Number(high), lasts.get(partition) ?? Number(high)),
  }));
}

/** Offset of the first message that is not older, by partition; the partition's end if there is none. */
async function offsetsAt(
  admin: Admin,
  { topic, time }: { topic: string; time: number },
): Promise<Map<number, number>> {
  const found = await admin.fetchTopicOffsetsByTimestamp(topic, time);
  return new Map(found.map(({ partition, offset }) => [partition, Number(offset)]));
}

function openReplayMember(
  feeds: readonly KafkaFeed[],
  { config, links, host }: { config: KafkaSourceConfig; links: KafkaLinks; host: SourceHost },
): Promise<KafkaMember> {
  const { topic } = config;
  return KafkaMember.open({
    ...links,
    topic,
    groupId: `millrace-replay-${randomUUID()}`,
    sessionMs: config.leaseMs,
    rebalanceMs: REBALANCE_MS,
    onJoin: (_partitions, consumer) => {
      for (const { partition, next, isAtEnd } of feeds) {
        if (isAtEnd) consumer.pause([{ topic, partitions: [partition] }]);
        else consumer.seek({ topic, partition, offset: String(next) });
      }
    },
    onRebalance: () => undefined,
    onBatch: async (payload) => {
      const feed = feeds.find(({ partition }) => partition === payload.batch.partition);
      if (feed === undefined || feed.isAtEnd) return;
      feed.put(payload.batch);
      payload.resolveOffset(payload.batch.lastOffset());
      while (!feed.isSettled && !feed.isClosed && payload.isRunning()) {
        await feed.news(NEWS_MS);
        await payload.heartbeat();
      }
      if (feed.isAtEnd) payload.pause();
    },
    onLost: (reason) => host.onTrouble(`the replay is interrupted: ${reason}`),
  });
}
