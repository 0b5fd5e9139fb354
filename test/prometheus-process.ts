import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { copyFileSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { newDirectory, repositoryRoot } from './support.ts';

export interface Series {
  readonly metric: Readonly<Record<string, string>>;
  readonly value: readonly [number, string];
}

/** A port that nobody listens on now. */
export async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as { port: number };
  server.close();
  await once(server, 'close');
  return port;
}

/** A Prometheus of its own that scrapes one target and evaluates our rules once a second. */
export class TestPrometheus {
  readonly #process: ChildProcess;
  readonly #url: string;

  private constructor(process: ChildProcess, url: string) {
    this.#process = process;
    this.#url = url;
  }

  static async start(target: string): Promise<TestPrometheus> {
    const directory = newDirectory();
    const config = join(directory, 'prometheus.yml');
    copyFileSync(
      join(repositoryRoot(), 'grafana/millrace-rules.yml'),
      join(directory, 'millrace-rules.yml'),
    );
    const global = { scrape_interval: '1s', evaluation_interval: '1s' };
    const job = { job_name: 'millrace', static_configs: [{ targets: [target] }] };
    writeFileSync(
      config,
      JSON.stringify({ global, rule_files: ['millrace-rules.yml'], scrape_configs: [job] }),
    );
    const port = await freePort();
    const flags = [
      `--config.file=${config}`,
      `--storage.tsdb.path=${join(directory, 'data')}`,
      `--web.listen-address=127.0.0.1:${port}`,
    ];
    const process = spawn('prometheus', flags, { stdio: 'ignore' });
    return new TestPrometheus(process, `http://127.0.0.1:${port}`);
  }

  async query(expr: string): Promise<readonly Series[]> {
    const url = `${this.#url}/api/v1/query?query=${encodeURIComponent(expr)}`;
    const reply = (await (await fetch(url)).json()) as {
      status: string;
      error?: string;
      data?: { result: readonly Series[] };
    };
    assert.equal(reply.status, 'success', `${expr}: ${reply.error}`);
    return reply.data?.result ?? [];
  }

  /** Value of the first series; NaN: there is none, or it is starting. */
  async valueAt(expr: string): Promise<number> {
    try {
      return Number((await this.query(expr))[0]?.value[1] ?? Number.NaN);
    } catch (error) {
      if (error instanceof assert.AssertionError) throw error;
      return Number.NaN;
    }
  }

  async rules(): Promise<readonly { name: string; health: string; lastError?: string }[]> {
    const reply = (await (await fetch(`${this.#url}/api/v1/rules`)).json()) as {
      data: { groups: { rules: { name: string; health: string }[] }[] };
    };
    return reply.data.groups.flatMap(({ rules }) => rules);
  }

  async stop(): Promise<void> {
    this.#process.kill('SIGKILL');
    await once(this.#process, 'close');
  }
}
