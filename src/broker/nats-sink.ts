import type { JetStreamClient } from '@nats-io/jetstream';
import type { MsgHdrs, NatsConnection } from '@nats-io/transport-node';
import { MillraceError } from '../base/errors.ts';
import { BodyMemory } from '../codec/body-memory.ts';
import { Machine } from '../codec/machine.ts';
import type { RecordSink } from '../sink/custom.ts';
import type { SinkOutcome } from '../sink/outcomes.ts';
import type { RecordBatch } from '../sink/record-batch.ts';
import {
  AckedIds,
  ENCODING_HEADER,
  GZIP,
  type Packing,
  type PartitionMessage,
  packBatch,
  sendChains,
} from './messages.ts';
import {
  apiCodeOf,
  connectNats,
  ensureStream,
  loadJetStream,
  loadTransport,
  type NatsServer,
  type NatsStream,
  subjectOf,
} from './nats.ts';

/** What the sink is opened with: plain data. */
export interface NatsSinkOptions extends NatsStream, Pick<Packing, 'message' | 'level'> {
  readonly server: NatsServer;
  /** Longest wait for an acknowledgement, in ms. */
  readonly ackTimeoutMs: number;
  /** Most unacknowledged messages of one batch. */
  readonly inFlight: number;
}

/** Room for subject, reply and headers in the server's limit of a message. */
const HEADER_BYTES = 1024;
/** JetStream's words for "no room": the store failed, no resources, too many messages or bytes. */
const NO_ROOM: ReadonlySet<number> = new Set([10_023, 10_047, 10_077, 10_110, 10_122, 10_159]);

const LATE: SinkOutcome = {
  kind: 'retry',
  message: 'no connection within the time of an attempt',
  reason: 'timeout',
};

interface Link {
  readonly connection: NatsConnection;
  readonly jetStream: JetStreamClient;
  /** What every packed message carries. */
  readonly packedHeaders: () => MsgHdrs;
}

/** Publishes batches to a JetStream stream; a batch is delivered when the stream has acknowledged all of it. */
class NatsSink implements RecordSink {
  readonly borrows = true;
  readonly #options: NatsSinkOptions;
  readonly #acked: AckedIds = new AckedIds();
  readonly #machine: Machine | undefined = Machine.open();
  readonly #memory = new BodyMemory();
  #link: Promise<Link> | undefined;

  constructor(options: NatsSinkOptions) {
    this.#options = options;
  }

  async deliver(batch: RecordBatch, signal: AbortSignal): Promise<SinkOutcome> {
    let link: Link;
    try {
      link = await this.#linked();
    } catch (error) {
      return outcomeOf(error);
    }
    const { partitions, message, level, inFlight } = this.#options;
    const limit = (link.connection.info?.max_payload ?? 1024 * 1024) - HEADER_BYTES;
    if (signal.aborted) return LATE;
    const { chains, release } = packBatch(batch, {
      partitions,
      message,
      level,
      machine: this.#machine,
      memory: this.#memory,
      bytesMax: limit,
    });
    if (chains.some((chain) => chain.some(({ payload }) => payload.length > limit))) {
      return { kind: 'bisect', message: `a record is longer than ${limit} bytes` };
    }
    const sent: PartitionMessage[] = [];
    const failure = await sendChains(chains, {
      inFlight,
      send: async (each) => {
        if (this.#acked.has(each.id)) return;
        signal.throwIfAborted();
        await this.#publish(link, each);
        sent.push(each);
      },
    });
    // Nobody hears of a delivery that is late: it will be repeated, too.
    if (failure !== undefined || signal.aborted) {
      for (const { id } of sent) this.#acked.add(id);
    }
    if (failure !== undefined) return outcomeOf(failure);
    release();
    return {
      kind: 'delivered',
      sentBytes: sent.reduce((sum, each) => sum + each.payload.length, 0),
    };
  }

  async #publish(
    link: Link,
    { partition, payload, isPacked, id }: PartitionMessage,
  ): Promise<void> {
    await link.jetStream.publish(subjectOf(this.#options.subjectPrefix, partition), payload, {
      timeout: this.#options.ackTimeoutMs,
      ...(id === undefined ? {} : { msgID: id }),
      ...(isPacked ? { headers: link.packedHeaders() } : {}),
    });
  }

  #linked(): Promise<Link> {
    this.#link ??= this.#connect().catch((error: unknown) => {
      this.#link = undefined;
      throw error;
    });
    return this.#link;
  }

  async #connect(): Promise<Link> {
    const connection = await connectNats(this.#options.server, 'millrace');
    try {
      const { jetstream, jetstreamManager } = await loadJetStream();
      const { headers } = await loadTransport();
      await ensureStream(await jetstreamManager(connection), this.#options);
      const packedHeaders = () => {
        const made = headers();
        made.set(ENCODING_HEADER, GZIP);
        return made;
      };
      return { connection, jetStream: jetstream(connection), packedHeaders };
    } catch (error) {
      await connection.close();
      throw error;
    }
  }

  async close(): Promise<void> {
    const link = await this.#link?.catch(() => undefined);
    this.#link = undefined;
    await link?.connection.close();
  }
}

function outcomeOf(error: unknown): SinkOutcome {
  const message = error instanceof Error ? `${error.name}: ${error.message}` : String(error);
  if (error instanceof MillraceError) return { kind: 'retry', message, budget: 'config' };
  const isNoRoom = NO_ROOM.has(apiCodeOf(error) ?? 0) || message.includes('maximum bytes');
  if (isNoRoom) return { kind: 'retry', message, reason: 'disk_full' };
  const isTimeout = /timeout/i.test(message);
  return { kind: 'retry', message, reason: isTimeout ? 'timeout' : 'network' };
}

/** The entry of the sink's module: run on the workers. */
export function open(options: NatsSinkOptions): RecordSink {
  return new NatsSink(options);
}
