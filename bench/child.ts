import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';

/** A compiled file of this folder run as a process of its own, that answers each message with one message. */
export class Child {
  readonly name: string;
  readonly #process: ChildProcess;
  readonly #ended: Promise<never>;

  constructor(
    file: 'receiver' | 'contestant',
    {
      name,
      args = [],
      flags = [],
    }: { name: string; args?: readonly string[]; flags?: readonly string[] },
  ) {
    this.name = name;
    const path = fileURLToPath(new URL(`./${file}.js`, import.meta.url));
    this.#process = fork(path, args, {
      execArgv: [...flags],
      // What a product prints is its own affair.
      stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
    });
    this.#ended = once(this.#process, 'exit').then(([code, signal]) => {
      throw new Error(`${name} ended (${code ?? signal}) before it answered`);
    });
    this.#ended.catch(() => {
      // Heard by whoever waits for an answer.
    });
  }

  /** The next message of the process. */
  async next(): Promise<unknown> {
    const [message]: unknown[] = await Promise.race([once(this.#process, 'message'), this.#ended]);
    if (typeof message === 'object' && message !== null && 'error' in message) {
      throw new Error(`${this.name}: ${message.error}`);
    }
    return message;
  }

  /** Sends a message and resolves to the answer. */
  ask(message: object): Promise<unknown> {
    const answer = this.next();
    this.#process.send(message);
    return answer;
  }

  async stop(): Promise<void> {
    if (this.#process.exitCode !== null || this.#process.signalCode !== null) return;
    this.#process.kill('SIGKILL');
    await this.#ended.catch(() => {
      // That was the intention.
    });
  }
}
