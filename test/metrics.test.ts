import assert from 'node:assert/strict';
import { after, before, beforeEach, test } from 'node:test';
import { AggregatorRegistry, Counter, type OpenMetricsContentType, Registry } from 'prom-client';
import { Analytics, AsyncBatchConsumer, LoggingConsumer } from '../src/index.ts';
import { CATALOGUE } from '../src/metrics/catalogue.ts';
import { MetricsEndpoint } from '../src/metrics/endpoint.ts';
import { assertBalanced, newDirectory, TestReceiver } from './support.ts';

let receiver: TestReceiver;

before(async () => {
  receiver = await TestReceiver.start();
});
beforeEach(() => receiver.reset());
after(() => receiver.stop());

interface Sample {
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
}

const LINE = /^([a-z_]+)(?:\{(.*)\})? (\S+)$/;

function parse(text: string): Sample[] {
  return text
    .split('\n')
    .filter((line) => line !== '' && !line.startsWith('#'))
    .map((line) => {
      const match = LINE.exec(line);
      assert.ok(match, `a sample: ${line}`);
      const [, name = '', labels = '', value = ''] = match;
      const pairs = [...labels.matchAll(/(\w+)="([^"]*)"/g)].map(
        ([, key = '', text = '']) => [key, text] as const,
      );
      return { name, labels: Object.fromEntries(pairs), value: Number(value) };
    });
}

function sum(
  samples: readonly Sample[],
  name: string,
  labels: Record<string, string> = {},
): number {
  const found = samples.filter(
    (sample) =>
      sample.name === name &&
      Object.entries(labels).every(([key, value]) => sample.labels[key] === value),
  );
  assert.ok(found.length > 0, `${name} ${JSON.stringify(labels)} is exposed`);
  return found.reduce((total, { value }) => total + value, 0);
}

test('a scrape equals the account, and adds up', async () => {
  const ta = new Analytics(
    new AsyncBatchConsumer({ url: receiver.url, appId: 'A', batchSize: 100, queueSize: 2000 }),
    { validation: 'drop', onError: () => {} },
  );
  for (let index = 0; index < 3000; index += 1) {
    ta.track({ accountId: `u${index % 10}`, event: index % 100 === 0 ? 'no name' : 'e' });
  }
  await ta.flush();
  const stats = ta.stats();
  assertBalanced(stats);
  const samples = parse(await ta.register.metrics());
  const value = (name: string, labels?: Record<string, string>) => sum(samples, name, labels);
  assert.equal(value('millrace_records_accepted_total'), stats.accepted);
  assert.equal(value('millrace_records_delivered_total'), stats.delivered);
  assert.equal(value('millrace_records_dropped_total', { reason: 'invalid' }), 30);
  assert.equal(
    value('millrace_records_dropped_total', { reason: 'overflow_newest' }),
    stats.dropped.overflow_newest,
  );
  assert.equal(value('millrace_queue_records'), 0);
  assert.equal(value('millrace_lane_queue_records'), 0);
  assert.equal(value('millrace_ledger_imbalance_records'), 0);
  assert.equal(value('millrace_batch_records_sum'), stats.delivered);
  assert.equal(value('millrace_batch_records_count'), value('millrace_batches_total'));
  assert.equal(value('millrace_batch_trigger_total'), value('millrace_batches_total'));
  assert.equal(value('millrace_requests_total', { code: '2xx' }), value('millrace_batches_total'));
  assert.equal(value('millrace_delivery_latency_seconds_count'), stats.delivered);
  assert.equal(value('millrace_sent_bytes_total'), stats.bytesSent);
  assert.equal(value('millrace_sent_bytes_total'), (await receiver.snapshot()).bytesWire);
  assert.ok(value('millrace_track_duration_seconds_count') >= 3000 / 64 - 1);
  await ta.close();
});

test('names, types and units follow the conventions', () => {
  const names = CATALOGUE.map(({ name }) => name);
  assert.equal(new Set(names).size, names.length);
  for (const { name, type, help, labels } of CATALOGUE) {
    assert.match(name, /^millrace_[a-z_]+$/);
    assert.equal(name.endsWith('_total'), type === 'counter', name);
    assert.doesNotMatch(name, /(_ms|_kb|_mb|milliseconds)/, name);
    assert.match(help, /\.$/, `${name}: help is a sentence`);
    assert.ok(!labels.includes('client') && !labels.includes('consumer'), name);
  }
});

test('histogram buckets grow, end in +Inf, and agree with the count', async () => {
  const ta = new Analytics(new LoggingConsumer(newDirectory()));
  for (let index = 0; index < 1000; index += 1) ta.track({ accountId: 'u', event: 'e' });
  await ta.flush();
  const samples = parse(await ta.register.metrics());
  for (const { name, type } of CATALOGUE) {
    if (type !== 'histogram') continue;
    const buckets = samples.filter((sample) => sample.name === `${name}_bucket`);
    const values = buckets.map(({ value }) => value);
    assert.deepEqual(
      values,
      values.toSorted((a, b) => a - b),
      name,
    );
    assert.equal(buckets.at(-1)?.labels.le, '+Inf');
    assert.equal(buckets.at(-1)?.value, sum(samples, `${name}_count`));
  }
  await ta.close();
});

test("several clients share the user's own registry, and leave it when they close", async () => {
  const register = new Registry();
  register.setDefaultLabels({ service: 'game' });
  const own = new Counter({ name: 'own_total', help: 'x', registers: [register] });
  own.inc(7);
  const clients = ['a', 'b', 'b'].map(
    (name) => new Analytics(new LoggingConsumer(newDirectory()), { register, name }),
  );
  clients.forEach((client, index) => {
    for (let count = 0; count <= index; count += 1) client.track({ accountId: 'u', event: 'e' });
  });
  const samples = parse(await register.metrics());
  assert.equal(sum(samples, 'own_total'), 7);
  for (const [client, count] of [
    ['a', 1],
    ['b', 2],
    ['b2', 3],
  ] as const) {
    const labels = { client, consumer: 'logging', service: 'game' };
    assert.equal(sum(samples, 'millrace_records_accepted_total', labels), count);
  }
  await Promise.all(clients.map((client) => client.close()));
  const left = parse(await register.metrics()).filter(({ name }) => name.startsWith('millrace_'));
  assert.deepEqual(left, []);
});

test('a cleared registry gets the metrics again with the next client', async () => {
  const register = new Registry();
  const first = new Analytics(new LoggingConsumer(newDirectory()), { register });
  register.clear();
  const second = new Analytics(new LoggingConsumer(newDirectory()), { register });
  const samples = parse(await register.metrics());
  assert.equal(sum(samples, 'millrace_workers_configured'), 2);
  await Promise.all([first.close(), second.close()]);
});

test('OpenMetrics registries and cluster aggregation work', async () => {
  const open = new Registry<OpenMetricsContentType>();
  open.setContentType(Registry.OPENMETRICS_CONTENT_TYPE);
  const register = open as unknown as Registry;
  const ta = new Analytics(new LoggingConsumer(newDirectory()), { register });
  ta.track({ accountId: 'u', event: 'e' });
  const text = await register.metrics();
  assert.match(text, /# TYPE millrace_records_accepted counter/);
  assert.match(text, /^millrace_records_accepted_total\{.*\} 1$/m);
  assert.match(text, /# EOF\n$/);
  const json = await ta.register.getMetricsAsJSON();
  const aggregated = AggregatorRegistry.aggregate([json, json]);
  const both = await aggregated.metrics();
  assert.match(both, /millrace_records_accepted\S* 2/);
  await ta.close();
});

test('the endpoint serves /metrics, and nothing else', async () => {
  const ta = new Analytics(new LoggingConsumer(newDirectory()));
  const endpoint = await MetricsEndpoint.open({ registry: ta.register });
  const reply = await fetch(endpoint.url);
  assert.equal(reply.headers.get('content-type'), ta.register.contentType);
  assert.ok(parse(await reply.text()).length > 50);
  assert.equal((await fetch(endpoint.url.replace('/metrics', '/'))).status, 404);
  assert.equal((await fetch(endpoint.url, { method: 'POST' })).status, 405);
  await endpoint.close();
  await ta.close();
});
