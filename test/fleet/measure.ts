import { type ChildProcess, fork } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { type AckPolicy, type JsMsg, jetstream, jetstreamManager } from '@nats-io/jetstream';
import { connect } from '@nats-io/transport-node';
import { Analytics, AsyncBatchConsumer, type Consumer, type Properties } from '../../src/index.ts';
import { NatsConsumer } from '../../src/nats.ts';
import { CustomSink, type CustomSinkConfig } from '../../src/sink/custom.ts';
import type { Batch } from '../../src/sink/sink.ts';
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

function propertiesOf(n: number): Properties {
  return {
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
  };
}

/** Rate and CPU time of this process from now on. */
function stopwatch(): () => Omit<Stage, 'stage'> {
  const [startMs, cpu] = [performance.now(), process.cpuUsage()];
  return () => {
    const seconds = (performance.now() - startMs) / 1000;
    const { user, system } = process.cpuUsage(cpu);
    return { recordsPerSecond: RECORDS / seconds, cpuMicrosPerRecord: (user + system) / RECORDS };
  };
}

function track(ta: Analytics, n: number): void {
  ta.track({
    accountId: `player-${n % 5000}`,
    distinctId: `device-${n % 5000}`,
    event: 'battle_end',
    properties: propertiesOf(n),
  });
}

async function send(stage: string, consumer: Consumer, broker: NatsServerProcess): Promise<Stage> {
  const ta = new Analytics(consumer);
  track(ta, 0);
  await ta.flush();
  const [brokerCpu, measured] = [cpuOf(broker.pid), stopwatch()];
  for (let n = 1; n < RECORDS; n += 1) {
    track(ta, n);
    if (n % 500 === 0) await new Promise((resolve) => setImmediate(resolve));
  }
  await ta.flush();
  const facts = measured();
  const brokerSeconds = cpuOf(broker.pid) - brokerCpu;
  const stats = await ta.close();
  assertBalanced(stats);
  if (stats.delivered !== RECORDS) throw new Error(`${stats.delivered} delivered`);
  return {
    stage,
    ...facts,
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

const BATCH = 2000;
/** Batches that the sink has under way: a worker has as many as it attends lanes. */
const BATCHES_IN_FLIGHT = 4;

function eventOf(n: number): Readonly<Record<string, unknown>> {
  return {
    '#type': 'track',
    '#time': '2026-03-08 12:00:00.123',
    '#event_name': 'battle_end',
    '#account_id': `player-${n % 5000}`,
    '#distinct_id': `device-${n % 5000}`,
    '#uuid': randomUUID(),
    properties: propertiesOf(n),
  };
}

/** The publishing alone: finished records in batches, as the engine hands them to the sink, until they are acknowledged. */
async function publish(broker: NatsServerProcess, stream: string): Promise<Stage> {
  const { plan } = natsOf(broker, stream, false);
  const sink = CustomSink.open(plan.sink as CustomSinkConfig);
  const { signal } = new AbortController();
  const batches: Batch[] = [];
  for (let from = 0; from < RECORDS; from += BATCH) batches.push(batchOf(from, BATCH));
  const deliver = async (batch: Batch): Promise<void> => {
    const outcome = await sink.deliver(batch, signal);
    if (outcome.kind !== 'delivered') throw new Error(JSON.stringify(outcome));
  };
  await deliver(batchOf(0, 1));
  const measured = stopwatch();
  let next = 0;
  const work = async (): Promise<void> => {
    for (let batch = batches[next++]; batch !== undefined; batch = batches[next++]) {
      await deliver(batch);
    }
  };
  await Promise.all(Array.from({ length: BATCHES_IN_FLIGHT }, work));
  const facts = measured();
  await sink.close();
  return { stage: `the sink alone, finished records to ${stream}`, ...facts };
}

function batchOf(from: number, count: number): Batch {
  const lines = Array.from({ length: count }, (_, index) => JSON.stringify(eventOf(from + index)));
  const text = Buffer.from(`[${lines.map((line) => `${line}\n`).join('')}`);
  const starts = new Uint32Array(count);
  const ends = new Uint32Array(count);
  let at = 1;
  for (const [index, line] of lines.entries()) {
    starts[index] = at;
    at += Buffer.byteLength(line) + 1;
    ends[index] = at - 1;
  }
  return { count, text, starts, ends };
}

/** What somebody would write by hand: each event by JSON.stringify, a message for so many events of a partition, the bare client. */
async function byHand(broker: NatsServerProcess, events: number): Promise<Stage> {
  const connection = await connect({ servers: broker.url });
  const manager = await jetstreamManager(connection);
  const client = jetstream(connection);
  await manager.streams.add({ name: 'HAND', subjects: ['hand.*'] });
  const measured = stopwatch();
  const lines = Array.from({ length: PARTITIONS }, (): string[] => []);
  const acks: Promise<unknown>[] = [];
  const flush = (partition: number) => {
    const text = `${lines[partition]?.join('\n')}\n`;
    lines[partition] = [];
    const id = `${partition}-${acks.length}`;
    acks.push(client.publish(`hand.${partition}`, text, { msgID: id, timeout: 30_000 }));
  };
  for (let n = 0; n < RECORDS; n += 1) {
    const waiting = lines[n % PARTITIONS] ?? [];
    waiting.push(JSON.stringify(eventOf(n)));
    if (waiting.length === events) flush(n % PARTITIONS);
    if (n % 500 === 0) await new Promise((resolve) => setImmediate(resolve));
  }
  for (const [partition, rest] of lines.entries()) if (rest.length > 0) flush(partition);
  await Promise.all(acks);
  const facts = measured();
  await manager.streams.delete('HAND');
  await connection.close();
  return { stage: `by hand: JSON.stringify, ${events} events a message, bare client`, ...facts };
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
  while (messages.length < state.messages) {
    const given = await consumer.fetch({ max_messages: 100, expires: 30_000 });
    for await (const message of given) messages.push(message);
  }
  await manager.streams.add({ name: 'BARE', subjects: ['bare.*'] });
  const measured = stopwatch();
  let next = 0;
  const work = async (): Promise<void> => {
    for (let message = messages[next++]; message !== undefined; message = messages[next++]) {
      const subject = message.subject.replace(/^[^.]+/, 'bare');
      const options = message.headers === undefined ? {} : { headers: message.headers };
      await client.publish(subject, message.data, { ...options, timeout: 30_000 });
    }
  };
  await Promise.all(Array.from({ length: IN_FLIGHT }, work));
  const facts = measured();
  await manager.streams.delete('BARE');
  await connection.close();
  return { stage: `bare client, the ${messages.length} messages of ${stream}`, ...facts };
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
// Several times: the first warms up, and a busy machine shows.
for (let round = 0; round < 3; round += 1) {
  show(await publish(broker, `ALONE${round}`));
  show(await bare(broker, `ALONE${round}`));
}
show(await byHand(broker, BATCH / PARTITIONS));
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
