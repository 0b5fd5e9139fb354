import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { type AckPolicy, type JsMsg, jetstream, jetstreamManager } from '@nats-io/jetstream';
import { connect } from '@nats-io/transport-node';
import { Analytics, AsyncBatchConsumer, type Consumer } from '../../src/index.ts';
import { NatsConsumer } from '../../src/nats.ts';
import { NatsServerProcess } from '../nats-server.ts';
import { assertBalanced, TestReceiver } from '../support.ts';

/**
 * Measures each stage of a fleet on this machine: the figures docs/scale.md reckons with. All stages share its cores, so rates are
 * low; the CPU time of a record is what counts.
 */
const RECORDS = Number(process.argv[2] ?? 300_000);
const IN_FLIGHT = 256;
const PARTITIONS = 16;
const TICKS_PER_SECOND = 100;
const MAIN = fileURLToPath(new URL('../../src/cli/main.js', import.meta.url));

/** CPU seconds a process has used, all threads. */
function cpuOf(pid: number | undefined): number {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]?.split(' ') ?? [];
  return (Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND;
}

interface Stage {
  readonly stage: string;
  readonly recordsPerSecond: number;
  readonly cpuMicrosPerRecord: number;
  readonly brokerMicrosPerRecord?: number;
  readonly bytesPerRecord?: number;
}

function show(stage: Stage): void {
  console.log(JSON.stringify(stage, (_key, value) => round(value)));
}

function round(value: unknown): unknown {
  return typeof value === 'number' ? Number(value.toPrecision(3)) : value;
}

function track(ta: Analytics, n: number): void {
  ta.track({
    accountId: `player-${n % 5000}`,
    distinctId: `device-${n % 5000}`,
    event: 'battle_end',
    properties: {
      n,
      level: n % 80,
      hero: 'Aria',
      won: n % 2 === 0,
      seconds: 312.5,
      map: 'frozen-pass',
      mode: 'ranked',
      kills: n % 17,
      deaths: n % 7,
      gold: 1200 + (n % 500),
      server: 'eu-west-12',
    },
  });
}

async function send(stage: string, consumer: Consumer, broker: NatsServerProcess): Promise<Stage> {
  const ta = new Analytics(consumer);
  track(ta, 0);
  await ta.flush();
  const [startMs, cpu, brokerCpu] = [performance.now(), process.cpuUsage(), cpuOf(broker.pid)];
  for (let n = 1; n < RECORDS; n += 1) {
    track(ta, n);
    if (n % 500 === 0) await new Promise((resolve) => setImmediate(resolve));
  }
  await ta.flush();
  const seconds = (performance.now() - startMs) / 1000;
  const { user, system } = process.cpuUsage(cpu);
  const brokerSeconds = cpuOf(broker.pid) - brokerCpu;
  const stats = await ta.close();
  assertBalanced(stats);
  if (stats.delivered !== RECORDS) throw new Error(`${stats.delivered} delivered`);
  return {
    stage,
    recordsPerSecond: RECORDS / seconds,
    cpuMicrosPerRecord: (user + system) / RECORDS,
    brokerMicrosPerRecord: (brokerSeconds * 1e6) / RECORDS,
    bytesPerRecord: stats.bytesSent / RECORDS,
  };
}

function natsOf(broker: NatsServerProcess, stream: string, compress: boolean): NatsConsumer {
  return new NatsConsumer({
    servers: broker.url,
    stream,
    compress,
    partitions: PARTITIONS,
    workers: 1,
    overflow: 'block',
    queueSize: 1_000_000,
  });
}

/** The bare client, publishing the very messages that a stream holds into another. */
async function bare(broker: NatsServerProcess, stream: string): Promise<Stage> {
  const connection = await connect({ servers: broker.url });
  const manager = await jetstreamManager(connection);
  const client = jetstream(connection);
  const { state } = await manager.streams.info(stream);
  await manager.consumers.add(stream, { name: 'all', ack_policy: 'none' as AckPolicy });
  const consumer = await client.consumers.get(stream, 'all');
  const messages: JsMsg[] = [];
  const given = await consumer.fetch({ max_messages: state.messages, expires: 30_000 });
  for await (const message of given) messages.push(message);
  await manager.streams.add({ name: 'BARE', subjects: ['bare.*'] });
  const [startMs, cpu] = [performance.now(), process.cpuUsage()];
  let next = 0;
  const work = async (): Promise<void> => {
    for (let message = messages[next++]; message !== undefined; message = messages[next++]) {
      const subject = message.subject.replace(/^[^.]+/, 'bare');
      const options = message.headers === undefined ? {} : { headers: message.headers };
      await client.publish(subject, message.data, options);
    }
  };
  await Promise.all(Array.from({ length: IN_FLIGHT }, work));
  const seconds = (performance.now() - startMs) / 1000;
  const { user, system } = process.cpuUsage(cpu);
  await manager.streams.delete('BARE');
  await connection.close();
  return {
    stage: `bare client, the ${messages.length} messages of ${stream}`,
    recordsPerSecond: RECORDS / seconds,
    cpuMicrosPerRecord: (user + system) / RECORDS,
  };
}

async function relayStage(broker: NatsServerProcess, stream: string): Promise<Stage> {
  const receiver = await TestReceiver.start(['--mode', 'count']);
  const args = ['relay', '--from', `${broker.url}/${stream}`, '--url', receiver.url];
  args.push('--appid', 'A', '--partitions', String(PARTITIONS), '--lease', '1000', '--json');
  const child: ChildProcess = fork(MAIN, args, { stdio: ['ignore', 'ignore', 'inherit', 'ipc'] });
  const arrived = async (): Promise<number> => (await receiver.snapshot()).records;
  while ((await arrived()) === 0) await delay(20);
  const [startMs, cpu, brokerCpu] = [performance.now(), cpuOf(child.pid), cpuOf(broker.pid)];
  const before = await arrived();
  while ((await arrived()) < RECORDS) await delay(50);
  const count = RECORDS - before;
  const seconds = (performance.now() - startMs) / 1000;
  const stage: Stage = {
    stage: `relay of ${stream} to the receiver`,
    recordsPerSecond: count / seconds,
    cpuMicrosPerRecord: ((cpuOf(child.pid) - cpu) * 1e6) / count,
    brokerMicrosPerRecord: ((cpuOf(broker.pid) - brokerCpu) * 1e6) / count,
  };
  const exited = once(child, 'exit');
  child.kill('SIGTERM');
  await exited;
  await receiver.stop();
  return stage;
}

const broker = await NatsServerProcess.start();
show(await send('sender to NATS, plain', natsOf(broker, 'PLAIN', false), broker));
show(await bare(broker, 'PLAIN'));
show(await send('sender to NATS, gzip', natsOf(broker, 'PACKED', true), broker));
show(await bare(broker, 'PACKED'));
const receiver = await TestReceiver.start(['--mode', 'count']);
const http = new AsyncBatchConsumer({
  url: receiver.url,
  appId: 'A',
  workers: 1,
  overflow: 'block',
  queueSize: 1_000_000,
});
show(await send('sender by HTTP, gzip', http, broker));
await receiver.stop();
show(await relayStage(broker, 'PACKED'));
show(await relayStage(broker, 'PLAIN'));
await broker.stop();
process.exit(0);
