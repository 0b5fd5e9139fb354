import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import {
  Analytics,
  type AnalyticsOptions,
  AsyncBatchConsumer,
  type AsyncBatchConsumerOptions,
  type Stats,
} from '../../src/index.ts';
import { newDirectory, TestReceiver } from '../support.ts';
import { delay, optionsOf } from './drill.ts';
import { type SenderJob, type SenderMessage, uuidOf } from './sender.ts';

/** A receiver in its own process that can be killed and comes back at the same address; what it took is in a file. */
export class Receiver {
  readonly port: number;
  readonly #directory: string;
  readonly #host: string;
  #process: TestReceiver | undefined;

  private constructor(port: number, host: string) {
    this.port = port;
    this.#host = host;
    this.#directory = newDirectory();
  }

  static async start(place: { host?: string; port?: number } = {}): Promise<Receiver> {
    const { host = '127.0.0.1' } = place;
    const receiver = new Receiver(place.port ?? (await freePort(host)), host);
    await receiver.start();
    return receiver;
  }

  get url(): string {
    return `http://${this.#host}:${this.port}`;
  }

  get process(): TestReceiver {
    assert.ok(this.#process !== undefined, 'the receiver runs');
    return this.#process;
  }

  async start(): Promise<void> {
    const place = ['--port', String(this.port), '--host', this.#host];
    this.#process = await TestReceiver.start(['--appid', 'A', ...place, '--save', this.#directory]);
  }

  async stop(): Promise<void> {
    await this.#process?.stop();
    this.#process = undefined;
  }

  /**
   * Numbers of all records it has acknowledged, in order, repeated ones included: by their uuids, each of which must
   * have come with the content that belongs to it.
   */
  numbers(): number[] {
    let text = '';
    try {
      text = readFileSync(join(this.#directory, 'received.jsonl'), 'latin1');
    } catch {
      return [];
    }
    return numbersIn(text);
  }
}

const RECORD: RegExp = /"#uuid":"00000000-0000-4000-8000-(\d{12})"[^\n]*?"index":(\d+)/g;

/** Numbers of the records in a text, in order. Asserts that uuid and content agree. */
export function numbersIn(text: string): number[] {
  const numbers: number[] = [];
  for (const [, uuid, index] of text.matchAll(RECORD)) {
    assert.equal(Number(uuid), Number(index), 'a record came with the uuid of another');
    numbers.push(Number(index));
  }
  return numbers;
}

async function freePort(host: string): Promise<number> {
  const server = createServer().listen(0, host);
  await once(server, 'listening');
  const address = server.address();
  server.close();
  await once(server, 'close');
  assert.ok(typeof address === 'object' && address !== null);
  return address.port;
}

export interface SenderPlace {
  readonly execArgv?: readonly string[];
  readonly env?: NodeJS.ProcessEnv;
  /** A command that runs the process: its own words go before those of Node. */
  readonly launcher?: readonly string[];
}

/** A sending process. */
export class Sender {
  readonly child: ChildProcess;
  readonly ended: Promise<number | null>;
  stats: Stats | undefined;
  metrics = '';
  durable = 0;
  rssBytes = 0;
  rssBytesMax = 0;
  /** When calls of `track` that were held came back, in ms since 1970. */
  readonly resumedMs: number[] = [];
  stderr = '';

  constructor(job: SenderJob, { execArgv = [], env = {}, launcher = [] }: SenderPlace = {}) {
    const path = fileURLToPath(new URL('./sender.js', import.meta.url));
    const words = [...launcher, process.execPath, ...execArgv, path, JSON.stringify(job)];
    const [command = '', ...args] = words;
    this.child = spawn(command, args, {
      stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
      env: { ...process.env, ...env },
    });
    this.ended = once(this.child, 'close').then(([code]) => code as number | null);
    this.child.on('message', (message: SenderMessage) => this.#hear(message));
    this.child.stderr?.on('data', (part: Buffer) => {
      this.stderr += part.toString('utf8');
    });
  }

  #hear(message: SenderMessage): void {
    if ('durable' in message) this.durable = message.durable;
    else if ('resumedMs' in message) this.resumedMs.push(message.resumedMs);
    else {
      this.stats = message.stats;
      this.metrics = message.metrics ?? this.metrics;
      this.rssBytes = message.rssBytes;
      this.rssBytesMax = Math.max(this.rssBytesMax, message.rssBytes);
    }
  }

  async kill(): Promise<void> {
    this.child.kill('SIGKILL');
    await this.ended;
  }

  /** Waits for its end in good order. */
  async finish(): Promise<Stats> {
    assert.equal(await this.ended, 0, this.stderr);
    return this.account;
  }

  async untilAccepted(count: number): Promise<void> {
    while ((this.stats?.accepted ?? 0) < count) {
      assert.equal(this.child.exitCode, null, `it ended before ${count} records\n${this.stderr}`);
      await delay(5);
    }
  }

  /** The last account it has sent. */
  get account(): Stats {
    assert.ok(this.stats !== undefined, `the sender has reported\n${this.stderr}`);
    return this.stats;
  }
}

/** All that were opened; nothing is kept alive for it. */
let clients: WeakRef<Analytics>[] = [];

/** Closes the clients that a drill that failed has left, whatever they have in hand. */
export function closeLeft(): void {
  for (const client of clients) client.deref()?.closeSync({ timeoutMs: 0 });
  clients = [];
}

/** A client in this process. */
export function open(
  receiver: { readonly url: string },
  more: Partial<AsyncBatchConsumerOptions> = {},
  options: AnalyticsOptions = {},
): Analytics {
  const silent = () => {
    // The account tells.
  };
  const client = new Analytics(new AsyncBatchConsumer(optionsOf(receiver, more)), {
    onError: silent,
    ...options,
  });
  clients.push(new WeakRef(client));
  return client;
}

export function trackOne(ta: Analytics, index: number): boolean {
  return ta.track({
    accountId: `u${index % 50}`,
    event: 'fault',
    uuid: uuidOf(index),
    properties: { index },
  });
}

/** Most memory a living process has had, in bytes, as the system says (Linux). */
export function peakBytesOf(pid: number | undefined): number {
  const status = readFileSync(`/proc/${pid}/status`, 'utf8');
  const [, kib] = /^VmHWM:\s+(\d+) kB$/m.exec(status) ?? [];
  assert.ok(kib !== undefined, 'the system tells the peak of its memory');
  return Number(kib) * 1024;
}
