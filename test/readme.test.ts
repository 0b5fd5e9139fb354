import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import {
  Analytics,
  AsyncBatchConsumer,
  BatchConsumer,
  DebugConsumer,
  LoggingConsumer,
  MillraceError,
} from '../src/index.ts';
import { CATALOGUE } from '../src/metrics/catalogue.ts';
import { newDirectory, repositoryRoot, TestReceiver } from './support.ts';

const root = repositoryRoot();
const readme = readFileSync(join(root, 'README.md'), 'utf8');

/** First cells of the table rows below a heading or lead-in, without their back-quotes. */
function namesBelow(lead: string): string[] {
  const from = readme.indexOf(lead);
  assert.ok(from >= 0, `the README has: ${lead}`);
  const rest = readme.slice(from + lead.length).split('\n');
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

const engine = namesBelow('### Options of all consumers');
const http = namesBelow('### Options of the HTTP consumers');
const odd = { url: 'http://127.0.0.1', appId: 'A', directory: newDirectory(), no_such_option: 1 };

test('the option tables name exactly what the code takes', () => {
  const asyncOptions = namesBelow('AsyncBatchConsumer adds');
  const known = (make: () => unknown) => knownOptions(make).sort();
  const { directory, ...httpOdd } = odd;
  assert.deepEqual(
    known(() => new AsyncBatchConsumer(httpOdd)),
    [...engine, ...http, ...asyncOptions].sort(),
  );
  assert.deepEqual(
    known(() => new BatchConsumer(httpOdd)),
    [...engine, ...http, 'batchSize', 'maxCachedBatches', 'retries'].sort(),
  );
  assert.deepEqual(
    known(() => new DebugConsumer(httpOdd)),
    [...http, 'exitFlushMs', 'workerFile', 'dryRun', 'deviceId'].sort(),
  );
  const logging = { directory, no_such_option: 1 };
  assert.deepEqual(
    known(() => new LoggingConsumer(logging)),
    [...engine, ...namesBelow('### Options of LoggingConsumer')].sort(),
  );
  const client: object = { no_such_option: 1 };
  assert.deepEqual(
    known(() => new Analytics(new LoggingConsumer(directory), client)),
    namesBelow('### Options of the client').sort(),
  );
});

test('the metrics table names exactly what is exposed', () => {
  assert.deepEqual(
    namesBelow('## Scrape'),
    CATALOGUE.map(({ name }) => name),
  );
});

test('every code an error can have is in the README', () => {
  const source = readFileSync(join(root, 'src/base/errors.ts'), 'utf8');
  const codes = [...source.matchAll(/\| '(MILLRACE_\w+)'/g)].map(([, code = '']) => code);
  assert.ok(codes.length > 10);
  for (const code of codes) assert.ok(readme.includes(`\`${code}\``), code);
});

test('every snippet of the README compiles and runs', async () => {
  const snippets = [...readme.matchAll(/```ts\n([\s\S]*?)```/g)].map(([, code = '']) => code);
  assert.ok(snippets.length >= 5);
  const receiver = await TestReceiver.start();
  const folder = newDirectory();
  mkdirSync(join(folder, 'node_modules', '@types'), { recursive: true });
  symlinkSync(root, join(folder, 'node_modules', 'millrace'));
  symlinkSync(join(root, 'node_modules/@types/node'), join(folder, 'node_modules/@types/node'));
  writeFileSync(join(folder, 'package.json'), '{"type":"module"}');
  const files = snippets.map((code, index) => {
    const file = join(folder, `snippet${index}.ts`);
    writeFileSync(file, code.replaceAll('http://receiver.example', receiver.url));
    return file;
  });
  const tsc = join(root, 'node_modules/typescript/bin/tsc');
  const flags = '--strict --module nodenext --target es2023 --types node --skipLibCheck';
  execFileSync(process.execPath, [tsc, ...flags.split(' '), ...files], { cwd: folder });
  for (const file of files) {
    execFileSync(process.execPath, [file.replace('.ts', '.js')], { cwd: folder, stdio: 'pipe' });
  }
  const { records, refused, debugRecords } = await receiver.snapshot();
  await receiver.stop();
  assert.equal(refused, 0);
  assert.equal(debugRecords, 1);
  assert.ok(records >= 4, `${records} records arrived`);
});
