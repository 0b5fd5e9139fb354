import { once } from 'node:events';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { pino } from 'pino';
import winston from 'winston';
import { Analytics, AsyncBatchConsumer, LoggingConsumer } from '../src/index.ts';
import { finishedRecord, makeEvents, SUPER_PROPERTIES } from './events.ts';

/**
 * One contestant delivers `count` records to `target` and says how long that took: a process of its own,
 * so that CPU time and memory are this contestant's alone.
 */
const [contestant = '', target = '', countText = '0', batchText = '500'] = process.argv.slice(2);
const count = Number(countText);
const batchSize = Number(batchText);
const EVENTS = 1000;
const UUID = '3f2b8c1e-9a47-4d6e-8b15-7c0d9e2f1a34';
/** Records the official SDK may have under way: without a bound it would only fill the memory. */
const OUTSTANDING_MAX = 20_000;

interface TdNode {
  initWithAsyncBatchMode(appId: string, url: string, config: object): TdClient;
}
interface TdClient {
  setSuperProperties(properties: object): void;
  track(params: object): void;
  flush(): void;
}

async function millrace(consumer: AsyncBatchConsumer | LoggingConsumer): Promise<void> {
  const ta = new Analytics(consumer);
  ta.setSuperProperties(SUPER_PROPERTIES);
  const events = makeEvents(EVENTS);
  for (let index = 0; index < count; index += 1) {
    const event = events[index % EVENTS];
    if (event !== undefined) ta.track(event);
  }
  await ta.flush();
  const stats = await ta.close();
  if (stats.delivered !== count) throw new Error(`delivered ${stats.delivered} of ${count}`);
}

async function thinkingdata(): Promise<void> {
  const sdk = createRequire(import.meta.url)('thinkingdata-node') as TdNode;
  const client = sdk.initWithAsyncBatchMode('A', target, { batchSize, interval: 1e9 });
  client.setSuperProperties(SUPER_PROPERTIES);
  const events = makeEvents(EVENTS);
  let settled = 0;
  // The callback comes once a batch, with the call that filled it.
  const callback = (error?: Error) => {
    if (error !== undefined) throw error;
    settled += batchSize;
  };
  for (let index = 0; index < count; index += 1) {
    client.track({ ...events[index % EVENTS], callback });
    if (index % batchSize !== batchSize - 1) continue;
    while (index + 1 - settled > OUTSTANDING_MAX)
      await new Promise((resolve) => setImmediate(resolve));
  }
  while (settled < count) await new Promise((resolve) => setImmediate(resolve));
}

async function pinoFile(): Promise<void> {
  const transport = pino.transport({
    target: 'pino/file',
    options: { destination: join(target, 'pino.log') },
  });
  const logger = pino({ base: null, timestamp: false }, transport);
  const events = makeEvents(EVENTS);
  for (let index = 0; index < count; index += 1) {
    const event = events[index % EVENTS];
    if (event !== undefined) logger.info(finishedRecord(event, UUID));
    if (index % 1000 === 999) await new Promise((resolve) => setImmediate(resolve));
  }
  await new Promise<void>((resolve) => {
    transport.on('close', resolve);
    transport.end();
  });
}

async function winstonFile(): Promise<void> {
  const file = new winston.transports.File({ filename: join(target, 'winston.log') });
  const logger = winston.createLogger({ format: winston.format.json(), transports: [file] });
  const events = makeEvents(EVENTS);
  for (let index = 0; index < count; index += 1) {
    const event = events[index % EVENTS];
    const info = { level: 'info', message: '', ...(event && finishedRecord(event, UUID)) };
    if (!logger.write(info)) await once(logger, 'drain');
  }
  // end() with text still in the pipe makes winston write after its own end.
  while (logger.writableLength + logger.readableLength + file.writableLength > 0) {
    await new Promise((resolve) => setImmediate(resolve));
  }
  await new Promise((resolve) => {
    file.on('finish', resolve);
    logger.end();
  });
}

const contestants: Readonly<Record<string, () => Promise<void>>> = {
  'millrace-http': () =>
    millrace(new AsyncBatchConsumer({ url: target, appId: 'A', batchSize, overflow: 'block' })),
  'millrace-file': () => millrace(new LoggingConsumer({ directory: target, overflow: 'block' })),
  'thinkingdata-node': thinkingdata,
  pino: pinoFile,
  winston: winstonFile,
};

const run = contestants[contestant];
if (run === undefined) throw new Error(`no contestant ${contestant}`);
const cpuBefore = process.cpuUsage();
const startMs = performance.now();
// Some contestants' threads do not keep the process alive by themselves.
const hold = setInterval(() => {}, 60_000);
await run();
clearInterval(hold);
const seconds = (performance.now() - startMs) / 1000;
const { user, system } = process.cpuUsage(cpuBefore);
process.send?.({
  seconds,
  cpuSeconds: (user + system) / 1e6,
  rssMb: process.resourceUsage().maxRSS / 1024,
});
process.disconnect?.();
// The official SDK's timer would keep the process for another interval.
setTimeout(() => process.exit(0), 100).unref();
if (contestant === 'thinkingdata-node') process.exit(0);
