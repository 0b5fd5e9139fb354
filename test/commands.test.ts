import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { Analytics, LoggingConsumer } from '../src/index.ts';
import { MetricsEndpoint } from '../src/metrics/endpoint.ts';
import { assertBalanced, newDirectory, TestReceiver } from './support.ts';

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
  assert.ok(found.some(({ what, state }) => what === 'app id A' && state === 'ok'));
  assert.equal((await receiver.snapshot()).unique, 0);
});

test('doctor says what is wrong with a dead receiver, a wrong app id and a bad folder, and ends with 1', async () => {
  const dead = await millrace('doctor', '--url', 'http://127.0.0.1:9', '--dir', '/dev/null/x');
  assert.equal(dead.code, 1);
  assert.match(dead.stdout, /bad\treceiver: does not answer/);
  assert.match(dead.stdout, /bad\tfolder/);
  const wrong = await millrace('doctor', '--url', receiver.url, '--appid', 'B');
  assert.equal(wrong.code, 1);
  assert.match(wrong.stdout, /bad\tapp id B/);
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
  const rows = JSON.parse(stdout) as { name: string; value: number }[];
  assert.equal(rows.find(({ name }) => name === 'delivered')?.value, 50);
  await endpoint.close();
  assertBalanced(await ta.close());
  const none = await millrace('top', receiver.url, '--once');
  assert.equal(none.code, 1);
});
