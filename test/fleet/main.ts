import { Command } from 'commander';
import { missing } from '../nats-server.ts';
import { killAroundKafka } from './kafka-drills.ts';
import { type DrillOptions, killAtRandom, killLeader, type Target } from './nats-drills.ts';

interface Flags {
  readonly seed: string;
  readonly seconds: string;
  readonly only?: string;
  readonly kill: Target[];
}

interface FleetDrill {
  readonly id: string;
  readonly title: string;
  readonly needs: readonly [string, readonly string[]];
  readonly run: (options: DrillOptions) => Promise<void>;
}

const NATS = ['nats-server', ['--version']] as const;
const DRILLS: readonly FleetDrill[] = [
  {
    id: 'nats',
    title: '8 senders, 3 relays and the broker killed at random',
    needs: NATS,
    run: killAtRandom,
  },
  {
    id: 'cluster',
    title: 'the leader of three brokers killed under load',
    needs: NATS,
    run: killLeader,
  },
  {
    id: 'kafka',
    title: "8 senders and 3 relays around librdkafka's mock cluster killed at random",
    needs: ['kcat', ['-V']],
    run: killAroundKafka,
  },
];

/** Mulberry32: small, and the same everywhere. */
function randomFrom(seed: number): (below: number) => number {
  let state = seed | 0;
  return (below) => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) % Math.max(1, below);
  };
}

const program = new Command('test:fleet')
  .option('--seed <number>', 'seed of the order of kills', String(Date.now() % 1_000_000))
  .option('--seconds <count>', 'how long each drill kills', '120')
  .option('--only <id>', 'one drill')
  .option('--kill <what...>', 'sender, relay, broker', ['sender', 'relay', 'broker'])
  .action(async ({ seed, seconds, only, kill }: Flags) => {
    for (const drill of DRILLS) {
      if (only !== undefined && drill.id !== only) continue;
      const skip = missing(...drill.needs);
      if (skip !== false) {
        console.log(`skipped ${drill.id}: ${skip}`);
        continue;
      }
      console.log(`${drill.id}: ${drill.title} (seed ${seed})`);
      await drill.run({
        random: randomFrom(Number(seed)),
        seconds: Number(seconds),
        targets: kill,
        say: (text) => console.log(`  ${text}`),
      });
      console.log(`ok ${drill.id}`);
    }
    process.exit(0);
  });
await program.parseAsync();
