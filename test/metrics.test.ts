import assert from 'node:assert/strict';
import { readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, beforeEach, test } from 'node:test';
import { AggregatorRegistry, Counter, type OpenMetricsContentType, Registry } from 'prom-client';
import { Analytics, AsyncBatchConsumer, LoggingConsumer } from '../src/index.ts';
import { CATALOGUE } from '../src/metrics/catalogue.ts';
import { MetricsCollector, textOf } from '../src/metrics/collector.ts';
import { MetricsEndpoint } from '../src/metrics/endpoint.ts';
import { randomFrom } from './random.ts';
import {
  assertBalanced,
  newDirectory,
  repositoryRoot,
  runProgram,
  TestReceiver,
  until,
} from './support.ts';

const seed = Date.now() % 1_000_000;

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
  assert.equal(value('millrace_records_invalid_total', { reason: 'invalid_name' }), 30);
  assert.equal(value('millrace_records_invalid_total'), 30);
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
    for (const count of samples.filter((sample) => sample.name === `${name}_count`)) {
      const buckets = samples.filter(
        (sample) =>
          sample.name === `${name}_bucket` &&
          Object.entries(count.labels).every(([key, value]) => sample.labels[key] === value),
      );
      const values = buckets.map(({ value }) => value);
      assert.deepEqual(
        values,
        values.toSorted((a, b) => a - b),
        name,
      );
      assert.equal(buckets.at(-1)?.labels.le, '+Inf');
      assert.equal(buckets.at(-1)?.value, count.value, name);
    }
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

test('a cleared registry gets the metrics again when a living client is asked for it', async () => {
  const register = new Registry();
  const ta = new Analytics(new LoggingConsumer(newDirectory()), { register });
  ta.track({ accountId: 'u', event: 'e' });
  register.clear();
  assert.equal(await register.metrics(), '\n');
  const samples = parse(await ta.register.metrics());
  assert.equal(sum(samples, 'millrace_records_accepted_total'), 1);
  register.resetMetrics();
  assert.equal(
    sum(parse(await register.metrics()), 'millrace_records_accepted_total'),
    1,
    'counts are the account; nobody can reset them',
  );
  await ta.close();
});

// Goal: what is remembered of a text never shows. Method: random changes of values, lanes, clients and default labels; after each one
// the text is compared with that of prom-client, byte by byte.
test(`a text of remembered lines is the one prom-client writes (seed ${seed})`, async () => {
  const random = randomFrom(seed);
  const ta = new Analytics(new AsyncBatchConsumer({ url: receiver.url, appId: 'A' }));
  for (let index = 0; index < 1000; index += 1) ta.track({ accountId: `u${index}`, event: 'e' });
  await ta.flush();
  const [real] = MetricsCollector.of(ta.register).look().values();
  assert.ok(real !== undefined);
  const stats = await ta.close();
  assertBalanced(stats);

  const registry = new Registry();
  new Counter({ name: 'own_total', help: 'x', registers: [registry] }).inc(7);
  const collector = MetricsCollector.of(registry);
  let readings = real;
  const source = { consumer: 'async', readings: () => readings, troubles: () => [] } as const;
  const leaves = [collector.add(source)];
  const values = [0, 1, 0.1, 1e21, -5, Number.NaN, Number.POSITIVE_INFINITY];
  const changes = [
    () =>
      registry.setDefaultLabels(
        random(2) === 0 ? {} : { service: `a "${random(2)}" b`, client: 'x' },
      ),
    () => leaves.push(collector.add({ ...source, client: 'a "client"\n\\' })),
    () => leaves.pop()?.(),
    () => {
      readings = { ...readings, accepted: values[random(values.length)] ?? 0 };
    },
    () => {
      readings = { ...readings, lanes: real.lanes.slice(random(real.lanes.length)) };
    },
    () => {
      const { bounds, counts, sum } = real.callSeconds;
      const changed = {
        bounds,
        counts: counts.map((count) => count + random(2)),
        sum: sum + random(2),
      };
      readings = { ...readings, callSeconds: changed };
    },
    () => registry.removeSingleMetric('own_total'),
    () => registry.removeSingleMetric('millrace_build_info'),
    () => collector.register(),
  ];
  for (let step = 0; step < 300; step += 1) {
    changes[random(changes.length)]?.();
    assert.equal(await textOf(registry), await registry.metrics(), `step ${step}`);
  }
});

// Goal: names, types, help texts and label names are a promise. Method: real scrapes of an HTTP and a file client, without the
// values, against a committed file. MILLRACE_GOLDEN=write writes it.
test('the exposition is what the golden file says', async () => {
  const register = new Registry();
  const clients = [
    new Analytics(new AsyncBatchConsumer({ url: receiver.url, appId: 'A' }), { register }),
    new Analytics(new LoggingConsumer(newDirectory()), { register, name: 'files' }),
  ];
  for (const client of clients) {
    client.track({ accountId: 'u', event: 'e' });
    await client.flush();
  }
  const text = await register.metrics();
  const shape = [
    ...new Set(
      text
        .split('\n')
        .map((line) =>
          line.startsWith('#') ? line : line.replace(/(\w+)="([^"]*)"/g, '$1').replace(/ \S+$/, ''),
        )
        .filter((line) => line !== ''),
    ),
  ].join('\n');
  const path = join(repositoryRoot(), 'test', 'exposition.golden.txt');
  if (process.env.MILLRACE_GOLDEN === 'write') writeFileSync(path, `${shape}\n`);
  assert.equal(`${shape}\n`, readFileSync(path, 'utf8'), 'a changed name breaks dashboards');
  for (const client of clients) assertBalanced(await client.close());
});

test('what the receiver answers is counted by status, code, outcome and dead letter', async () => {
  const directory = newDirectory();
  await receiver.setFaults([
    { action: { kind: 'status', status: 503, headers: { 'retry-after': '0.2' } }, requests: 1 },
    { action: { kind: 'reset', when: 'start' }, requests: 1 },
    { action: { kind: 'poison', text: 'bad apple' } },
  ]);
  const ta = new Analytics(
    new AsyncBatchConsumer({
      url: receiver.url,
      appId: 'A',
      workers: 1,
      lanes: 1,
      deadLetter: join(directory, 'dead.jsonl'),
      spool: { directory: join(directory, 'spool'), fsync: 'batch' },
      durability: 'spool-first',
    }),
    { onError: () => {} },
  );
  for (let index = 0; index < 20; index += 1) {
    ta.track({ accountId: 'u', event: 'e', properties: { fruit: index === 7 ? 'bad apple' : '' } });
  }
  await until(() => ta.stats().delivered + ta.stats().rejected === 20, 'all are settled');
  const samples = parse(await ta.register.metrics());
  const value = (name: string, labels?: Record<string, string>) => sum(samples, name, labels);
  assert.equal(value('millrace_requests_total', { code: '5xx' }), 1);
  assert.equal(value('millrace_requests_total', { code: 'reset' }), 1);
  assert.equal(value('millrace_request_duration_seconds_count', { outcome: 'network' }), 1);
  assert.equal(value('millrace_request_duration_seconds_count', { outcome: 'retryable' }), 1);
  assert.ok(value('millrace_request_duration_seconds_count', { outcome: 'permanent' }) >= 2);
  assert.ok(value('millrace_receiver_codes_total', { code: '0' }) >= 1);
  assert.equal(
    value('millrace_receiver_codes_total', { code: '-1' }),
    value('millrace_request_duration_seconds_count', { outcome: 'permanent' }),
  );
  assert.equal(value('millrace_records_dead_lettered_total', { reason: 'content' }), 1);
  assert.ok(value('millrace_records_redelivered_total', { cause: 'retry' }) >= 2);
  const heldSeconds = value('millrace_retry_after_seconds_total');
  assert.ok(heldSeconds > 0 && heldSeconds <= 0.2, `${heldSeconds} s`);
  assert.ok(value('millrace_fsync_duration_seconds_count', { target: 'spool' }) >= 1);
  assert.ok(value('millrace_compress_duration_seconds_count') >= 3);
  assert.equal(value('millrace_inflight_requests'), 0);
  const stats = await ta.close();
  assertBalanced(stats);
  assert.equal(stats.delivered, (await receiver.snapshot()).unique);
});

test('the levels of the spool are those of its files, also when it is empty again', async () => {
  const directory = newDirectory();
  const ta = new Analytics(
    new AsyncBatchConsumer({
      url: receiver.url,
      appId: 'A',
      workers: 1,
      lanes: 2,
      queueSize: 200,
      spool: { directory, segmentBytes: 64 * 1024 },
    }),
    { onError: () => {} },
  );
  const levels = async () => {
    const samples = parse(await ta.register.metrics());
    return ['millrace_spool_bytes', 'millrace_spool_segments'].map((name) => sum(samples, name));
  };
  const onDisk = () => {
    const files = readdirSync(directory, { recursive: true, encoding: 'utf8' })
      .filter((name) => /\.seg[^/]*$/.test(name))
      .map((name) => statSync(join(directory, name), { throwIfNoEntry: false })?.size ?? 0);
    return [files.reduce((total, bytes) => total + bytes, 0), files.length];
  };
  const isSame = async () => JSON.stringify(await levels()) === JSON.stringify(onDisk());
  await receiver.setFaults([{ action: { kind: 'status', status: 503 } }]);
  for (let index = 0; index < 3000; index += 1) {
    ta.track({ accountId: `u${index % 10}`, event: 'e', properties: { text: 'x'.repeat(100) } });
  }
  await until(() => ta.stats().spooled > 2000, 'most are on disk');
  await until(isSame, 'full levels are right');
  const [bytes = 0, segments = 0] = await levels();
  assert.ok(bytes > 200_000 && segments > 4, `${bytes} bytes in ${segments} segments`);
  await receiver.setFaults([]);
  await until(() => ta.stats().delivered === 3000, 'all are delivered');
  await until(async () => (await levels()).every((level) => level === 0), 'empty levels are 0');
  assert.deepEqual(onDisk(), [0, 0]);
  const stats = await ta.close();
  assertBalanced(stats);
  assert.equal((await receiver.snapshot()).unique, 3000);
});

test('log files are counted: begun by cause, bytes, syncs', async () => {
  const directory = newDirectory();
  const ta = new Analytics(
    new LoggingConsumer({ directory, maxSizeMb: 0.001, fsync: 'batch', bufferRecords: 10 }),
  );
  for (let index = 0; index < 100; index += 1) ta.track({ accountId: 'u', event: 'e' });
  await ta.flush();
  const samples = parse(await ta.register.metrics());
  const value = (name: string, labels?: Record<string, string>) => sum(samples, name, labels);
  assert.equal(value('millrace_file_rotations_total', { cause: 'start' }), 1);
  const files = readdirSync(directory);
  assert.equal(value('millrace_file_rotations_total'), files.length);
  assert.equal(value('millrace_file_rotations_total', { cause: 'size' }), files.length - 1);
  const bytes = files.reduce((sum, name) => sum + statSync(join(directory, name)).size, 0);
  assert.equal(value('millrace_file_written_bytes_total'), bytes);
  assert.ok(value('millrace_fsync_duration_seconds_count', { target: 'file' }) >= 10);
  assert.ok(value('millrace_flush_duration_seconds_count') >= 1);
  assertBalanced(await ta.close());
});

test('lanes and worker threads are told apart, and add up', async () => {
  const register = new Registry();
  const ta = new Analytics(new LoggingConsumer({ directory: newDirectory(), lanes: 4 }), {
    register,
  });
  const port = ta.port();
  const attached = Analytics.attach(port);
  for (let index = 0; index < 40; index += 1) {
    ta.track({ accountId: `u${index}`, event: 'e' });
    attached.track({ accountId: `u${index}`, event: 'e' });
  }
  await ta.flush();
  await until(() => ta.stats().delivered === 80, 'the other lanes are delivered, too');
  const samples = parse(await register.metrics());
  const lanes = samples.filter(({ name }) => name === 'millrace_lane_records_delivered_total');
  assert.deepEqual(
    lanes.map(({ labels }) => labels.lane),
    ['0', '1', '2', '3', '4', '5', '6', '7'],
  );
  assert.equal(sum(samples, 'millrace_lane_records_delivered_total'), 80);
  assert.equal(
    sum(samples, 'millrace_worker_batches_total'),
    sum(samples, 'millrace_batches_total'),
  );
  assert.ok(sum(samples, 'millrace_worker_heartbeat_age_seconds', { worker: '0' }) >= 0);
  attached.close();
  assertBalanced(await ta.close());
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
  await ta.flush();
  assert.match(
    await register.metrics(),
    /^millrace_delivery_latency_seconds_bucket\{.*\} 1 # \{lane="\d",worker="0"\} [\d.e-]+ \d+/m,
    'the latest value of a bucket says where it was seen',
  );
  const json = await ta.register.getMetricsAsJSON();
  const aggregated = AggregatorRegistry.aggregate([json, json]);
  const both = await aggregated.metrics();
  assert.match(both, /millrace_records_accepted\S* 2/);
  await ta.close();
});

// A real cluster: four processes with a client each, asked by their primary.
test("a cluster's primary adds the counts of its processes and shows the worst of their states", async () => {
  const { code, messages, stderr } = await runProgram('cluster', [newDirectory()]);
  assert.equal(code, 0, stderr);
  const samples = parse(String(messages.flat().at(-1)));
  assert.equal(sum(samples, 'millrace_records_accepted_total'), 10 + 20 + 30);
  assert.equal(sum(samples, 'millrace_records_delivered_total'), 60);
  assert.equal(sum(samples, 'millrace_workers_configured'), 4);
  assert.equal(sum(samples, 'millrace_build_info'), 1, 'not four');
  assert.equal(sum(samples, 'millrace_circuit_state'), 0);
  assert.equal(sum(samples, 'millrace_last_success_timestamp_seconds'), 0, 'one has none yet');
  assert.equal(sum(samples, 'millrace_delivery_latency_seconds_count'), 60);
});

test('the endpoint serves /metrics, and nothing else', async () => {
  const ta = new Analytics(new LoggingConsumer(newDirectory()));
  const endpoint = await MetricsEndpoint.open({ registry: ta.register });
  const [reply, twin] = await Promise.all([fetch(endpoint.url), fetch(endpoint.url)]);
  assert.equal(reply.headers.get('content-type'), ta.register.contentType);
  const text = await reply.text();
  assert.ok(parse(text).length > 50);
  assert.equal(await twin.text(), text, 'who asks at the same time gets the same text');
  ta.track({ accountId: 'u', event: 'e' });
  const accepted = async () =>
    sum(parse(await (await fetch(endpoint.url)).text()), 'millrace_records_accepted_total');
  await until(async () => (await accepted()) === 1, 'a later text is a new one');
  assert.equal((await fetch(endpoint.url.replace('/metrics', '/'))).status, 404);
  assert.equal((await fetch(endpoint.url, { method: 'POST' })).status, 405);
  await endpoint.close();
  await ta.close();
});
