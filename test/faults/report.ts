import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import Table from 'cli-table3';
import { repositoryRoot } from '../support.ts';
import { CRITERIA, type RowNumber } from './criteria.ts';
import type { Finding } from './drill.ts';
import type { Run } from './run.ts';

const README_BEGIN = '<!-- what survives what: written by npm run test:faults -- --write -->';
const README_END = '<!-- end of what survives what -->';

/** For the terminal. */
export function showRuns(runs: readonly Run[]): void {
  const table = new Table({ head: ['', 'fault', 'enqueued', 'arrived', 'given up', 'twice', ''] });
  for (const { drill, finding } of runs) {
    table.push([
      drill.id,
      drill.fault,
      finding?.enqueued ?? '',
      finding?.arrived ?? '',
      finding === undefined ? '' : reasonsOf(finding),
      finding?.duplicates ?? '',
      finding === undefined ? 'FAILED' : 'ok',
    ]);
  }
  console.log(table.toString());
}

function reasonsOf({ dropped }: Finding): string {
  return (
    Object.entries(dropped)
      .map(([reason, count]) => `${count} ${reason}`)
      .join(', ') || '0'
  );
}

/** Writes docs/survival.md and the table of the README. Rows that did not run stay as they are; a run of some rows is named there. */
export function writeRuns(
  runs: readonly Run[],
  { how, of }: { readonly how: string; readonly of: 'all' | 'some' },
): void {
  const rows = new Map<RowNumber, Run[]>();
  for (const run of runs) rows.set(run.drill.row, [...(rows.get(run.drill.row) ?? []), run]);
  const survival = join(repositoryRoot(), 'docs', 'survival.md');
  const [head = '', ...parts] = readFileSync(survival, 'utf8').split(/^(?=## )/m);
  const sections = partsOf(parts, /^## (\w+)\n/);
  const madeBy = of === 'all' ? '' : `Made by \`${how}\`.\n\n`;
  for (const [row, its] of rows) sections.set(row, sectionOf(row, its, madeBy));
  writeFileSync(
    survival,
    `${of === 'all' ? survivalHead(how) : head.trimEnd()}\n\n${inOrder(sections)
      .map((section) => section.trimEnd())
      .join('\n\n')}\n`,
  );
  const readme = join(repositoryRoot(), 'README.md');
  const text = readFileSync(readme, 'utf8');
  const [from, to] = [text.indexOf(README_BEGIN), text.indexOf(README_END)];
  if (from < 0 || to < from) throw new Error(`README.md has ${README_BEGIN} and ${README_END}`);
  const lines = partsOf(text.slice(from, to).split('\n'), /^\| (\w+) \|/);
  for (const [row, [first]] of rows) if (first !== undefined) lines.set(row, readmeLine(first));
  const table = `${README_HEAD}\n${inOrder(lines).join('\n')}`;
  writeFileSync(readme, `${text.slice(0, from)}${README_BEGIN}\n\n${table}\n\n${text.slice(to)}`);
}

/** What is there already, by the row that the pattern's first group names. */
function partsOf(parts: readonly string[], pattern: RegExp): Map<string, string> {
  const byRow = new Map<string, string>();
  for (const part of parts) {
    const [, row = ''] = pattern.exec(part) ?? [];
    if (row in CRITERIA) byRow.set(row, part);
  }
  return byRow;
}

function inOrder(parts: ReadonlyMap<string, string>): string[] {
  return Object.keys(CRITERIA).flatMap((row) => parts.get(row) ?? []);
}

function survivalHead(how: string): string {
  return `# What survives what

Made by \`${how}\`, but for rows that say otherwise: real sending processes against a real receiver process, every record compared by its uuid with the sender's account. Each drill
asserts the criterion of its row, word by word. E: records enqueued; D: different records at the receiver; "given up" is what the account says was dropped, by reason (X); K: the dead-letter
file; "twice" counts repeated records, which the receiver drops by their \`#uuid\`.`;
}

function sectionOf(row: RowNumber, runs: readonly Run[], madeBy: string): string {
  const lines = runs.map(({ drill, finding }) => {
    const { enqueued = '', arrived = '', duplicates = '', measured = '' } = finding ?? {};
    const given = finding === undefined ? '**failed**' : reasonsOf(finding);
    return `| ${drill.id} | ${drill.fault} | ${enqueued} | ${arrived} | ${given} | ${duplicates} | ${measured} |`;
  });
  return `## ${row}

Criterion: ${CRITERIA[row]}.

${madeBy}| | fault | E | D | given up | twice | measured |
|---|---|---|---|---|---|---|
${lines.join('\n')}
`;
}

const README_HEAD = '| | fault | promise | arrived |\n|---|---|---|---|';

function readmeLine({ drill, finding }: Run): string {
  const arrived =
    finding === undefined ? '**failed**' : `${finding.arrived} of ${finding.enqueued}`;
  return `| ${drill.row} | ${drill.fault} | ${drill.promise} | ${arrived} |`;
}
