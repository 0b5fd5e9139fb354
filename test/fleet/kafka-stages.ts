import { setTimeout as delay } from 'node:timers/promises';
import kafkajs, { type CompressionTypes } from 'kafkajs';
import { ENCODING_HEADER, GZIP } from '../../src/broker/messages.ts';
import { Analytics } from '../../src/index.ts';
import { KafkaConsumer } from '../../src/kafka.ts';
import { CustomSink, type CustomSinkConfig } from '../../src/sink/custom.ts';
import { startKafkaMock } from '../kafka-mock.ts';
import { BATCHES_IN_FLIGHT, HTTP_SENDER, type Load, runSender, SENDER, track } from './load.ts';
import { messagesOf, payloadBytes, runSink, type StageSet } from './nats-stages.ts';
import { relayRun } from './relay-stage.ts';
import { type Stage, sideBySide, stopwatch } from './rounds.ts';

const ACKS_ALL = -1;
/** Of a topic that the mock makes on first use. */
const PARTITIONS = 4;
/** The mock keeps 5 MiB of a partition: a relay is never further behind. */
const AHEAD_RECORDS = 20_000;
const LEASE_MS = 6000;

interface Way {
  readonly how: string;
  readonly message: 'batch' | 'record';
  readonly compress: boolean;
  /** Kafka's own packing of what goes to a partition at once. */
  readonly own: CompressionTypes;
}

const { None, GZIP: KAFKA_GZIP } = kafkajs.CompressionTypes;

/** How messages are made: all records of a partition in one, packed or not, or one a record, in Kafka's own gzip or none. */
export const WAYS: readonly Way[] = [
  { how: 'plain', message: 'batch', compress: false, own: None },
  { how: 'gzip', message: 'batch', compress: true, own: None },
  { how: 'a message a record', message: 'record', compress: false, own: None },
  { how: "a message a record, Kafka's gzip", message: 'record', compress: true, own: KAFKA_GZIP },
];

/** What there is to measure around librdkafka's mock cluster. */
export async function kafkaStages(load: Load): Promise<StageSet> {
  const mock = await startKafkaMock();
  const { pid } = mock;
  const { records } = load;
  const client = new kafkajs.Kafka({
    brokers: [...mock.brokers],
    logLevel: kafkajs.logLevel.NOTHING,
  });
  const producer = client.producer({ allowAutoTopicCreation: true });
  await producer.connect();
  const sinks: CustomSink[] = [];
  let topics = 0;

  function consumerOf(
    topic: string,
    way: { message: 'batch' | 'record'; compress: boolean },
  ): KafkaConsumer {
    const { message, compress } = way;
    const mockOnly = { partitions: PARTITIONS, provision: 'auto', idempotent: false } as const;
    return new KafkaConsumer({
      brokers: mock.brokers,
      topic,
      message,
      compress,
      ...mockOnly,
      ...SENDER,
    });
  }

  const stages = WAYS.flatMap((way): Stage[] => {
    const { how, message, compress, own } = way;
    const level = compress && message === 'batch' ? 'fast' : 'none';
    const sink = CustomSink.open(consumerOf('sink', way).plan.sink as CustomSinkConfig);
    sinks.push(sink);
    const bare = `kafka bare ${how}`;
    return [
      {
        id: bare,
        title: `bare Kafka client, the same messages, ${how}`,
        run: async () => {
          const batches = messagesOf(load, { partitions: PARTITIONS, message, level });
          const bytes = batches.reduce((sum, messages) => sum + payloadBytes(messages), 0);
          const finished = batches.map((messages) =>
            messages.map(({ partition, payload, key, isPacked }) => ({
              partition,
              value: Buffer.from(payload.buffer, payload.byteOffset, payload.length),
              ...(key === undefined ? {} : { key }),
              ...(isPacked ? { headers: { [ENCODING_HEADER]: GZIP } } : {}),
            })),
          );
          const measured = stopwatch(records, { broker: pid });
          await sideBySide(finished, BATCHES_IN_FLIGHT, (messages) =>
            producer.send({ topic: 'bare', acks: ACKS_ALL, compression: own, messages }),
          );
          return measured(bytes);
        },
      },
      {
        id: `kafka sink ${how}`,
        title: `the sink alone, finished records to Kafka, ${how}`,
        against: [bare],
        run: () => runSink(sink, load, pid),
      },
      {
        id: `kafka sender ${how}`,
        title: `sender to Kafka, ${how}`,
        against: [bare, HTTP_SENDER],
        run: () => runSender(consumerOf('sent', way), { records, broker: pid }),
      },
    ];
  });

  /** No faster than the relay takes them. */
  async function sendTo(topic: string, arrived: () => Promise<number>): Promise<void> {
    const ta = new Analytics(consumerOf(topic, { message: 'batch', compress: true }));
    for (let n = 0; n < records; ) {
      for (const end = Math.min(records, n + AHEAD_RECORDS); n < end; n += 1) track(ta, n);
      await ta.flush();
      while ((await arrived()) < n) await delay(10);
    }
    await ta.close();
  }

  stages.push({
    id: 'kafka relay gzip',
    title: 'relay from Kafka to the receiver, gzip',
    run: () => {
      topics += 1;
      const topic = `relayed${topics}`;
      return relayRun({
        from: `kafka://${mock.brokers.join(',')}/${topic}`,
        args: ['--lease', String(LEASE_MS)],
        records,
        broker: pid,
        send: (arrived) => sendTo(topic, arrived),
      });
    },
  });

  return {
    stages,
    close: async () => {
      for (const sink of sinks) await sink.close();
      await producer.disconnect();
      mock.stop();
    },
  };
}
