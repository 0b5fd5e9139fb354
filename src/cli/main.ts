#!/usr/bin/env node
import { Command, CommanderError } from 'commander';
import { MillraceError } from '../base/errors.ts';
import { LIBRARY_VERSION } from '../engine/version.ts';

/** In the order of the help. Each is loaded only when it is asked for. */
const COMMANDS: readonly (readonly [name: string, load: () => Promise<Command>])[] = [
  ['demo', async () => (await import('./demo.ts')).demoCommand()],
  ['receiver', async () => (await import('./receiver.ts')).receiverCommand()],
  ['ship', async () => (await import('./ship.ts')).shipCommand()],
  ['check', async () => (await import('./check.ts')).checkCommand()],
  ['convert', async () => (await import('./convert.ts')).convertCommand()],
  ['relay', async () => (await import('./relay.ts')).relayCommand()],
  ['spool', async () => (await import('./spool.ts')).spoolCommand()],
  ['conform', async () => (await import('./conform.ts')).conformCommand()],
  ['doctor', async () => (await import('./doctor.ts')).doctorCommand()],
  ['top', async () => (await import('./top.ts')).topCommand()],
  ['bench', async () => (await import('./bench.ts')).benchCommand()],
  ['tune', async () => (await import('./tune.ts')).tuneCommand()],
];
const EXIT_FAILED = 1;
const EXIT_USAGE = 2;

const program = new Command('millrace')
  .description('Ingestion engine for game servers: ThinkingData records by HTTP or into log files.')
  .version(LIBRARY_VERSION)
  .showHelpAfterError()
  .exitOverride();
const asked = COMMANDS.filter(([name]) => name === process.argv[2]);
// All are needed for the list of commands only.
for (const [, load] of asked.length > 0 ? asked : COMMANDS) {
  program.addCommand(throwing(await load()));
}
// `millrace check … | head` closes the pipe before the end; that is no error.
process.stdout.on('error', () => process.exit(0));

try {
  await program.parseAsync();
} catch (error) {
  process.exitCode = exitCodeOf(error);
}

/** So that a wrong call of the command, or of one below it, ends with the code of wrong usage. */
function throwing(command: Command): Command {
  command.commands.forEach(throwing);
  return command.exitOverride();
}

function exitCodeOf(error: unknown): number {
  // Commander has printed what it has to say: help and version end well, all else is wrong usage.
  if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : EXIT_USAGE;
  if (error instanceof MillraceError) {
    console.error(`${error.code}: ${error.message}`);
    return error.code === 'MILLRACE_OPTIONS' ? EXIT_USAGE : EXIT_FAILED;
  }
  // What the system says (a port is taken, a disk is full) needs no stack; anything else is a mistake of ours.
  console.error(error instanceof Error && 'syscall' in error ? error.message : error);
  return EXIT_FAILED;
}
