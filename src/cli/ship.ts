import { Command, InvalidArgumentError } from 'commander';
import { type ShipAccount, type ShipOptions, ship } from '../index.ts';
import { parseCount, parsePort, parsePositive } from './arguments.ts';
import { Progress } from './progress.ts';
import { firstSignal } from './signals.ts';

interface ShipFlags {
  readonly url: string;
  readonly appid: string;
  readonly once?: boolean;
  readonly removeAfter?: number;
  readonly batch?: number;
  readonly compress?: number;
  readonly concurrency?: number;
  readonly ordering?: 'head' | 'file';
  readonly rate?: number;
  readonly poll?: number;
  readonly lines?: 'contract' | 'json';
  readonly match?: RegExp;
  readonly state?: string;
  readonly quarantine?: string;
  readonly metricsPort?: number;
  readonly metricsHost?: string;
  readonly json?: boolean;
}

const TELL_MS = 10_000;
const MIB: number = 1024 * 1024;

/** `millrace ship`: what LogBus does. */
export function shipCommand(): Command {
  return new Command('ship')
    .description('follow a folder of log files and deliver them by HTTP, with checkpoints')
    .argument('<dir>', 'folder of log files')
    .requiredOption('--url <url>', 'the receiver')
    .requiredOption('--appid <id>', 'the app id')
    .option('--once', 'end when everything there is has been shipped')
    .option('--remove-after <days>', 'remove files that are done with and this old', parseDays)
    .option('--batch <records>', 'records of one request (default: 2000)', parsePositive)
    .option(
      '--compress <level>',
      'level of zlib; 0: none (default: a deflate made for records)',
      parseCount,
    )
    .option('--concurrency <count>', 'sequences of files at a time (default: 4)', parsePositive)
    .option('--ordering <head|file>', 'files of one prefix in order, or each by itself')
    .option('--rate <records>', 'most records a second', parsePositive)
    .option('--poll <ms>', 'how often the folder is looked at (default: 500)', parsePositive)
    .option('--lines <contract|json>', 'what a line must be to be sent (default: contract)')
    .option('--match <regexp>', 'names of log files', parsePattern)
    .option(
      '--state <dir>',
      'folder of checkpoint and lock (default: .millrace-ship in the folder)',
    )
    .option('--quarantine <file>', 'where bad lines go (default: bad.jsonl in the state folder)')
    .option('--metrics-port <port>', 'serve GET /metrics at this port', parsePort)
    .option('--metrics-host <host>', 'and this address (default: 127.0.0.1)')
    .option('--json', 'print the final counts as one JSON object')
    .action(run);
}

async function run(directory: string, flags: ShipFlags): Promise<void> {
  const stop = new AbortController();
  firstSignal().then(() => stop.abort());
  const view = new ShipView(flags);
  const account = await ship({
    directory,
    ...optionsOf(flags),
    signal: stop.signal,
    onError: ({ code, message }) => console.error(`${code}: ${message}`),
    onProgress: (now) => view.show(now),
  });
  view.end();
  console.log(flags.json === true ? JSON.stringify(account) : textOf(account));
  const { bad, rejected, failedFiles } = account;
  process.exit(bad + rejected + failedFiles === 0 ? 0 : 1);
}

function optionsOf(flags: ShipFlags): Omit<ShipOptions, 'directory'> {
  const { appid, removeAfter, batch, poll, state, json: _json, ...same } = flags;
  const renamed = {
    removeAfterDays: removeAfter,
    batchSize: batch,
    pollMs: poll,
    stateDirectory: state,
  };
  const given = Object.entries(renamed).filter(([, value]) => value !== undefined);
  return { ...same, appId: appid, ...Object.fromEntries(given) };
}

/** A bar for `--once`, a line now and then otherwise. */
class ShipView {
  readonly #flags: ShipFlags;
  readonly #progress = new Progress();
  readonly #startMs: number = performance.now();
  #toldMs: number = performance.now();

  constructor(flags: ShipFlags) {
    this.#flags = flags;
  }

  show(account: ShipAccount): void {
    const { doneBytes, totalBytes, lines } = account;
    if (this.#flags.once === true) {
      const rate = Math.round(lines / ((performance.now() - this.#startMs) / 1000));
      const words = `${(doneBytes / MIB).toFixed(0)} of ${(totalBytes / MIB).toFixed(0)} MiB, ${rate} lines/s`;
      this.#progress.show(doneBytes / totalBytes, words);
      return;
    }
    if (this.#flags.json === true || performance.now() - this.#toldMs < TELL_MS) return;
    this.#toldMs = performance.now();
    console.log(textOf(account));
  }

  end(): void {
    this.#progress.end();
  }
}

function textOf({ files, lines, delivered, rejected, bad, failedFiles }: ShipAccount): string {
  const failed = failedFiles === 0 ? '' : `, ${failedFiles} files can't be read`;
  return `${lines} lines of ${files} files: ${delivered} delivered, ${rejected} refused, ${bad} bad${failed}`;
}

function parseDays(text: string): number {
  return text === '0' ? 0 : parsePositive(text);
}

function parsePattern(text: string): RegExp {
  try {
    return new RegExp(text);
  } catch (error) {
    throw new InvalidArgumentError(String(error));
  }
}
