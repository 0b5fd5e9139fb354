import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { CASES } from '../../src/conform/cases.ts';
import { type ConformResult, conform } from '../../src/conform/run.ts';
import { repositoryRoot } from '../support.ts';

/** Runs all cases on millrace and on the official SDK, and writes both scores into docs/conformance.md. */

const MARK = /(<!-- scores -->\n)[\s\S]*?(<!-- end of scores -->)/;

function adapterAt(name: string): string {
  return `"${process.execPath}" "${fileURLToPath(new URL(name, import.meta.url))}"`;
}

async function score(name: string): Promise<readonly ConformResult[]> {
  const results = await conform({ adapter: adapterAt(name), cases: CASES });
  for (const { state, area, name: rule, reason = '' } of results) {
    if (state !== 'pass') process.stdout.write(`${name} ${state} ${area}: ${rule} ${reason}\n`);
  }
  return results;
}

function countIn(results: readonly ConformResult[], area: string | undefined): string {
  const own = results.filter((result) => area === undefined || result.area === area);
  return `${own.filter(({ state }) => state === 'pass').length} of ${own.length}`;
}

function stateOf(result: ConformResult | undefined): string {
  return result?.state === 'pass' ? '✓' : (result?.state ?? '');
}

const ours = await score('./millrace-adapter.js');
const theirs = await score('./thinkingdata-adapter.js');
const areas = [...new Set(CASES.map(({ area }) => area))];
const lines = [
  '| area | millrace | thinkingdata-node 1.5 |',
  '|---|---|---|',
  ...areas.map((area) => `| ${area} | ${countIn(ours, area)} | ${countIn(theirs, area)} |`),
  `| all | ${countIn(ours, undefined)} | ${countIn(theirs, undefined)} |`,
  '',
  '| case | millrace | thinkingdata-node 1.5 |',
  '|---|---|---|',
  ...CASES.map(
    ({ area, name }, index) =>
      `| ${area}: ${name} | ${stateOf(ours[index])} | ${stateOf(theirs[index])} |`,
  ),
  '',
];
const path = join(repositoryRoot(), 'docs', 'conformance.md');
const text = readFileSync(path, 'utf8');
writeFileSync(path, text.replace(MARK, `$1${lines.join('\n')}$2`));
