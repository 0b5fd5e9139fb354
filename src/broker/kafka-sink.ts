import type { Message, Producer } from 'kafkajs';
import { MillraceError } from '../base/errors.ts';
import { BodyMemory } from '../codec/body-memory.ts';
import { Machine } from '../codec/machine.ts';
import type { RecordSink } from '../sink/custom.ts';
import type { SinkOutcome } from '../sink/outcomes.ts';
import type { RecordBatch } from '../sink/record-batch.ts';
import { ensureTopic, type KafkaServer, type KafkaTopic, openKafka } from './kafka.ts';
import {
  ENCODING_HEADER,
  GZIP,
  type Packing,
  type PartitionMessage,
  packBatch,
} from './messages.ts';

/** What the sink is opened with: plain data. */
export interface KafkaSinkOptions extends KafkaTopic, Pick<Packing, 'message' | 'level'> {
  readonly server: KafkaServer;
  /** Whether the brokers drop what the client itself repeats. */
  readonly idempotent: boolean;
}

/** Kafka's own limit of a batch is 1 MiB unless changed; headers and keys need some of it. */
const MESSAGE_BYTES_MAX = 900_000;
/** `acks=all`: a record is in when all replicas in sync have it. */
const ACKS_ALL = -1;
/** GZIP, of kafkajs. */
const KAFKA_GZIP = 1;
const KAFKA_PLAIN = 0;

/**
 * Produces batches to a topic. What goes to one partition is one record batch, which Kafka takes as a whole
 * or not at all; the next one of the same users is sent when it is acknowledged.
 */
class KafkaSink implements RecordSink {
  readonly borrows = true;
  readonly #options: KafkaSinkOptions;
  readonly #machine: Machine | undefined = Machine.open();
  readonly #memory = new BodyMemory();
  #producer: Promise<Producer> | undefined;
  /**
   * The lanes of a thread take turns at an idempotent producer: if one delivery fails, and nobody knows whether it arrived, the
   * next one must not be under way with the same sequence numbers.
   */
  #turn: Promise<unknown> = Promise.resolve();

  constructor(options: KafkaSinkOptions) {
    this.#options = options;
  }

  deliver(batch: RecordBatch, signal: AbortSignal): Promise<SinkOutcome> {
    if (!this.#options.idempotent) return this.#send(batch, signal);
    const outcome = this.#turn.then(() => this.#send(batch, signal));
    this.#turn = outcome;
    return outcome;
  }

  async #send(batch: RecordBatch, signal: AbortSignal): Promise<SinkOutcome> {
    const { topic, partitions, message, level } = this.#options;
    if (signal.aborted) {
      return { kind: 'retry', message: 'deliveries before it took too long', reason: 'timeout' };
    }
    const { chains, release } = packBatch(batch, {
      partitions,
      message,
      level,
      machine: this.#machine,
      memory: this.#memory,
      bytesMax: MESSAGE_BYTES_MAX,
    });
    const messages = chains.flat();
    const opening = this.#opened();
    try {
      const producer = await opening;
      await producer.send({
        topic,
        acks: ACKS_ALL,
        // Batch messages are packed already.
        compression: message === 'record' && level !== 'none' ? KAFKA_GZIP : KAFKA_PLAIN,
        messages: messages.map(kafkaMessage),
      });
    } catch (error) {
      // Nobody knows which sequence numbers the brokers have seen: a new producer begins anew.
      await this.#forget(opening);
      return outcomeOf(error, signal);
    }
    const sentBytes = messages.reduce((sum, { payload }) => sum + payload.length, 0);
    release();
    return { kind: 'delivered', sentBytes };
  }

  #opened(): Promise<Producer> {
    this.#producer ??= this.#open().catch((error: unknown) => {
      this.#producer = undefined;
      throw error;
    });
    return this.#producer;
  }

  async #open(): Promise<Producer> {
    const kafka = await openKafka(this.#options.server, 'millrace');
    await ensureTopic(kafka, this.#options);
    const producer = kafka.producer({
      idempotent: this.#options.idempotent,
      ...(this.#options.idempotent ? { maxInFlightRequests: 1 } : {}),
      allowAutoTopicCreation: this.#options.provision === 'auto',
      retry: { retries: 3 },
    });
    await producer.connect();
    return producer;
  }

  async #forget(opening: Promise<Producer> | undefined): Promise<void> {
    if (this.#producer === opening) this.#producer = undefined;
    const producer = await opening?.catch(() => undefined);
    await producer?.disconnect().catch(() => {
      // Its connections were broken already.
    });
  }

  close(): Promise<void> {
    return this.#forget(this.#producer);
  }
}

function kafkaMessage({ partition, payload, isPacked, key }: PartitionMessage): Message {
  return {
    partition,
    value: Buffer.from(payload.buffer, payload.byteOffset, payload.length),
    ...(key === undefined ? {} : { key }),
    ...(isPacked ? { headers: { [ENCODING_HEADER]: GZIP } } : {}),
  };
}

function outcomeOf(error: unknown, signal: AbortSignal): SinkOutcome {
  const message = error instanceof Error ? `${error.name}: ${error.message}` : String(error);
  if (error instanceof MillraceError) return { kind: 'retry', message, budget: 'config' };
  if (/MESSAGE_TOO_LARGE|RECORD_LIST_TOO_LARGE|too large/i.test(message)) {
    return { kind: 'split', message };
  }
  const isTimeout = signal.aborted || /timeout|timed out/i.test(message);
  return { kind: 'retry', message, reason: isTimeout ? 'timeout' : 'network' };
}

/** The entry of the sink's module: run on the workers. */
export function open(options: KafkaSinkOptions): RecordSink {
  return new KafkaSink(options);
}
