import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdirSync, readdirSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { newDirectory, repositoryRoot, TestReceiver } from './support.ts';

const root = repositoryRoot();
const folder = newDirectory();
let receiver: TestReceiver;

// The packed tarball in an empty folder, as `npm install millrace` leaves it; the dependencies are those of this checkout.
before(async () => {
  receiver = await TestReceiver.start(['--appid', 'A']);
  execFileSync('npm', ['pack', '--ignore-scripts', '--silent', '--pack-destination', folder], {
    cwd: root,
  });
  const [tarball = ''] = readdirSync(folder).filter((name) => name.endsWith('.tgz'));
  assert.ok(statSync(join(folder, tarball)).size < 500_000);
  const modules = join(folder, 'node_modules');
  mkdirSync(join(modules, 'millrace'), { recursive: true });
  execFileSync('tar', [
    'xzf',
    join(folder, tarball),
    '--strip-components=1',
    '-C',
    join(modules, 'millrace'),
  ]);
  for (const name of readdirSync(join(root, 'node_modules'))) {
    if (name.startsWith('.')) continue;
    symlinkSync(join(root, 'node_modules', name), join(modules, name));
  }
});
after(() => receiver.stop());

function run(file: string, text: string): string {
  writeFileSync(join(folder, file), text);
  return execFileSync(process.execPath, [file, receiver.url], { cwd: folder, encoding: 'utf8' });
}

test('the tarball holds what users need, and no tests', () => {
  const files = readdirSync(join(folder, 'node_modules', 'millrace'), {
    recursive: true,
    encoding: 'utf8',
  });
  for (const name of [
    'README.md',
    'LICENSE',
    'docs/runbook.md',
    'grafana/millrace-overview.json',
    'grafana/millrace-rules.yml',
    'dist/src/index.d.ts',
    'dist/workers/http.js',
  ]) {
    assert.ok(files.includes(name), name);
  }
  assert.deepEqual(
    files.filter((name) => /\btest\b|\.map$|^src\//.test(name)),
    [],
  );
});

test('an ES module of a user works from the tarball', () => {
  const out = run(
    'app.mjs',
    `import { Analytics, AsyncBatchConsumer } from 'millrace';
import TA from 'millrace/thinkingdata';
const ta = new Analytics(new AsyncBatchConsumer({ url: process.argv[2], appId: 'A' }));
ta.track({ accountId: 'u', event: 'packed' });
console.log((await ta.close()).delivered, typeof TA.initWithBatchMode);`,
  );
  assert.equal(out, '1 function\n');
});

test('a CommonJS module of a user works from the tarball, where Node can require ES modules', (context) => {
  const features: object = process.features;
  if (!('require_module' in features) || features.require_module !== true) {
    context.diagnostic('this Node can not require ES modules');
    return;
  }
  const out = run(
    'app.cjs',
    `const { Analytics, AsyncBatchConsumer } = require('millrace');
const TA = require('millrace/thinkingdata');
const te = TA.initWithAsyncBatchMode('A', process.argv[2], { interval: 5 });
te.track({ accountId: 'u', event: 'packed', callback: (error) => { console.log('heard', error); te.close(); } });
const ta = new Analytics(new AsyncBatchConsumer({ url: process.argv[2], appId: 'A' }));
ta.track({ accountId: 'u', event: 'packed' });
ta.close().then(({ delivered }) => console.log(delivered));`,
  );
  assert.deepEqual(out.trim().split('\n').sort(), ['1', 'heard undefined']);
});

test('the command works from the tarball', () => {
  const main = join('node_modules', 'millrace', 'dist', 'src', 'cli', 'main.js');
  const out = execFileSync(process.execPath, [main, '--help'], { cwd: folder, encoding: 'utf8' });
  for (const name of ['demo', 'receiver', 'ship', 'check', 'spool'])
    assert.match(out, new RegExp(name));
});
