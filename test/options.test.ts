import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import {
  Analytics,
  AsyncBatchConsumer,
  BatchConsumer,
  DebugConsumer,
  LoggingConsumer,
  MillraceError,
} from '../src/index.ts';
import { assertBalanced, newDirectory } from './support.ts';

const HTTP = { url: 'http://127.0.0.1:9', appId: 'A' };

function messageOf(run: () => unknown): string {
  try {
    run();
  } catch (error) {
    assert.ok(error instanceof MillraceError, String(error));
    assert.equal(error.code, 'MILLRACE_OPTIONS');
    return error.message;
  }
  assert.fail('nothing was thrown');
}

// [what is passed, what the message must name]
const BAD_HTTP: readonly (readonly [object, readonly string[]])[] = [
  [{ appId: 'A' }, ['url']],
  [{ url: 'http://h' }, ['appId']],
  [{ ...HTTP, url: 'receiver.example' }, ['receiver.example', 'http://']],
  [{ ...HTTP, url: 'ftp://receiver.example' }, ['ftp://receiver.example', 'http']],
  [{ ...HTTP, url: 'http://' }, ['http://']],
  [{ ...HTTP, url: 7 }, ['url', '7']],
  [{ ...HTTP, batchSize: 0 }, ['batchSize', '0', '1 to 2000']],
  [{ ...HTTP, batchSize: 2001 }, ['batchSize', '2001']],
  [{ ...HTTP, batchSize: '20' }, ['batchSize', '"20"']],
  [{ ...HTTP, lingerMs: -1 }, ['lingerMs', '-1']],
  [{ ...HTTP, lingerMs: Number.NaN }, ['lingerMs', 'NaN']],
  [{ ...HTTP, queueSize: 0 }, ['queueSize']],
  [{ ...HTTP, compress: 10 }, ['compress', '10']],
  [{ ...HTTP, compress: 'yes' }, ['compress', 'yes']],
  [{ ...HTTP, retries: -1 }, ['retries', '-1']],
  [{ ...HTTP, retryForMs: 0 }, ['retryForMs', '0']],
  [{ ...HTTP, retries: 'always' }, ['retries', 'forever']],
  [{ ...HTTP, ordering: 'strict' }, ['ordering', 'user, none']],
  [{ ...HTTP, overflow: 'panic' }, ['overflow', 'drop-newest']],
  [{ ...HTTP, workers: 0 }, ['workers']],
  [{ ...HTTP, workers: 1.5 }, ['workers', '1.5']],
  [{ ...HTTP, workerHeapMb: 8 }, ['workerHeapMb', '8', '16']],
  [{ ...HTTP, workerPatienceMs: -1 }, ['workerPatienceMs', '-1']],
  [{ ...HTTP, lanes: 257 }, ['lanes', '257']],
  [{ ...HTTP, ringBytes: 1_000_000 }, ['ringBytes', 'power of two']],
  [{ ...HTTP, ringBytes: 65_536, lanes: 64 }, ['lanes', '64']],
  [{ ...HTTP, headers: { appid: 'x' } }, ['headers', 'appid']],
  [{ ...HTTP, headers: { 'a b': 'x' } }, ['headers', 'a b']],
  [{ ...HTTP, headers: { a: 'x\r\ny' } }, ['headers.a']],
  [{ ...HTTP, headers: { a: 1 } }, ['headers.a', '1']],
  [{ ...HTTP, proxy: 'nowhere' }, ['nowhere']],
  [{ ...HTTP, ca: 7 }, ['ca']],
  [{ ...HTTP, batchsize: 5 }, ['batchsize is unknown (did you mean batchSize?)']],
  [{ ...HTTP, lingerMS: 5 }, ['lingerMS is unknown (did you mean lingerMs?)']],
  [{ ...HTTP, conections: 5 }, ['conections is unknown (did you mean connections?)']],
  [{ ...HTTP, timeout: 5 }, ['timeout is unknown (did you mean timeoutMs?)']],
  [{ ...HTTP, nothingOfTheKind: 5 }, ['nothingOfTheKind is unknown; known are']],
  [{ ...HTTP, timeoutMs: 0 }, ['timeoutMs']],
  [{ ...HTTP, connections: 0 }, ['connections']],
  [{ ...HTTP, deadLetter: '' }, ['deadLetter']],
  [{ ...HTTP, deadLetterMode: 0o640 }, ['deadLetterMode', 'deadLetter']],
  [{ ...HTTP, deadLetter: 'd', deadLetterMode: 0o1000 }, ['deadLetterMode', '512', '511']],
  [{ ...HTTP, exitFlushMs: -1 }, ['exitFlushMs']],
];

for (const [options, mentions] of BAD_HTTP) {
  test(`AsyncBatchConsumer refuses ${JSON.stringify(options)}`, () => {
    const message = messageOf(() => new AsyncBatchConsumer(options as typeof HTTP));
    for (const mention of mentions) assert.ok(message.includes(mention), message);
  });
}

test('all problems come in one message', () => {
  const options = { url: 'nowhere', batchSize: 0, workers: -1, bogus: true };
  const message = messageOf(() => new AsyncBatchConsumer(options as unknown as typeof HTTP));
  for (const name of ['url', 'appId', 'batchSize', 'workers', 'bogus']) {
    assert.ok(message.includes(name), `${name} in: ${message}`);
  }
});

test('credentials in a URL are never printed', () => {
  const url = 'ftp://me:secret@receiver.example';
  const message = messageOf(() => new AsyncBatchConsumer({ ...HTTP, url }));
  assert.ok(!message.includes('secret'), message);
});

test('the other consumers check their own options', () => {
  assert.match(
    messageOf(() => new BatchConsumer({ ...HTTP, maxCachedBatches: -1 })),
    /maxCachedBatches/,
  );
  assert.match(
    messageOf(() => new BatchConsumer({ ...HTTP, retries: 1.5 })),
    /retries/,
  );
  const debug = { ...HTTP, dryRun: 'yes' as unknown as boolean };
  assert.match(
    messageOf(() => new DebugConsumer(debug)),
    /dryRun/,
  );
  assert.match(
    messageOf(() => new LoggingConsumer({ directory: '' })),
    /directory/,
  );
  const directory = newDirectory();
  const week = 'week' as unknown as 'day';
  assert.match(
    messageOf(() => new LoggingConsumer({ directory, rotate: week })),
    /rotate.*day, hour/,
  );
  assert.match(
    messageOf(() => new LoggingConsumer({ directory, prefix: '../up' })),
    /prefix/,
  );
  assert.match(
    messageOf(() => new LoggingConsumer({ directory, instance: 'a/b' })),
    /instance/,
  );
  assert.match(
    messageOf(() => new LoggingConsumer({ directory, maxSizeMb: 0 })),
    /maxSizeMb/,
  );
});

test('a folder that can not be made is an error at construction that names it', () => {
  const file = join(newDirectory(), 'file');
  writeFileSync(file, '');
  const directory = join(file, 'logs');
  assert.ok(messageOf(() => new LoggingConsumer(directory)).includes(directory));
});

test('the client checks its options and its consumer', () => {
  const consumer = new LoggingConsumer(newDirectory());
  const make = (options: object) => messageOf(() => new Analytics(consumer, options));
  assert.match(make({ timeZone: 'Mars/Olympus' }), /timeZone.*Mars/);
  assert.match(make({ timeZone: '+25:00' }), /timeZone/);
  assert.match(make({ validation: 'maybe' }), /validation.*throw, drop, off/);
  assert.match(make({ uuid: 1 }), /uuid/);
  assert.match(make({ onError: 'x' }), /onError/);
  assert.match(make({ register: {} }), /register/);
  assert.match(make({ valdation: 'off' }), /valdation/);
  assert.match(
    messageOf(() => new Analytics({} as LoggingConsumer)),
    /consumer/,
  );
});

test('a worker entry that is not there is an error that names the path and the option', () => {
  const consumer = new LoggingConsumer({ directory: newDirectory(), workerFile: '/nowhere/w.js' });
  assert.match(
    messageOf(() => new Analytics(consumer)),
    /workerFile.*\/nowhere\/w\.js/,
  );
});

test('a record over a quarter of its lane is refused and counted, and its neighbours go on', async () => {
  const ta = new Analytics(
    new LoggingConsumer({ directory: newDirectory(), ringBytes: 65_536, lanes: 1 }),
  );
  const properties = { text: 'x'.repeat(17_000) };
  assert.throws(() => ta.track({ accountId: 'u', event: 'big', properties }), {
    code: 'MILLRACE_RECORD_TOO_LARGE',
  });
  assert.ok(ta.track({ accountId: 'u', event: 'fits', properties: { text: 'x'.repeat(16_000) } }));
  const stats = await ta.close();
  assertBalanced(stats);
  assert.equal(stats.delivered, 1);
  assert.equal(stats.dropped.invalid, 1);
});

for (const url of [
  'u:secretpw@h',
  'http://u:secret/pw@h',
  'http://u:secret#pw@h',
  'https://u:secret?pw@h',
  'http://u:secretpw%@h',
]) {
  test(`credentials of a URL that can't be read are not shown (${url.replace('secret', '…')})`, () => {
    assert.throws(
      () => new AsyncBatchConsumer({ url, appId: 'A' }),
      ({ code, message }: { code?: string; message: string }) =>
        code === 'MILLRACE_OPTIONS' && message.includes('url') && !message.includes('secret'),
    );
  });
}

test('a variable for proxies that is no URL is refused by name', () => {
  const { HTTP_PROXY } = process.env;
  process.env.HTTP_PROXY = '127.0.0.1:3128';
  try {
    assert.throws(() => new AsyncBatchConsumer({ url: 'http://h', appId: 'A' }), {
      code: 'MILLRACE_OPTIONS',
      message: /HTTP_PROXY is "127.0.0.1:3128"/,
    });
  } finally {
    if (HTTP_PROXY === undefined) delete process.env.HTTP_PROXY;
    else process.env.HTTP_PROXY = HTTP_PROXY;
  }
  assert.throws(() => new AsyncBatchConsumer({ url: 'http://h', appId: 'A', proxy: 'x' }), {
    code: 'MILLRACE_OPTIONS',
    message: /proxy is "x"/,
  });
});

test('a port that is none at all is refused', () => {
  assert.throws(() => Analytics.attach({} as never), { code: 'MILLRACE_OPTIONS' });
});
