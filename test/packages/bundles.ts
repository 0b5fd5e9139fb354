import { execFile } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';

const run = promisify(execFile);

interface BundleTools {
  /** Folder with the installed package. */
  readonly app: string;
  /** An empty folder with a package.json. */
  readonly folder: string;
  readonly npm: (cwd: string, ...args: readonly string[]) => Promise<unknown>;
  readonly check: (what: string, expected: string, body: () => Promise<string>) => Promise<void>;
  readonly url: string;
}

const SERVER = (options: string) => `import { Analytics, AsyncBatchConsumer } from 'millrace';
async function main() {
  const ta = new Analytics(new AsyncBatchConsumer({ url: process.argv[2], appId: 'A', workers: 1${options} }));
  ta.track({ accountId: 'u', event: 'bundled' });
  console.log((await ta.close()).delivered);
}
main().catch((error) => console.log(error.code, error.message.includes('docs/bundling.md')));
`;

/** What an ES module that swallows CommonJS packages needs (docs/bundling.md). */
const BANNER =
  "import{createRequire as r}from'node:module';import{fileURLToPath as f}from'node:url';" +
  "const require=r(import.meta.url),__filename=f(import.meta.url),__dirname=f(new URL('.',import.meta.url));";

/** Bundles a server in every way docs/bundling.md tells, and runs what comes out in folders without node_modules. */
export async function bundle({ app, folder, npm, check, url }: BundleTools): Promise<void> {
  await npm(
    folder,
    'install',
    'esbuild@0.28',
    'webpack@5',
    'rollup@4',
    '@rollup/plugin-node-resolve',
    '@rollup/plugin-commonjs',
    '@rollup/plugin-json',
  );
  writeFileSync(join(app, 'server.mjs'), SERVER(''));
  writeFileSync(
    join(app, 'placed.cjs.mjs'),
    SERVER(", workerFile: __dirname + '/threads/http.cjs'"),
  );
  writeFileSync(
    join(app, 'placed.mjs'),
    SERVER(", workerFile: new URL('./threads/http.mjs', import.meta.url)"),
  );
  const esbuild = (input: string, output: string, ...flags: readonly string[]) =>
    run(
      join(folder, 'node_modules', '.bin', 'esbuild'),
      [
        input,
        '--bundle',
        '--platform=node',
        '--log-level=error',
        `--outfile=${join(folder, output)}`,
        '--external:@napi-rs/nice',
        ...flags,
      ],
      { cwd: app },
    );
  const start =
    (...place: readonly string[]) =>
    async () => {
      const path = join(folder, ...place);
      return (await run(process.execPath, [path, url], { timeout: 60_000 })).stdout;
    };
  const worker = join('node_modules', 'millrace', 'dist', 'workers', 'http.js');
  const piscina = join('node_modules', 'piscina', 'dist', 'worker.js');
  const esm = ['--format=esm', `--banner:js=${BANNER}`];

  await esbuild('server.mjs', 'apart/server.mjs', '--format=esm', '--packages=external');
  await run('ln', ['-sfn', join(app, 'node_modules'), join(folder, 'apart', 'node_modules')]);
  await check('esbuild, packages external', '1', start('apart', 'server.mjs'));

  await esbuild('server.mjs', 'alone/server.mjs', ...esm);
  await check(
    'esbuild without a worker entry: a clear error',
    'MILLRACE_OPTIONS true',
    start('alone', 'server.mjs'),
  );

  await esbuild('server.mjs', 'esm/server.mjs', ...esm);
  await esbuild(worker, 'esm/millrace-http.mjs', ...esm);
  await esbuild(piscina, 'esm/worker.js', '--format=cjs');
  await check('esbuild, all in three ES modules', '1', start('esm', 'server.mjs'));

  await esbuild('server.mjs', 'cjs/server.cjs', '--format=cjs');
  await esbuild(worker, 'cjs/millrace-http.cjs', '--format=cjs');
  await esbuild(piscina, 'cjs/worker.js', '--format=cjs');
  await check('esbuild, all in three scripts', '1', start('cjs', 'server.cjs'));

  await esbuild('placed.mjs', 'placed/server.mjs', ...esm);
  await esbuild(worker, 'placed/threads/http.mjs', ...esm);
  await esbuild(piscina, 'placed/worker.js', '--format=cjs');
  await check('esbuild, workerFile by a static new URL', '1', start('placed', 'server.mjs'));

  writeFileSync(
    join(folder, 'rollup.config.mjs'),
    `import resolve from '@rollup/plugin-node-resolve';
import commonjs from '@rollup/plugin-commonjs';
import json from '@rollup/plugin-json';
const external = ['@napi-rs/nice', 'msgpackr-extract'];
const plugins = [resolve({ preferBuiltins: true, exportConditions: ['node'] }), commonjs({ ignoreDynamicRequires: true, ignore: (id) => id.startsWith('node:') || external.includes(id) }), json()];
const banner = ${JSON.stringify(BANNER)};
const build = (input, name) => ({ input, external, plugins, onwarn: () => {}, output: { file: ${JSON.stringify(join(folder, 'rolled'))} + '/' + name, format: 'es', inlineDynamicImports: true, banner } });
export default [build('server.mjs', 'server.mjs'), build('${worker}', 'millrace-http.mjs'), { ...build('${piscina}', 'worker.js'), output: { file: ${JSON.stringify(join(folder, 'rolled', 'worker.js'))}, format: 'cjs', inlineDynamicImports: true } }];
`,
  );
  await check('Rollup, all in three files', '1', async () => {
    mkdirSync(join(folder, 'rolled'), { recursive: true });
    await run(
      join(folder, 'node_modules', '.bin', 'rollup'),
      ['-c', join(folder, 'rollup.config.mjs')],
      { cwd: app },
    );
    return start('rolled', 'server.mjs')();
  });

  writeFileSync(
    join(folder, 'webpack.mjs'),
    `import webpack from 'webpack';
const entry = { server: './placed.cjs.mjs', 'threads/http': { import: 'millrace/workers/http', library: { type: 'commonjs2', export: 'default' } }, worker: ${JSON.stringify(`./${piscina}`)} };
webpack({ mode: 'production', target: 'node', context: ${JSON.stringify(app)}, entry,
  externals: { '@napi-rs/nice': 'commonjs @napi-rs/nice' }, optimization: { minimize: false }, node: { __dirname: false, __filename: false },
  output: { path: ${JSON.stringify(join(folder, 'packed'))}, filename: ({ chunk }) => chunk.name + (chunk.name === 'worker' ? '.js' : '.cjs'), library: { type: 'commonjs2' } },
}, (error, stats) => { if (error || stats.hasErrors()) { console.log(error ?? stats.toString('errors-only')); process.exitCode = 1; } });
`,
  );
  await check('webpack, all in three files', '1', async () => {
    await run(process.execPath, [join(folder, 'webpack.mjs')], { cwd: folder });
    return start('packed', 'server.cjs')();
  });
}
