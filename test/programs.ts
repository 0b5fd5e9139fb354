import cluster from 'node:cluster';
import { once } from 'node:events';
import { readdirSync, writeSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { Worker } from 'node:worker_threads';
import { AggregatorRegistry } from 'prom-client';
import { resolveZone, TIME_TEXT_BYTES, TimeText } from '../src/codec/time-text.ts';
import {
  Analytics,
  AsyncBatchConsumer,
  BatchConsumer,
  type Consumer,
  DebugConsumer,
  LoggingConsumer,
  MillraceError,
} from '../src/index.ts';
import { setClock } from './clock-file.ts';
import { decodeGolden, type GoldenCase, loadGolden } from './support.ts';

/** Programs that tests run as processes of their own. Each is named by its first argument. */
const programs: Readonly<Record<string, (args: readonly string[]) => Promise<void> | void>> = {
  exit: trackAndExit,
  idle: trackAndFlush,
  closed: closeAndList,
  cluster: scrapeCluster,
  'cluster-process': trackInCluster,
  'before-exit': closeBeforeExit,
  'cluster-spool': spoolInCluster,
  'first-tick': fillInFirstTick,
  golden: runGolden,
  'kill-worker': killWorkerWhileBlocked,
  memory: measureMemory,
  replay: replaySpool,
  'spool-beside': spoolBeside,
  'spool-forever': spoolForever,
  'signal-busy': trackThroughSignal,
  'spool-signal': spoolAndWait,
  'write-clocked': writeClocked,
  'write-files': writeFiles,
  'write-forever': writeForever,
  throw: trackAndThrow,
  zone: writeTimes,
};

function consumerOf(kind: string, target: string, more: object = {}): Consumer {
  switch (kind) {
    case 'file':
      return new LoggingConsumer({ directory: target, ...more });
    case 'batch':
      return new BatchConsumer({ url: target, appId: 'A', ...more });
    case 'debug':
      return new DebugConsumer({ url: target, appId: 'A', ...more });
    default:
      return new AsyncBatchConsumer({ url: target, appId: 'A', ...more });
  }
}

function send(message: object): void {
  process.send?.(message);
}

/** Tracks and exits in the same tick, without close. A slow machine may need long to load the workers. */
function trackAndExit([
  kind = '',
  target = '',
  count = '0',
  exitFlushMs = '30000',
]: readonly string[]): void {
  const ta = new Analytics(consumerOf(kind, target, { exitFlushMs: Number(exitFlushMs) }));
  for (let index = 0; index < Number(count); index += 1) {
    ta.track({ accountId: `u${index % 100}`, event: 'last', properties: { index } });
  }
  process.exit(0);
}

/** Tracks, and then something else in the process throws what nobody catches; 'handled': but for a handler that ends the process. */
function trackAndThrow([
  kind = '',
  target = '',
  count = '0',
  handler = 'unhandled',
]: readonly string[]): void {
  // A slow machine may need that long to load the workers.
  const ta = new Analytics(consumerOf(kind, target, { exitFlushMs: 30_000 }));
  for (let index = 0; index < Number(count); index += 1) {
    ta.track({ accountId: `u${index % 100}`, event: 'last', properties: { index } });
  }
  if (handler === 'handled') process.on('uncaughtException', () => process.exit(3));
  setImmediate(() => {
    throw new Error('the game has a bug');
  });
}

/** Closes when nothing else is left to do, and tracks once more before. */
function closeBeforeExit([kind = '', target = '', count = '0']: readonly string[]): void {
  const ta = new Analytics(consumerOf(kind, target));
  const track = (index: number) =>
    ta.track({ accountId: `u${index % 100}`, event: 'e', properties: { index } });
  for (let index = 0; index < Number(count); index += 1) track(index);
  process.channel?.unref();
  process.once('beforeExit', async () => {
    track(Number(count));
    send(await ta.close());
  });
}

/** Tracks, flushes, and leaves it at that: the process has to end by itself. */
async function trackAndFlush([kind = '', target = '']: readonly string[]): Promise<void> {
  const ta = new Analytics(consumerOf(kind, target));
  for (let index = 0; index < 1000; index += 1) {
    ta.track({ accountId: `u${index % 100}`, event: 'idle', properties: { index } });
  }
  await ta.flush();
  const build = await ta.register.getSingleMetric('millrace_build_info')?.get();
  send({ codec: build?.values[0]?.labels.codec, ...ta.stats() });
  process.channel?.unref();
}

/** Closes, and tells what is left of threads, handles and timers: as much as an earlier client left. */
async function closeAndList([kind = '', target = '']: readonly string[]): Promise<void> {
  const left: string[][] = [];
  let stats: object = {};
  for (let round = 0; round < 2; round += 1) {
    const ta = new Analytics(consumerOf(kind, target));
    for (let index = 0; index < 1000; index += 1) ta.track({ accountId: 'u', event: 'closing' });
    stats = await ta.close();
    // The loader's own file work of the first round is over by then.
    await new Promise((resolve) => setImmediate(resolve));
    left.push(process.getActiveResourcesInfo().sort());
  }
  send({ stats, left });
  process.channel?.unref();
}

/** Tracks in one loop, waits until all of it is delivered, and tells how that went. */
function flood(ta: Analytics, count: number): void {
  let accepted = 0;
  for (let index = 0; index < count; index += 1) {
    if (ta.track({ accountId: `u${index % 100}`, event: 'flood', properties: { index } })) {
      accepted += 1;
    }
  }
  const inTime = ta.flushSync({ timeoutMs: 60_000 });
  const stats = ta.stats();
  ta.closeSync();
  send({ accepted, inTime, stats });
}

/** One loop, from the tick that made the client, with a ring far too small for all of it. */
function fillInFirstTick([
  kind = '',
  target = '',
  count = '0',
  workers = '1',
]: readonly string[]): void {
  const ta = new Analytics(
    consumerOf(kind, target, {
      ringBytes: 1024 * 1024,
      workers: Number(workers),
      overflow: 'block',
      blockTimeoutMs: 60_000,
    }),
  );
  flood(ta, Number(count));
}

/** As above, and a worker dies by its own hand meanwhile: an own sink that exits its thread once. */
function killWorkerWhileBlocked([
  target = '',
  count = '0',
  workers = '2',
]: readonly string[]): void {
  process.env.MILLRACE_TEST_KILL_AFTER = '20';
  const ta = new Analytics(
    new AsyncBatchConsumer({
      url: target,
      appId: 'A',
      ringBytes: 1024 * 1024,
      workers: Number(workers),
      overflow: 'block',
      blockTimeoutMs: 60_000,
      workerFile: new URL('./killing-worker.js', import.meta.url),
    }),
    { onError: (error) => send({ error: error.message }) },
  );
  flood(ta, Number(count));
}

/** Tracks far more than leaves, and tells how much memory that took beyond what the process had before, step by step. */
async function measureMemory([
  target = '',
  options = '{}',
  count = '0',
  steps = '1',
]: readonly string[]): Promise<void> {
  setFlagsFromString('--expose-gc');
  const collect: () => void = runInNewContext('gc');
  const measure = () => {
    collect();
    const { rss, heapUsed } = process.memoryUsage();
    return { rss, heapUsed };
  };
  const before = measure();
  const ta = new Analytics(
    consumerOf('async', target, { timeoutMs: 500, queueSize: 1e9, ...JSON.parse(options) }),
    {
      onError: () => {
        // The receiver is dead: that is what this is about.
      },
    },
  );
  const text = 'some text that is longer than most, so that there is something to do';
  for (let step = 0; step < Number(steps); step += 1) {
    for (let index = 0; index < Number(count); index += 1) {
      ta.track({ accountId: `u${index % 5000}`, event: 'e', properties: { index, text } });
      if (index % 1000 === 0) await new Promise((resolve) => setImmediate(resolve));
    }
    const { rss, heapUsed } = measure();
    send({ rss: rss - before.rss, heapUsed: heapUsed - before.heapUsed });
  }
  send(await ta.close({ timeoutMs: 100 }));
  process.channel?.unref();
}

/** All lines of golden.jsonl of one time zone, through one kind of consumer: a client for each line, or for all with the same options. */
async function runGolden([
  kind = '',
  target = '',
  validation = 'throw',
  clients = 'fresh',
]: readonly string[]): Promise<void> {
  const shared = new Map<string, Analytics>();
  for (const golden of loadGolden()) {
    if (validation === 'off' && golden.error !== undefined) continue;
    const name = JSON.stringify(clients === 'fresh' ? golden : (golden.options ?? {}));
    const ta =
      shared.get(name) ??
      new Analytics(consumerOf(kind, target), {
        uuid: false,
        ...golden.options,
        validation: validation === 'off' ? 'off' : 'throw',
      });
    shared.set(name, ta);
    const error = runCase(golden, ta);
    if (clients === 'fresh') await ta.close();
    else await ta.flush();
    send({ name: golden.name, error, stats: ta.stats() });
    if (clients !== 'fresh') ta.clearSuperProperties();
  }
  for (const ta of shared.values()) await ta.close();
  send({ done: true });
  process.channel?.unref();
}

/** Makes the calls of a case; gives what was thrown. */
function runCase(golden: GoldenCase, ta: Analytics): object | undefined {
  const call = ([method, argument]: readonly [string, unknown]) =>
    Reflect.apply(Reflect.get(ta, method), ta, argument === undefined ? [] : [argument]);
  try {
    for (const step of golden.setup ?? []) call([step[0], decodeGolden(step[1])]);
    call([golden.call[0], decodeGolden(golden.call[1])]);
    return undefined;
  } catch (thrown) {
    if (!(thrown instanceof MillraceError)) throw thrown;
    return { code: thrown.code, message: thrown.message };
  }
}

/** Writes records until it is killed. */
async function writeForever([directory = '']: readonly string[]): Promise<void> {
  const ta = new Analytics(new LoggingConsumer({ directory, lingerMs: 1, bufferRecords: 100 }));
  for (let index = 0; ; index += 1) {
    ta.track({ accountId: `u${index % 10}`, event: 'e', properties: { index } });
    if (index % 100 === 0) await new Promise((resolve) => setImmediate(resolve));
  }
}

/** Writes ten records at each of the times given, by a clock in the workers that says so. */
async function writeClocked([
  directory = '',
  options = '{}',
  ...times
]: readonly string[]): Promise<void> {
  const clockFile = process.env.MILLRACE_TEST_CLOCK ?? '';
  setClock(clockFile, Date.parse(times[0] ?? ''));
  const ta = new Analytics(
    new LoggingConsumer({
      directory,
      workers: 2,
      lanes: 4,
      ...JSON.parse(options),
      workerFile: new URL('./clock-worker.js', import.meta.url),
    }),
  );
  for (const [step, time] of times.entries()) {
    setClock(clockFile, Date.parse(time));
    for (let index = 0; index < 10; index += 1) {
      ta.track({ accountId: `u${index}`, event: 'e', properties: { step, index } });
    }
    await ta.flush();
  }
  send(await ta.close());
}

/** Writes `count` records with uuids that tell the writer and the number, in an order per user. */
async function writeFiles([
  directory = '',
  options = '{}',
  writer = '0',
  count = '0',
  pauseMs = '0',
]: readonly string[]): Promise<void> {
  const ta = new Analytics(
    new LoggingConsumer({ directory, overflow: 'block', ...JSON.parse(options) }),
  );
  const pause = () => new Promise((resolve) => setTimeout(resolve, Number(pauseMs)));
  for (let index = 0; index < Number(count); index += 1) {
    const uuid = `00000000-0000-4000-${8000 + Number(writer)}-${String(index).padStart(12, '0')}`;
    ta.track({ accountId: `w${writer}u${index % 10}`, event: 'e', uuid, properties: { index } });
    if (index % 100 === 0) await pause();
  }
  send(await ta.close());
  process.channel?.unref();
}

/** Numbers records from `from` on, and tells which of them are on disk. */
async function spoolForever([
  url = '',
  directory = '',
  from = '0',
]: readonly string[]): Promise<void> {
  const ta = new Analytics(
    consumerOf('async', url, {
      workers: 1,
      lanes: 2,
      batchSize: 50,
      durability: 'spool-first',
      spool: { directory },
    }),
  );
  for (let index = Number(from); ; index += 1) {
    ta.track({ accountId: `u${index % 10}`, event: 'e', properties: { index } });
    if (index % 50 !== 0) continue;
    // A flush ends when all before it is on disk.
    await ta.flush();
    process.send?.(index + 1);
  }
}

/** Delivers what a spool holds, by a worker entry that may die of it, and sends the final account. */
async function replaySpool([
  url = '',
  directory = '',
  deadLetter = '',
  workerFile = '',
]: readonly string[]): Promise<void> {
  const ta = new Analytics(
    consumerOf('async', url, {
      workers: 1,
      batchSize: 20,
      spool: { directory },
      deadLetter,
      workerFile: new URL(workerFile, import.meta.url),
    }),
  );
  while (ta.stats().recovered === 0 || ta.stats().spooled > 0) await delay(5);
  send(await ta.close());
}

/** Leaves 100 records in a spool that as many processes as said have at the same time. */
async function spoolBeside([
  url = '',
  directory = '',
  processes = '1',
]: readonly string[]): Promise<void> {
  const ta = new Analytics(
    consumerOf('async', url, { workers: 1, durability: 'spool-first', spool: { directory } }),
    {
      onError: () => {
        // The receiver is dead: that is what this is about.
      },
    },
  );
  for (let index = 0; index < 100; index += 1) {
    ta.track({ accountId: `p${process.pid}`, event: 'e', properties: { index } });
  }
  await ta.flush();
  const instances = () => readdirSync(directory).filter((name) => name.startsWith('instance-'));
  while (instances().length < Number(processes)) {
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  send({ instances: instances(), stats: await ta.close({ timeoutMs: 500 }) });
  process.channel?.unref();
}

/** The same by the processes of a cluster; gives how each of them ended. */
async function spoolInCluster([
  url = '',
  directory = '',
  processes = '1',
]: readonly string[]): Promise<void> {
  cluster.setupPrimary({ args: ['spool-beside', url, directory, processes] });
  const members = Array.from({ length: Number(processes) }, () => cluster.fork());
  const codes = await Promise.all(
    members.map(async (member) => {
      const closed = once(member, 'exit');
      const [{ stats }] = (await once(member, 'message')) as [{ stats: { spooled: number } }];
      const [code] = (await closed) as [number];
      return { code, spooled: stats.spooled };
    }),
  );
  send({ codes });
  process.channel?.unref();
}

/** A server that tracks in each tick, on a thread of its own as well, whatever comes; at its end it writes its account. */
function trackThroughSignal([url = '', validation = '']: readonly string[]): void {
  const told: string[] = [];
  const ta = new Analytics(consumerOf('async', url, { workers: 1 }), {
    validation: validation as 'throw' | 'drop',
    onError: ({ code }) => told.push(code),
  });
  ta.closeOnSignals({ timeoutMs: 20_000 });
  const port = ta.port();
  const job = { port, id: 1, count: Number.POSITIVE_INFINITY, ends: 'exit' };
  new Worker(new URL('./port-thread.js', import.meta.url), {
    workerData: job,
    transferList: [port],
  });
  setInterval(() => {
    for (let call = 0; call < 5; call += 1) ta.track({ accountId: `u${call}`, event: 'tick' });
  }, 1);
  process.on('exit', () => writeSync(1, JSON.stringify({ stats: ta.stats(), told })));
  send({ tracks: true });
}

/** Tracks a thousand records and lives on until a signal comes. */
function spoolAndWait([url = '', directory = '']: readonly string[]): void {
  const ta = new Analytics(consumerOf('async', url, { workers: 1, spool: { directory } }));
  ta.closeOnSignals({ timeoutMs: 3000 });
  for (let index = 0; index < 1000; index += 1) {
    ta.track({ accountId: `u${index % 10}`, event: 'e', properties: { index } });
  }
  setInterval(() => {
    // A server has something to live for.
  }, 1000);
  send({ tracked: 1000 });
}

/** Starts processes that track 10, 20, 30 and no records, and gives their metrics added up. */
async function scrapeCluster([directory = '']: readonly string[]): Promise<void> {
  const aggregator = new AggregatorRegistry();
  for (const count of [10, 20, 30, 0]) {
    cluster.setupPrimary({ args: ['cluster-process', `${directory}/${count}`, String(count)] });
    await once(cluster.fork(), 'message');
  }
  send([await aggregator.clusterMetrics()]);
  for (const member of Object.values(cluster.workers ?? {})) member?.send({ close: true });
  process.channel?.unref();
}

async function trackInCluster([directory = '', count = '0']: readonly string[]): Promise<void> {
  const ta = new Analytics(new LoggingConsumer(directory));
  // Its constructor makes this process listen for the primary.
  new AggregatorRegistry();
  AggregatorRegistry.setRegistries(ta.register);
  for (let index = 0; index < Number(count); index += 1) ta.track({ accountId: 'u', event: 'e' });
  if (Number(count) > 0) await ta.flush();
  process.on('message', async (message: { close?: boolean }) => {
    if (message.close !== true) return;
    await ta.close();
    process.exit(0);
  });
  send({ isReady: true });
}

/** Instants of two centuries, as ours and as Date's own getters have them in this process's zone. */
function writeTimes(): void {
  const time = new TimeText(resolveZone(undefined));
  const target = new Uint8Array(TIME_TEXT_BYTES);
  const two = (value: number) => String(value).padStart(2, '0');
  const pairs: [string, string][] = [];
  for (
    let ms = Date.UTC(1950, 0, 1);
    ms < Date.UTC(2060, 0, 1);
    ms += 86_400_000 * 41 + 3_723_017
  ) {
    time.write(target, 0, ms);
    const date = new Date(ms);
    const day = `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())}`;
    const clock = [date.getHours(), date.getMinutes(), date.getSeconds()].map(two).join(':');
    const millis = String(date.getMilliseconds()).padStart(3, '0');
    pairs.push([Buffer.from(target).toString('latin1'), `${day} ${clock}.${millis}`]);
  }
  send(pairs);
  process.channel?.unref();
}

const [name = '', ...args] = process.argv.slice(2);
await programs[name]?.(args);
