import assert from 'node:assert/strict';
import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { readFileSync } from 'node:fs';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { inspect } from 'node:util';
import { Analytics, AsyncBatchConsumer, DebugConsumer, type MillraceError } from '../src/index.ts';
import { partsOfAuthorization, partsOfUrl, Secrets } from '../src/sink/secrets.ts';
import { assertBalanced, newDirectory, until } from './support.ts';

const MIB: number = 1024 * 1024;
const APP_ID = 'f0e1d2c3b4a5968778695a4b3c2d1e0f';
const USER = 'collector-7';
const PASSWORD = 'pa$$ wörd/41';
const TOKEN = 'tok-0123456789abcdef';

type Answer = (request: IncomingMessage, reply: ServerResponse) => void;

const taken: Answer = (_request, reply) => reply.end('{"code":0}');
let server: Server;
let answer: Answer = taken;

before(async () => {
  server = createServer({ maxHeaderSize: 64 * 1024 }, (request, reply) => {
    request.resume();
    request.on('end', () => answer(request, reply));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
});
after(() => {
  server.closeAllConnections();
  server.close();
});

function urlOf(credentials = ''): string {
  return `http://${credentials}127.0.0.1:${(server.address() as AddressInfo).port}`;
}

// [what the reply is, the reply, what onError hears]
const OVERSIZED: readonly (readonly [string, Answer, RegExp])[] = [
  [
    'a body of a mebibyte of lines',
    (_request, reply) => reply.end('line\n'.repeat(MIB / 5 - 1)),
    /the reply is not the receiver's: line line .{400,520}… \(bad_reply\)$/,
  ],
  [
    'words without end',
    (_request, reply) => {
      reply.statusCode = 503;
      reply.end(JSON.stringify({ code: 7, msg: 'w'.repeat(50_000) }));
    },
    /status 503: w{512}… \(http_5xx\)$/,
  ],
  [
    'a body without end',
    (_request, reply) => {
      const part = Buffer.alloc(64 * 1024, 'x');
      const pour = () => {
        while (reply.write(part));
      };
      reply.on('drain', pour);
      pour();
    },
    /\[UND_ERR_RES_EXCEEDED_MAX_SIZE\] \(bad_reply\)$/,
  ],
  [
    'headers of 40 KB',
    (_request, reply) => reply.setHeader('x-long', 'h'.repeat(40_000)).end('{"code":0}'),
    /\[UND_ERR_HEADERS_OVERFLOW\] \(bad_reply\)$/,
  ],
];

for (const [what, bad, words] of OVERSIZED) {
  test(`a reply is read as far as it is needed, and told in a line (${what})`, async () => {
    const errors: string[] = [];
    let asked = 0;
    answer = (request, reply) => {
      asked += 1;
      (asked <= 2 ? bad : taken)(request, reply);
    };
    const ta = new Analytics(
      new AsyncBatchConsumer({ url: urlOf(), appId: APP_ID, workers: 1, lanes: 1 }),
      { onError: ({ message }) => errors.push(message) },
    );
    for (let index = 0; index < 10; index += 1) ta.track({ accountId: 'u', event: 'e' });
    await ta.flush({ timeoutMs: 20_000 });
    const stats = await ta.close();
    assertBalanced(stats);
    assert.equal(stats.delivered, 10);
    assert.ok(
      errors.some((error) => words.test(error)),
      errors[0],
    );
    for (const error of errors) assert.ok(error.length < 700 && !error.includes('\n'), error);
  });
}

test('secrets are hidden in whole, the longest first, and short ones where they stand alone', () => {
  const secrets = new Secrets([
    ...partsOfAuthorization('Basic dXNlci1uYW1lOnMzY3JldC1wYXNz'),
    ...partsOfUrl('http://proxy-user:pr%40xy-pass@proxy.example:3128'),
    'B7',
    '',
    ':',
  ]);
  const said =
    'Basic dXNlci1uYW1lOnMzY3JldC1wYXNz user-name:s3cret-pass s3cret-pass pr@xy-pass pr%40xy-pass: "B7", B7. AB7 B71 ÄB7 b7';
  assert.equal(secrets.hide(said), '*** *** *** *** ***: "***", ***. AB7 B71 ÄB7 b7');
});

test('what is decided by a reply does not depend on what is hidden in it', async () => {
  answer = taken;
  const options = { url: urlOf(), appId: 'code', headers: { 'x-number': '0' }, workers: 1 };
  const ta = new Analytics(new AsyncBatchConsumer(options));
  ta.track({ accountId: 'u', event: 'e' });
  await ta.flush({ timeoutMs: 20_000 });
  assert.equal((await ta.close()).delivered, 1);
});

/** Replies that say all they know about whoever asked. */
const ECHOES: readonly Answer[] = [401, 403, 404, 302, 429, 500, 503, 200, 200, 400].map(
  (status, index) => (request, reply) => {
    const { authorization = '', appid, 'x-token': token } = request.headers;
    const known = Buffer.from(authorization.split(' ')[1] ?? '', 'base64').toString('utf8');
    const words = `appid ${appid} authorization ${authorization} is ${known} token ${token}`;
    const filler = index === 8 ? ' '.repeat(480) : '';
    reply.statusCode = status;
    reply.setHeader('location', `http://${encodeURI(known)}@elsewhere.example/?appid=${appid}`);
    reply.setHeader('retry-after', '0');
    reply.end(status === 200 ? `${filler}${words}` : JSON.stringify({ code: 1, msg: words }));
  },
);

// Goal: whoever reads logs, metrics or the live page learns no secret. Method: a receiver that repeats what it was sent, in every kind
// of failure; everything that leaves the engine is gathered and searched.
test('app id, credentials and header values appear in nothing that is told', async () => {
  const told: string[] = [];
  const tell = (message: unknown) => told.push(inspect(message, { depth: 10 }));
  const channels = ['batch', 'retry', 'drop', 'worker', 'circuit', 'error', 'client'];
  for (const name of channels) subscribe(`millrace:${name}`, tell);
  process.on('warning', tell);
  const log = (facts: object, message: string) => tell([facts, message]);
  const deadLetter = join(newDirectory(), 'letters.jsonl');
  const options = {
    url: urlOf(`${USER}:${encodeURIComponent(PASSWORD)}@`),
    appId: APP_ID,
    headers: { 'x-token': TOKEN },
  };
  const ta = new Analytics(
    // A failure that only people can mend is tried again soon, as long as attempts are limited.
    new AsyncBatchConsumer({ ...options, workers: 1, lanes: 1, retries: 1000, deadLetter }),
    {
      onError: (error: MillraceError) => tell([error, error.cause]),
      logger: { debug: log, info: log, warn: log, error: log, fatal: log },
      metricsServer: { port: 0, livePage: true },
    },
  );
  for (const echo of ECHOES) {
    let asked = 0;
    answer = (request, reply) => {
      asked += 1;
      (asked === 1 ? echo : taken)(request, reply);
    };
    ta.track({ accountId: 'u', event: 'e', onSettled: tell });
    await ta.flush({ timeoutMs: 20_000 });
  }
  answer = ECHOES[9] ?? taken;
  ta.track({ accountId: 'u', event: 'e', onSettled: tell });
  await until(() => ta.stats().rejected > 0, 'a record is refused');
  tell(await ta.register.metrics());
  tell(await liveFrame(ta));
  const stats = await ta.close();
  tell(stats);
  tell(readFileSync(deadLetter, 'utf8'));
  assertBalanced(stats);
  tellDebug(options, tell);
  assert.throws(
    () => new AsyncBatchConsumer({ ...options, url: `${options.url}/#top` }),
    (error) => {
      tell(error);
      return true;
    },
  );
  for (const name of channels) unsubscribe(`millrace:${name}`, tell);
  process.off('warning', tell);

  const all = told.join('\n');
  for (const kind of [
    'status 401',
    'status 302',
    'status 503',
    "not the receiver's",
    'status 400',
  ]) {
    assert.ok(all.includes(kind), `${kind} was told`);
  }
  const pair = `${USER}:${PASSWORD}`;
  const base64 = Buffer.from(pair).toString('base64');
  for (const secret of [APP_ID, USER, PASSWORD, encodeURIComponent(PASSWORD), base64, TOKEN]) {
    const at = all.indexOf(secret);
    assert.equal(at, -1, `${secret} in: ${all.slice(Math.max(0, at - 200), at + 100)}`);
    // Nor the beginning of one, where words were cut.
    assert.ok(!all.includes(secret.slice(0, 8)), `the beginning of ${secret} was told`);
  }
});

/** What the live page's stream says first. */
async function liveFrame(ta: Analytics): Promise<string> {
  const page = createServer(ta.livePage());
  await new Promise<void>((resolve) => page.listen(0, '127.0.0.1', resolve));
  const { port } = page.address() as AddressInfo;
  const reply = await fetch(`http://127.0.0.1:${port}/events`);
  const { value } = (await reply.body?.getReader().read()) ?? {};
  page.closeAllConnections();
  page.close();
  return Buffer.from(value ?? []).toString('utf8');
}

function tellDebug(
  options: ConstructorParameters<typeof DebugConsumer>[0],
  tell: (message: unknown) => void,
): void {
  const ta = new Analytics(new DebugConsumer({ ...options, timeoutMs: 100 }), { onError: tell });
  try {
    ta.track({ accountId: 'u', event: 'e' });
  } catch (error) {
    tell(error);
  }
  assertBalanced(ta.closeSync({ timeoutMs: 100 }));
}
