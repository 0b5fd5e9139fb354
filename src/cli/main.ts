#!/usr/bin/env node
import { Command, CommanderError } from 'commander';
import { MillraceError } from '../base/errors.ts';
import { LIBRARY_VERSION } from '../engine/version.ts';
import { benchCommand } from './bench.ts';
import { checkCommand } from './check.ts';
import { conformCommand } from './conform.ts';
import { convertCommand } from './convert.ts';
import { demoCommand } from './demo.ts';
import { doctorCommand } from './doctor.ts';
import { receiverCommand } from './receiver.ts';
import { relayCommand } from './relay.ts';
import { shipCommand } from './ship.ts';
import { spoolCommand } from './spool.ts';
import { topCommand } from './top.ts';
import { tuneCommand } from './tune.ts';

const EXIT_FAILED = 1;
const EXIT_USAGE = 2;

const program = new Command('millrace')
  .description('Ingestion engine for game servers: ThinkingData records by HTTP or into log files.')
  .version(LIBRARY_VERSION)
  .showHelpAfterError()
  .exitOverride();
for (const command of [
  demoCommand(),
  receiverCommand(),
  shipCommand(),
  checkCommand(),
  convertCommand(),
  relayCommand(),
  spoolCommand(),
  conformCommand(),
  doctorCommand(),
  topCommand(),
  benchCommand(),
  tuneCommand(),
]) {
  program.addCommand(command.exitOverride());
}

try {
  await program.parseAsync();
} catch (error) {
  process.exitCode = exitCodeOf(error);
}

function exitCodeOf(error: unknown): number {
  // Commander has printed what it has to say: help and version end well, all else is wrong usage.
  if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : EXIT_USAGE;
  if (error instanceof MillraceError) {
    console.error(`${error.code}: ${error.message}`);
    return error.code === 'MILLRACE_OPTIONS' ? EXIT_USAGE : EXIT_FAILED;
  }
  console.error(error);
  return EXIT_FAILED;
}
