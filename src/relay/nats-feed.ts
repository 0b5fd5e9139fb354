import { setTimeout as delay } from 'node:timers/promises';
import type {
  AckPolicy,
  Consumer,
  ConsumerConfig,
  DeliverPolicy,
  JetStreamClient,
  JetStreamManager,
} from '@nats-io/jetstream';
import { textOfError } from '../base/errors.ts';
import { ENCODING_HEADER, GZIP } from '../broker/messages.ts';
import { MessageBuffer } from './message-buffer.ts';
import type { Feed, SourceMessage, TakeLimits } from './source.ts';

export interface NatsFeedParts {
  readonly jetStream: JetStreamClient;
  readonly manager: JetStreamManager;
  readonly stream: string;
  readonly subject: string;
  readonly partition: number;
  /** Unique among all relays. */
  readonly name: string;
  /** Where to begin: behind this sequence of the stream, or at a time. */
  readonly after: number | Date;
  /** Messages later than that are not given: a replay; undefined: there is no end. */
  readonly untilMs?: number;
  readonly onTrouble: (message: string) => void;
}

/** Bytes read ahead, and messages of one pull. */
const AHEAD_BYTES: number = 4 * 1024 * 1024;
const PULL_MESSAGES = 64;
const PULL_MS = 2000;
const TROUBLE_MS = 500;
const INACTIVE_NANOS = 30e9;

/**
 * Reads one subject of a stream in order, by a consumer of its own that acknowledges nothing: what is settled is kept by the
 * lease (nats-leases.ts). After any trouble, and when a message was left out on the way, it starts anew behind the last one.
 */
export class NatsFeed implements Feed {
  readonly partition: number;
  readonly #parts: NatsFeedParts;
  readonly #buffer: MessageBuffer = new MessageBuffer();
  readonly #reading: Promise<void>;
  /** Sequence of the last message read; 0: none. */
  #read: number;
  #settled: number;
  #pending = 0;
  #serial = 0;
  #isClosed = false;
  #isRead = false;
  #isCaughtUp = false;

  constructor(parts: NatsFeedParts) {
    this.#parts = parts;
    this.partition = parts.partition;
    this.#read = typeof parts.after === 'number' ? parts.after : 0;
    this.#settled = this.#read;
    this.#reading = this.#readAll();
  }

  /** Sequence of the last settled message; what was there before the feed counts. */
  get settled(): number {
    return this.#settled;
  }

  get lag(): number {
    return this.#pending + this.#buffer.length;
  }

  get isAtEnd(): boolean {
    return this.#isRead && this.#buffer.length === 0;
  }

  get isCaughtUp(): boolean {
    return this.#isCaughtUp && this.#buffer.length === 0;
  }

  settle(position: number): void {
    this.#settled = Math.max(this.#settled, position);
  }

  take(limits: TakeLimits): Promise<readonly SourceMessage[]> {
    return this.#buffer.take(limits);
  }

  get #isOver(): boolean {
    return this.#isClosed || this.#isRead;
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    this.#buffer.end();
    await this.#reading;
  }

  async #readAll(): Promise<void> {
    while (!this.#isOver) {
      try {
        await this.#readOnce();
      } catch (error) {
        if (this.#isClosed) return;
        const message = textOfError(error);
        this.#parts.onTrouble(`partition ${this.partition} can't be read: ${message}`);
        await delay(TROUBLE_MS);
      }
    }
  }

  /** Reads by one consumer, until it leaves something out or is gone. */
  async #readOnce(): Promise<void> {
    const { jetStream, manager, stream } = this.#parts;
    this.#serial += 1;
    const name = `${this.#parts.name}_${this.partition}_${this.#serial}`;
    await manager.consumers.add(stream, this.#config(name));
    const consumer = await jetStream.consumers.get(stream, name);
    try {
      for (let expected = 1; !this.#isOver; ) {
        const given = await this.#pull(consumer, expected);
        if (given < 0) return;
        expected += given;
        if (given === 0) await this.#look(consumer);
        while (this.#buffer.bytes > AHEAD_BYTES && !this.#isClosed) await delay(5);
      }
    } finally {
      consumer.delete().catch(() => {
        // It ends by itself when nobody reads by it.
      });
    }
  }

  #config(name: string): Partial<ConsumerConfig> {
    const { subject, after } = this.#parts;
    const start: Partial<ConsumerConfig> =
      after instanceof Date && this.#read === 0
        ? {
            deliver_policy: 'by_start_time' as DeliverPolicy,
            opt_start_time: after.toISOString(),
          }
        : {
            deliver_policy: 'by_start_sequence' as DeliverPolicy,
            opt_start_seq: this.#read + 1,
          };
    return {
      name,
      filter_subject: subject,
      ack_policy: 'none' as AckPolicy,
      inactive_threshold: INACTIVE_NANOS,
      mem_storage: true,
      num_replicas: 1,
      ...start,
    };
  }

  /** Messages of one pull; -1: one was left out on the way, or somebody else closed the consumer. */
  async #pull(consumer: Consumer, expected: number): Promise<number> {
    const messages = await consumer.fetch({ max_messages: PULL_MESSAGES, expires: PULL_MS });
    let count = 0;
    for await (const message of messages) {
      if (this.#isOver) return -1;
      const { deliverySequence, streamSequence, timestampNanos, pending } = message.info;
      if (deliverySequence !== expected + count) return -1;
      count += 1;
      const timeMs = timestampNanos / 1e6;
      if (this.#parts.untilMs !== undefined && timeMs > this.#parts.untilMs) {
        this.#end();
        break;
      }
      this.#pending = pending;
      this.#isCaughtUp = pending === 0;
      this.#read = streamSequence;
      this.#buffer.push({
        position: streamSequence,
        payload: message.data,
        isPacked: message.headers?.get(ENCODING_HEADER) === GZIP,
        timeMs,
      });
    }
    return count;
  }

  /** Nothing came: how many wait is asked for, and a replay may be over. */
  async #look(consumer: Consumer): Promise<void> {
    const { num_pending: pending } = await consumer.info();
    this.#pending = pending;
    this.#isCaughtUp = pending === 0;
    const { untilMs } = this.#parts;
    if (untilMs !== undefined && pending === 0 && Date.now() > untilMs) this.#end();
  }

  /** A replay has read all it was to. */
  #end(): void {
    this.#isRead = true;
    this.#buffer.end();
  }
}
