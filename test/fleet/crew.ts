import assert from 'node:assert/strict';
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import type { Stats } from '../../src/index.ts';
import type { PartitionState } from '../../src/nats.ts';
import type { Receiver } from '../../src/receiver/index.ts';
import { assertBalanced, newDirectory } from '../support.ts';

/** What a sender said last. */
interface Told {
  readonly sender: number;
  readonly generation: number;
  readonly durable: number;
  readonly stats?: Stats;
}

export interface SenderPlan {
  readonly broker: 'nats' | 'kafka';
  readonly servers: readonly string[];
  readonly partitions: number;
  readonly replicas: number;
  readonly burst: number;
  readonly pauseMs: number;
}

const RESTART_MS = 200;
const SETTLE_MS = 120_000;
const SENDER = fileURLToPath(new URL('./sender.js', import.meta.url));
const MAIN = fileURLToPath(new URL('../../src/cli/main.js', import.meta.url));

/** Senders that are killed and come back to their spool. */
export class Senders {
  /** Records that were on disk, by sender and generation. */
  readonly durable: Map<string, number> = new Map();
  readonly #plan: SenderPlan;
  readonly #children: (ChildProcess | undefined)[] = [];
  readonly #generations: number[] = [];
  readonly #directories: string[] = [];
  kills = 0;

  constructor(plan: SenderPlan, count: number) {
    this.#plan = plan;
    for (let sender = 0; sender < count; sender += 1) {
      this.#directories.push(join(newDirectory(), 'spool'));
      this.#generations.push(0);
      this.#start(sender);
    }
  }

  #start(sender: number): void {
    const plan = {
      ...this.#plan,
      sender,
      generation: this.#generations[sender],
      directory: this.#directories[sender],
    };
    const child = fork(SENDER, [JSON.stringify(plan)], { execArgv: [] });
    child.on('message', (message) => this.#hear(message as Told));
    this.#children[sender] = child;
  }

  #hear({ sender, generation, durable, stats }: Told): void {
    this.durable.set(`${sender}/${generation}`, durable);
    if (stats === undefined) return;
    assertBalanced(stats);
    assert.equal(stats.rejected + stats.dropped.expired + stats.dropped.shutdown, 0);
  }

  async killOne(sender: number): Promise<void> {
    const child = this.#children[sender];
    if (child === undefined) return;
    const exited = once(child, 'exit');
    child.kill('SIGKILL');
    await exited;
    this.kills += 1;
    this.#generations[sender] = (this.#generations[sender] ?? 0) + 1;
    this.#start(sender);
  }

  get count(): number {
    return this.#children.length;
  }

  /** Resolves when all have delivered everything and ended. */
  async stop(): Promise<void> {
    await Promise.all(
      this.#children.map(async (child, sender) => {
        if (child === undefined) return;
        const exited = once(child, 'exit');
        child.send('stop');
        const [code] = await exited;
        assert.equal(code, 0, `sender ${sender} ended well`);
      }),
    );
  }
}

/** Relay processes of one group. */
export class Relays {
  readonly #args: readonly string[];
  readonly #children: ChildProcess[] = [];
  #isStopping = false;
  kills = 0;

  constructor(args: readonly string[], count: number) {
    this.#args = args;
    for (let relay = 0; relay < count; relay += 1) this.#start(relay);
  }

  #start(relay: number): void {
    const child = fork(MAIN, ['relay', ...this.#args, '--json'], {
      execArgv: [],
      stdio: ['ignore', 'ignore', 'ignore', 'ipc'],
    });
    this.#children[relay] = child;
    // As whatever runs it would: killed, or ended because no broker was there.
    child.on('exit', () => {
      if (!this.#isStopping) setTimeout(() => this.#start(relay), RESTART_MS);
    });
  }

  async killOne(relay: number): Promise<void> {
    const child = this.#children[relay];
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return;
    const exited = once(child, 'exit');
    child.kill('SIGKILL');
    await exited;
    this.kills += 1;
  }

  get count(): number {
    return this.#children.length;
  }

  async stop(): Promise<void> {
    this.#isStopping = true;
    await Promise.all(
      this.#children.map(async (child) => {
        if (child.exitCode !== null || child.signalCode !== null) return;
        const exited = once(child, 'exit');
        child.kill('SIGTERM');
        await exited;
      }),
    );
  }
}

/** Waits until the relays are through, then checks what the receiver has, and says it. */
export async function checkReceiver(
  receiver: Receiver,
  {
    states,
    durable,
  }: {
    readonly states: () => Promise<readonly PartitionState[]>;
    readonly durable: ReadonlyMap<string, number>;
  },
): Promise<string> {
  const wanted = [...durable.values()].reduce((sum, count) => sum + count, 0);
  const deadline = Date.now() + SETTLE_MS;
  const isThrough = async () => (await states()).every(({ lag }) => lag === 0);
  while (receiver.snapshot().unique < wanted || !(await isThrough())) {
    if (Date.now() > deadline) break;
    await delay(200);
  }
  const { unique, duplicates, refused } = receiver.snapshot();
  assertArrived(receiver.events(), durable);
  assert.equal(refused, 0);
  return `${wanted} records were on disk, ${unique} arrived, ${duplicates} repeats were dropped by uuid`;
}

interface Arrival {
  readonly sender: number;
  readonly generation: number;
  readonly n: number;
}

/**
 * Asserts that every record that was on disk has arrived, that none is in the store twice, and that each user's records of one
 * life of its sender are in order.
 */
export function assertArrived(
  events: readonly Readonly<Record<string, unknown>>[],
  durable: ReadonlyMap<string, number>,
): void {
  const seen = new Map<string, Set<number>>();
  const last = new Map<string, number>();
  for (const event of events) {
    const { sender, generation, n } = event.properties as Arrival;
    const life = `${sender}/${generation}`;
    const numbers = seen.get(life) ?? new Set();
    seen.set(life, numbers);
    assert.ok(!numbers.has(n), `record ${n} of ${life} is in the store once`);
    numbers.add(n);
    const user = `${event['#account_id']}/${generation}`;
    assert.ok(n > (last.get(user) ?? -1), `${user}: ${n} came after ${last.get(user)}`);
    last.set(user, n);
  }
  for (const [life, count] of durable) {
    const numbers = seen.get(life) ?? new Set();
    for (let n = 0; n < count; n += 1) {
      assert.ok(numbers.has(n), `record ${n} of ${life} was on disk and never arrived`);
    }
  }
}
