import { Command } from 'commander';
import { MillraceError } from '../base/errors.ts';
import { CASES } from '../conform/cases.ts';
import { type ConformResult, conform } from '../conform/run.ts';
import { parsePositive } from './arguments.ts';

interface ConformFlags {
  readonly adapter?: string;
  readonly only?: string;
  readonly patience: number;
  readonly print?: boolean;
  readonly json?: boolean;
}

/** `millrace conform`: runs the conformance cases against any SDK. */
export function conformCommand(): Command {
  return new Command('conform')
    .description('run the conformance cases against any SDK; exit code 1 if one fails')
    .option('--adapter <command>', 'shell command of the adapter (docs/conformance.md)')
    .option('--only <text>', 'cases whose area or name includes this')
    .option('--patience <factor>', 'waits are so many times as long', parsePositive, 1)
    .option('--print', 'print the cases as JSON, and run nothing')
    .option('--json', 'print one JSON object')
    .action(run);
}

async function run({ adapter, only = '', patience, print, json }: ConformFlags): Promise<void> {
  const cases = CASES.filter(({ area, name }) => area === only || name.includes(only));
  if (cases.length === 0) throw usage(`--only ${only} fits no case`);
  if (print === true) {
    console.log(JSON.stringify(cases, undefined, 2));
    return;
  }
  if (adapter === undefined) throw usage('--adapter is missing: the command of the SDK to test');
  const onResult = json === true ? undefined : printResult;
  const results = await conform({
    adapter,
    cases,
    patience,
    ...(onResult === undefined ? {} : { onResult }),
  });
  const passed = results.filter(({ state }) => state === 'pass').length;
  if (json === true) console.log(JSON.stringify({ passed, of: results.length, results }));
  else console.log(`${passed} of ${results.length} cases passed`);
  process.exitCode = passed === results.length ? 0 : 1;
}

function usage(message: string): MillraceError {
  return new MillraceError('MILLRACE_OPTIONS', message);
}

function printResult({ area, name, state, reason }: ConformResult): void {
  console.log(`${state}\t${area}: ${name}${reason === undefined ? '' : `\n\t${reason}`}`);
}
