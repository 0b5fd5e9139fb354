import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, type TestContext, test } from 'node:test';
import { promisify } from 'node:util';
import { unpackPackage } from './packed.ts';
import { repositoryRoot, TestReceiver } from './support.ts';

/**
 * A newcomer's four paths, from an empty folder, command by command. `npm install millrace` is the tarball unpacked beside the
 * dependencies of this checkout; `npm run test:packages` installs it for real.
 */

const run = promisify(execFile);
const INSTALL = 'npm install millrace';
/** Where the programs send to: a real one, or that of `millrace receiver`. */
const RECEIVERS = /http:\/\/(?:receiver\.example|127\.0\.0\.1:8991)/g;
const features: object = process.features;
const canRequire = 'require_module' in features && features.require_module === true;
let receiver: TestReceiver;

before(async () => {
  receiver = await TestReceiver.start();
});
after(() => receiver.stop());

/** Types the commands in an empty folder, one after another, and gives what the last printed. */
async function walk(
  context: TestContext,
  {
    files = {},
    commands,
  }: { readonly files?: Readonly<Record<string, string>>; readonly commands: readonly string[] },
): Promise<string> {
  const { folder } = unpackPackage();
  for (const [name, text] of Object.entries(files)) {
    writeFileSync(join(folder, name), text.replaceAll(RECEIVERS, receiver.url));
  }
  const typed = [INSTALL, ...commands];
  context.diagnostic(
    `${typed.length} commands: ${typed.join(' ; ')}`.replaceAll(receiver.url, 'URL'),
  );
  let printed = '';
  for (const command of commands) {
    const { stdout } = await run('sh', ['-c', command], { cwd: folder, timeout: 120_000 });
    printed = stdout;
  }
  return printed;
}

/** Programs of the README in a language, first first. */
function snippets(language: string): string[] {
  const readme = readFileSync(join(repositoryRoot(), 'README.md'), 'utf8');
  return [...readme.matchAll(/```(\w+)\n([\s\S]*?)```/g)]
    .filter(([, name]) => name === language)
    .map(([, , code = '']) => code);
}

test('a newcomer tries the demo', async (context) => {
  const printed = await walk(context, {
    commands: ['npx millrace demo --seconds 1 --rate 500 --json'],
  });
  const { ledger, receiver: arrived } = JSON.parse(printed.trim().split('\n').at(-1) ?? '') as {
    ledger: { accepted: number; delivered: number; imbalance: number };
    receiver: { unique: number };
  };
  assert.ok(ledger.accepted > 0, printed);
  assert.deepEqual(
    [ledger.delivered, arrived.unique, ledger.imbalance],
    [ledger.accepted, ledger.accepted, 0],
  );
});

test('a newcomer embeds it in a plain Node server', async (context) => {
  await receiver.reset();
  const [program = ''] = snippets('ts');
  const printed = await walk(context, {
    // The first program of the README is plain JavaScript, too.
    files: { 'server.mjs': program },
    commands: ['node server.mjs'],
  });
  assert.match(printed, /^2 /);
  const { unique, refused } = await receiver.snapshot();
  assert.deepEqual([unique, refused], [2, 0]);
});

test('a newcomer migrates a thinkingdata-node server', { skip: !canRequire }, async (context) => {
  await receiver.reset();
  const server = `const TA = require('thinkingdata-node');
const te = TA.initWithAsyncBatchMode('APP_ID', 'http://receiver.example', { batchSize: 2 });
te.setSuperProperties({ server: 'eu-1' });
te.track({ accountId: 'player-1', event: 'login', callback: (error) => console.log('login', error) });
te.userSet({ accountId: 'player-1', properties: { level: 3 }, callback: (error) => console.log('user', error) });
te.close();
`;
  const printed = await walk(context, {
    files: { 'server.cjs': server },
    commands: ['sed -i s,thinkingdata-node,millrace/thinkingdata, server.cjs', 'node server.cjs'],
  });
  assert.deepEqual(printed.trim().split('\n').sort(), ['login undefined', 'user undefined']);
  const { unique, refused } = await receiver.snapshot();
  assert.deepEqual([unique, refused], [2, 0]);
});

test('a newcomer follows log files with ship', async (context) => {
  await receiver.reset();
  const line = JSON.stringify({
    '#type': 'track',
    '#time': '2026-03-08 12:05:06.007',
    '#event_name': 'login',
    '#account_id': 'player-1',
    properties: {},
  });
  const printed = await walk(context, {
    files: { 'log.2026-03-08': `${line}\n${line}\n` },
    commands: [`npx millrace ship . --once --json --url ${receiver.url} --appid APP_ID`],
  });
  const account = JSON.parse(printed.trim().split('\n').at(-1) ?? '') as { delivered?: number };
  assert.equal(account.delivered, 2, printed);
  assert.equal((await receiver.snapshot()).unique, 2);
});
