import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import './end-with-parent.ts';
import { metricIn } from '../support.ts';

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

const HEAD_END = '\r\n\r\n';

/**
 * One connection that asks and takes what comes. Node's own client would cost several times what the scraped server does, on
 * the same processors.
 */
class Connection {
  readonly #socket: Socket;
  readonly #request: string;
  #parts: Buffer[] = [];
  #leftBytes = Number.NaN;
  #done: (body: Buffer) => void = () => {
    // Nobody waits.
  };

  private constructor(socket: Socket, { host, pathname }: URL) {
    this.#socket = socket;
    this.#request = `GET ${pathname} HTTP/1.1\r\nhost: ${host}${HEAD_END}`;
    socket.setNoDelay(true);
    socket.on('data', (part) => this.#take(part));
  }

  static async open(url: URL): Promise<Connection> {
    const socket = connect(Number(url.port), url.hostname);
    await once(socket, 'connect');
    return new Connection(socket, url);
  }

  ask(): Promise<Buffer> {
    return new Promise((resolve, reject) => {
      this.#done = resolve;
      this.#socket.once('close', reject);
      this.#socket.write(this.#request);
    });
  }

  close(): void {
    this.#socket.destroy();
  }

  #take(part: Buffer): void {
    let body = part;
    if (this.#parts.length === 0) {
      const end = part.indexOf(HEAD_END);
      const [, length] = /^content-length: (\d+)/im.exec(part.toString('latin1', 0, end)) ?? [];
      assert.ok(length !== undefined, 'the answer tells its length');
      this.#leftBytes = Number(length);
      body = part.subarray(end + HEAD_END.length);
    }
    this.#parts.push(body);
    this.#leftBytes -= body.length;
    if (this.#leftBytes > 0) return;
    this.#socket.removeAllListeners('close');
    this.#done(Buffer.concat(this.#parts));
    this.#parts = [];
  }
}

/** Scrapes at a fixed rate. Bodies are kept as they came, and looked at when the time is over. */
async function run({ url, everyMs, forMs }: ScrapeOrder): Promise<ScrapeReport> {
  const bodies: Buffer[] = [];
  const connection = await Connection.open(new URL(url));
  const cpu = process.cpuUsage();
  const startMs = performance.now();
  for (let dueMs = startMs; dueMs < startMs + forMs; dueMs += everyMs) {
    await delay(Math.max(0, dueMs - performance.now()));
    bodies.push(await connection.ask());
  }
  const { user, system } = process.cpuUsage(cpu);
  connection.close();
  return {
    scrapes: bodies.length,
    bytes: bodies.reduce((sum, { length }) => sum + length, 0),
    cpuMs: (user + system) / 1000,
    faults: bodies.flatMap((body) => faultsOf(body.toString('utf8'))),
  };
}

/** Lines of the account: most of a scrape is not. */
const ACCOUNT: RegExp =
  /^millrace_(?:records|recovery_records|queue_records|spool_records|ledger)_?.*$/gm;

/** A scrape's account adds up to the record: the tolerance that the gauge of the imbalance publishes is 0. */
function faultsOf(body: string): string[] {
  const text = body.match(ACCOUNT)?.join('\n') ?? '';
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
