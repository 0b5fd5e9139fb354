import { randomUUID } from 'node:crypto';
import { jetstream, jetstreamManager } from '@nats-io/jetstream';
import { connect, headers } from '@nats-io/transport-node';
import {
  ENCODING_HEADER,
  GZIP,
  type PartitionMessage,
  packBatch,
} from '../../src/broker/messages.ts';
import { BodyMemory } from '../../src/codec/body-memory.ts';
import { Machine } from '../../src/codec/machine.ts';
import { NatsConsumer } from '../../src/nats.ts';
import { CustomSink, type CustomSinkConfig } from '../../src/sink/custom.ts';
import { RecordBatch } from '../../src/sink/record-batch.ts';
import type { Batch } from '../../src/sink/sink.ts';
import { NatsServerProcess } from '../nats-server.ts';
import { BATCHES_IN_FLIGHT, eventOf, HTTP_SENDER, type Load, runSender, SENDER } from './load.ts';
import { relayRun } from './relay-stage.ts';
import { type Run, type Stage, sideBySide, stopwatch } from './rounds.ts';

const PARTITIONS = 16;
const BYTES_MAX = 1_000_000;
const ACK_MS = 30_000;
const never = new AbortController().signal;

/** The messages that the sink makes of the load's batches. */
export function messagesOf(
  { batches }: Load,
  packing: { partitions: number; message: 'batch' | 'record'; level: 'none' | 'fast' },
): PartitionMessage[][] {
  const machine = Machine.open();
  return batches.map((batch) => {
    const memory = new BodyMemory();
    const whole = { ...packing, machine, memory, bytesMax: BYTES_MAX };
    return packBatch(new RecordBatch(batch), whole).chains.flat();
  });
}

export function payloadBytes(messages: readonly PartitionMessage[]): number {
  return messages.reduce((sum, { payload }) => sum + payload.length, 0);
}

/** Gives a load's batches to a sink, as the engine does. */
export async function runSink(
  sink: CustomSink,
  { records, batches }: Load,
  broker: number | undefined,
): Promise<Run> {
  let bytes = 0;
  const deliver = async (batch: Batch): Promise<void> => {
    const outcome = await sink.deliver(batch, never);
    if (outcome.kind !== 'delivered') throw new Error(JSON.stringify(outcome));
    bytes += outcome.sentBytes;
  };
  const measured = stopwatch(records, { broker });
  await sideBySide(batches, BATCHES_IN_FLIGHT, deliver);
  return measured(bytes);
}

export interface StageSet {
  readonly stages: readonly Stage[];
  readonly close: () => Promise<void>;
}

/** What there is to measure around NATS JetStream. */
export async function natsStages(load: Load): Promise<StageSet> {
  const broker = await NatsServerProcess.start();
  const { pid } = broker;
  const connection = await connect({ servers: broker.url, noAsyncTraces: true });
  const manager = await jetstreamManager(connection);
  const client = jetstream(connection);
  const { records } = load;

  /** An empty stream, that knows no ids. */
  async function renew(stream: string): Promise<void> {
    const config = { name: stream, subjects: [`${stream.toLowerCase()}.*`], allow_direct: true };
    await manager.streams.delete(stream).catch(() => undefined);
    await manager.streams.add(config);
  }

  async function publish({ partition, payload, isPacked, id }: PartitionMessage): Promise<void> {
    const packed = headers();
    packed.set(ENCODING_HEADER, GZIP);
    await client.publish(`bare.${partition}`, payload, {
      timeout: ACK_MS,
      ...(id === undefined ? {} : { msgID: id }),
      ...(isPacked ? { headers: packed } : {}),
    });
  }

  function consumerOf(stream: string, compress: boolean): NatsConsumer {
    const options = { servers: broker.url, stream, compress, partitions: PARTITIONS };
    return new NatsConsumer({ ...options, ...SENDER });
  }

  const sinks: CustomSink[] = [];
  const stages = ([false, true] as const).flatMap((compress): Stage[] => {
    const how = compress ? 'gzip' : 'plain';
    const level = compress ? 'fast' : 'none';
    const width = BATCHES_IN_FLIGHT * PARTITIONS;
    const stream = `SENT_${how.toUpperCase()}`;
    const sink = CustomSink.open(consumerOf('SINK', compress).plan.sink as CustomSinkConfig);
    sinks.push(sink);
    const bare = `nats bare ${how}`;
    return [
      {
        id: bare,
        title: `bare NATS client, the same messages, ${how}`,
        run: async () => {
          await renew('BARE');
          // Made for each run: as long as they are there, the collector has more to look through.
          const packing = { partitions: PARTITIONS, message: 'batch', level } as const;
          const messages = messagesOf(load, packing).flat();
          const measured = stopwatch(records, { broker: pid });
          await sideBySide(messages, width, publish);
          return measured(payloadBytes(messages));
        },
      },
      {
        id: `nats sink ${how}`,
        title: `the sink alone, finished records to NATS, ${how}`,
        against: [bare],
        run: async () => {
          await renew('SINK');
          return runSink(sink, load, pid);
        },
      },
      {
        id: `nats sender ${how}`,
        title: `sender to NATS, ${how}`,
        against: [bare, HTTP_SENDER],
        run: async () => {
          await renew(stream);
          return runSender(consumerOf(stream, compress), { records, broker: pid });
        },
      },
      {
        id: `nats relay ${how}`,
        title: `relay from NATS to the receiver, ${how}`,
        run: () =>
          relayRun({
            from: `${broker.url}/${stream}`,
            // Each time the stream is another one, of the same name.
            args: ['--partitions', String(PARTITIONS), '--lease', '1000', '--group', randomUUID()],
            records,
            broker: pid,
          }),
      },
    ];
  });
  stages.push({
    id: 'nats by hand',
    against: ['nats bare plain'],
    title: 'by hand: `JSON.stringify`, as many events a message, bare NATS client, plain',
    run: async () => {
      await renew('BARE');
      return byHand(Math.ceil((load.batches[0]?.count ?? 1) / PARTITIONS));
    },
  });

  async function byHand(events: number): Promise<Run> {
    const measured = stopwatch(records, { broker: pid });
    const lines = Array.from({ length: PARTITIONS }, (): string[] => []);
    const acks: Promise<unknown>[] = [];
    let bytes = 0;
    const flush = (partition: number) => {
      const text = `${lines[partition]?.join('\n')}\n`;
      lines[partition] = [];
      bytes += text.length;
      const msgID = `${partition}-${acks.length}`;
      acks.push(client.publish(`bare.${partition}`, text, { msgID, timeout: ACK_MS }));
    };
    for (let n = 0; n < records; n += 1) {
      const waiting = lines[n % PARTITIONS] ?? [];
      waiting.push(JSON.stringify(eventOf(n)));
      if (waiting.length === events) flush(n % PARTITIONS);
      if (n % 500 === 0) await new Promise((resolve) => setImmediate(resolve));
    }
    for (const [partition, rest] of lines.entries()) if (rest.length > 0) flush(partition);
    await Promise.all(acks);
    return measured(bytes);
  }

  return {
    stages,
    close: async () => {
      for (const sink of sinks) await sink.close();
      await connection.close();
      await broker.stop();
    },
  };
}
