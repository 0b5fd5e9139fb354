import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { parse } from 'yaml';
import { bundleWithEsbuild } from './packages/bundles.ts';
import { CONSUMERS } from './packages/consumers.ts';
import { unpackPackage } from './packed.ts';
import { newDirectory, repositoryRoot, TestReceiver } from './support.ts';

const { folder, tarballBytes } = unpackPackage();
let receiver: TestReceiver;

before(async () => {
  receiver = await TestReceiver.start(['--appid', 'A']);
});
after(() => receiver.stop());

const features: object = process.features;
const canRequire = 'require_module' in features && features.require_module === true;

test('the tarball is small, and few packages come with it', (context) => {
  const manifest = readFileSync(join(folder, 'node_modules', 'millrace', 'package.json'), 'utf8');
  const { dependencies } = JSON.parse(manifest) as { dependencies: object };
  const count = Object.keys(dependencies).length;
  context.diagnostic(`${Math.round(tarballBytes / 1000)} kB, ${count} dependencies`);
  assert.ok(tarballBytes < 600_000);
  assert.ok(count <= 12);
});

test('fewer than 50 packages come with it in all, and none has to run a script to be installed', (context) => {
  const lock = JSON.parse(readFileSync(join(repositoryRoot(), 'package-lock.json'), 'utf8')) as {
    packages: Record<string, Readonly<Record<string, boolean>>>;
  };
  const needed = Object.entries(lock.packages).filter(
    ([path, { dev, devOptional, optional, peer }]) =>
      path !== '' && [dev, devOptional, optional, peer].every((is) => is !== true),
  );
  context.diagnostic(`${needed.length} packages`);
  assert.ok(needed.length < 50);
  assert.deepEqual(
    needed.filter(([, { hasInstallScript }]) => hasInstallScript === true).map(([path]) => path),
    [],
  );
});

test('types of each entry are found the old way, too', () => {
  const own = join(folder, 'node_modules', 'millrace');
  const { exports, types, typesVersions } = JSON.parse(
    readFileSync(join(own, 'package.json'), 'utf8'),
  ) as {
    exports: Record<string, { types?: string }>;
    types: string;
    typesVersions: { '*': Record<string, string[]> };
  };
  const modern = Object.entries(exports).flatMap(([entry, { types: at }]) =>
    at === undefined ? [] : [[entry.replace(/^\.\/?/, ''), at]],
  );
  const old = Object.entries(typesVersions['*']).map(([entry, [at]]) => [entry, at]);
  assert.deepEqual([['', types], ...old].sort(), modern.sort());
  for (const [, at = ''] of modern) assert.ok(existsSync(join(own, at)), at);
});

for (const { name, argsIn, expected, needsRequire } of Object.values(CONSUMERS)) {
  test(`from the tarball: ${name}`, { skip: needsRequire && !canRequire }, () => {
    const args = argsIn(folder, receiver.url);
    // The dependencies are links out of the folder here.
    const own = args.map((arg) => (arg.startsWith('--allow-fs-read=') ? '--allow-fs-read=*' : arg));
    assert.equal(
      execFileSync(process.execPath, own, { cwd: folder, encoding: 'utf8' }).trim(),
      expected,
    );
  });
}

function run(file: string, text: string): string {
  writeFileSync(join(folder, file), text);
  return execFileSync(process.execPath, [file, receiver.url], { cwd: folder, encoding: 'utf8' });
}

test('from the tarball: a server bundled with esbuild, in every way the documents tell', async (context) => {
  await bundleWithEsbuild({
    app: folder,
    folder: newDirectory(),
    url: receiver.url,
    check: async (what, expected, body) => {
      await context.test(what, async () => assert.equal((await body()).trim(), expected));
    },
  });
});

test('the tarball holds what users need, and no tests', () => {
  const files = readdirSync(join(folder, 'node_modules', 'millrace'), {
    recursive: true,
    encoding: 'utf8',
  });
  for (const name of [
    'README.md',
    'LICENSE',
    'docs/api.md',
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

test('what docker compose mounts for Prometheus and Grafana is in the tarball, every dashboard with it', () => {
  const grafana = join(folder, 'node_modules', 'millrace', 'grafana');
  const compose = parse(readFileSync(join(grafana, 'docker-compose.yml'), 'utf8')) as {
    services: Record<string, { volumes: string[] }>;
  };
  const mounted = Object.values(compose.services)
    .flatMap(({ volumes }) => volumes)
    .map((volume) => volume.split(':')[0] ?? '');
  for (const path of mounted) assert.ok(existsSync(join(grafana, path)), path);
  assert.ok(existsSync(join(grafana, 'provisioning', 'dashboards', 'millrace.yml')));
  for (const name of readdirSync(grafana).filter((file) => file.endsWith('.json'))) {
    assert.ok(mounted.includes(`./${name}`), name);
  }
});

test('a CommonJS module gets the drop-in as an object of functions, whichever way it asks', {
  skip: !canRequire,
}, () => {
  const out = run(
    'shape.cjs',
    `const TA = require('millrace/thinkingdata');
const { initWithDebugMode, default: same } = TA;
TA.enableLog = () => 'replaced';
console.log(Object.keys(TA).length, typeof initWithDebugMode, same === TA, TA.enableLog());
import('millrace/thinkingdata').then((module) => console.log(module.default === TA, typeof module.enableLog));`,
  );
  assert.equal(out, '5 function true replaced\ntrue function\n');
});

test('the command works from the tarball', () => {
  const main = join('node_modules', 'millrace', 'dist', 'src', 'cli', 'main.js');
  const out = execFileSync(process.execPath, [main, '--help'], { cwd: folder, encoding: 'utf8' });
  for (const name of ['demo', 'receiver', 'ship', 'check', 'spool'])
    assert.match(out, new RegExp(name));
});
