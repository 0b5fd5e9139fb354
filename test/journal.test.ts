import assert from 'node:assert/strict';
import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, beforeEach, test } from 'node:test';
import pino from 'pino';
import { LOG_CODES, LOG_LEVELS, type Logger } from '../src/base/logger.ts';
import { CHANNEL_NAMES, type ChannelMessages } from '../src/engine/channels.ts';
import { Analytics, AsyncBatchConsumer, LoggingConsumer, MillraceError } from '../src/index.ts';
import { assertBalanced, newDirectory, repositoryRoot, TestReceiver, until } from './support.ts';

let receiver: TestReceiver;

before(async () => {
  receiver = await TestReceiver.start();
});
beforeEach(() => receiver.reset());
after(() => receiver.stop());

interface Line {
  readonly level: string;
  readonly code: string;
  readonly message: string;
  readonly facts: Readonly<Record<string, unknown>>;
}

function recordingLogger(lines: Line[]): Logger {
  const write = (level: string) => (facts: object, message: string) => {
    lines.push({ level, code: String(Reflect.get(facts, 'code')), message, facts: { ...facts } });
  };
  return {
    debug: write('debug'),
    info: write('info'),
    warn: write('warn'),
    error: write('error'),
    fatal: write('fatal'),
  };
}

function client(more: object = {}): AsyncBatchConsumer {
  return new AsyncBatchConsumer({ url: receiver.url, appId: 'A', workers: 1, lanes: 1, ...more });
}

test('a life is logged: opened, trouble, ended with the account', async () => {
  await receiver.setFaults([{ action: { kind: 'status', status: 503 }, requests: 2 }]);
  const lines: Line[] = [];
  const ta = new Analytics(client(), { logger: recordingLogger(lines), name: 'game' });
  ta.track({ accountId: 'u', event: 'e' });
  await ta.flush();
  const stats = await ta.close();
  assertBalanced(stats);
  assert.equal((await receiver.snapshot()).unique, 1);
  const codes = lines.map(({ level, code }) => `${level} ${code}`);
  assert.equal(codes[0], 'info MILLRACE_OPENED');
  assert.ok(codes.includes('warn MILLRACE_UNAVAILABLE'), codes.join());
  assert.equal(codes.at(-1), 'info MILLRACE_ENDED');
  assert.deepEqual(lines.at(-1)?.facts.stats, stats);
  for (const { facts } of lines) {
    assert.equal(facts.client, 'game');
    assert.equal(facts.consumer, 'async');
  }
});

test('lines of one code come once in a while, and the next says how many were left out', async () => {
  const lines: Line[] = [];
  const ta = new Analytics(new LoggingConsumer(newDirectory()), {
    logger: recordingLogger(lines),
    validation: 'drop',
  });
  for (let index = 0; index < 100; index += 1) {
    ta.track({ accountId: 'u', event: 'e', properties: { [`no name ${index}`]: index } });
  }
  const stats = await ta.close();
  assertBalanced(stats);
  assert.equal(stats.dropped.invalid, 100);
  const told = lines.filter(({ code }) => code === 'MILLRACE_INVALID_NAME');
  assert.equal(told.length, 1);
  assert.equal(told[0]?.level, 'warn');
});

test('dropped records are logged with their reason and number', async () => {
  await receiver.setFaults([{ action: { kind: 'hang' } }]);
  const lines: Line[] = [];
  const ta = new Analytics(client({ queueSize: 10, exitFlushMs: 0 }), {
    logger: recordingLogger(lines),
  });
  for (let index = 0; index < 25; index += 1) ta.track({ accountId: 'u', event: 'e' });
  const stats = await ta.close({ timeoutMs: 200 });
  assertBalanced(stats);
  assert.equal(stats.dropped.overflow_newest, 15);
  assert.equal(stats.dropped.shutdown, 10);
  const told = lines.find(({ code }) => code === 'MILLRACE_DROPPED');
  assert.deepEqual(told && { ...told.facts, code: undefined }, {
    code: undefined,
    client: 'default',
    consumer: 'async',
    reason: 'overflow_newest',
    records: 15,
  });
});

test('a logger or listener that throws hurts nobody', async () => {
  const bad = () => {
    throw new Error('full');
  };
  const ta = new Analytics(new LoggingConsumer(newDirectory()), {
    logger: { debug: bad, info: bad, warn: bad, error: bad, fatal: bad },
  });
  ta.track({ accountId: 'u', event: 'e' });
  await ta.flush();
  const stats = await ta.close();
  assertBalanced(stats);
  assert.equal(stats.delivered, 1);
});

test('pino is a logger, and a thing that is none is refused with its name', () => {
  const directory = newDirectory();
  const ta = new Analytics(new LoggingConsumer(directory), { logger: pino({ level: 'silent' }) });
  assertBalanced(ta.closeSync());
  assert.throws(
    () => new Analytics(new LoggingConsumer(directory), { logger: console as unknown as Logger }),
    (error) => error instanceof MillraceError && /logger is .*fatal/.test(error.message),
  );
});

test('every code of a log line and every channel is explained in the documents', () => {
  const read = (name: string) => readFileSync(join(repositoryRoot(), name), 'utf8');
  const observability = read('docs/observability.md');
  for (const code of LOG_CODES) assert.ok(observability.includes(`| \`${code}\``), code);
  for (const name of CHANNEL_NAMES) {
    assert.ok(observability.includes(`| \`millrace:${name}\``), name);
  }
  for (const level of LOG_LEVELS) assert.ok(observability.includes(`\`${level}\``), level);
});

type Heard = { [Name in keyof ChannelMessages]: ChannelMessages[Name][] };

/** Listens to all channels for one client while the body runs: others of this process may still be ending. */
async function listening(client: string, body: (heard: Heard) => Promise<void>): Promise<void> {
  const heard = Object.fromEntries(CHANNEL_NAMES.map((name) => [name, []])) as unknown as Heard;
  const listeners = CHANNEL_NAMES.map((name) => {
    const listener = (message: unknown) => {
      if ((message as { client: string }).client === client)
        (heard[name] as unknown[]).push(message);
    };
    subscribe(`millrace:${name}`, listener);
    return { name, listener };
  });
  try {
    await body(heard);
  } finally {
    for (const { name, listener } of listeners) unsubscribe(`millrace:${name}`, listener);
  }
}

test('channels tell of attempts, retries, drops, the spool, threads and the life of the client', async () => {
  await receiver.setFaults([{ action: { kind: 'status', status: 503 }, requests: 6 }]);
  await listening('heard', async (heard) => {
    const ta = new Analytics(
      client({ queueSize: 1000, spool: { directory: newDirectory() }, lingerMs: 1 }),
      { name: 'heard', validation: 'drop', onError: () => {} },
    );
    for (let index = 0; index < 900; index += 1) ta.track({ accountId: 'u', event: 'e' });
    ta.track({ accountId: 'u', event: 'no name' });
    await until(() => heard.spool.some(({ event }) => event === 'in_use'), 'the spool is in use');
    await until(() => heard.circuit.some(({ state }) => state !== 'closed'), 'the circuit opens');
    await until(() => ta.stats().delivered === 900, 'all arrive in the end');
    const stats = await ta.close();
    assertBalanced(stats);
    const delivered = heard.batch
      .filter(({ outcome }) => outcome === 'ok')
      .reduce((sum, { records }) => sum + records, 0);
    assert.equal(delivered, 900, 'every attempt is told');
    assert.equal(heard.retry.length, 6);
    assert.deepEqual(
      [...new Set(heard.retry.map(({ reason, status }) => `${reason} ${status}`))],
      ['http_5xx 503'],
    );
    assert.deepEqual(
      heard.drop.map(({ reason, records }) => ({ reason, records })),
      [{ reason: 'invalid', records: 1 }],
    );
    assert.equal(heard.spool.at(-1)?.event, 'empty');
    assert.equal(heard.circuit.at(-1)?.state, 'closed');
    assert.ok(heard.worker.some(({ event }) => event === 'exit'));
    assert.ok(heard.error.some(({ error }) => error.code === 'MILLRACE_UNAVAILABLE'));
    assert.deepEqual(
      heard.client.map(({ event }) => event),
      ['open', 'close'],
    );
  });
});
