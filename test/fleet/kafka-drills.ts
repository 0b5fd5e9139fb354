import { setTimeout as delay } from 'node:timers/promises';
import { relayState } from '../../src/kafka.ts';
import { Receiver } from '../../src/receiver/index.ts';
import { startKafkaMock } from '../kafka-mock.ts';
import { checkReceiver, Relays, Senders } from './crew.ts';
import type { DrillOptions } from './nats-drills.ts';

const TOPIC = 'fleet';
/** Of a topic of the mock. */
const PARTITIONS = 4;
const LEASE_MS = 6000;
/** The mock shares out anew only after almost a whole session: relays that died faster would never work. */
const RELAY_REST_MS = 20_000;

/** 8 senders and 3 relays, killed at random. The mock cluster keeps everything in memory, so it is not killed. */
export async function killAroundKafka({ random, seconds, say }: DrillOptions): Promise<void> {
  const mock = await startKafkaMock();
  const receiver = await Receiver.open({ port: 0, eventsMax: 5_000_000 });
  const from = `kafka://${mock.brokers.join(',')}/${TOPIC}`;
  const senders = new Senders(
    {
      broker: 'kafka',
      servers: mock.brokers,
      partitions: PARTITIONS,
      replicas: 1,
      burst: 30,
      pauseMs: 100,
    },
    8,
  );
  const args = ['--from', from, '--url', receiver.url, '--appid', 'A', '--lease', String(LEASE_MS)];
  const relays = new Relays(args, 3);
  const endMs = Date.now() + seconds * 1000;
  for (let restedMs = Date.now(); Date.now() < endMs; ) {
    await delay(500 + random(2000));
    if (Date.now() - restedMs > RELAY_REST_MS) {
      await relays.killOne(random(relays.count));
      restedMs = Date.now();
    } else await senders.killOne(random(senders.count));
  }
  say(`killed: ${senders.kills} senders, ${relays.kills} relays`);
  await senders.stop();
  const states = () => relayState({ from, url: receiver.url, appId: 'A' });
  say(await checkReceiver(receiver, { states, durable: senders.durable }));
  await relays.stop();
  await receiver.close();
  mock.stop();
}
