import assert from 'node:assert/strict';
import { setTimeout as delay } from 'node:timers/promises';
import { jetstream, jetstreamManager } from '@nats-io/jetstream';
import { connect, type NatsConnection } from '@nats-io/transport-node';
import { Analytics } from '../../src/index.ts';
import { NatsConsumer, type PartitionState, relayState } from '../../src/nats.ts';
import { Receiver } from '../../src/receiver/index.ts';
import { freePort, NatsServerProcess } from '../nats-server.ts';
import { assertBalanced, newDirectory } from '../support.ts';
import { checkReceiver, Relays, Senders } from './crew.ts';

export type Target = 'sender' | 'relay' | 'broker';

export interface DrillOptions {
  readonly random: (below: number) => number;
  readonly seconds: number;
  /** What is killed. */
  readonly targets: readonly Target[];
  readonly say: (text: string) => void;
}

const PARTITIONS = 8;

/** Where the partitions of a drill's stream stand. */
function statesOf(servers: string, receiver: Receiver): () => Promise<PartitionState[]> {
  const from = `${servers}/FLEET`;
  return () => relayState({ from, url: receiver.url, appId: 'A', partitions: PARTITIONS });
}

/** 8 senders, 3 relays, one broker on files: any of them is killed at random. */
export async function killAtRandom({ random, seconds, targets, say }: DrillOptions): Promise<void> {
  const server = await NatsServerProcess.start();
  const receiver = await Receiver.open({ port: 0, eventsMax: 5_000_000 });
  const senders = new Senders(
    {
      broker: 'nats',
      servers: [server.url],
      partitions: PARTITIONS,
      replicas: 1,
      burst: 30,
      pauseMs: 100,
    },
    8,
  );
  await untilStream(server.url);
  const relays = new Relays(
    [
      ...['--from', `${server.url}/FLEET`, '--url', receiver.url, '--appid', 'A'],
      ...['--partitions', String(PARTITIONS), '--lease', '1500'],
    ],
    3,
  );
  let brokerKills = 0;
  const endMs = Date.now() + seconds * 1000;
  while (Date.now() < endMs) {
    await delay(500 + random(2000));
    const target = targets[random(targets.length)];
    if (target === 'sender') await senders.killOne(random(senders.count));
    else if (target === 'relay') await relays.killOne(random(relays.count));
    else {
      await server.kill();
      await delay(random(1500));
      await server.start();
      brokerKills += 1;
    }
  }
  say(`killed: ${senders.kills} senders, ${relays.kills} relays, ${brokerKills} brokers`);
  await senders.stop();
  const states = statesOf(server.url, receiver);
  say(await checkReceiver(receiver, { states, durable: senders.durable }));
  await relays.stop();
  await receiver.close();
  await server.stop();
}

async function untilStream(servers: string): Promise<void> {
  const connection = await connect({ servers });
  const manager = await jetstreamManager(connection);
  for (;;) {
    try {
      await manager.streams.info('FLEET');
      break;
    } catch {
      await delay(50);
    }
  }
  await connection.close();
}

/** Three brokers with three copies of the stream: the leader is killed under load, again and again. */
export async function killLeader({ seconds, say }: DrillOptions): Promise<void> {
  const ports = [await freePort(), await freePort(), await freePort()];
  const routes = [await freePort(), await freePort(), await freePort()];
  const servers = ports.map(
    (port, index) =>
      new NatsServerProcess({
        port,
        directory: newDirectory(),
        cluster: { name: `n${index}`, port: routes[index] ?? 0, routes },
      }),
  );
  await Promise.all(servers.map((server) => server.start()));
  const urls = servers.map(({ url }) => url);
  const receiver = await Receiver.open({ port: 0, eventsMax: 5_000_000 });
  const ta = new Analytics(
    new NatsConsumer({
      servers: urls,
      stream: 'FLEET',
      partitions: PARTITIONS,
      replicas: 3,
      lingerMs: 5,
      ackTimeoutMs: 1000,
      queueSize: 1_000_000,
    }),
    {
      onError: () => {
        // A leader is gone: that is the drill.
      },
    },
  );
  const pauses: number[] = [];
  const elections: number[] = [];
  const load = new Load(ta);
  await load.untilDelivered();
  const from = `nats://${urls.map((url) => url.slice(7)).join(',')}`;
  const relays = new Relays(
    [
      ...['--from', `${from}/FLEET`, '--url', receiver.url, '--appid', 'A'],
      ...['--partitions', String(PARTITIONS), '--lease', '3000'],
    ],
    1,
  );
  const endMs = Date.now() + seconds * 1000;
  while (Date.now() < endMs) {
    await delay(4000);
    load.longestPauseMs = 0;
    const leader = Number((await leaderOf(urls)).slice(1));
    const probe = await Probe.start(urls.filter((_, index) => index !== leader));
    await servers[leader]?.kill();
    await delay(3000);
    await load.untilDelivered();
    elections.push(await probe.stop());
    pauses.push(load.longestPauseMs);
    await servers[leader]?.start();
    await delay(3000);
  }
  const count = await load.stop();
  const stats = await ta.close({ timeoutMs: 60_000 });
  assertBalanced(stats);
  assert.equal(stats.delivered, count);
  const shown = (times: number[]) => times.map((ms) => (ms / 1000).toFixed(1)).join(', ');
  say(
    `leader killed ${pauses.length} times; nothing was acknowledged to us for: ${shown(pauses)} s`,
  );
  say(
    `the cluster took nothing from a bare client that asks all the time for: ${shown(elections)} s`,
  );
  const states = statesOf(from, receiver);
  say(await checkReceiver(receiver, { states, durable: new Map([['0/0', count]]) }));
  await relays.stop();
  await receiver.close();
  await Promise.all(servers.map((server) => server.stop()));
}

/** A steady load that notices how long nothing is acknowledged. */
class Load {
  longestPauseMs = 0;
  readonly #ta: Analytics;
  readonly #timer: NodeJS.Timeout;
  #n = 0;
  #delivered = 0;
  #progressMs = performance.now();

  constructor(ta: Analytics) {
    this.#ta = ta;
    this.#timer = setInterval(() => this.#step(), 10);
  }

  #step(): void {
    for (let count = 0; count < 10; count += 1, this.#n += 1) {
      const properties = { sender: 0, generation: 0, n: this.#n };
      this.#ta.track({ accountId: `u${this.#n % 40}`, event: 'e', properties });
    }
    const { delivered } = this.#ta.stats();
    const nowMs = performance.now();
    if (delivered > this.#delivered) {
      this.longestPauseMs = Math.max(this.longestPauseMs, nowMs - this.#progressMs);
      this.#delivered = delivered;
      this.#progressMs = nowMs;
    }
  }

  /** Resolves when what has been tracked so far is acknowledged. */
  async untilDelivered(): Promise<void> {
    const wanted = this.#n + 1;
    while (this.#ta.stats().delivered < wanted) await delay(20);
  }

  async stop(): Promise<number> {
    clearInterval(this.#timer);
    await this.#ta.flush({ timeoutMs: 60_000 });
    return this.#n;
  }
}

/** Longest look of a bare client at a stream without a leader. */
const PROBE_MS = 200;

/** A bare client beside the one that dies with the leader: for how long the cluster itself takes nothing. */
class Probe {
  readonly #connection: NatsConnection;
  readonly #done: Promise<void>;
  #longestMs = 0;
  #isStopped = false;

  private constructor(connection: NatsConnection) {
    this.#connection = connection;
    this.#done = this.#run();
  }

  static async start(servers: string[]): Promise<Probe> {
    return new Probe(await connect({ servers }));
  }

  async #run(): Promise<void> {
    const client = jetstream(this.#connection);
    for (let lastMs = performance.now(); !this.#isStopped; await delay(10)) {
      try {
        // A subject of the stream that no relay reads.
        await client.publish('fleet.probe', '', { timeout: PROBE_MS });
      } catch {
        // No leader: asked again.
        continue;
      }
      const nowMs = performance.now();
      this.#longestMs = Math.max(this.#longestMs, nowMs - lastMs);
      lastMs = nowMs;
    }
  }

  /** The longest time without an acknowledgement, in ms. */
  async stop(): Promise<number> {
    this.#isStopped = true;
    await this.#done;
    await this.#connection.close();
    return this.#longestMs;
  }
}

async function leaderOf(servers: string[]): Promise<string> {
  const connection = await connect({ servers });
  try {
    const manager = await jetstreamManager(connection);
    const { cluster } = await manager.streams.info('FLEET');
    return cluster?.leader ?? 'n0';
  } finally {
    await connection.close();
  }
}
