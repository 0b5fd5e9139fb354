import { setTimeout as delay } from 'node:timers/promises';
import { Analytics } from '../../src/index.ts';
import { NatsConsumer } from '../../src/nats.ts';

/** A game server of the drill: tracks, makes sure it is on disk, says so, until it is killed or told to stop. */
interface Plan {
  readonly servers: string[];
  readonly directory: string;
  readonly sender: number;
  readonly generation: number;
  readonly partitions: number;
  readonly replicas: number;
  readonly burst: number;
  readonly pauseMs: number;
}

const USERS = 25;
const plan = JSON.parse(process.argv[2] ?? '{}') as Plan;
const { sender, generation } = plan;
const ta = new Analytics(
  new NatsConsumer({
    servers: plan.servers,
    stream: 'FLEET',
    partitions: plan.partitions,
    replicas: plan.replicas,
    spool: { directory: plan.directory },
    durability: 'spool-first',
    workers: 1,
    ringBytes: 8 * 1024 * 1024,
    lingerMs: 20,
    ackTimeoutMs: 2000,
  }),
  {
    onError: () => {
      // Trouble is what the drill is about; the account tells how it ended.
    },
  },
);
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
