import { statSync } from 'node:fs';
import { Command } from 'commander';
import { type CheckReport, check, type LineProblem } from '../index.ts';
import { parseCount } from './arguments.ts';
import { Progress } from './progress.ts';

interface CheckFlags {
  readonly json?: boolean;
  readonly threads?: number;
  readonly quiet?: boolean;
}

/** Most problems that the JSON lists. */
const LISTED_MAX = 1000;

/** `millrace check`: validates log files. */
export function checkCommand(): Command {
  return new Command('check')
    .description('validate log files against the wire contract; exit code 1 on any problem')
    .argument('<file...>', 'log files, plain or .gz; - is standard input')
    .option('--threads <count>', 'worker threads; 0: none (default: one a core)', parseCount)
    .option('--quiet', 'only the counts, not line by line')
    .option('--json', 'print one JSON object with the counts and the first 1000 problems')
    .action(run);
}

async function run(files: readonly string[], flags: CheckFlags): Promise<void> {
  const progress = new Progress();
  const totalBytes = files.reduce(
    (sum, file) => sum + (statSync(file, { throwIfNoEntry: false })?.size ?? 0),
    0,
  );
  const problems: LineProblem[] = [];
  const lines = new Output();
  const report = await check(files, {
    onProblem: (problem) => {
      if (flags.json === true && problems.length < LISTED_MAX) problems.push(problem);
      if (flags.json !== true && flags.quiet !== true) lines.add(textOf(problem));
    },
    onUnreadable: ({ code, message }) => console.error(`${code}: ${message}`),
    onProgress: (bytes) => progress.show(bytes / totalBytes, `${bytes >> 20} MiB`),
    ...(flags.threads === undefined ? {} : { threads: flags.threads }),
  });
  progress.end();
  lines.end();
  if (flags.json === true) console.log(JSON.stringify({ ...report, problems }));
  else printCounts(report);
  process.exitCode = report.bad + report.unreadable === 0 ? 0 : 1;
}

function textOf({ file, line, column, reason }: LineProblem): string {
  return `${file}:${line}:${column} ${reason}`;
}

function printCounts({ files, lines, bad, unreadable, byReason }: CheckReport): void {
  const reasons = Object.entries(byReason).sort((a, b) => b[1] - a[1]);
  for (const [reason, count] of reasons) console.log(`${count} × ${reason}`);
  const failed = unreadable === 0 ? '' : `, ${unreadable} files can't be read`;
  console.log(`${lines} lines in ${files} files, ${bad} bad${failed}`);
}

/** Lines for standard output, many in one write. */
class Output {
  #lines: string[] = [];

  add(line: string): void {
    this.#lines.push(line);
    if (this.#lines.length >= 1000) this.end();
  }

  end(): void {
    if (this.#lines.length > 0) console.log(this.#lines.join('\n'));
    this.#lines = [];
  }
}
