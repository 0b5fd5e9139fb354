import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { judge } from '../bench/guard-judge.ts';
import { COMPUTING_ALONE, COMPUTING_BESIDE } from '../bench/peers/baselines.ts';
import { newDirectory } from './support.ts';

const main = fileURLToPath(new URL('../src/cli/main.js', import.meta.url));

interface Report {
  readonly peers: Readonly<Record<string, string | null>>;
  readonly sections: readonly {
    readonly key: string;
    readonly metrics: readonly { readonly key: string }[];
    readonly rows: readonly {
      readonly name: string;
      readonly values: Readonly<Record<string, readonly number[]>>;
    }[];
  }[];
}

function bench(...flags: string[]): Promise<{ code: unknown; stdout: string; stderr: string }> {
  return new Promise((resolve) => {
    execFile(process.execPath, [main, 'bench', ...flags], (error, stdout, stderr) => {
      resolve({ code: error === null ? 0 : error.code, stdout, stderr });
    });
  });
}

const TINY = ['--quick', '--rounds', '1', '--seconds', '0.05'];

test('a bench gives a value a round for each figure of each contestant, and only after all records arrived', async () => {
  const only = 'millrace http,thinkingdata-node async,millrace files';
  const page = join(newDirectory(), 'bench.html');
  const flags = ['--suite', 'caller,pipeline', '--only', only, '--html', page, '--json'];
  const { code, stdout, stderr } = await bench(...TINY, ...flags);
  assert.equal(code, 0, stderr);
  const { sections, peers } = JSON.parse(stdout) as Report;
  assert.equal(peers['thinkingdata-node'], '1.5.0');
  const [caller, http] = sections;
  assert.deepEqual(
    caller?.rows.map(({ name }) => name),
    ['JSON.stringify of the finished record', ...only.split(',')],
  );
  assert.deepEqual(
    http?.rows.map(({ name }) => name),
    [...only.split(',').slice(0, 2), COMPUTING_ALONE, COMPUTING_BESIDE],
  );
  for (const { metrics, rows } of sections) {
    for (const { name, values } of rows) {
      for (const { key } of metrics) {
        const list = values[key] ?? [];
        assert.ok(list.length === 1 && list.every(Number.isFinite), `${name} has ${key}: ${list}`);
      }
    }
  }
  const lost = sections.flatMap(({ rows }) => rows).find(({ name }) => name === 'millrace http');
  assert.deepEqual(lost?.values.lost ?? [0], [0]);
  const html = readFileSync(page, 'utf8');
  assert.match(html, /thinkingdata-node async<\/td>/);
  // It opens from a file, without a network: nothing in it is loaded from elsewhere.
  assert.doesNotMatch(html, /<(?:script|link|img)[^>]*(?:src|href)=/);
});

test('the guard calls worse only what got worse by more than is allowed', () => {
  const baseline = {
    node: 'v20',
    times: { a: 1, b: 1 },
    instructions: { a: 1 },
    bytes: { gzip: 95 },
  };
  const now = {
    node: 'v22',
    times: { a: 1.3, b: 1.4, c: 9 },
    instructions: { a: 1.13 },
    bytes: { gzip: 90 },
  };
  const worse = judge(baseline, now).filter(({ isWorse }) => isWorse);
  assert.deepEqual(
    worse.map(({ name }) => name),
    ['instructions: a', 'times: b'],
  );
  const { instructions, ...without } = baseline;
  assert.equal(judge(without, now).length, 3);
});

test('a suite that does not exist is wrong usage', async () => {
  const { code, stderr } = await bench('--suite', 'nonsense');
  assert.equal(code, 2);
  assert.match(stderr, /caller/);
});
