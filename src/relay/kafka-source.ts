import type { EachBatchPayload, Producer } from 'kafkajs';
import { textOfError } from '../base/errors.ts';
import { endWithin } from './deadline.ts';
import { KafkaFeed } from './kafka-feed.ts';
import { KafkaMember } from './kafka-member.ts';
import { openKafkaReplay } from './kafka-replay.ts';
import {
  GOODBYE_MS,
  groupOf,
  type KafkaLinks,
  type KafkaSourceConfig,
  linkKafka,
  readKafkaStates,
  readMembers,
  readPlaces,
  unavailable,
} from './kafka-topic.ts';
import type { Feed, PartitionWork, Source, SourceHost, Upstream } from './source.ts';

/** A broker's word for "all replicas in sync". */
const ACKS_ALL = -1;
const COMMIT_MS = 500;
const LOOK_MS = 1000;
const REBALANCE_MS_MIN = 30_000;
const BURY_RETRY_MS = 500;

interface Owned {
  readonly feed: KafkaFeed;
  readonly work: PartitionWork;
  /** Offset of the last settled message that the group knows of. */
  committed: number | undefined;
}

/**
 * The partitions of a topic, shared among the relays by Kafka's consumer group. The client asks for the next messages of a partition when
 * those before are settled, so what waits here is bounded by one fetch; and it joins the group anew only when no
 * messages are under way, so that a partition changes hands with everything settled and committed.
 */
class KafkaSource implements Source {
  readonly #config: KafkaSourceConfig;
  readonly #links: KafkaLinks;
  readonly #host: SourceHost;
  readonly #owned = new Map<number, Owned>();
  readonly #timers: NodeJS.Timeout[];
  /** Partitions that the group has given to this member. */
  #given: ReadonlySet<number> = new Set();
  #member: KafkaMember | undefined;
  #commit: EachBatchPayload['commitOffsetsIfNecessary'] | undefined;
  #noting: Promise<void> = Promise.resolve();
  #leaving: Promise<void> | undefined;
  #producer: Promise<Producer> | undefined;
  #members: number | undefined;
  #isAnswering = true;
  #isClosing = false;
  #isClosed = false;

  private constructor(config: KafkaSourceConfig, links: KafkaLinks, host: SourceHost) {
    this.#config = config;
    this.#links = links;
    this.#host = host;
    this.#timers = [
      setInterval(() => this.#note(), COMMIT_MS),
      setInterval(() => this.#look(), LOOK_MS),
    ];
  }

  static async open(config: KafkaSourceConfig, host: SourceHost): Promise<KafkaSource> {
    const links = await linkKafka(config);
    const source = new KafkaSource(config, links, host);
    try {
      await source.#join();
    } catch (error) {
      await source.close();
      throw unavailable(config, error);
    }
    return source;
  }

  async #join(): Promise<void> {
    const { topic, leaseMs } = this.#config;
    this.#member = await KafkaMember.open({
      kafka: this.#links.kafka,
      topic,
      partitions: this.#links.partitions,
      groupId: groupOf(this.#config),
      sessionMs: leaseMs,
      rebalanceMs: Math.max(REBALANCE_MS_MIN, 2 * leaseMs),
      onJoin: (partitions) => this.#share(partitions),
      onRebalance: () => {
        this.#given = new Set();
        void this.#note();
      },
      onBatch: (payload) => this.#pass(payload),
      onLost: (reason) => {
        this.#host.onTrouble(`out of the group ${groupOf(this.#config)}: ${reason}`);
        this.#commit = undefined;
        this.#share([]);
      },
    });
  }

  get feeds(): readonly Feed[] {
    return [...this.#owned.values()].map(({ feed }) => feed);
  }

  get members(): number | undefined {
    return this.#members;
  }

  get isConnected(): boolean {
    return this.#isAnswering && this.hasShare;
  }

  get hasShare(): boolean {
    return this.#member?.isJoined === true;
  }

  /** Begins with the partitions that the group has given, and ends with the others. */
  #share(partitions: readonly number[]): void {
    this.#given = new Set(partitions);
    for (const [partition, { work }] of this.#owned) {
      if (this.#given.has(partition)) continue;
      this.#owned.delete(partition);
      void work.drop();
    }
    this.#resume();
  }

  /** Begins anew with what had to be let go of, and still is this relay's. */
  #resume(): void {
    if (this.#leaving !== undefined || this.#isClosing) return;
    for (const partition of this.#given) this.#ownedOf(partition);
  }

  /** What works on a partition; it is begun anew when the last one came to an end. */
  #ownedOf(partition: number): Owned {
    const present = this.#owned.get(partition);
    if (present !== undefined && !present.work.isOver) return present;
    const feed = new KafkaFeed(partition);
    const owned = { feed, work: this.#host.begin(feed), committed: undefined };
    this.#owned.set(partition, owned);
    return owned;
  }

  /** Resolves when the messages are settled; rejects when the group is shared out anew, and everything has been let go of. */
  async #pass(payload: EachBatchPayload): Promise<void> {
    if (this.#isClosing) return;
    // What is let go of is not begun with anew before the group has met.
    await this.#leaving;
    this.#commit = payload.commitOffsetsIfNecessary;
    const { batch } = payload;
    const { feed, work } = this.#ownedOf(batch.partition);
    feed.put(batch);
    try {
      while (!feed.isSettled && !this.#isClosing) {
        if (work.isOver) throw new Error(`partition ${batch.partition} was left half way`);
        await feed.news(this.#member?.beatMs ?? COMMIT_MS);
        await payload.heartbeat();
      }
      resolve(payload, feed);
      await this.#note();
    } catch (error) {
      await this.#letGo();
      // Whoever let go first knew why; the client has to hear the same from all.
      resolve(payload, feed);
      await payload.heartbeat();
      throw error;
    }
  }

  /** What is in hand is settled and committed, if that does not take too long. */
  #letGo(): Promise<void> {
    const leave = async (): Promise<void> => {
      const works = [...this.#owned.values()].map(({ work }) => work);
      await endWithin(Promise.all(works.map((work) => work.drain())), this.#config.leaseMs / 2);
      for (const work of works) void work.drop();
      await this.#note();
      this.#owned.clear();
    };
    this.#leaving ??= leave().finally(() => {
      this.#leaving = undefined;
    });
    return this.#leaving;
  }

  /** Tells the group how far its partitions are: one telling at a time, and the next has what came up meanwhile. */
  #note(): Promise<void> {
    const told = this.#noting.then(() => this.#noteOnce());
    this.#noting = told;
    return told;
  }

  /** What could not be told is told the next time. */
  async #noteOnce(): Promise<void> {
    const news = [...this.#owned.values()].filter(
      ({ feed, committed }) => feed.settled !== undefined && feed.settled !== committed,
    );
    if (news.length === 0 || this.#commit === undefined) return;
    const settled = news.map(({ feed }) => feed.settled ?? -1);
    const partitions = news.map(({ feed: { partition } }, index) => ({
      partition,
      offset: String((settled[index] ?? -1) + 1),
    }));
    try {
      await this.#commit({ topics: [{ topic: this.#config.topic, partitions }] });
      for (const [index, owned] of news.entries()) owned.committed = settled[index];
    } catch {
      // The group is shared out anew, or the broker is gone: heartbeats tell.
    }
  }

  /** Asks how far behind this relay is. */
  async #look(): Promise<void> {
    const { topic } = this.#config;
    const { admin } = this.#links;
    try {
      const places = await readPlaces(admin, this.#config);
      this.#resume();
      for (const { partition, high, committed } of places) {
        const owned = this.#owned.get(partition);
        owned?.feed.look({ high, committed });
        if (owned !== undefined) owned.committed ??= committed - 1;
      }
      this.#isAnswering = true;
    } catch (error) {
      if (this.#isAnswering && !this.#isClosing) {
        this.#host.onTrouble(`${topic} can't be looked at: ${textOfError(error)}`);
      }
      this.#isAnswering = false;
    }
    this.#members = (await readMembers(admin, this.#config))?.length;
  }

  async bury(lines: readonly string[]): Promise<void> {
    const { deadLetterTopic: topic } = this.#config;
    if (topic === undefined || lines.length === 0) return;
    const messages = lines.map((value) => ({ value }));
    while (!this.#isClosed) {
      try {
        const producer = await this.#opened();
        await producer.send({ topic, acks: ACKS_ALL, messages });
        return;
      } catch (error) {
        this.#host.onTrouble(`${topic} takes no dead letters: ${textOfError(error)}`);
        await new Promise((resolve) => setTimeout(resolve, BURY_RETRY_MS));
      }
    }
  }

  #opened(): Promise<Producer> {
    const open = async (): Promise<Producer> => {
      const producer = this.#links.kafka.producer({ allowAutoTopicCreation: false });
      await producer.connect();
      return producer;
    };
    this.#producer ??= open().catch((error: unknown) => {
      this.#producer = undefined;
      throw error;
    });
    return this.#producer;
  }

  async close(): Promise<void> {
    this.#isClosing = true;
    for (const timer of this.#timers) clearInterval(timer);
    if (this.hasShare) this.#member?.pause();
    const works = [...this.#owned.values()].map(({ work }) => work);
    await endWithin(Promise.all(works.map((work) => work.drain())), GOODBYE_MS);
    await endWithin(this.#note(), GOODBYE_MS);
    this.#isClosed = true;
    await endWithin(this.#member?.close(), GOODBYE_MS);
    const producer = await this.#producer?.catch(() => undefined);
    await endWithin(producer?.disconnect(), GOODBYE_MS);
    await endWithin(this.#links.admin.disconnect(), GOODBYE_MS);
  }
}

/** The client goes on behind what is settled. */
function resolve({ batch, resolveOffset }: EachBatchPayload, { settled }: KafkaFeed): void {
  if (settled !== undefined && settled >= Number(batch.firstOffset())) {
    resolveOffset(String(settled));
  }
}

/** A topic as relays see it. */
export function kafkaUpstream(config: KafkaSourceConfig): Upstream {
  return {
    open: (host) => KafkaSource.open(config, host),
    replay: (span, host) => openKafkaReplay(config, { ...span, host }),
    states: () => readKafkaStates(config),
  };
}
