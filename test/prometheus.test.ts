import assert from 'node:assert/strict';
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { test } from 'node:test';
import { ALERTS } from '../grafana/alerts.ts';
import { overviewJson } from '../grafana/overview.ts';
import { Analytics, AsyncBatchConsumer } from '../src/index.ts';
import { assertBalanced, newDirectory, TestReceiver, until } from './support.ts';

interface Reply {
  readonly status: string;
  readonly data: {
    readonly result: readonly { readonly value: readonly [number, string] }[];
  };
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as { port: number };
  server.close();
  await once(server, 'close');
  return port;
}

/** The dashboard's expressions, with its variables filled in. */
function panelQueries(): string[] {
  const parsed: unknown = JSON.parse(overviewJson(), (key, value: unknown) =>
    key === 'expr' ? { expr: value } : value,
  );
  const found: string[] = [];
  const walk = (value: unknown) => {
    if (typeof value !== 'object' || value === null) return;
    for (const item of Object.values(value)) {
      if (
        typeof item === 'object' &&
        item !== null &&
        'expr' in item &&
        typeof item.expr === 'string'
      ) {
        found.push(item.expr);
      }
      walk(item);
    }
  };
  walk(parsed);
  return found.map((expr) =>
    expr
      .replaceAll('$__rate_interval', '5s')
      .replaceAll('$__range', '1m')
      .replaceAll(/\$(job|instance|client|consumer)/g, '.*'),
  );
}

// A real Prometheus, where it is installed (CI installs it), scrapes a real client: every expression of the dashboard gives data, every
// rule is evaluated, and what is scraped is what the account says.
test('a real Prometheus scrapes a client, and every query of the dashboard and of the rules runs', async (context) => {
  try {
    execFileSync('prometheus', ['--version'], { stdio: 'ignore' });
  } catch {
    context.diagnostic('prometheus is not installed here; CI has it');
    return;
  }
  const receiver = await TestReceiver.start(['--appid', 'A']);
  const [port, exporterPort] = [await freePort(), await freePort()];
  const directory = newDirectory();
  const ta = new Analytics(
    new AsyncBatchConsumer({
      url: receiver.url,
      appId: 'A',
      workers: 1,
      spool: { directory: join(directory, 'spool') },
    }),
    { metricsServer: { port: exporterPort } },
  );
  const config = join(directory, 'prometheus.yml');
  const job = {
    job_name: 'millrace',
    scrape_interval: '1s',
    static_configs: [{ targets: [`127.0.0.1:${exporterPort}`] }],
  };
  writeFileSync(config, JSON.stringify({ scrape_configs: [job] }));
  const prometheus: ChildProcess = spawn(
    'prometheus',
    [
      `--config.file=${config}`,
      `--storage.tsdb.path=${join(directory, 'data')}`,
      `--web.listen-address=127.0.0.1:${port}`,
    ],
    { stdio: 'ignore' },
  );
  try {
    const query = async (expr: string): Promise<Reply> => {
      const url = `http://127.0.0.1:${port}/api/v1/query?query=${encodeURIComponent(expr)}`;
      return (await (await fetch(url)).json()) as Reply;
    };
    const valueAt = async (expr: string): Promise<number> => {
      try {
        const { data } = await query(expr);
        return Number(data.result[0]?.value[1] ?? Number.NaN);
      } catch {
        // It is starting.
        return Number.NaN;
      }
    };
    let tracked = 0;
    const track = () => {
      for (let index = 0; index < 100; index += 1, tracked += 1) {
        ta.track({ accountId: `u${index}`, event: 'e', properties: { index } });
      }
    };
    const timer = setInterval(track, 100);
    await until(
      async () => (await valueAt('count_over_time(millrace_workers[1m])')) >= 6,
      'six scrapes',
    );
    clearInterval(timer);
    const queries = panelQueries();
    assert.ok(queries.length > 25);
    for (const expr of queries) {
      const { status, data } = await query(expr);
      assert.equal(status, 'success', expr);
      assert.ok(data.result.length > 0, `no data: ${expr}`);
    }
    for (const { expr } of ALERTS) assert.equal((await query(expr)).status, 'success', expr);
    await ta.flush();
    await until(
      async () => (await valueAt('millrace_records_delivered_total')) === tracked,
      'the scraped number is that of the account',
    );
    const stats = await ta.close();
    assertBalanced(stats);
    assert.equal(stats.delivered, tracked);
  } finally {
    prometheus.kill('SIGKILL');
    await once(prometheus, 'close');
    await ta.close();
    await receiver.stop();
  }
});
