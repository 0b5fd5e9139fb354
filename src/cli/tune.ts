import { fork } from 'node:child_process';
import { once } from 'node:events';
import { availableParallelism } from 'node:os';
import { fileURLToPath } from 'node:url';
import Table from 'cli-table3';
import { Command } from 'commander';
import { RING_BYTES_DEFAULT } from '../engine/options.ts';
import { parseEndpoint } from '../sink/endpoint.ts';
import { type Advice, adviseOn } from '../tune/advice.ts';
import { readSample } from '../tune/sample.ts';
import { Descent, type Goal, type SearchHost, searchLinger, type Trial } from '../tune/search.ts';
import type { Load, Measurement, Setting } from '../tune/setting.ts';
import type { Target } from '../tune/trial.ts';
import { parsePositive } from './arguments.ts';
import { askReceiver } from './ask-receiver.ts';
import { Progress } from './progress.ts';
import { ReceiverProcess } from './receiver-process.ts';
import type { TrialJob } from './tune-trial.ts';

interface TuneFlags {
  readonly rate: number;
  readonly url?: string;
  readonly appid: string;
  readonly minutes: number;
  readonly sample?: string;
  readonly latency: number;
  readonly outage: number;
  readonly smallRing?: boolean;
  readonly trafficWeight: number;
  readonly json?: boolean;
}

const MIB: number = 1024 * 1024;
/** What a search takes: trials of all knobs once, and of the linger. */
const TRIALS = 24;
/** Starting and warming up a process, in seconds. */
const TRIAL_OVERHEAD = 1;
const TRIAL_SECONDS_MIN = 0.3;
const TRIAL_SECONDS_MAX = 10;
/** Share of the time for the descent; then the linger, and the last trial of all. */
const DESCENT_SHARE = 0.7;
const LINGER_SHARE = 0.9;
/** What a client has without the option. */
const RING_BYTES_LEAST: number = 4 * MIB;

/** `millrace tune`: finds options for a rate on this machine. */
export function tuneCommand(): Command {
  return new Command('tune')
    .description(
      'try workers, lanes, ring, batches, linger and compression on this machine, and recommend options for a rate; exit code 1 if it cannot be met',
    )
    .requiredOption('--rate <n>', 'records a second to hold', parsePositive)
    .option(
      '--url <url>',
      'a receiver that takes the records for real; default: one on this machine',
    )
    .option('--appid <id>', 'app id for the receiver', 'tune')
    .option('--minutes <m>', 'time to take', parsePositive, 2)
    .option(
      '--sample <file>',
      'your records, JSON lines as in log files; default: events of a game',
    )
    .option('--latency <ms>', 'longest wait from call to acknowledgement, p99', parsePositive, 250)
    .option('--outage <s>', 'how long the ring has to hold what comes', parsePositive, 5)
    .option(
      '--small-ring',
      'save memory: a ring for the outage and no more (default: at least 64 MiB)',
    )
    .option(
      '--traffic-weight <s>',
      'processor seconds that a gigabyte of traffic is worth',
      parsePositive,
      20,
    )
    .option('--json', 'print one JSON object')
    .action(run);
}

async function run(flags: TuneFlags): Promise<void> {
  if (flags.sample !== undefined) readSample(flags.sample);
  if (flags.url !== undefined) {
    await askReceiver(flags.url);
    console.error(
      `The records of every trial are really sent to ${parseEndpoint(flags.url).shown}: use an app id for tests.`,
    );
  }
  const receiver =
    flags.url === undefined ? await ReceiverProcess.start(['--mode', 'count']) : undefined;
  try {
    const target = { url: flags.url ?? receiver?.url ?? '', appId: flags.appid };
    const tuned = await new Tuning(flags, target).run();
    const url =
      flags.url === undefined ? 'http://receiver.example' : parseEndpoint(flags.url).shown;
    const shown = { url, appId: 'APP' };
    const advice = adviseOn(tuned.best, { ...tuned, target: shown });
    if (flags.json === true) console.log(JSON.stringify({ ...tuned, advice }));
    else print(tuned, advice);
    process.exitCode = advice.isMet ? 0 : 1;
  } finally {
    await receiver?.stop();
  }
}

interface Tuned {
  readonly goal: Goal;
  readonly best: Setting;
  /** At full speed. */
  readonly most: Measurement;
  /** At the rate. */
  readonly steady: Measurement;
  readonly isComplete: boolean;
  readonly trials: readonly Trial[];
}

/** One run of the command: trials one after the other, within the time. */
class Tuning {
  readonly #goal: Goal;
  readonly #target: Target;
  readonly #sample: string | undefined;
  readonly #totalMs: number;
  readonly #startMs = performance.now();
  readonly #trials: Trial[] = [];
  readonly #progress = new Progress();

  constructor(flags: TuneFlags, target: Target) {
    this.#target = target;
    this.#sample = flags.sample;
    this.#totalMs = flags.minutes * 60_000;
    this.#goal = {
      rate: flags.rate,
      latencyMs: flags.latency,
      trafficWeight: flags.trafficWeight,
      cores: availableParallelism(),
      outageSeconds: flags.outage,
      ringBytesMin: flags.smallRing === true ? RING_BYTES_LEAST : RING_BYTES_DEFAULT,
    };
  }

  async run(): Promise<Tuned> {
    const cores = this.#goal.cores;
    const workers = Math.max(1, Math.min(4, cores - 1));
    const start: Setting = {
      workers,
      lanes: 4 * workers,
      ringBytes: RING_BYTES_DEFAULT,
      batchSize: 500,
      lingerMs: 100,
      compress: true,
    };
    const goal = this.#goal;
    const trialSeconds = Math.min(
      TRIAL_SECONDS_MAX,
      Math.max(TRIAL_SECONDS_MIN, this.#totalMs / 1000 / TRIALS - TRIAL_OVERHEAD),
    );
    const descent = new Descent(start, { goal, host: this.#host(DESCENT_SHARE), trialSeconds });
    const { best, most, isComplete } = await descent.run();
    const chosen = await searchLinger(best, goal, this.#host(LINGER_SHARE), trialSeconds);
    const leftSeconds = (this.#startMs + this.#totalMs - performance.now()) / 1000;
    const seconds = Math.max(trialSeconds, leftSeconds - TRIAL_OVERHEAD);
    const steady = await this.#measure(chosen, { kind: 'rate', rate: goal.rate, seconds });
    this.#progress.end();
    return { goal, best: chosen, most, steady, isComplete, trials: this.#trials };
  }

  #host(share: number): SearchHost {
    return {
      measure: (setting, load) => this.#measure(setting, load),
      hasTime: () => performance.now() - this.#startMs < share * this.#totalMs,
      onTrial: (trial) => this.#trials.push(trial),
    };
  }

  async #measure(setting: Setting, load: Load): Promise<Measurement> {
    this.#showProgress(setting, load);
    const child = fork(fileURLToPath(new URL('./tune-trial.js', import.meta.url)), {
      execArgv: [],
      stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
    });
    const ended = once(child, 'exit').then(([code]) => {
      throw new Error(`a trial ended with code ${code} and no result`);
    });
    const job: TrialJob = { setting, load, target: this.#target, sample: this.#sample };
    child.send(job);
    try {
      const [answer]: unknown[] = await Promise.race([once(child, 'message'), ended]);
      const { found, error } = answer as { found?: Measurement; error?: string };
      if (found === undefined) throw new Error(error);
      return found;
    } finally {
      child.kill('SIGKILL');
      await ended.catch(() => {
        // It was told to.
      });
    }
  }

  #showProgress(setting: Setting, load: Load): void {
    const what = load.kind === 'most' ? 'at full speed' : 'at the rate';
    const words = `trial ${this.#trials.length + 1}, ${what}: ${describe(setting)}`;
    this.#progress.show((performance.now() - this.#startMs) / this.#totalMs, words);
  }
}

function print({ trials, isComplete }: Tuned, { words, code }: Advice): void {
  const table = new Table({
    head: [
      'workers',
      'lanes',
      'ring MiB',
      'batch',
      'linger',
      'gzip',
      'load',
      'records/s',
      'CPU s/M',
      'wire B',
      'p99 ms',
      '',
    ],
    style: { head: [], border: [], compact: true },
  });
  for (const { setting, load, found, isBest } of trials) {
    const { workers, lanes, ringBytes, batchSize, lingerMs, compress } = setting;
    table.push([
      workers,
      lanes,
      ringBytes / MIB,
      batchSize,
      lingerMs,
      String(compress),
      load.kind === 'most' ? 'full' : 'rate',
      Math.round(found.rate).toLocaleString('en-US'),
      found.cpuPerMillion.toFixed(2),
      Math.round(found.wireBytes),
      load.kind === 'most' ? '' : Math.round(found.latencyMs.p99),
      isBest ? 'taken' : '',
    ]);
  }
  console.log(table.toString());
  if (!isComplete)
    console.log(
      'The time was over before a whole pass changed nothing; more --minutes look further.',
    );
  console.log(`\n${words.join('\n')}\n\n${code}`);
}

function describe({ workers, lanes, ringBytes, batchSize, lingerMs, compress }: Setting): string {
  return `${workers} workers, ${lanes} lanes, ${ringBytes / MIB} MiB, batches of ${batchSize}, linger ${lingerMs} ms, gzip ${compress}`;
}
