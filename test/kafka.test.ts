import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { after, before, describe, test } from 'node:test';
import { promisify } from 'node:util';
import type { Batch } from 'kafkajs';
import { Analytics } from '../src/index.ts';
import { KafkaConsumer, type KafkaConsumerOptions } from '../src/kafka.ts';
import { KafkaFeed } from '../src/relay/kafka-feed.ts';
import { CustomSink, type CustomSinkConfig } from '../src/sink/custom.ts';
import { type KafkaMock, startKafkaMock } from './kafka-mock.ts';
import { missing } from './nats-server.ts';
import { sinkContract } from './sink-contract.ts';
import { assertBalanced } from './support.ts';

/**
 * The mock makes topics of four partitions when they are first used, knows no CreateTopics, and names a controller that is not
 * among its brokers, which kafkajs asks for the id of an idempotent producer.
 */
const MOCK = { partitions: 4, provision: 'auto', idempotent: false } as const;
const run = promisify(execFile);
const skip = missing('kcat', ['-V']);

/** Lines of a topic as kcat, another client, reads them: each partition in order, `key<tab>record`. */
async function readTopic(brokers: readonly string[], topic: string): Promise<string[]> {
  const from = ['-b', brokers.join(','), '-C', '-t', topic, '-o', 'beginning', '-e', '-q'];
  const { stdout } = await run('kcat', [...from, '-f', '%k\t%s\n'], {
    maxBuffer: 64 * 1024 * 1024,
  });
  return stdout.split('\n').filter((line) => line.includes('{'));
}

sinkContract(
  'kafka',
  async () => {
    const mock = await startKafkaMock();
    const sinkOf = (brokers: readonly string[]): CustomSink => {
      const { plan } = new KafkaConsumer({ ...MOCK, brokers, topic: 'events', compress: false });
      return CustomSink.open(plan.sink as CustomSinkConfig);
    };
    return {
      sink: sinkOf(mock.brokers),
      lost: sinkOf(['127.0.0.1:9']),
      uuids: async () =>
        (await readTopic(mock.brokers, 'events')).map(
          (line) => JSON.parse(line.slice(line.indexOf('{')))['#uuid'],
        ),
      stop: async () => mock.stop(),
    };
  },
  skip,
);

test('options of Kafka are checked where the consumer is made', () => {
  const make = (options: object) => () => new KafkaConsumer(options as KafkaConsumerOptions);
  assert.throws(make({}), /topic is missing.*brokers is missing/);
  assert.throws(make({ brokers: 'host', topic: 'a b' }), /topic is a b.*host:port/);
  assert.throws(make({ brokers: 'h:1', topic: 't', user: 'u' }), /user and pass/);
});

describe('Kafka', { skip }, () => {
  let mock: KafkaMock;
  before(async () => {
    mock = await startKafkaMock();
  });
  after(() => mock.stop());

  test('every record is in the topic once, each user in order, its user as the key', async () => {
    const ta = new Analytics(
      new KafkaConsumer({
        brokers: mock.brokers,
        topic: 'game',
        ...MOCK,
        message: 'record',
        lingerMs: 5,
        workers: 1,
      }),
      { onError: () => undefined },
    );
    const total = 1000;
    for (let n = 0; n < total; n += 1) {
      ta.track({ accountId: `u${n % 20}`, event: 'e', properties: { n } });
    }
    const stats = await ta.close();
    assertBalanced(stats);
    assert.equal(stats.delivered, total);
    const lines = await readTopic(mock.brokers, 'game');
    assert.equal(lines.length, total);
    const last = new Map<string, number>();
    for (const line of lines) {
      const [key = '', text = ''] = line.split('\t');
      const record = JSON.parse(text);
      const { n } = record.properties;
      assert.equal(key, record['#account_id']);
      assert.ok(n > (last.get(key) ?? -1), `${key} in order`);
      last.set(key, n);
    }
  });
});

test('a replay that has its last message takes no more, though the topic begins anew', async () => {
  const span = { from: new Date(0), to: new Date(10_000), end: 2 };
  const feed = new KafkaFeed(0, { from: 0, span });
  const limits = { messagesMax: 10, bytesMax: 1000, lingerMs: 0 };
  feed.put(fetched(0, 2));
  assert.equal(feed.isAtEnd, false);
  assert.equal((await feed.take(limits)).length, 2);
  assert.equal(feed.isAtEnd, true);
  feed.put(fetched(0, 1));
  assert.deepEqual(await feed.take(limits), []);
  assert.equal(feed.isAtEnd, true);
  assert.equal(feed.next, 2);
});

/** What a fetch gives of a partition: `count` messages from offset `first` on. */
function fetched(first: number, count: number): Batch {
  const messages = Array.from({ length: count }, (_, index) => ({
    offset: String(first + index),
    timestamp: '1000',
    value: Buffer.from('{}'),
  }));
  return {
    messages,
    highWatermark: String(first + count),
    firstOffset: () => String(first),
    lastOffset: () => String(first + count - 1),
  } as unknown as Batch;
}
