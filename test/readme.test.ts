import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { test } from 'node:test';
import { promisify } from 'node:util';
import {
  Analytics,
  AsyncBatchConsumer,
  BatchConsumer,
  DebugConsumer,
  LoggingConsumer,
  MillraceError,
} from '../src/index.ts';
import { CATALOGUE } from '../src/metrics/catalogue.ts';
import { apiDocument } from './docs/api.ts';
import { newDirectory, repositoryRoot, TestReceiver } from './support.ts';

const root = repositoryRoot();
const run = promisify(execFile);

function document(name: string): string {
  return readFileSync(join(root, name), 'utf8');
}

/** README and everything in docs/. */
const DOCUMENTS: readonly string[] = [
  'README.md',
  'CONTRIBUTING.md',
  ...readdirSync(join(root, 'docs'), { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.md'))
    .map((name) => join('docs', name)),
];

/** First cells of the table rows below a heading, without their back-quotes. */
function namesBelow(name: string, lead: string): string[] {
  const text = document(name);
  const from = text.indexOf(lead);
  assert.ok(from >= 0, `${name} has: ${lead}`);
  const rest = text.slice(from + lead.length).split('\n');
  const first = rest.findIndex((line) => line.startsWith('|'));
  const rows = rest.slice(first + 2);
  const end = rows.findIndex((line) => !line.startsWith('|'));
  return rows.slice(0, end).map((line) => /^\| `([^`]+)`/.exec(line)?.[1] ?? line);
}

/** What the code says it knows. */
function knownOptions(make: () => unknown): string[] {
  try {
    make();
  } catch (error) {
    assert.ok(error instanceof MillraceError);
    const match = /known are ([\w, ]+)/.exec(error.message);
    assert.ok(match, error.message);
    return (match[1] ?? '').split(', ');
  }
  assert.fail('an unknown option was taken');
}

test('the option tables name exactly what the code takes', () => {
  const table = (lead: string) => namesBelow('docs/options.md', `## Options of ${lead}`);
  const engine = table('all consumers');
  const http = table('the HTTP consumers');
  const odd = { url: 'http://127.0.0.1', appId: 'A', no_such_option: 1 };
  const directory = newDirectory();
  const known = (make: () => unknown) => knownOptions(make).sort();
  assert.deepEqual(
    known(() => new AsyncBatchConsumer(odd)),
    [...engine, ...http, ...table('AsyncBatchConsumer')].sort(),
  );
  assert.deepEqual(
    known(() => new BatchConsumer(odd)),
    [...engine, ...http, ...table('BatchConsumer')].sort(),
  );
  assert.deepEqual(
    known(() => new DebugConsumer(odd)),
    [...http, 'exitFlushMs', 'workerFile', ...table('DebugConsumer')].sort(),
  );
  const logging = { directory, no_such_option: 1 };
  assert.deepEqual(
    known(() => new LoggingConsumer(logging)),
    [...engine, ...table('LoggingConsumer')].sort(),
  );
  const client: object = { no_such_option: 1 };
  assert.deepEqual(
    known(() => new Analytics(new LoggingConsumer(directory), client)),
    table('the client').sort(),
  );
});

test('the metrics table names exactly what is exposed', () => {
  assert.deepEqual(
    namesBelow('docs/metrics.md', '# Metrics'),
    CATALOGUE.map(({ name }) => name),
  );
});

test('every code an error can have is documented', () => {
  const source = document('src/base/errors.ts');
  const codes = [...source.matchAll(/\| '(MILLRACE_\w+)'/g)].map(([, code = '']) => code);
  assert.ok(codes.length > 10);
  const text = document('docs/errors.md');
  for (const code of codes) assert.ok(text.includes(`| \`${code}\` |`), code);
});

test('every link from one document to another leads somewhere, and the README leads to all', () => {
  const reached = new Set(['README.md']);
  for (const name of DOCUMENTS) {
    for (const [, target = ''] of document(name).matchAll(/\]\(([^)#:]+)(?:#[^)]*)?\)/g)) {
      const path = join(dirname(name), target);
      assert.ok(existsSync(join(root, path)), `${name} links to ${target}`);
      reached.add(path);
    }
  }
  assert.deepEqual(
    DOCUMENTS.filter((name) => !reached.has(name)),
    [],
  );
});

test('the API document is that of the declarations: npm run docs', () => {
  assert.equal(document('docs/api.md'), apiDocument());
});

/** Where programs in the documents send to: a real one, or that of `millrace receiver`. */
const RECEIVERS = /http:\/\/(?:receiver\.example|127\.0\.0\.1:8991)/g;

/** The programs in the documents, each in a folder of its own, compiled. */
async function compileSnippets(folder: string, receiverUrl: string): Promise<string[]> {
  mkdirSync(join(folder, 'node_modules', '@types'), { recursive: true });
  symlinkSync(root, join(folder, 'node_modules', 'millrace'));
  for (const name of ['@types/node', '@opentelemetry']) {
    symlinkSync(join(root, 'node_modules', name), join(folder, 'node_modules', name));
  }
  writeFileSync(join(folder, 'package.json'), '{"type":"module"}');
  const files = DOCUMENTS.flatMap((name) =>
    [...document(name).matchAll(/^```ts\n([\s\S]*?)^```/gm)].map(([, code = ''], index) => {
      const place = join(folder, `${name.replace(/\W/g, '-')}-${index}`);
      mkdirSync(place);
      const file = join(place, 'main.ts');
      mkdirSync(join(place, 'logs'));
      writeFileSync(file, code.replaceAll(RECEIVERS, receiverUrl));
      return file;
    }),
  );
  const tsc = join(root, 'node_modules/typescript/bin/tsc');
  const flags = '--strict --module nodenext --target es2023 --types node --skipLibCheck';
  try {
    await run(process.execPath, [tsc, ...flags.split(' '), ...files], { cwd: folder });
  } catch (error) {
    assert.fail(String((error as { stdout?: string }).stdout ?? error));
  }
  return files.map((file) => file.replace(/\.ts$/, '.js'));
}

test('every program in the documents compiles and runs', async () => {
  const receiver = await TestReceiver.start();
  const programs = await compileSnippets(newDirectory(), receiver.url);
  assert.ok(programs.length >= 7);
  const waiting = [...programs];
  const attend = async () => {
    for (let file = waiting.shift(); file !== undefined; file = waiting.shift()) {
      await run(process.execPath, [file], { cwd: dirname(file), timeout: 60_000 });
    }
  };
  await Promise.all([attend(), attend()]);
  const { records, refused, debugRecords } = await receiver.snapshot();
  await receiver.stop();
  assert.equal(refused, 0);
  assert.equal(debugRecords, 1);
  assert.ok(records >= 4, `${records} records arrived`);
});
