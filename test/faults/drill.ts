import assert from 'node:assert/strict';
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { AsyncBatchConsumerOptions, Stats } from '../../src/index.ts';
import { assertBalanced, newDirectory, TestReceiver } from '../support.ts';
import type { SenderJob, SenderMessage } from './sender.ts';

/** What one drill found; every number counts records. */
export interface Finding {
  readonly enqueued: number;
  /** Different records at the receiver. */
  readonly arrived: number;
  /** Given up, with the reasons. */
  readonly dropped: Readonly<Record<string, number>>;
  readonly duplicates: number;
  readonly note?: string;
}

/** One row of the fault table. */
export interface Drill {
  readonly id: string;
  /** What is done, in the words of the README's table. */
  readonly fault: string;
  /** What is promised. */
  readonly promise: string;
  readonly run: (tools: DrillTools) => Promise<Finding>;
}

export interface DrillTools {
  /** Draws a whole number in `[0, below)`; the same seed draws the same. */
  readonly random: (below: number) => number;
  /** Share of the full length, for quick runs. */
  readonly scale: number;
}

/** A receiver in its own process that can be killed and comes back at the same address; what it took is in a file. */
export class Receiver {
  readonly port: number;
  readonly #directory: string;
  #process: TestReceiver | undefined;

  private constructor(port: number) {
    this.port = port;
    this.#directory = newDirectory();
  }

  static async start(): Promise<Receiver> {
    const receiver = new Receiver(await freePort());
    await receiver.start();
    return receiver;
  }

  get url(): string {
    return `http://127.0.0.1:${this.port}`;
  }

  get process(): TestReceiver {
    assert.ok(this.#process !== undefined, 'the receiver runs');
    return this.#process;
  }

  async start(): Promise<void> {
    const flags = ['--appid', 'A', '--port', String(this.port), '--save', this.#directory];
    this.#process = await TestReceiver.start(flags);
  }

  async stop(): Promise<void> {
    await this.#process?.stop();
    this.#process = undefined;
  }

  /** Numbers of all records it has acknowledged, in order, repeated ones included. */
  numbers(): number[] {
    let text = '';
    try {
      text = readFileSync(join(this.#directory, 'received.jsonl'), 'utf8');
    } catch {
      return [];
    }
    return [...text.matchAll(/"index":(\d+)/g)].map(([, index]) => Number(index));
  }
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  server.close();
  await once(server, 'close');
  assert.ok(typeof address === 'object' && address !== null);
  return address.port;
}

/** A sending process. */
export class Sender {
  readonly child: ChildProcess;
  readonly ended: Promise<number | null>;
  stats: Stats | undefined;
  durable = 0;
  rssBytes = 0;
  rssBytesMax = 0;

  constructor(job: SenderJob) {
    const path = fileURLToPath(new URL('./sender.js', import.meta.url));
    this.child = fork(path, [JSON.stringify(job)], {
      stdio: ['ignore', 'ignore', 'ignore', 'ipc'],
      execArgv: [],
    });
    this.ended = once(this.child, 'close').then(([code]) => code as number | null);
    this.child.on('message', (message: SenderMessage) => {
      if ('durable' in message) this.durable = message.durable;
      else {
        this.stats = message.stats;
        this.rssBytes = message.rssBytes;
        this.rssBytesMax = Math.max(this.rssBytesMax, message.rssBytes);
      }
    });
  }

  async kill(): Promise<void> {
    this.child.kill('SIGKILL');
    await this.ended;
  }

  /** The last account it has sent. */
  get account(): Stats {
    assert.ok(this.stats !== undefined, 'the sender has reported');
    return this.stats;
  }
}

export function optionsOf(
  receiver: { readonly url: string },
  more: Partial<AsyncBatchConsumerOptions> = {},
): AsyncBatchConsumerOptions {
  return {
    url: receiver.url,
    appId: 'A',
    workers: 2,
    lanes: 4,
    batchSize: 100,
    lingerMs: 10,
    timeoutMs: 1000,
    ...more,
  };
}

/** Compares the account with what is at the receiver: they agree to the record. */
export function reconcile(stats: Stats, numbers: readonly number[]): Finding {
  assertBalanced(stats);
  const { accepted, recovered, delivered, rejected, dropped } = stats;
  const arrived = new Set(numbers).size;
  assert.ok(arrived >= delivered - (numbers.length - arrived), 'what was acknowledged is there');
  const given = Object.fromEntries(
    Object.entries({ ...dropped, rejected }).filter(([, count]) => count > 0),
  );
  return {
    enqueued: accepted + recovered,
    arrived,
    dropped: given,
    duplicates: numbers.length - arrived,
  };
}

/** No record is missing, and none was given up. */
export function assertNoLoss(finding: Finding): Finding {
  assert.equal(finding.arrived, finding.enqueued, JSON.stringify(finding));
  assert.deepEqual(finding.dropped, {});
  return finding;
}

export function delay(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
