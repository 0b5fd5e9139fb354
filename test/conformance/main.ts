import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { CASES } from '../../src/conform/cases.ts';
import { type ConformResult, conform } from '../../src/conform/run.ts';
import { repositoryRoot } from '../support.ts';

/** Runs all cases on millrace and on the official SDK, and writes both scores into docs/conformance.md. */

const MARK = /(<!-- scores -->\n)[\s\S]*?(<!-- end of scores -->)/;

interface Candidate {
  readonly title: string;
  readonly adapter: string;
}

function commandOf(adapter: string): string {
  return `"${process.execPath}" "${fileURLToPath(new URL(adapter, import.meta.url))}"`;
}

const DROP_IN = fileURLToPath(new URL('../../src/thinkingdata.js', import.meta.url));
const CANDIDATES: readonly Candidate[] = [
  { title: 'millrace', adapter: commandOf('./millrace-adapter.js') },
  {
    title: 'millrace/thinkingdata',
    adapter: `MILLRACE_CONFORM_PACKAGE="${DROP_IN}" ${commandOf('./thinkingdata-adapter.js')}`,
  },
  { title: 'thinkingdata-node 1.5', adapter: commandOf('./thinkingdata-adapter.js') },
];

async function score({ title, adapter }: Candidate): Promise<readonly ConformResult[]> {
  const results = await conform({ adapter, cases: CASES });
  for (const { state, area, name: rule, reason = '' } of results) {
    if (state !== 'pass') process.stdout.write(`${title} ${state} ${area}: ${rule} ${reason}\n`);
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

// Side by side: the failures of one are waits, which cost the others nothing.
const scores = await Promise.all(CANDIDATES.map(score));

function head(first: string): string[] {
  const titles = CANDIDATES.map(({ title }) => title);
  return [`| ${[first, ...titles].join(' | ')} |`, `|${'---|'.repeat(titles.length + 1)}`];
}

function row(first: string, cellOf: (results: readonly ConformResult[]) => string): string {
  return `| ${[first, ...scores.map(cellOf)].join(' | ')} |`;
}

const areas = [...new Set(CASES.map(({ area }) => area))];
const lines = [
  ...head('area'),
  ...areas.map((area) => row(area, (results) => countIn(results, area))),
  row('all', (results) => countIn(results, undefined)),
  '',
  ...head('case'),
  ...CASES.map(({ area, name }, index) =>
    row(`${area}: ${name}`, (results) => stateOf(results[index])),
  ),
  '',
];
const path = join(repositoryRoot(), 'docs', 'conformance.md');
const text = readFileSync(path, 'utf8');
writeFileSync(path, text.replace(MARK, `$1${lines.join('\n')}$2`));
