import type { Consumer, EachBatchPayload, Kafka } from 'kafkajs';

export interface KafkaMemberParts {
  readonly kafka: Kafka;
  readonly topic: string;
  /** Partitions of the topic: each is worked on by itself. */
  readonly partitions: number;
  readonly groupId: string;
  /** How long the group waits for a member that is not heard of, in ms. */
  readonly sessionMs: number;
  /** How long the group waits until its members have let go of their partitions, in ms. */
  readonly rebalanceMs: number;
  /** What the group has given to this member, from now on. */
  readonly onJoin: (partitions: readonly number[], consumer: Consumer) => void;
  /** The partitions are shared out anew: right before the member lets go of them. */
  readonly onRebalance: () => void;
  /** Messages of one partition; the next ones come when it resolves. */
  readonly onBatch: (payload: EachBatchPayload) => Promise<void>;
  /** The member is out of the group, and tries to come back. */
  readonly onLost: (reason: string) => void;
}

const BEATS_A_SESSION = 4;
/** Read ahead at most, of one partition and of one broker. */
const PARTITION_BYTES: number = 1024 * 1024;
const FETCH_BYTES: number = 8 * 1024 * 1024;
/** A fetch waits that long for news; so long may it take to leave, too. */
const FETCH_MS = 500;
const REOPEN_MS_MIN = 250;
const REOPEN_MS_MAX = 10_000;

/** One member of a consumer group, for as long as it is wanted: when the client gives up, a new one is made. */
export class KafkaMember {
  readonly #parts: KafkaMemberParts;
  #consumer: Consumer;
  #isJoined = false;
  #isClosed = false;
  #waitMs: number = REOPEN_MS_MIN;
  #timer: NodeJS.Timeout | undefined;

  private constructor(parts: KafkaMemberParts) {
    this.#parts = parts;
    this.#consumer = this.#make();
  }

  /** Rejects when no broker answers; from then on it comes back by itself. */
  static async open(parts: KafkaMemberParts): Promise<KafkaMember> {
    const member = new KafkaMember(parts);
    await member.#start();
    return member;
  }

  get isJoined(): boolean {
    return this.#isJoined;
  }

  /** Between two heartbeats, in ms. */
  get beatMs(): number {
    return Math.floor(this.#parts.sessionMs / BEATS_A_SESSION);
  }

  #make(): Consumer {
    const { kafka, groupId, sessionMs, rebalanceMs } = this.#parts;
    return kafka.consumer({
      groupId,
      sessionTimeout: sessionMs,
      rebalanceTimeout: rebalanceMs,
      heartbeatInterval: this.beatMs,
      maxBytesPerPartition: PARTITION_BYTES,
      maxBytes: FETCH_BYTES,
      maxWaitTimeInMs: FETCH_MS,
      allowAutoTopicCreation: false,
      retry: {
        retries: 4,
        initialRetryTime: 100,
        maxRetryTime: 2000,
        restartOnFailure: async () => false,
      },
    });
  }

  async #start(): Promise<void> {
    const consumer = this.#consumer;
    const { CRASH, GROUP_JOIN, REBALANCING } = consumer.events;
    consumer.on(GROUP_JOIN, ({ payload }) => {
      this.#isJoined = true;
      this.#waitMs = REOPEN_MS_MIN;
      this.#parts.onJoin(payload.memberAssignment[this.#parts.topic] ?? [], consumer);
    });
    consumer.on(REBALANCING, () => this.#parts.onRebalance());
    consumer.on(CRASH, ({ payload }) => this.#lose(reasonOf(payload.error)));
    await consumer.connect();
    await consumer.subscribe({ topic: this.#parts.topic, fromBeginning: true });
    const running = consumer.run({
      autoCommit: false,
      eachBatchAutoResolve: false,
      partitionsConsumedConcurrently: this.#parts.partitions,
      eachBatch: this.#parts.onBatch,
    });
    running.catch((error: unknown) => this.#lose(String(error)));
  }

  #lose(reason: string): void {
    if (this.#isClosed) return;
    this.#isJoined = false;
    this.#parts.onLost(reason);
    this.#reopenLater();
  }

  #reopenLater(): void {
    const waitMs = this.#waitMs;
    this.#waitMs = Math.min(REOPEN_MS_MAX, waitMs * 2);
    this.#timer = setTimeout(() => this.#reopen(), waitMs * (0.5 + Math.random() / 2));
  }

  async #reopen(): Promise<void> {
    const old = this.#consumer;
    this.#consumer = this.#make();
    old.disconnect().catch(() => {
      // Its connections were broken already.
    });
    try {
      await this.#start();
    } catch {
      // Told when it was lost.
      if (!this.#isClosed) this.#reopenLater();
    }
  }

  /** Fetches nothing more. */
  pause(): void {
    this.#consumer.pause([{ topic: this.#parts.topic }]);
  }

  /** Leaves the group, so that the others need not wait for the session to run out. */
  async close(): Promise<void> {
    this.#isClosed = true;
    clearTimeout(this.#timer);
    await this.#consumer.disconnect();
  }
}

/** Kafka's own name of an error says more than the client's words for it. */
function reasonOf(error: Error & { readonly type?: unknown }): string {
  return typeof error.type === 'string' ? `${error.type}: ${error.message}` : error.message;
}
