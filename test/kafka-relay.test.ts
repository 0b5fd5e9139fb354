import assert from 'node:assert/strict';
import { type ChildProcess, execFile, fork, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { promisify } from 'node:util';
import { Analytics } from '../src/index.ts';
import {
  KafkaConsumer,
  type KafkaConsumerOptions,
  type RelayAccount,
  type RelayOptions,
  relay,
  relayState,
} from '../src/kafka.ts';
import { type KafkaMock, startKafkaMock } from './kafka-mock.ts';
import { missing } from './nats-server.ts';
import {
  assertBalanced,
  newDirectory,
  readRecords,
  repositoryRoot,
  TestReceiver,
  until,
} from './support.ts';

/** The mock waits three seconds for the first members, longer than a session must be, and later almost a whole session: short ones keep the tests short. */
const LEASE_MS = 4000;
const PARTITIONS = 4;
const skip = missing('kcat', ['-V']);
const main = join(repositoryRoot(), 'dist/src/cli/main.js');

function consumerOf(
  { brokers }: KafkaMock,
  topic: string,
  more: Partial<KafkaConsumerOptions> = {},
): KafkaConsumer {
  return new KafkaConsumer({
    brokers,
    topic,
    partitions: PARTITIONS,
    provision: 'auto',
    idempotent: false,
    lingerMs: 5,
    workers: 1,
    ...more,
  });
}

/** Sends `count` records of 20 users, numbered from `from`. */
async function send(consumer: KafkaConsumer, { from = 0, count = 400 } = {}): Promise<void> {
  const ta = new Analytics(consumer, { onError: () => undefined });
  for (let n = from; n < from + count; n += 1) {
    ta.track({ accountId: `u${n % 20}`, event: 'e', properties: { n } });
  }
  const stats = await ta.close();
  assertBalanced(stats);
  assert.equal(stats.delivered, count);
}

/** Puts lines into a partition by kcat, another client. */
async function produce({ brokers }: KafkaMock, topic: string, lines: string): Promise<void> {
  const child = spawn('kcat', [
    '-b',
    brokers.join(','),
    '-P',
    '-t',
    topic,
    '-p',
    '0',
    '-D',
    '\x01',
  ]);
  child.stdin.end(lines);
  assert.deepEqual(await once(child, 'exit'), [0, null]);
}

/** What a topic holds, by kcat. */
async function consume({ brokers }: KafkaMock, topic: string): Promise<string[]> {
  const args = ['-b', brokers.join(','), '-C', '-t', topic, '-o', 'beginning', '-e', '-q'];
  const { stdout } = await promisify(execFile)('kcat', args);
  return stdout.split('\n').filter((line) => line !== '');
}

/** Asserts that the receiver has `count` records once, those of each user in order. */
async function assertArrived(receiver: TestReceiver, count: number): Promise<void> {
  const last = new Map<unknown, number>();
  const events = await receiver.events();
  assert.equal(events.length, count);
  for (const event of events) {
    const { n } = event.properties as { n: number };
    const user = event['#account_id'];
    assert.ok(n > (last.get(user) ?? -1), `${user}: ${n} after ${last.get(user)}`);
    last.set(user, n);
  }
}

/** A relay in this process that can be ended, and what it told last. */
class RunningRelay {
  account: RelayAccount | undefined;
  readonly #stop = new AbortController();
  readonly #done: Promise<RelayAccount>;

  constructor(options: RelayOptions) {
    this.#done = relay({
      leaseMs: LEASE_MS,
      signal: this.#stop.signal,
      onError: () => undefined,
      onProgress: (account) => {
        this.account = account;
      },
      ...options,
    });
  }

  async end(): Promise<RelayAccount> {
    this.#stop.abort();
    const account = await this.#done;
    assert.equal(account.imbalance, 0);
    assert.equal(account.inHand, 0);
    return account;
  }
}

test('options of a relay from Kafka are checked before anything is opened', async () => {
  const attempt = (options: object) => relay({ url: 'http://h', appId: 'A', ...options } as never);
  const code = 'MILLRACE_OPTIONS';
  const from = 'kafka://host/topic';
  await assert.rejects(attempt({ from, trim: true, partitions: 4 }), {
    code,
    message: /partitions means nothing to a relay from kafka; trim means nothing/,
  });
  await assert.rejects(attempt({ from: 'nats://h/S', tls: true }), { code, message: /tls means/ });
  await assert.rejects(attempt({ from, mechanism: 'md5' }), {
    code,
    message: /mechanism is "md5"/,
  });
  await assert.rejects(attempt({ from: 'kafka://user@h/t' }), { code, message: /password/ });
  const nowhere = { from: 'kafka://127.0.0.1:9/topic', once: true };
  await assert.rejects(attempt(nowhere), { code: 'MILLRACE_UNAVAILABLE', message: /127.0.0.1:9/ });
});

describe('A relay from Kafka', { skip }, () => {
  let mock: KafkaMock;
  let receiver: TestReceiver;
  before(async () => {
    mock = await startKafkaMock();
    receiver = await TestReceiver.start();
  });
  after(async () => {
    await receiver.stop();
    mock.stop();
  });

  function optionsOf(topic: string): RelayOptions {
    const from = `kafka://${mock.brokers.join(',')}/${topic}`;
    return { from, url: receiver.url, appId: 'A' };
  }

  test('relays come and go: each record once at the receiver, each user in order, all of it committed', async () => {
    await receiver.reset();
    const options = optionsOf('scale');
    await send(consumerOf(mock, 'scale'));
    const first = new RunningRelay(options);
    await until(async () => (await receiver.snapshot()).unique === 400, 'one relay delivers all');
    const second = new RunningRelay(options);
    const isShared = () => first.account?.partitions === 2 && second.account?.partitions === 2;
    await until(isShared, 'two relays have two partitions each');
    await send(consumerOf(mock, 'scale'), { from: 400 });
    await until(async () => (await receiver.snapshot()).unique === 800, 'two relays deliver');
    const gone = await first.end();
    assert.ok(gone.delivered >= 400);
    await until(() => second.account?.partitions === PARTITIONS, 'the other has all of them');
    await send(consumerOf(mock, 'scale'), { from: 800 });
    await until(async () => (await receiver.snapshot()).unique === 1200, 'the other delivers');
    const rest = await second.end();
    // Nothing was read twice: each hand-over came after everything was settled and committed.
    assert.equal(gone.delivered + rest.delivered, 1200);
    await assertArrived(receiver, 1200);
    // The mock does not say who has what, and so not how many there are.
    assert.deepEqual([gone.members, rest.members], [undefined, undefined]);
    for (const { lag, owner } of await relayState(options)) {
      assert.deepEqual({ lag, owner }, { lag: 0, owner: undefined });
    }
  });

  test('a relay is killed while the receiver throttles: another goes on, nothing is lost or out of order', async () => {
    await receiver.reset();
    const { from } = optionsOf('killed');
    await send(consumerOf(mock, 'killed', { batchSize: 20 }), { count: 2000 });
    const busy = { kind: 'status', status: 429, headers: { 'retry-after': '1' } } as const;
    await receiver.setFaults([
      { action: busy, requests: 3 },
      { action: { kind: 'delay', ms: 20 } },
    ]);
    const args = ['relay', '--from', from, '--url', receiver.url, '--appid', 'A', '--batch', '50'];
    const children: ChildProcess[] = [0, 1].map(() =>
      fork(main, [...args, '--lease', String(LEASE_MS)], { stdio: 'ignore' }),
    );
    await until(async () => (await receiver.snapshot()).unique > 200, 'some records are through');
    const killed = once(children[0] as ChildProcess, 'exit');
    children[0]?.kill('SIGKILL');
    await killed;
    await until(async () => (await receiver.snapshot()).unique === 2000, 'all are through');
    const ended = once(children[1] as ChildProcess, 'exit');
    children[1]?.kill('SIGTERM');
    assert.deepEqual(await ended, [0, null]);
    await receiver.setFaults([]);
    await assertArrived(receiver, 2000);
  });

  test('what is refused for good goes to the dead-letter topic, its neighbours to the receiver', async () => {
    await receiver.reset();
    const good = { '#type': 'track', '#time': '2026-03-08 12:00:00.000', '#event_name': 'e' };
    const lines = [
      JSON.stringify({ ...good, '#account_id': 'u', properties: { n: 1 } }),
      JSON.stringify({ ...good, '#event_name': '0 bad', '#account_id': 'u', properties: {} }),
      'no record',
    ];
    await produce(mock, 'poison', lines.join('\n'));
    const options = { ...optionsOf('poison'), deadLetter: 'graveyard', once: true };
    await assert.rejects(relay({ ...options, leaseMs: LEASE_MS }), {
      code: 'MILLRACE_OPTIONS',
      message: /no topic graveyard/,
    });
    await produce(mock, 'graveyard', '{"first":true}');
    const { delivered, rejected, bad, imbalance } = await relay({ ...options, leaseMs: LEASE_MS });
    const counts = { delivered, rejected, bad, imbalance };
    assert.deepEqual(counts, { delivered: 1, rejected: 1, bad: 1, imbalance: 0 });
    await assertArrived(receiver, 1);
    const letters = (await consume(mock, 'graveyard')).map((line) => JSON.parse(line));
    assert.equal(letters.length, 3);
    assert.ok(letters.some(({ record }) => record?.['#event_name'] === '0 bad'));
    assert.ok(letters.some(({ line }) => line === 'no record'));
  });

  test('a replay gives the records up to a time again, into files, and commits nothing', async () => {
    const topic = 'again';
    await send(consumerOf(mock, topic), { count: 300 });
    const to = new Date();
    await until(() => Date.now() > to.getTime() + 1, 'the clock has gone on');
    await send(consumerOf(mock, topic), { from: 300, count: 50 });
    const directory = newDirectory();
    const { from } = optionsOf(topic);
    const replay = { from: new Date(0), to };
    const account = await relay({ from, toFiles: directory, leaseMs: LEASE_MS, replay });
    assert.equal(account.imbalance, 0);
    assert.equal(account.delivered, 300);
    const records = readRecords(directory, readdirSync(directory));
    assert.equal(new Set(records.map((record) => record['#uuid'])).size, 300);
    const states = await relayState({ ...optionsOf(topic) });
    assert.ok(
      states.every(({ settled }) => settled === -1),
      'no group has gone on',
    );
  });
});
