import { appendFileSync, writeFileSync } from 'node:fs';
import { Command, InvalidArgumentError } from 'commander';
import { parsePositive } from '../src/cli/arguments.ts';
import { Progress } from '../src/cli/progress.ts';
import { type BenchReport, machine, runBench, SUITES } from './bench.ts';
import { resolvePeer } from './peers/peer.ts';
import { isPartOfPeer, peerVersions } from './peers/registry.ts';
import { htmlOf } from './report.ts';
import { tableOf } from './table.ts';

interface BenchFlags {
  readonly suite?: readonly string[];
  readonly only?: readonly string[];
  readonly rounds?: number;
  readonly seconds?: number;
  readonly quick?: boolean;
  readonly html?: string;
  readonly json?: string | true;
}

const EXIT_FAILED = 1;
const EXIT_USAGE = 2;
const FULL = { rounds: 5, seconds: 3 };
const QUICK = { rounds: 2, seconds: 0.5 };

// `npm run bench`, and `npx millrace bench`.
try {
  await new Command('millrace bench')
    .exitOverride(({ exitCode }) => process.exit(exitCode === 0 ? 0 : EXIT_USAGE))
    .showHelpAfterError()
    .description('measures a call, delivery, ticks, memory and latency, against other libraries')
    .option('--suite <names>', `of ${Object.keys(SUITES).join(', ')}; default: all`, parseSuites)
    .option('--only <parts>', 'contestants whose name has one of these parts', parseParts)
    .option('--rounds <n>', `default ${FULL.rounds}`, parsePositive)
    .option('--seconds <s>', `length of a stretch of load; default ${FULL.seconds}`, parsePositive)
    .option('--quick', 'all suites in less than three minutes')
    .option('--html <file>', 'a page with tables and charts')
    .option('--json [file]', 'all figures as JSON; without a file, on standard output')
    .action(run)
    .parseAsync();
} catch (error) {
  console.error(error instanceof Error ? error.message : error);
  process.exitCode = EXIT_FAILED;
}

async function run(flags: BenchFlags): Promise<void> {
  const isQuick = flags.quick === true;
  const { rounds, seconds } = isQuick ? QUICK : FULL;
  const say = flags.json === true ? console.error : console.log;
  say(`${machine()}, Node ${process.version}; medians, with the least and the most`);
  const missing = Object.entries(peerVersions()).filter(([, version]) => version === undefined);
  if (missing.length > 0) {
    say(
      `not installed, so not in it: ${missing.map(([name]) => name).join(', ')} (npm run bench:peers)`,
    );
  }
  // Better now than when all is measured.
  if (flags.html !== undefined) resolvePeer('chart.js');
  for (const file of [flags.html, flags.json]) {
    if (typeof file === 'string') appendFileSync(file, '');
  }
  const progress = new Progress();
  const report = await runBench({
    suites: flags.suite ?? Object.keys(SUITES),
    only: flags.only ?? [],
    rounds: flags.rounds ?? rounds,
    seconds: flags.seconds ?? seconds,
    isQuick,
    onSection: (section, soFar) => {
      progress.end();
      say(`\n${tableOf(section)}`);
      save(soFar, flags);
    },
    onRun: (share, words) => progress.show(share, words),
  });
  progress.end();
  if (flags.json === true) console.log(JSON.stringify(report));
}

/** Again with each section: a long run that is cut short leaves what it had. */
function save(report: BenchReport, { html, json }: BenchFlags): void {
  if (html !== undefined) writeFileSync(html, htmlOf(report));
  if (typeof json === 'string') writeFileSync(json, `${JSON.stringify(report)}\n`);
}

function parseList(text: string): string[] {
  return text.split(',').filter((part) => part !== '');
}

function parseParts(text: string): string[] {
  const parts = parseList(text);
  const wrong = parts.find((part) => !isPartOfPeer(part));
  if (wrong === undefined) return parts;
  throw new InvalidArgumentError(`No contestant has ${wrong} in its name.`);
}

function parseSuites(text: string): string[] {
  const names = parseList(text);
  const wrong = names.find((name) => !Object.hasOwn(SUITES, name));
  if (wrong === undefined && names.length > 0) return names;
  throw new InvalidArgumentError(`It must be of ${Object.keys(SUITES).join(', ')}.`);
}
