import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { gunzipSync } from 'node:zlib';
import { type AckPolicy, jetstream, jetstreamManager } from '@nats-io/jetstream';
import { connect } from '@nats-io/transport-node';
import { ENCODING_HEADER } from '../src/broker/messages.ts';
import { checkInstalled } from '../src/broker/packages.ts';
import { Analytics, type MillraceError } from '../src/index.ts';
import { RELAY_CATALOGUE } from '../src/metrics/relay-catalogue.ts';
import { NatsConsumer, type NatsConsumerOptions, relay, relayState } from '../src/nats.ts';
import type { RelayAccount } from '../src/relay/relay.ts';
import { CustomSink, type CustomSinkConfig } from '../src/sink/custom.ts';
import { freePort, missing, NatsServerProcess } from './nats-server.ts';
import { sinkContract } from './sink-contract.ts';
import {
  assertBalanced,
  newDirectory,
  readRecords,
  repositoryRoot,
  TestReceiver,
  until,
} from './support.ts';

const skip = missing('nats-server', ['--version']);

function consumerOf(server: NatsServerProcess, more: Partial<NatsConsumerOptions> = {}) {
  return new NatsConsumer({
    servers: server.url,
    stream: 'EVENTS',
    partitions: 4,
    lingerMs: 5,
    workers: 1,
    ackTimeoutMs: 1000,
    ...more,
  });
}

/** Lines of all messages of a stream, in order, and how many messages there are. */
async function readStream(
  url: string,
  stream: string,
): Promise<{ lines: string[]; messages: number }> {
  const connection = await connect({ servers: url });
  try {
    const manager = await jetstreamManager(connection);
    const { state } = await manager.streams.info(stream);
    const name = `test${Math.random().toString(36).slice(2)}`;
    await manager.consumers.add(stream, { name, ack_policy: 'none' as AckPolicy });
    const consumer = await jetstream(connection).consumers.get(stream, name);
    const lines: string[] = [];
    if (state.messages > 0) {
      const batch = await consumer.fetch({ max_messages: state.messages, expires: 5000 });
      for await (const message of batch) {
        const isPacked = message.headers?.get(ENCODING_HEADER) === 'gzip';
        const text = Buffer.from(isPacked ? gunzipSync(message.data) : message.data).toString();
        lines.push(...text.split('\n').filter((line) => line !== ''));
      }
    }
    return { lines, messages: state.messages };
  } finally {
    await connection.close();
  }
}

for (const message of ['batch', 'record'] as const) {
  sinkContract(
    `nats, a message a ${message}`,
    async () => {
      const server = await NatsServerProcess.start();
      const sinkOf = (url: string): CustomSink => {
        const { plan } = new NatsConsumer({
          servers: url,
          stream: 'EVENTS',
          partitions: 4,
          message,
        });
        return CustomSink.open(plan.sink as CustomSinkConfig);
      };
      return {
        sink: sinkOf(server.url),
        lost: sinkOf('nats://127.0.0.1:9'),
        uuids: async () =>
          (await readStream(server.url, 'EVENTS')).lines.map((line) => JSON.parse(line)['#uuid']),
        stop: () => server.stop(),
      };
    },
    skip,
  );
}

test('options of NATS are checked where the consumer is made', () => {
  const make = (options: object) => () => new NatsConsumer(options as NatsConsumerOptions);
  assert.throws(make({}), /servers is missing.*stream is missing/);
  assert.throws(
    make({ servers: [7], stream: 'a.b', partitions: 0 }),
    /URL.*a\.b.*partitions is 0/s,
  );
  assert.throws(
    make({ servers: 'x', stream: 'S', subjectPrefix: 'a.*' }),
    /subjectPrefix is a\.\*/,
  );
  assert.throws(make({ servers: 'x', stream: 'S', tls: { crt: 'f' } }), /tls\.crt is unknown/);
});

test('a package of the client that is not installed is an error that says what to install', () => {
  const packages = { user: 'millrace/nats', names: ['@nats-io/jetstream', '@nats-io/not-there'] };
  assert.throws(() => checkInstalled(packages), {
    code: 'MILLRACE_OPTIONS',
    message: /millrace\/nats.*npm install @nats-io\/not-there$/,
  });
});

test('the documents name the metrics of a relay', () => {
  const text = readFileSync(join(repositoryRoot(), 'docs/fleet.md'), 'utf8');
  const names = [...text.matchAll(/^\| `(millrace_relay_\w+)`/gm)].map(([, name]) => name);
  assert.deepEqual(
    names,
    RELAY_CATALOGUE.map(({ name }) => name),
  );
});

test('options of a relay are checked before anything is opened', async () => {
  const attempt = (options: object) => relay(options as Parameters<typeof relay>[0]);
  await assert.rejects(attempt({}), { code: 'MILLRACE_OPTIONS', message: /from is missing.*url/ });
  const from = 'nats://me:secret@host';
  const problem = await attempt({ from, url: 'http://h', appId: 'A' }).then(
    () => assert.fail('taken'),
    (error: MillraceError) => error,
  );
  assert.match(problem.message, /STREAM/);
  assert.ok(!problem.message.includes('secret'), problem.message);
  const other = { from: 'amqp://host/topic', url: 'http://h', appId: 'A' };
  await assert.rejects(attempt(other), {
    code: 'MILLRACE_OPTIONS',
    message: /amqp:.*nats:.*kafka:/,
  });
  const nowhere = { from: 'nats://127.0.0.1:9/EVENTS', url: 'http://h', appId: 'A' };
  await assert.rejects(attempt({ ...nowhere, once: true }), { code: 'MILLRACE_UNAVAILABLE' });
  await assert.rejects(relayState(nowhere), { code: 'MILLRACE_UNAVAILABLE' });
  const replay = { from: new Date(0), to: new Date() };
  await assert.rejects(attempt({ ...nowhere, replay }), { code: 'MILLRACE_UNAVAILABLE' });
  await assert.rejects(attempt({ ...nowhere, once: true, replay }), { code: 'MILLRACE_OPTIONS' });
});

describe('NATS JetStream', { skip }, () => {
  let server: NatsServerProcess;
  before(async () => {
    server = await NatsServerProcess.start();
  });
  after(() => server.stop());

  test('a stream that differs from what is wanted is told, and the records wait', async () => {
    const first = new Analytics(consumerOf(server, { stream: 'OTHER', replicas: 1 }));
    first.track({ accountId: 'u', event: 'e' });
    assertBalanced(await first.close());
    let told: MillraceError | undefined;
    const ta = new Analytics(consumerOf(server, { stream: 'OTHER', duplicateWindowMs: 7000 }), {
      onError: (error) => {
        told = error;
      },
    });
    ta.track({ accountId: 'u', event: 'e' });
    await until(() => told !== undefined, 'the difference is told');
    assert.match(String(told?.message), /duplicateWindowMs 120000, wanted 7000/);
    const stats = await ta.close({ timeoutMs: 500 });
    assertBalanced(stats);
    assert.equal(stats.dropped.shutdown, 1);
  });

  test('a full stream refuses, and the records wait here', async () => {
    const full = { stream: 'SMALL', maxBytes: 2000, compress: false } as const;
    const ta = new Analytics(consumerOf(server, full), { onError: () => undefined });
    for (let n = 0; n < 50; n += 1) ta.track({ accountId: `u${n}`, event: 'e', properties: { n } });
    await until(() => ta.stats().retries > 0, 'the stream is full');
    const stats = await ta.close({ timeoutMs: 500 });
    assertBalanced(stats);
    const { lines } = await readStream(server.url, 'SMALL');
    // A message may be in though its batch is not settled; nothing is settled that is not in.
    assert.ok(lines.length >= stats.delivered);
    assert.equal(stats.delivered + stats.dropped.shutdown, 50);
  });

  test('a relay waits for a broker and a stream that are not there yet, and tells it once', async () => {
    const port = await freePort();
    const late = new NatsServerProcess({ port, directory: newDirectory() });
    const receiver = await TestReceiver.start();
    const told: string[] = [];
    const stop = new AbortController();
    const metricsPort = await freePort();
    let last: RelayAccount | undefined;
    const running = relay({
      from: `${late.url}/EVENTS`,
      url: receiver.url,
      appId: 'A',
      partitions: 4,
      leaseMs: 400,
      metricsServer: { port: metricsPort },
      signal: stop.signal,
      onError: ({ message }) => told.push(message),
      onProgress: (account) => {
        last = account;
      },
    });
    const isConnected = async () => {
      const reply = await fetch(`http://127.0.0.1:${metricsPort}/metrics`);
      return /^millrace_relay_connected (\d)/m.exec(await reply.text())?.[1];
    };
    await until(() => told.length > 0, 'it tells that it waits');
    assert.equal(await isConnected(), '0');
    await late.start();
    const ta = new Analytics(consumerOf(late));
    ta.track({ accountId: 'u', event: 'e' });
    assertBalanced(await ta.close());
    await until(async () => (await receiver.snapshot()).unique === 1, 'the record is delivered');
    assert.equal(await isConnected(), '1');
    await until(() => last?.isConnected === true, 'the account says so, too');
    assert.equal(told.length, 1, told.join('; '));
    assert.match(told[0] ?? '', /waiting for the broker: no NATS at/);
    stop.abort();
    const account = await running;
    assert.deepEqual([account.delivered, account.imbalance], [1, 0]);
    await receiver.stop();
    await late.stop();
  });

  test('a relay that is to work once ends when all that was there is settled', async () => {
    const receiver = await TestReceiver.start();
    const ta = new Analytics(consumerOf(server, { stream: 'ONCE' }));
    for (let n = 0; n < 300; n += 1) ta.track({ accountId: `u${n % 7}`, event: 'e' });
    assertBalanced(await ta.close());
    const from = `${server.url}/ONCE`;
    const options = { from, url: receiver.url, appId: 'A', partitions: 4, leaseMs: 400 };
    const account = await relay({ ...options, once: true });
    assert.deepEqual([account.delivered, account.imbalance], [300, 0]);
    assert.equal((await receiver.snapshot()).unique, 300);
    await receiver.stop();
  });

  test('a stream that was deleted and made anew is read from its beginning, by relays that knew the old one', async () => {
    const receiver = await TestReceiver.start();
    const connection = await connect({ servers: server.url });
    const { streams } = await jetstreamManager(connection);
    let sent = 0;
    /** Fewer than before, so that the new stream's sequences are ones that were settled in the old one. */
    const sendAnew = async (count: number): Promise<void> => {
      await streams.delete('ANEW').catch(() => undefined);
      const ta = new Analytics(consumerOf(server, { stream: 'ANEW', message: 'record' }));
      for (let n = 0; n < count; n += 1) ta.track({ accountId: `u${n}`, event: 'e' });
      assert.equal((await ta.close()).delivered, count);
      sent += count;
    };
    const from = `${server.url}/ANEW`;
    const options = { from, url: receiver.url, appId: 'A', partitions: 4, leaseMs: 400 };
    await sendAnew(60);
    const stop = new AbortController();
    const running = relay({ ...options, signal: stop.signal, onError: () => undefined });
    const arrived = async () => (await receiver.snapshot()).unique;
    await until(async () => (await arrived()) === sent, 'the first stream has arrived');
    await sendAnew(30);
    await until(async () => (await arrived()) === sent, 'the second one has');
    stop.abort();
    assert.equal((await running).imbalance, 0);
    await sendAnew(15);
    await relay({ ...options, once: true });
    assert.equal(await arrived(), sent);
    await connection.close();
    await receiver.stop();
  });

  test('a message that is repeated within the window is stored once, later again; the receiver has its records once', async () => {
    const line = {
      '#type': 'track',
      '#time': '2026-03-08 12:00:00.000',
      '#event_name': 'e',
      '#account_id': 'u',
      '#uuid': randomUUID(),
      properties: {},
    };
    const text = Buffer.from(`[${JSON.stringify(line)}\n`);
    const one = { starts: Uint32Array.of(1), ends: Uint32Array.of(text.length - 1) };
    /** Publishes the record by a sender that knows nothing of others; gives the messages that are in the stream then. */
    const repeat = async (stream: string, duplicateWindowMs: number): Promise<number> => {
      const { plan } = consumerOf(server, { stream, duplicateWindowMs });
      const sink = CustomSink.open(plan.sink as CustomSinkConfig);
      const outcome = await sink.deliver({ count: 1, text, ...one }, new AbortController().signal);
      assert.equal(outcome.kind, 'delivered');
      await sink.close();
      return (await readStream(server.url, stream)).messages;
    };
    assert.equal(await repeat('WIDE', 120_000), 1);
    assert.equal(await repeat('WIDE', 120_000), 1);
    assert.equal(await repeat('NARROW', 100), 1);
    await until(async () => (await repeat('NARROW', 100)) > 1, 'the window is over');
    const receiver = await TestReceiver.start();
    const from = `${server.url}/NARROW`;
    const options = { from, url: receiver.url, appId: 'A', partitions: 4, leaseMs: 400 };
    const account = await relay({ ...options, once: true });
    assert.ok(account.delivered > 1);
    assert.equal(account.imbalance, 0);
    assert.equal((await receiver.snapshot()).unique, 1);
    await receiver.stop();
  });

  test('broker and relays are killed and come back: every record once at the receiver, each user in order', async () => {
    const receiver = await TestReceiver.start();
    const ta = new Analytics(consumerOf(server), { onError: () => undefined });
    const stops = [new AbortController(), new AbortController()];
    const progress: RelayAccount[] = [];
    // The stream is there once something has been published.
    ta.track({ accountId: 'u0', event: 'e', properties: { n: -1 } });
    await ta.flush();
    const relays = stops.map(({ signal }, index) =>
      relay({
        from: `${server.url}/EVENTS`,
        url: receiver.url,
        appId: 'A',
        partitions: 4,
        leaseMs: 800,
        signal,
        onError: () => undefined,
        onProgress: (account) => {
          progress[index] = account;
        },
      }),
    );
    const total = 2000;
    for (let n = 0; n < total; n += 1) {
      ta.track({ accountId: `u${n % 20}`, event: 'e', properties: { n } });
      if (n % 100 === 0) await delay(10);
      if (n === total / 2) {
        await server.kill();
        await delay(100);
        await server.start();
      }
    }
    const arrived = async () => (await receiver.snapshot()).unique;
    await until(async () => (await arrived()) > total / 2, 'relays work again');
    // One relay goes in good order; the other takes over.
    stops[0]?.abort();
    const [gone] = await Promise.all([relays[0]]);
    assert.equal(gone?.imbalance, 0);
    await until(async () => (await arrived()) === total + 1, 'all have arrived');
    await until(() => progress[1]?.partitions === 4, 'the other relay has all partitions');
    stops[1]?.abort();
    const rest = await relays[1];
    assert.equal(rest?.imbalance, 0);
    const stats = await ta.close();
    assertBalanced(stats);
    assert.equal(stats.delivered, total + 1);
    const last = new Map<unknown, number>();
    for (const event of await receiver.events()) {
      const { n } = event.properties as { n: number };
      const user = event['#account_id'];
      assert.ok(n > (last.get(user) ?? -2), `${user}: ${n} after ${last.get(user)}`);
      last.set(user, n);
    }
    const states = await relayState({
      from: `${server.url}/EVENTS`,
      url: receiver.url,
      appId: 'A',
      partitions: 4,
    });
    for (const { owner, lag } of states) assert.deepEqual({ owner, lag }, { owner: '', lag: 0 });
    await receiver.stop();
  });

  test('a replay gives the records of a time again, into files', async () => {
    const ta = new Analytics(consumerOf(server, { stream: 'AGAIN' }));
    const from = new Date();
    for (let n = 0; n < 300; n += 1)
      ta.track({ accountId: `u${n % 7}`, event: 'e', properties: { n } });
    await ta.flush();
    const to = new Date();
    await delay(5);
    ta.track({ accountId: 'late', event: 'e' });
    assertBalanced(await ta.close());
    const directory = newDirectory();
    const account = await relay({
      from: `${server.url}/AGAIN`,
      toFiles: directory,
      partitions: 4,
      replay: { from, to },
    });
    assert.equal(account.delivered, 300);
    assert.equal(account.imbalance, 0);
    const records = readRecords(directory, readdirSync(directory));
    assert.equal(new Set(records.map((record) => record['#uuid'])).size, 300);
  });

  test('what is refused for good goes to the dead-letter subject, its neighbours to the receiver', async () => {
    const receiver = await TestReceiver.start();
    const connection = await connect({ servers: server.url });
    const manager = await jetstreamManager(connection);
    await manager.streams.add({ name: 'POISON', subjects: ['poison.*', 'dead.poison'] });
    const good = { '#type': 'track', '#time': '2026-03-08 12:00:00.000', '#event_name': 'e' };
    const lines = [
      JSON.stringify({ ...good, '#account_id': 'u', properties: {} }),
      JSON.stringify({ ...good, '#event_name': '0 bad', '#account_id': 'u', properties: {} }),
      'no record',
    ];
    await jetstream(connection).publish('poison.0', `${lines.join('\n')}\n`);
    const stop = new AbortController();
    const account = relay({
      from: `${server.url}/POISON`,
      url: receiver.url,
      appId: 'A',
      partitions: 1,
      leaseMs: 400,
      deadLetter: 'dead.poison',
      signal: stop.signal,
      onError: () => undefined,
      onProgress: ({ delivered, rejected, bad }) => {
        if (delivered + rejected + bad === 3) stop.abort();
      },
    });
    const { delivered, rejected, bad, imbalance } = await account;
    assert.deepEqual(
      { delivered, rejected, bad, imbalance },
      {
        delivered: 1,
        rejected: 1,
        bad: 1,
        imbalance: 0,
      },
    );
    const { messages } = await readStream(server.url, 'POISON');
    assert.equal(messages, 3);
    await connection.close();
    await receiver.stop();
  });
});
