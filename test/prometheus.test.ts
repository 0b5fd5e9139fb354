import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { test } from 'node:test';
import { collectDefaultMetrics } from 'prom-client';
import { ALERTS, exprOf, RECORDED } from '../grafana/alerts.ts';
import { drilldownJson } from '../grafana/drilldown.ts';
import { overviewJson } from '../grafana/overview.ts';
import { Analytics, AsyncBatchConsumer, LoggingConsumer } from '../src/index.ts';
import { freePort, TestPrometheus } from './prometheus-process.ts';
import { assertBalanced, newDirectory, TestReceiver, until } from './support.ts';

/** Alerts that a slow or busy machine may raise by itself. */
const OF_PACE: ReadonlySet<string> = new Set([
  'MillraceBurnRateFast',
  'MillraceBurnRateSlow',
  'MillraceTrackSlow',
  'MillraceWorkerHung',
  'MillraceWorkersMissing',
]);
/** Longer than a lane may be idle before its turn ends. */
const BURST_MS = 500;

interface Panel {
  readonly title: string;
  readonly type: string;
  readonly targets?: readonly { readonly expr: string }[];
  readonly panels?: readonly Panel[];
}

interface Dashboard {
  readonly panels: readonly Panel[];
  readonly annotations: { readonly list: readonly { readonly expr?: string }[] };
}

/** An expression with the dashboard's variables filled in. */
function filled(expr: string): string {
  return expr
    .replaceAll('$__rate_interval', '10s')
    .replaceAll(/\$(job|instance|client|consumer|lane|worker|code)\b/g, '.*');
}

/** All panels that ask something, whatever rows they are in. */
function panelsOf(panels: readonly Panel[]): Panel[] {
  return panels.flatMap((panel) => [
    ...(panel.targets === undefined ? [] : [panel]),
    ...panelsOf(panel.panels ?? []),
  ]);
}

/** Asserts that a panel's query gives what the panel can show. */
async function checkQuery(prometheus: TestPrometheus, panel: Panel, expr: string): Promise<void> {
  const series = await prometheus.query(filled(expr));
  const what = `${panel.title}: ${expr}`;
  assert.ok(series.length > 0, `no data: ${what}`);
  if (panel.type === 'stat') assert.equal(series.length, 1, `one number: ${what}`);
  assert.ok(
    series.some(({ value }) => Number.isFinite(Number(value[1]))),
    `a number: ${what}`,
  );
  // The outermost grouping says what tells the curves apart; a quantile takes `le` away.
  const by = /by \(([\w, ]+)\)/.exec(expr)?.[1]?.split(', ') ?? [];
  const labels = expr.includes('histogram_quantile') ? by.filter((name) => name !== 'le') : by;
  for (const { metric } of series) {
    for (const label of labels) assert.ok(label in metric, `${label} of ${what}`);
  }
}

/** Every rule is evaluated, sees every client, and is quiet while all is well. */
async function checkRules(prometheus: TestPrometheus): Promise<void> {
  for (const alert of ALERTS) {
    assert.ok((await prometheus.query(alert.signal)).length > 0, `no data: ${alert.signal}`);
    const up = await prometheus.query(exprOf(alert));
    if (!OF_PACE.has(alert.name)) assert.deepEqual(up, [], `${alert.name} is quiet`);
  }
  for (const { record } of RECORDED) {
    const series = await prometheus.query(record);
    assert.ok(series.length >= 1, record);
    for (const { metric } of series) assert.ok('client' in metric, record);
  }
  for (const { name, health, lastError } of await prometheus.rules()) {
    assert.equal(health, 'ok', `${name}: ${lastError}`);
  }
}

/** Every expression of the dashboards gives what it is drawn as. */
async function checkDashboards(prometheus: TestPrometheus): Promise<void> {
  const dashboards = [overviewJson(), drilldownJson()].map((json) => JSON.parse(json) as Dashboard);
  const panels = dashboards.flatMap((dashboard) => panelsOf(dashboard.panels));
  assert.ok(panels.length > 55, `${panels.length} panels`);
  for (const panel of panels) {
    for (const { expr } of panel.targets ?? []) await checkQuery(prometheus, panel, expr);
  }
  for (const { expr } of dashboards.flatMap(({ annotations }) => annotations.list)) {
    if (expr !== undefined) await prometheus.query(filled(expr));
  }
}

// A real Prometheus, where it is installed (CI installs it), scrapes an HTTP client with a spool and a file client: every expression of
// the dashboards and rules gives data of its shape, the rules are evaluated, and what is scraped is what the account says.
test('a real Prometheus scrapes clients, and every query of the dashboards and rules gives data', async (context) => {
  try {
    execFileSync('prometheus', ['--version'], { stdio: 'ignore' });
  } catch {
    context.diagnostic('prometheus is not installed here; CI has it');
    return;
  }
  const receiver = await TestReceiver.start(['--appid', 'A']);
  const exporterPort = await freePort();
  const directory = newDirectory();
  const http = new Analytics(
    new AsyncBatchConsumer({
      url: receiver.url,
      appId: 'A',
      workers: 1,
      spool: { directory: join(directory, 'spool') },
      durability: 'spool-first',
    }),
    { name: 'http', metricsServer: { port: exporterPort } },
  );
  const files = new Analytics(
    new LoggingConsumer({ directory: join(directory, 'logs'), fsync: 'batch' }),
    { name: 'files', register: http.register },
  );
  // The panel of the event loop shows them, if a game collects them.
  collectDefaultMetrics({ register: http.register });
  const prometheus = await TestPrometheus.start(`127.0.0.1:${exporterPort}`);
  let tracked = 0;
  const timer = setInterval(() => {
    for (let index = 0; index < 100; index += 1, tracked += 1) {
      const record = { accountId: `u${index}`, event: 'e', properties: { index } };
      http.track(record);
      files.track(record);
    }
    // So that flushes and ended turns are there to be seen.
    http.flush().catch((error: unknown) => assert.fail(String(error)));
  }, BURST_MS);
  try {
    await until(
      async () => (await prometheus.valueAt('count_over_time(millrace_workers[1m])')) >= 8,
      'eight scrapes',
    );
    await checkDashboards(prometheus);
    await checkRules(prometheus);
    clearInterval(timer);
    for (const client of [http, files]) await client.flush();
    for (const client of ['http', 'files']) {
      const expr = `millrace_records_delivered_total{client="${client}"}`;
      await until(async () => (await prometheus.valueAt(expr)) === tracked, `${client}: all`);
    }
  } finally {
    clearInterval(timer);
    await prometheus.stop();
    for (const client of [files, http]) {
      const stats = await client.close();
      assertBalanced(stats);
      assert.equal(stats.delivered, tracked);
    }
    assert.equal((await receiver.snapshot()).unique, tracked);
    await receiver.stop();
  }
});
