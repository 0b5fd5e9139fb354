import { execFile } from 'node:child_process';
import { mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { type BuildOptions, build } from 'esbuild';

const run = promisify(execFile);

/** One thing that has to work; what it prints is compared. */
export type Check = (what: string, expected: string, body: () => Promise<string>) => Promise<void>;

export interface BundleTools {
  /** Folder with the installed package. */
  readonly app: string;
  /** An empty folder with a package.json. */
  readonly folder: string;
  readonly check: Check;
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

const WORKER = join('node_modules', 'millrace', 'dist', 'workers', 'http.js');
const PISCINA = join('node_modules', 'piscina', 'dist', 'worker.js');

/** Runs a bundle of the folder. */
function started({ folder, url }: BundleTools, ...place: readonly string[]): () => Promise<string> {
  return async () => {
    const args = [join(folder, ...place), url];
    return (await run(process.execPath, args, { timeout: 60_000 })).stdout;
  };
}

/** Bundles a server with esbuild in every way docs/bundling.md tells, and runs what comes out in folders without node_modules. */
export async function bundleWithEsbuild(tools: BundleTools): Promise<void> {
  const { app, folder, check } = tools;
  writeFileSync(join(app, 'server.mjs'), SERVER(''));
  writeFileSync(
    join(app, 'placed.mjs'),
    SERVER(", workerFile: new URL('./threads/http.mjs', import.meta.url)"),
  );
  const make = (input: string, output: string, options: BuildOptions) =>
    build({
      absWorkingDir: app,
      entryPoints: [input],
      outfile: join(folder, output),
      bundle: true,
      platform: 'node',
      logLevel: 'error',
      external: ['@napi-rs/nice'],
      ...options,
    });
  const module: BuildOptions = { format: 'esm', banner: { js: BANNER } };
  const script: BuildOptions = { format: 'cjs' };

  await make('server.mjs', 'apart/server.mjs', { format: 'esm', packages: 'external' });
  symlinkSync(join(app, 'node_modules'), join(folder, 'apart', 'node_modules'));
  await check('esbuild, packages external', '1', started(tools, 'apart', 'server.mjs'));

  await make('server.mjs', 'alone/server.mjs', module);
  const told = 'MILLRACE_OPTIONS true';
  await check('esbuild without a worker entry: told', told, started(tools, 'alone', 'server.mjs'));

  await make('server.mjs', 'esm/server.mjs', module);
  await make(WORKER, 'esm/millrace-http.mjs', module);
  await make(PISCINA, 'esm/worker.js', script);
  await check('esbuild, all in three ES modules', '1', started(tools, 'esm', 'server.mjs'));

  await make('server.mjs', 'cjs/server.cjs', { ...script, logLevel: 'silent' });
  await make(WORKER, 'cjs/millrace-http.cjs', { ...script, logLevel: 'silent' });
  await make(PISCINA, 'cjs/worker.js', script);
  await check('esbuild, all in three scripts', '1', started(tools, 'cjs', 'server.cjs'));

  await make('placed.mjs', 'placed/server.mjs', module);
  await make(WORKER, 'placed/threads/http.mjs', module);
  await make(PISCINA, 'placed/worker.js', script);
  await check('esbuild, a static new URL', '1', started(tools, 'placed', 'server.mjs'));
}

/** The same with Rollup; `tools.folder` has it and its plugins. */
export async function bundleWithRollup(tools: BundleTools): Promise<void> {
  const { app, folder, check } = tools;
  writeFileSync(join(app, 'server.mjs'), SERVER(''));
  writeFileSync(
    join(folder, 'rollup.config.mjs'),
    `import resolve from '@rollup/plugin-node-resolve';
import commonjs from '@rollup/plugin-commonjs';
import json from '@rollup/plugin-json';
const external = ['@napi-rs/nice', 'msgpackr-extract'];
const plugins = [resolve({ preferBuiltins: true, exportConditions: ['node'] }), commonjs({ ignoreDynamicRequires: true, ignore: (id) => id.startsWith('node:') || external.includes(id) }), json()];
const banner = ${JSON.stringify(BANNER)};
const build = (input, name) => ({ input, external, plugins, onwarn: () => {}, output: { file: ${JSON.stringify(join(folder, 'rolled'))} + '/' + name, format: 'es', inlineDynamicImports: true, banner } });
export default [build('server.mjs', 'server.mjs'), build('${WORKER}', 'millrace-http.mjs'), { ...build('${PISCINA}', 'worker.js'), output: { file: ${JSON.stringify(join(folder, 'rolled', 'worker.js'))}, format: 'cjs', inlineDynamicImports: true } }];
`,
  );
  await check('Rollup, all in three files', '1', async () => {
    mkdirSync(join(folder, 'rolled'), { recursive: true });
    await run(
      join(folder, 'node_modules', '.bin', 'rollup'),
      ['-c', join(folder, 'rollup.config.mjs')],
      { cwd: app },
    );
    return started(tools, 'rolled', 'server.mjs')();
  });
}

/** The same with webpack, which has to be told the place of the worker; `tools.folder` has it. */
export async function bundleWithWebpack(tools: BundleTools): Promise<void> {
  const { app, folder, check } = tools;
  writeFileSync(
    join(app, 'placed.cjs.mjs'),
    SERVER(", workerFile: __dirname + '/threads/http.cjs'"),
  );
  writeFileSync(
    join(folder, 'webpack.mjs'),
    `import webpack from 'webpack';
const entry = { server: './placed.cjs.mjs', 'threads/http': { import: 'millrace/workers/http', library: { type: 'commonjs2', export: 'default' } }, worker: ${JSON.stringify(`./${PISCINA}`)} };
webpack({ mode: 'production', target: 'node', context: ${JSON.stringify(app)}, entry,
  externals: { '@napi-rs/nice': 'commonjs @napi-rs/nice' }, optimization: { minimize: false }, node: { __dirname: false, __filename: false },
  output: { path: ${JSON.stringify(join(folder, 'packed'))}, filename: ({ chunk }) => chunk.name + (chunk.name === 'worker' ? '.js' : '.cjs'), library: { type: 'commonjs2' } },
}, (error, stats) => { if (error || stats.hasErrors()) { console.log(error ?? stats.toString('errors-only')); process.exitCode = 1; } });
`,
  );
  await check('webpack, all in three files', '1', async () => {
    await run(process.execPath, [join(folder, 'webpack.mjs')], { cwd: folder });
    return started(tools, 'packed', 'server.cjs')();
  });
}
