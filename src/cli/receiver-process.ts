import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import type { ReceiverSnapshot } from '../receiver/index.ts';

/** A receiver in a process of its own, so that its work is not on the game's thread. */
export class ReceiverProcess {
  readonly url: string;
  readonly #child: ChildProcess;

  private constructor(url: string, child: ChildProcess) {
    this.url = url;
    this.#child = child;
  }

  /** Starts `millrace receiver` with these arguments on a free port. */
  static async start(flags: readonly string[] = []): Promise<ReceiverProcess> {
    const main = fileURLToPath(new URL('./main.js', import.meta.url));
    const child = fork(main, ['receiver', '--port', '0', '--json', ...flags], {
      stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
      execArgv: [],
      // Ctrl-C in a terminal reaches the whole group: the receiver is needed until all is drained.
      detached: true,
    });
    const url = await Promise.race([
      once(child, 'message').then(([message]: unknown[]) => urlOf(message)),
      once(child, 'exit').then(([code]) => {
        throw new Error(`the receiver ended at once, exit code ${code}`);
      }),
    ]);
    // Neither keeps the demo alive; a demo that is killed takes its receiver along, which sees the channel close.
    child.unref();
    child.channel?.unref();
    return new ReceiverProcess(url, child);
  }

  async snapshot(): Promise<ReceiverSnapshot> {
    const reply = await this.ask('/stats');
    return (await reply.json()) as ReceiverSnapshot;
  }

  /** One request on a connection of its own: one that was kept may have been closed while this thread was busy. */
  ask(path: string, request: RequestInit = {}): Promise<Response> {
    return fetch(`${this.url}${path}`, { ...request, headers: { connection: 'close' } });
  }

  async stop(): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    this.#child.ref();
    const ended = once(this.#child, 'exit');
    this.#child.kill('SIGTERM');
    await ended;
  }
}

function urlOf(message: unknown): string {
  if (typeof message === 'object' && message !== null && 'url' in message) {
    return String(message.url);
  }
  throw new Error('the receiver did not say where it listens');
}
