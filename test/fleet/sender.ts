import { setTimeout as delay } from 'node:timers/promises';
import { Analytics, type Consumer } from '../../src/index.ts';
import { KafkaConsumer } from '../../src/kafka.ts';
import { NatsConsumer } from '../../src/nats.ts';
import type { SenderPlan } from './crew.ts';

/** A game server of the drill: tracks, makes sure it is on disk, says so, until it is killed or told to stop. */
interface Plan extends SenderPlan {
  readonly directory: string;
  readonly sender: number;
  readonly generation: number;
}

const USERS = 25;
const plan = JSON.parse(process.argv[2] ?? '{}') as Plan;
const { sender, generation } = plan;
const ta = new Analytics(consumerOf(plan), {
  onError: () => {
    // Trouble is what the drill is about; the account tells how it ended.
  },
});

function consumerOf({ broker, servers, partitions, replicas, directory }: Plan): Consumer {
  const engine = {
    partitions,
    replicas,
    spool: { directory },
    durability: 'spool-first',
    workers: 1,
    ringBytes: 8 * 1024 * 1024,
    lingerMs: 20,
  } as const;
  return broker === 'nats'
    ? new NatsConsumer({ ...engine, servers, stream: 'FLEET', ackTimeoutMs: 2000 })
    : // What the mock cluster has: topics on first use, and no ids for idempotent producers.
      new KafkaConsumer({
        ...engine,
        brokers: servers,
        topic: 'fleet',
        provision: 'auto',
        idempotent: false,
      });
}

let isStopping = false;
process.on('message', () => {
  isStopping = true;
});
let n = 0;
while (!isStopping) {
  for (let count = 0; count < plan.burst; count += 1, n += 1) {
    const accountId = `s${sender}-u${n % USERS}`;
    ta.track({ accountId, event: 'e', properties: { sender, generation, n } });
  }
  await ta.flush();
  process.send?.({ sender, generation, durable: n });
  await delay(plan.pauseMs);
}
// Until everything of this and of earlier lives is with the broker.
while (ta.stats().spooled + ta.stats().queued > 0) await delay(50);
const stats = await ta.close({ timeoutMs: 60_000 });
process.send?.({ sender, generation, durable: n, stats }, () => process.exit(0));
