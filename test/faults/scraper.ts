import assert from 'node:assert/strict';
import { Agent, get } from 'node:http';
import { setTimeout as delay } from 'node:timers/promises';
import './end-with-parent.ts';
import { metricIn } from './stage.ts';

/** What a scraping process is asked to do, again and again. */
export interface ScrapeOrder {
  readonly url: string;
  readonly everyMs: number;
  readonly forMs: number;
}

/** What came of an order. */
export interface ScrapeReport {
  readonly scrapes: number;
  /** Of all bodies together. */
  readonly bytes: number;
  /** What the scraping itself took of a processor, in ms. */
  readonly cpuMs: number;
  /** What was wrong with scrapes, if anything was. */
  readonly faults: readonly string[];
}

const agent = new Agent({ keepAlive: true });

function scrape(url: string): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    get(url, { agent }, (reply) => {
      const parts: Buffer[] = [];
      reply.on('data', (part: Buffer) => parts.push(part));
      reply.on('error', reject);
      reply.on('end', () => resolve(Buffer.concat(parts)));
    }).on('error', reject);
  });
}

/** Scrapes at a fixed rate. Bodies are kept as they came, and looked at when the time is over. */
async function run({ url, everyMs, forMs }: ScrapeOrder): Promise<ScrapeReport> {
  const bodies: Buffer[] = [];
  const cpu = process.cpuUsage();
  const startMs = performance.now();
  for (let dueMs = startMs; dueMs < startMs + forMs; dueMs += everyMs) {
    await delay(Math.max(0, dueMs - performance.now()));
    bodies.push(await scrape(url));
  }
  const { user, system } = process.cpuUsage(cpu);
  return {
    scrapes: bodies.length,
    bytes: bodies.reduce((sum, { length }) => sum + length, 0),
    cpuMs: (user + system) / 1000,
    faults: bodies.flatMap((body) => faultsOf(body.toString('utf8'))),
  };
}

/** A scrape's account adds up to the record: the tolerance that the gauge of the imbalance publishes is 0. */
function faultsOf(text: string): string[] {
  const value = (name: string, labels?: string) => metricIn(text, `millrace_${name}`, labels);
  const neverIn = ['overflow_newest', 'invalid'].map((reason) => `reason="${reason}"`);
  const left = value('records_accepted_total') + value('recovery_records_total');
  const right =
    value('records_delivered_total') +
    value('records_rejected_total') +
    value('records_dropped_total') -
    neverIn.reduce((sum, labels) => sum + value('records_dropped_total', labels), 0) +
    value('queue_records') +
    value('spool_records');
  const tolerance = value('ledger_imbalance_records');
  const faults: string[] = [];
  if (left === 0) faults.push('nothing has entered');
  if (left !== right) faults.push(`${left} have entered, ${right} are accounted for`);
  if (tolerance !== 0) faults.push(`the imbalance is ${tolerance}`);
  return faults;
}

process.on('message', async (order: ScrapeOrder) => {
  const report = await run(order);
  assert.ok(process.send !== undefined);
  process.send(report);
});
// It lives for its orders.
process.channel?.ref();
