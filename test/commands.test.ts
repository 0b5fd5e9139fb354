import assert from 'node:assert/strict';
import { execFile, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { parseMetrics, quantileOf } from '../src/cli/metrics-text.ts';
import { sparkline } from '../src/cli/top.ts';
import { Analytics, LoggingConsumer } from '../src/index.ts';
import { MetricsEndpoint } from '../src/metrics/endpoint.ts';
import { assertBalanced, newDirectory, TestReceiver, until } from './support.ts';

const main = fileURLToPath(new URL('../src/cli/main.js', import.meta.url));
let receiver: TestReceiver;

before(async () => {
  receiver = await TestReceiver.start(['--appid', 'A']);
});
after(() => receiver.stop());

function millrace(...flags: string[]): Promise<{ code: unknown; stdout: string; stderr: string }> {
  return new Promise((resolve) => {
    execFile(process.execPath, [main, ...flags], (error, stdout, stderr) => {
      resolve({ code: error === null ? 0 : error.code, stdout, stderr });
    });
  });
}

test('doctor finds a good receiver, folder and app id good', async () => {
  const flags = ['--url', receiver.url, '--appid', 'A', '--dir', newDirectory(), '--json'];
  const { code, stdout } = await millrace('doctor', ...flags);
  assert.equal(code, 0, stdout);
  const { found } = JSON.parse(stdout) as { found: { what: string; state: string }[] };
  assert.ok(found.every(({ state }) => state !== 'bad'));
  assert.ok(found.some(({ what, state }) => what === 'app id' && state === 'ok'));
  assert.equal((await receiver.snapshot()).unique, 0);
});

test('doctor says what is wrong with a dead receiver, a wrong app id and a bad folder, and ends with 1', async () => {
  const dead = await millrace('doctor', '--url', 'http://127.0.0.1:9', '--dir', '/dev/null/x');
  assert.equal(dead.code, 1);
  assert.match(dead.stdout, /bad\treceiver: does not answer/);
  assert.match(dead.stdout, /bad\tfolder .*name a folder that user/);
  const wrong = await millrace('doctor', '--url', receiver.url, '--appid', 'B');
  assert.equal(wrong.code, 1);
  assert.match(wrong.stdout, /bad\tapp id: .*the one given has 1 character$/m);
  assert.match(
    wrong.stdout,
    /ok\treceiver: answers with status 404, which is usual for a bare GET/,
  );
  const longer = await millrace('doctor', '--url', receiver.url, '--appid', 'secret-of-the-game');
  assert.match(longer.stdout, /the one given begins with se and has 18 characters/);
  assert.doesNotMatch(longer.stdout, /secret/);
});

test('doctor reads addresses as deliveries do: with a path, with a password, wrong ones by name; redirects are told', async () => {
  const { host } = new URL(receiver.url);
  const withPassword = await millrace('doctor', '--url', `http://user:secret@${host}/sync_server`);
  assert.equal(withPassword.code, 0, withPassword.stdout);
  assert.doesNotMatch(withPassword.stdout, /secret/);
  const wrong = await millrace('doctor', '--url', 'receiver.example');
  assert.match(wrong.stdout, /bad\treceiver: .*url is/);
  const server = createServer((_request, reply) => {
    reply
      .writeHead(301, { location: 'http://elsewhere.example/', date: new Date(0).toUTCString() })
      .end();
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  const moved = await millrace('doctor', '--url', `http://127.0.0.1:${port}`);
  assert.match(moved.stdout, /bad\treceiver: redirects to http:\/\/elsewhere\.example\//);
  assert.match(moved.stdout, /warning\tclock: \d+ s away/);
  server.close();
});

test('top shows what a metrics endpoint tells, and says when there is none', async () => {
  const ta = new Analytics(new LoggingConsumer({ directory: newDirectory() }));
  const endpoint = await MetricsEndpoint.open({ registry: ta.register });
  for (let index = 0; index < 50; index += 1) ta.track({ accountId: 'u', event: 'e' });
  await ta.flush();
  const { code, stdout } = await millrace(
    'top',
    endpoint.url,
    '--once',
    '--json',
    '--interval',
    '0.1',
  );
  assert.equal(code, 0);
  const rows = JSON.parse(stdout) as {
    name: string;
    value: number;
    clients: Record<string, { value: number }>;
  }[];
  const { origin } = new URL(endpoint.url);
  const short = await millrace('top', origin, '--once', '--json', '--interval', '0.1');
  assert.equal(short.code, 0, short.stderr);
  const delivered = rows.find(({ name }) => name === 'delivered');
  assert.equal(delivered?.value, 50);
  assert.equal(delivered?.clients['default (logging)']?.value, 50, 'and by client');
  await endpoint.close();
  assertBalanced(await ta.close());
  const none = await millrace('top', receiver.url, '--once');
  assert.equal(none.code, 1);
});

// A terminal of its own comes from `script`, which every Linux has.
test('top draws a screen again and again, waits for a server that is away, and ends at q', async (context) => {
  try {
    execFileSync('script', ['--version'], { stdio: 'ignore' });
  } catch {
    context.diagnostic('script(1) is not installed here');
    return;
  }
  const ta = new Analytics(new LoggingConsumer({ directory: newDirectory() }), { name: 'game' });
  let endpoint = await MetricsEndpoint.open({ registry: ta.register });
  const port = Number(new URL(endpoint.url).port);
  const command = `stty cols 160 rows 60; exec ${process.execPath} ${main} top ${endpoint.url} --interval 0.2`;
  const child = spawn('script', ['-qec', command, '/dev/null']);
  let screen = '';
  child.stdout.on('data', (part: Buffer) => {
    screen += part.toString('utf8');
  });
  const looks = () => screen.split('q ends').length;
  try {
    await until(() => looks() > 2, 'two looks');
    assert.match(screen, /game \(logging\)/);
    await endpoint.close();
    await until(() => screen.includes('trying again'), 'it waits');
    endpoint = await MetricsEndpoint.open({ registry: ta.register, port });
    screen = '';
    await until(() => looks() > 2, 'it goes on');
    child.stdin.write('q');
    const [code] = (await once(child, 'close')) as [number];
    assert.equal(code, 0);
  } finally {
    child.kill('SIGKILL');
  }
  await endpoint.close();
  assertBalanced(await ta.close());
});

test('a sparkline is as high as its values', () => {
  assert.equal(sparkline([0, 1, 2, 4]), '▁▃▅█');
  assert.equal(sparkline([0, 0]), '▁▁');
});

test('a quantile lies where the buckets say', () => {
  const before = new Map([
    [1, 5],
    [2, 5],
    [Number.POSITIVE_INFINITY, 5],
  ]);
  const now = new Map([
    [1, 5],
    [2, 105],
    [Number.POSITIVE_INFINITY, 105],
  ]);
  assert.equal(quantileOf(0.5, before, now), 1.5);
  assert.equal(quantileOf(0.5, now, now), undefined);
  const beyond = new Map([
    [1, 0],
    [2, 0],
    [Number.POSITIVE_INFINITY, 10],
  ]);
  assert.equal(quantileOf(0.99, new Map(), beyond), 2);
});

test('labels and values of a metrics text are read as they were written', () => {
  const text = '# HELP a b\na{x="1,\\"}\\\\",y=""} 2.5\nb 1e3\nnot a sample\n';
  assert.deepEqual(parseMetrics(text), [
    { name: 'a', labels: { x: '1,"}\\', y: '' }, value: 2.5 },
    { name: 'b', labels: {}, value: 1000 },
  ]);
});

test('Ctrl-C, which reaches all processes of a terminal, drains the demo and prints the account', async () => {
  const flags = ['demo', '--rate', '500', '--metrics-port', '0', '--directory', newDirectory()];
  const demo = spawn(process.execPath, [main, ...flags], { detached: true });
  let text = '';
  demo.stdout.on('data', (part: Buffer) => {
    text += part.toString('utf8');
  });
  await until(() => text.includes('records/s'), 'the demo runs');
  process.kill(-Number(demo.pid), 'SIGINT');
  const [code] = await once(demo, 'exit');
  assert.equal(code, 0, text);
  assert.match(text, /found at the receiver/);
  assert.equal(
    text.match(/^look: +http:.*\/ \(engine\) +http:.*\/live\/ \(receiver\)$/gm)?.length,
    1,
  );
});

test('a receiver ends with the process that started it', async () => {
  const flags = ['demo', '--rate', '10', '--metrics-port', '0', '--directory', newDirectory()];
  const demo = spawn(process.execPath, [main, ...flags]);
  await once(demo.stdout, 'data');
  demo.stderr.resume();
  demo.kill('SIGKILL');
  // The receiver has the same standard error: the pipe is closed when both have ended.
  await once(demo, 'close');
});

const DEAD = ['--rate', '100', '--url', 'http://127.0.0.1:2'];

test('wrong usage is told in one line, without a stack, and ends with 2; what this machine refuses ends with 1', async () => {
  const { port } = new URL(receiver.url);
  const wrong: readonly (readonly [number, RegExp, ...string[]])[] = [
    [2, /'--players <count>' argument '1e9' is invalid/, 'demo', '--players', '1e9'],
    [2, /'redirect' is invalid. It needs a value/, 'receiver', '--fault', 'redirect'],
    [2, /'status=99' is invalid. status is from 200/, 'receiver', '--fault', 'status=99'],
    [
      1,
      /^MILLRACE_UNAVAILABLE: listen EADDRINUSE.*; choose another with --port\n$/,
      'receiver',
      '--port',
      port,
    ],
    [1, /^ENOENT: .*mkdir '\/proc\/nope'\n$/, 'receiver', '--save', '/proc/nope'],
    [
      1,
      /^MILLRACE_UNAVAILABLE: \/tmp can't be read: it is a folder; name its files\n$/,
      'check',
      '/tmp',
    ],
    [2, /required option '--url <url>'/, 'spool', 'drain', '.', '--appid', 'A'],
    [2, /'x' is invalid for argument 'url'. It must be like http:/, 'top', 'x'],
    [1, /^MILLRACE_UNAVAILABLE: no metrics at .*ECONNREFUSED/, 'top', 'http://127.0.0.1:2/'],
    [1, /^MILLRACE_UNAVAILABLE: does not answer: .*ECONNREFUSED/, 'tune', ...DEAD],
    [2, /No contestant has nobody in its name/, 'bench', '--only', 'nobody'],
    [1, /^MILLRACE_UNAVAILABLE: init: the adapter has ended/, 'conform', '--adapter', 'false'],
  ];
  await Promise.all(
    wrong.map(async ([expected, pattern, ...flags]) => {
      const { code, stderr } = await millrace(...flags);
      assert.match(stderr, pattern);
      assert.doesNotMatch(stderr, /^ +at /m);
      assert.equal(code, expected, flags.join(' '));
    }),
  );
});
