import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { CASES } from '../src/conform/cases.ts';
import { newDirectory, repositoryRoot } from './support.ts';

const run = promisify(execFile);
const MAIN = fileURLToPath(new URL('../src/cli/main.js', import.meta.url));
const ADAPTER = fileURLToPath(new URL('./conformance/millrace-adapter.js', import.meta.url));

interface Report {
  readonly code: number;
  readonly passed: number;
  readonly of: number;
  readonly results: readonly {
    readonly name: string;
    readonly state: string;
    readonly reason?: string;
  }[];
}

/** `millrace conform --json` with the command of an adapter. */
async function conform(adapter: string, ...flags: readonly string[]): Promise<Report> {
  const args = [MAIN, 'conform', '--json', '--adapter', adapter, ...flags];
  const { stdout, code } = await run(process.execPath, args).then(
    ({ stdout }) => ({ stdout, code: 0 }),
    (error: { stdout: string; code: number }) => error,
  );
  return { code, ...(JSON.parse(stdout) as Omit<Report, 'code'>) };
}

/** The command of an adapter of one function body: `answer(request)` gives the reply. */
function adapterOf(body: string): string {
  const path = join(newDirectory(), 'adapter.mjs');
  writeFileSync(
    path,
    `import { createInterface } from 'node:readline';
function answer(request) { ${body} }
createInterface({ input: process.stdin }).on('line', (line) => {
  console.log('SDK says hello');
  console.log(JSON.stringify(answer(JSON.parse(line))));
});`,
  );
  return `"${process.execPath}" "${path}"`;
}

test('millrace passes cases of each area', async () => {
  const adapter = `"${process.execPath}" "${ADAPTER}"`;
  for (const [only, count] of [
    ['503 three times', 1],
    ['the end of the program writes', 1],
    ['refusal reaches', 1],
  ] as const) {
    const report = await conform(adapter, '--only', only, '--patience', '3');
    assert.deepEqual(
      report.results.filter(({ state }) => state !== 'pass'),
      [],
    );
    assert.deepEqual([report.passed, report.code], [count, 0]);
  }
});

test('an SDK that does nothing, refuses everything, dies or lacks a call fails, and is told why', async () => {
  const hasty = ['--patience', '0.1'];
  const silent = adapterOf('return { ok: true }');
  const reasonOf = ({ results }: Report) => results[0]?.reason ?? '';
  const deleted = await conform(silent, '--only', 'user_del', ...hasty);
  assert.equal(deleted.code, 1);
  assert.match(reasonOf(deleted), /1 records were expected, 0 came/);
  const refused = await conform(silent, '--only', 'nobody is refused', ...hasty);
  assert.match(reasonOf(refused), /an error was expected/);
  const stubborn = await conform(adapterOf('return { error: "no" }'), '--only', 'user_del');
  assert.match(reasonOf(stubborn), /init: no/);
  const mortal = adapterOf('return request.do === "init" ? { ok: true } : process.exit(3)');
  const dying = await conform(mortal, '--only', 'user_del');
  assert.match(reasonOf(dying), /the adapter has ended/);
  const poor = await conform(adapterOf('return { unsupported: true }'), '--only', 'user_del');
  assert.equal(poor.results[0]?.state, 'unsupported');
});

test('the document has the score of every case, and millrace passes them all', () => {
  const text = readFileSync(join(repositoryRoot(), 'docs', 'conformance.md'), 'utf8');
  for (const { area, name } of CASES) assert.ok(text.includes(`| ${area}: ${name} | ✓ |`), name);
  assert.equal(new Set(CASES.map(({ name }) => name)).size, CASES.length);
});
