import type { MeasuredCaller } from '../../bench/fleet/measured.ts';
import { Analytics, AsyncBatchConsumer, type Consumer } from '../../src/index.ts';
import { KafkaConsumer } from '../../src/kafka.ts';
import { NatsConsumer } from '../../src/nats.ts';
import { startKafkaMock } from '../kafka-mock.ts';
import { NatsServerProcess } from '../nats-server.ts';
import { TestReceiver } from '../support.ts';
import { propertiesOf, SENDER } from './load.ts';
import { spanOf } from './rounds.ts';

/** Calls of one burst: they fit into the ring, and into the time between two looks of the scheduler. */
const BURST = 2000;
const BURSTS = 300;
const WARM_UPS = 50;

/** What a call costs, by the place its records go to: bursts in turn, each timed alone and delivered before the next. */
export async function measureCallers(): Promise<MeasuredCaller[]> {
  const [receiver, nats, kafka] = [
    await TestReceiver.start(['--mode', 'count']),
    await NatsServerProcess.start(),
    await startKafkaMock(),
  ];
  const consumers: Readonly<Record<string, Consumer>> = {
    HTTP: new AsyncBatchConsumer({ url: receiver.url, appId: 'A', ...SENDER }),
    NATS: new NatsConsumer({ servers: nats.url, stream: 'CALLS', ...SENDER }),
    Kafka: new KafkaConsumer({
      brokers: kafka.brokers,
      topic: 'calls',
      partitions: 4,
      provision: 'auto',
      idempotent: false,
      ...SENDER,
    }),
  };
  const clients = Object.entries(consumers).map(([name, consumer]) => ({
    name,
    ta: new Analytics(consumer),
    micros: [] as number[],
  }));
  const events = Array.from({ length: BURST }, (_, n) => ({
    accountId: `player-${n % 5000}`,
    event: 'battle_end',
    properties: propertiesOf(n),
  }));
  for (let burst = 0; burst < WARM_UPS + BURSTS; burst += 1) {
    // Each is first as often as the others.
    const [first, rest] = [clients.slice(burst % 3), clients.slice(0, burst % 3)];
    for (const { ta, micros } of [...first, ...rest]) {
      const startMs = performance.now();
      for (const event of events) ta.track(event);
      const tookMs = performance.now() - startMs;
      if (burst >= WARM_UPS) micros.push((tookMs * 1000) / BURST);
      await ta.flush();
    }
  }
  const http = clients[0]?.micros ?? [];
  const found = clients.map(({ name, micros }) => ({
    consumer: name,
    micros: spanOf(micros),
    toHttp: spanOf(micros.map((each, burst) => each / (http[burst] ?? each))),
  }));
  for (const { ta } of clients) await ta.close();
  await receiver.stop();
  await nats.stop();
  kafka.stop();
  return found;
}
