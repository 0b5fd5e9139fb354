import { Command } from 'commander';
import { randomFrom } from '../random.ts';
import { DISK_DRILLS } from './disk-drill.ts';
import type { Drill, Scale } from './drill.ts';
import { KILL_DRILLS } from './kill-drill.ts';
import { VOLUME_DRILLS } from './volume-drills.ts';
import { WRITE_DRILLS } from './write-drills.ts';

const DRILLS: readonly Drill[] = [
  ...WRITE_DRILLS,
  ...DISK_DRILLS,
  ...KILL_DRILLS,
  ...VOLUME_DRILLS,
];

interface Flags {
  readonly only?: readonly string[];
  readonly records: string;
  readonly rounds: string;
  readonly processes: string;
  readonly mib: string;
  readonly seed: string;
}

const flags = new Command('test:files')
  .description(
    'log files at volume: rotation, many processes, kills, and the rates of check and ship',
  )
  .option('--only <id...>', `of ${DRILLS.map(({ id }) => id).join(', ')}`)
  .option('--records <n>', 'records that are written', '300000')
  .option('--rounds <n>', 'kills', '10')
  .option('--processes <n>', 'processes on one folder', '8')
  .option('--mib <n>', 'size of the file that is measured with', '512')
  .option('--seed <n>', 'seed of all that is random', String(Date.now() % 1_000_000))
  .parse()
  .opts<Flags>();
const scale: Scale = {
  records: Number(flags.records),
  rounds: Number(flags.rounds),
  processes: Number(flags.processes),
  mib: Number(flags.mib),
};
console.log(`seed ${flags.seed}`);
for (const { id, promise, run } of DRILLS) {
  if (flags.only !== undefined && !flags.only.includes(id)) continue;
  const startMs = performance.now();
  const again = `npm run test:files -- --only ${id} --seed ${flags.seed}`;
  try {
    const found = await run({ ...scale, random: randomFrom(Number(flags.seed)) });
    const seconds = ((performance.now() - startMs) / 1000).toFixed(1);
    console.log(`ok ${id}: ${promise} (${seconds} s)\n  ${found}`);
  } catch (error) {
    process.exitCode = 1;
    console.log(`FAILED ${id}: ${promise}; ${again}`);
    console.log(error);
  }
}
