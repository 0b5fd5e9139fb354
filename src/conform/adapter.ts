import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { within } from '../base/event-loop.ts';
import type { ConformJson } from './cases.ts';

/** Answer of an adapter: one line of JSON for each request, in their order. */
export interface AdapterReply {
  /** The call was taken. */
  readonly ok?: boolean;
  /** It was refused, and why. */
  readonly error?: string;
  /** The SDK has nothing of the kind. */
  readonly unsupported?: boolean;
  /** It has ended, and answers nothing any more. */
  readonly isEnd?: boolean;
}

/** Longest wait for one answer, in ms. */
const REPLY_MS = 60_000;
/** How long an adapter may take to end after its input has ended, in ms. */
const KILL_MS = 1000;

/** The SDK under test, in a process of its own that takes one JSON request a line. */
export class Adapter {
  readonly #child: ChildProcess;
  readonly #waiting: ((reply: AdapterReply) => void)[] = [];
  readonly #ended: Promise<unknown>;
  #stderr = '';

  private constructor(child: ChildProcess) {
    this.#child = child;
    this.#ended = once(child, 'close');
    if (child.stdout !== null) {
      createInterface({ input: child.stdout }).on('line', (line) => this.#hear(line));
    }
    child.stderr?.on('data', (part: Buffer) => {
      this.#stderr = (this.#stderr + part.toString('utf8')).slice(-2000);
    });
    // Writing to an adapter that has ended is told by its reply, which never comes.
    child.stdin?.on('error', () => undefined);
    const fail = (why: string) => {
      for (const answer of this.#waiting.splice(0))
        answer({ error: `${why} ${this.#stderr}`.trim(), isEnd: true });
    };
    child.on('close', () => fail('the adapter has ended'));
    child.on('error', (error) => fail(String(error)));
  }

  /** Starts the command in a shell; times of records are those of Shanghai. */
  static start(command: string): Adapter {
    return new Adapter(
      spawn(command, {
        shell: true,
        stdio: 'pipe',
        // A group of its own, so that the shell and what it started can be ended together.
        detached: true,
        env: { ...process.env, TZ: 'Asia/Shanghai' },
      }),
    );
  }

  /** One request. An adapter that ends or is silent gives an error. */
  async ask(request: ConformJson): Promise<AdapterReply> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) {
      return { error: `the adapter has ended ${this.#stderr}`.trim(), isEnd: true };
    }
    const reply = new Promise<AdapterReply>((resolve) => this.#waiting.push(resolve));
    this.#child.stdin?.write(`${JSON.stringify(request)}\n`);
    return await within(reply, REPLY_MS, { error: 'the adapter did not answer' });
  }

  /** Ends the input, and the process if that does not. */
  async end(): Promise<void> {
    this.#child.stdin?.end();
    const timer = setTimeout(() => this.#kill(), KILL_MS);
    await this.#ended;
    clearTimeout(timer);
  }

  #kill(): void {
    if (this.#child.pid === undefined) return;
    try {
      process.kill(-this.#child.pid, 'SIGKILL');
    } catch {
      // The group has ended meanwhile.
    }
  }

  #hear(line: string): void {
    // Whatever else the SDK prints is none of our business.
    if (!line.startsWith('{')) return;
    try {
      this.#waiting.shift()?.(JSON.parse(line) as AdapterReply);
    } catch {
      this.#stderr += line;
    }
  }
}
