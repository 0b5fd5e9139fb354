import { Command } from 'commander';
import { randomFrom } from '../random.ts';
import type { Drill, Length } from './drill.ts';
import { showRuns, writeRuns } from './report.ts';
import { commandFor, DRILLS, type Run, runDrill } from './run.ts';

interface Flags {
  readonly only?: readonly string[];
  readonly seed: string;
  readonly quick?: boolean;
  readonly full?: boolean;
  readonly soak?: string;
  readonly write?: boolean;
}

const HOUR_MS = 3_600_000;
/** Drills with rates and times that only mean something alone, or that take most of an hour's disk: not for the soak. */
const NOT_FOR_SOAK: ReadonlySet<string> = new Set(['F7', 'F9a', 'F25', 'F33']);

function lengthOf({ quick, full, soak }: Flags): Length {
  if (full === true) return 'full';
  return quick === true || soak !== undefined ? 'quick' : 'usual';
}

/** Drills of an id, or of a row. */
function chosen({ only }: Flags): Drill[] {
  const isWanted = ({ id, row }: Drill) => only?.some((word) => word === id || word === row);
  return DRILLS.filter((drill) => only === undefined || isWanted(drill));
}

async function runOne(drill: Drill, how: { seed: number; length: Length }): Promise<Run> {
  const run = await runDrill(drill, how);
  const seconds = (run.tookMs / 1000).toFixed(1);
  if (run.finding !== undefined) {
    console.log(`ok ${drill.id} ${drill.fault} (${seconds} s) ${run.finding.measured ?? ''}`);
  } else {
    console.log(`FAILED ${drill.id} ${drill.fault}: ${commandFor(drill, how)}`);
    console.log(run.error);
  }
  return run;
}

async function runAll(flags: Flags): Promise<Run[]> {
  const runs: Run[] = [];
  const how = { seed: Number(flags.seed), length: lengthOf(flags) };
  for (const drill of chosen(flags)) runs.push(await runOne(drill, how));
  return runs;
}

/** Random drills with seeds of their own, until the time is over. */
async function soak(flags: Flags): Promise<Run[]> {
  const random = randomFrom(Number(flags.seed));
  const drills = chosen(flags).filter(({ id }) => !NOT_FOR_SOAK.has(id));
  const endMs = Date.now() + Number(flags.soak) * HOUR_MS;
  const runs: Run[] = [];
  while (Date.now() < endMs) {
    const drill = drills[random(drills.length)];
    if (drill === undefined) break;
    const seed = random(1_000_000);
    process.stdout.write(`seed ${seed} `);
    runs.push(await runOne(drill, { seed, length: lengthOf(flags) }));
  }
  const failed = runs.filter(({ finding }) => finding === undefined).length;
  console.log(`${runs.length} drills, ${failed} failed`);
  return runs;
}

const flags = new Command('test:faults')
  .description('abuses senders, receivers, threads and disks, and counts every record')
  .option('--only <id...>', 'these drills, or all of a row (F12)')
  .option('--seed <n>', 'seed of all that is random', String(Date.now() % 1_000_000))
  .option('--quick', 'a few seconds each')
  .option('--full', 'as long as the fault table says: hours')
  .option('--soak <hours>', 'random drills with random seeds for so long, quick ones unless --full')
  .option(
    '--write',
    'write docs/survival.md and the table of the README; with --only: the rows that ran',
  )
  .parse()
  .opts<Flags>();
console.log(`seed ${flags.seed}`);
const runs = flags.soak === undefined ? await runAll(flags) : await soak(flags);
if (flags.soak === undefined) showRuns(runs);
if (flags.write === true) {
  const words = flags.only === undefined ? [] : ['--only', ...flags.only];
  const length = lengthOf(flags);
  if (length !== 'usual') words.push(`--${length}`);
  const how = ['npm run test:faults -- --write', ...words, '--seed', flags.seed].join(' ');
  writeRuns(runs, { how, of: flags.only === undefined ? 'all' : 'some' });
}
// A drill that failed leaves servers behind.
process.exit(runs.every(({ finding }) => finding !== undefined) ? 0 : 1);
