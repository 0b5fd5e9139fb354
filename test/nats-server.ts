import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createServer, connect as dial } from 'node:net';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { newDirectory } from './support.ts';

/** A port that was free a moment ago. */
export async function freePort(): Promise<number> {
  const server = createServer();
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  server.close();
  await once(server, 'close');
  if (typeof address !== 'object' || address === null) throw new Error('no port');
  return address.port;
}

/** Why tests that need a program are skipped; false: it is there. */
export function missing(program: string, args: readonly string[]): string | false {
  try {
    execFileSync(program, args, { stdio: 'ignore' });
    return false;
  } catch {
    return `${program} is not installed`;
  }
}

export interface NatsFlags {
  readonly port: number;
  readonly directory: string;
  /** Name in the cluster, its port there, and those of the others. */
  readonly cluster?: { readonly name: string; readonly port: number; readonly routes: number[] };
}

/** A nats-server with JetStream on files, that may be killed and started again. */
export class NatsServerProcess {
  readonly flags: NatsFlags;
  #child: ChildProcess | undefined;

  constructor(flags: NatsFlags) {
    this.flags = flags;
  }

  static async start(): Promise<NatsServerProcess> {
    const server = new NatsServerProcess({ port: await freePort(), directory: newDirectory() });
    await server.start();
    return server;
  }

  get url(): string {
    return `nats://127.0.0.1:${this.flags.port}`;
  }

  get pid(): number | undefined {
    return this.#child?.pid;
  }

  async start(): Promise<void> {
    const { port, directory, cluster } = this.flags;
    const args = ['-js', '-a', '127.0.0.1', '-p', String(port), '-sd', join(directory, 'js')];
    if (cluster !== undefined) {
      const routes = cluster.routes.map((route) => `nats://127.0.0.1:${route}`).join(',');
      args.push('-n', cluster.name, '--cluster_name', 'fleet');
      args.push('--cluster', `nats://127.0.0.1:${cluster.port}`, '--routes', routes);
    }
    this.#child = spawn('nats-server', args, { stdio: 'ignore' });
    await untilListening(port);
  }

  async kill(): Promise<void> {
    await this.#end('SIGKILL');
  }

  async stop(): Promise<void> {
    await this.#end('SIGTERM');
  }

  async #end(signal: NodeJS.Signals): Promise<void> {
    const child = this.#child;
    this.#child = undefined;
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return;
    const exited = once(child, 'exit');
    child.kill(signal);
    await exited;
  }
}

async function untilListening(port: number): Promise<void> {
  const deadline = Date.now() + 30_000;
  for (;;) {
    const socket = dial(port, '127.0.0.1');
    try {
      await once(socket, 'connect');
      return;
    } catch {
      if (Date.now() > deadline) throw new Error(`nothing listens at port ${port}`);
      await delay(20);
    } finally {
      socket.destroy();
    }
  }
}
