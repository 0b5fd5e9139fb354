import { execFileSync, spawnSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import Table from 'cli-table3';
import { Command } from 'commander';
import { machine } from './bench.ts';
import { type GuardFigures, judge } from './guard-judge.ts';

/** `npm run bench:guard`: what a record costs, as shares of what zlib and JSON.stringify cost here, against the committed baseline. */
const EXIT_FAILED = 1;
const EXIT_USAGE = 2;
const BASELINE = new URL('../../bench/baseline.json', import.meta.url);
const WORK_FILE = fileURLToPath(new URL('./guard-work.js', import.meta.url));
/** Each work, and what it is a share of. */
const SHARES = [
  ['track', 'stringify'],
  ['transcode', 'stringify'],
  ['gzip', 'zlib'],
] as const;
const WORKS = ['stringify', 'track', 'transcode', 'gzip', 'zlib'] as const;
type Work = (typeof WORKS)[number];
/** The difference of two runs has no start in it. Enough for the compiler to have done its work. */
const COUNTED_BATCHES = [40, 80] as const;
/**
 * So that code is compiled, and memory collected, at the same places in each run: counts repeat to a tenth of a percent. WebAssembly is
 * compiled for speed at once, since the other compiler's code would be replaced at a time of its own.
 */
const COUNTED_FLAGS = [
  '--predictable',
  '--random-seed=1',
  '--hash-seed=1',
  '--no-liftoff',
] as const;
const TIMED_BATCHES = 400;
const TIMED_RUNS = 3;
const BATCH_RECORDS = 500;

try {
  await new Command('bench:guard')
    .exitOverride(({ exitCode }) => process.exit(exitCode === 0 ? 0 : EXIT_USAGE))
    .description(
      'compares the cost of a record with the committed baseline; exit code 1 if it got worse',
    )
    .option('--write', 'makes what is measured the new baseline')
    .option('--json', 'print one JSON object')
    .action(run)
    .parseAsync();
} catch (error) {
  console.error(error instanceof Error ? error.message : error);
  process.exitCode = EXIT_FAILED;
}

function run({ write, json }: { readonly write?: boolean; readonly json?: boolean }): void {
  const figures = measure();
  if (write === true) {
    writeFileSync(BASELINE, `${JSON.stringify(figures, undefined, 2)}\n`);
    console.log(`written: ${fileURLToPath(BASELINE)}`);
    return;
  }
  const baseline = JSON.parse(readFileSync(BASELINE, 'utf8')) as GuardFigures;
  const verdicts = judge(baseline, figures);
  if (json === true) console.log(JSON.stringify({ figures, verdicts }));
  else {
    const table = new Table({
      head: ['', 'baseline', 'now', 'change, %', 'allowed, %', ''],
      style: { head: [], border: [], compact: true },
    });
    for (const { name, before, now, changePercent, allowedPercent, isWorse } of verdicts) {
      const cells = [before.toFixed(3), now.toFixed(3), changePercent.toFixed(1), allowedPercent];
      table.push([name, ...cells, isWorse ? 'WORSE' : 'fine']);
    }
    console.log(`${machine()}, Node ${process.version}; the baseline is of Node ${baseline.node}`);
    console.log(table.toString());
    if (figures.instructions === undefined) {
      console.log(
        'valgrind is not there or does not work here: only times were compared, which are coarse.',
      );
    }
  }
  process.exitCode = verdicts.some(({ isWorse }) => isWorse) ? EXIT_FAILED : 0;
}

function measure(): GuardFigures {
  const times = new Map<Work, number>();
  const sizes = new Map<Work, number>();
  for (let count = 0; count < TIMED_RUNS; count += 1) {
    for (const work of WORKS) {
      const args = [WORK_FILE, work, String(TIMED_BATCHES)];
      const text = execFileSync(process.execPath, args, { encoding: 'utf8' });
      const { ns, bytes } = JSON.parse(text) as { ns: number; bytes: number };
      // The best of some runs: whatever else the machine does only adds.
      times.set(work, Math.min(ns, times.get(work) ?? Number.POSITIVE_INFINITY));
      sizes.set(work, bytes);
    }
  }
  const counts = countInstructions();
  return {
    node: process.version,
    times: sharesOf(times),
    ...(counts === undefined ? {} : { instructions: sharesOf(counts) }),
    bytes: { frame: sizes.get('track') ?? 0, gzip: sizes.get('gzip') ?? 0 },
  };
}

function sharesOf(costs: ReadonlyMap<Work, number>): Record<string, number> {
  const shares = SHARES.map(([work, of]) => {
    const share = (costs.get(work) ?? Number.NaN) / (costs.get(of) ?? Number.NaN);
    return [`${work} / ${of}`, Number(share.toFixed(4))] as const;
  });
  return Object.fromEntries(shares);
}

/** Instructions of a record, by callgrind: the same on a busy machine. Undefined: it doesn't work here. */
function countInstructions(): Map<Work, number> | undefined {
  const counts = new Map<Work, number>();
  for (const work of WORKS) {
    const [few, many] = COUNTED_BATCHES.map((batches) => callgrind(work, batches));
    if (few === undefined || many === undefined) return undefined;
    const records = (COUNTED_BATCHES[1] - COUNTED_BATCHES[0]) * BATCH_RECORDS;
    counts.set(work, (many - few) / records);
  }
  return counts;
}

function callgrind(work: Work, batches: number): number | undefined {
  const flags = ['--tool=callgrind', '--callgrind-out-file=/dev/null'];
  const args = [...flags, process.execPath, ...COUNTED_FLAGS, WORK_FILE, work, String(batches)];
  const { stderr, status } = spawnSync('valgrind', args, { encoding: 'utf8' });
  const collected = /Collected : (\d+)/.exec(stderr ?? '')?.[1];
  return status === 0 && collected !== undefined ? Number(collected) : undefined;
}
