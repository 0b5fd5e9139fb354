import { setTimeout as delay } from 'node:timers/promises';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { Command } from 'commander';
import { explore } from './interleave.ts';
import { LANE_LITMUSES } from './lane-cases.ts';
import { MODEL_MISTAKES } from './mistakes.ts';
import { runModel, type Strike } from './run.ts';
import { loadSubject, type Subject } from './subject.ts';
import { Killed } from './world.ts';

interface Flags {
  readonly seeds?: string;
  readonly from: string;
  readonly litmus?: boolean;
  readonly mistakes?: boolean;
  readonly strikes?: string;
}

interface Seeds {
  readonly from: number;
  readonly count: number;
}

// A thread that was killed leaves promises that nobody waits for.
process.on('unhandledRejection', (error) => {
  if (!(error instanceof Killed)) throw error;
});

/** Within so many seeds each of the deliberate mistakes is found, the rarest with next to certainty. */
const MISTAKE_SEEDS = 10_000;
/** Seeds after which memory is collected: V8 does not count what worlds share, and would let it grow by megabytes a seed. */
const COLLECT_EVERY = 50;

setFlagsFromString('--expose-gc');
const collect = runInNewContext('gc') as () => void;

async function tidy(run: number): Promise<void> {
  if (run % COLLECT_EVERY !== 0) return;
  collect();
  await delay(0);
}

/** Runs seed after seed. Throws at the first that breaks something. */
async function runSeeds(subject: Subject, { from, count }: Seeds): Promise<void> {
  const sums = {
    records: 0,
    taken: 0,
    dropped: 0,
    crashed: 0,
    processes: 0,
    kills: 0,
    takeovers: 0,
    events: 0,
  };
  const startMs = Date.now();
  for (let seed = from; seed < from + count; seed += 1) {
    const result = await runModel(subject, { seed });
    for (const key of Object.keys(sums) as (keyof typeof sums)[]) sums[key] += result[key];
    await tidy(seed);
  }
  console.log(`${count} seeds from ${from} in ${Date.now() - startMs} ms: ${JSON.stringify(sums)}`);
}

/** Ends a thread, or takes its lane away, at so many accesses of each seed, evenly spread: at all of them if there are fewer. */
async function runStrikes(subject: Subject, { from, count }: Seeds, most: number): Promise<void> {
  const startMs = Date.now();
  let runs = 0;
  for (let seed = from; seed < from + count; seed += 1) {
    const { accesses } = await runModel(subject, { seed, strike: { access: 0, what: 'kill' } });
    const step = Math.max(1, accesses / most);
    for (let at = 1; at <= accesses; at += step) {
      for (const what of ['kill', 'take over'] as const) {
        const strike: Strike = { access: Math.floor(at), what };
        await runModel(subject, { seed, strike });
        runs += 1;
        await tidy(runs);
      }
    }
  }
  console.log(`${runs} strikes in ${count} seeds from ${from}, in ${Date.now() - startMs} ms`);
}

/** Whether the model finds each deliberate mistake. */
async function runMistakes(seeds: Seeds): Promise<void> {
  const missed: string[] = [];
  for (const { mistake, mutation } of MODEL_MISTAKES) {
    const found = await runSeeds(await loadSubject([mutation]), seeds).then(
      () => undefined,
      (error: unknown) => String(error).split('\n')[0],
    );
    if (found === undefined) missed.push(mistake);
    console.log(found === undefined ? `not found: ${mistake}` : `found: ${mistake}: ${found}`);
  }
  if (missed.length > 0) throw new Error(`not found: ${missed.join('; ')}`);
}

async function main(flags: Flags): Promise<void> {
  const count = flags.mistakes === true ? MISTAKE_SEEDS : 2000;
  const seeds = { from: Number(flags.from), count: Number(flags.seeds ?? count) };
  if (flags.litmus === true) {
    for (const { rule, make } of LANE_LITMUSES) {
      const { states, ends } = await explore(make(await loadSubject()));
      console.log(`${rule}: ${states} states, ${ends} ends`);
    }
  }
  if (flags.mistakes === true) await runMistakes(seeds);
  else if (flags.strikes !== undefined) {
    await runStrikes(await loadSubject(), seeds, Number(flags.strikes));
  } else await runSeeds(await loadSubject(), seeds);
}

const flags = new Command('test:model')
  .description('runs lanes, turns and spool in seeded interleavings with deaths and faults')
  .option('--seeds <n>', `how many; default: 2000, of mistakes ${MISTAKE_SEEDS}`)
  .option('--from <n>', 'the first', String(Date.now() % 1_000_000))
  .option('--litmus', 'also every order of steps of all small cases (minutes)')
  .option(
    '--strikes <n>',
    'instead: each seed again and again, with one death or loss of a lane at each of so many places',
  )
  .option('--mistakes', 'instead: whether each deliberate mistake is found in so many seeds')
  .parse()
  .opts<Flags>();
try {
  await main(flags);
} catch (error) {
  const [, seed] = /seed (\d+)/.exec(String(error)) ?? [];
  console.error(error);
  if (seed !== undefined) console.error(`npm run test:model -- --from ${seed} --seeds 1`);
  process.exitCode = 1;
}
