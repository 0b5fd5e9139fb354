import { Command } from 'commander';
import { convert } from '../index.ts';
import { parsePositive } from './arguments.ts';

interface ConvertFlags {
  readonly mapping: string;
  readonly out?: string;
  readonly prefix?: string;
  readonly maxSizeMb?: number;
  readonly json?: boolean;
}

/** `millrace convert`: brings history in. */
export function convertCommand(): Command {
  return new Command('convert')
    .description('make records of CSV or JSON-lines files by a mapping; exit code 1 on bad rows')
    .argument('<file...>', 'files, plain or .gz; - is standard input')
    .requiredOption('--mapping <file>', 'how rows become records, in YAML or JSON')
    .option('--out <dir>', 'folder for log files (default: lines on standard output)')
    .option('--prefix <text>', 'put before the names of the log files')
    .option('--max-size-mb <mb>', 'size of a log file (default: 1024)', parsePositive)
    .option('--json', 'print the final counts as one JSON object, on standard error without --out')
    .action(run);
}

async function run(files: readonly string[], flags: ConvertFlags): Promise<void> {
  const report = await convert({
    files,
    mapping: flags.mapping,
    output: flags.out ?? process.stdout,
    onProblem: ({ file, line, reason }) => console.error(`${file}:${line} ${reason}`),
    ...(flags.prefix === undefined ? {} : { prefix: flags.prefix }),
    ...(flags.maxSizeMb === undefined ? {} : { maxSizeMb: flags.maxSizeMb }),
  });
  const { rows, records, bad } = report;
  const words =
    flags.json === true ? JSON.stringify(report) : `${rows} rows: ${records} records, ${bad} bad`;
  if (flags.out === undefined) console.error(words);
  else console.log(words);
  process.exitCode = bad === 0 ? 0 : 1;
}
