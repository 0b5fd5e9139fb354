import { Command } from 'commander';
import { type ShipAccount, ship } from '../ship/ship.ts';
import { parsePositive } from './arguments.ts';
import { firstSignal } from './signals.ts';

interface ShipFlags {
  readonly url: string;
  readonly appid: string;
  readonly once?: boolean;
  readonly removeAfter?: number;
  readonly batch: number;
  readonly quarantine?: string;
  readonly json?: boolean;
}

const PROGRESS_MS = 1000;

/** `millrace ship`: what LogBus does. */
export function shipCommand(): Command {
  return new Command('ship')
    .description('follow a folder of log files and deliver them by HTTP, with checkpoints')
    .argument('<dir>', 'folder of log files')
    .requiredOption('--url <url>', 'the receiver')
    .requiredOption('--appid <id>', 'the app id')
    .option('--once', 'end when everything there is has been shipped')
    .option('--remove-after <days>', 'remove files that are done with and this old', parsePositive)
    .option('--batch <records>', 'records of one request', parsePositive, 500)
    .option(
      '--quarantine <file>',
      'where bad lines go (default: .millrace-bad.jsonl in the folder)',
    )
    .option('--json', 'print the final counts as one JSON object')
    .action(run);
}

async function run(directory: string, flags: ShipFlags): Promise<void> {
  const stop = new AbortController();
  firstSignal().then(() => stop.abort());
  let toldAtMs = 0;
  const show = (account: ShipAccount) => {
    if (flags.json === true || performance.now() - toldAtMs < PROGRESS_MS) return;
    toldAtMs = performance.now();
    console.log(textOf(account));
  };
  const account = await ship({
    directory,
    url: flags.url,
    appId: flags.appid,
    batchSize: flags.batch,
    signal: stop.signal,
    onError: ({ code, message }) => console.error(`${code}: ${message}`),
    onProgress: show,
    ...(flags.once === true ? { once: true } : {}),
    ...(flags.removeAfter === undefined ? {} : { removeAfterDays: flags.removeAfter }),
    ...(flags.quarantine === undefined ? {} : { quarantine: flags.quarantine }),
  });
  console.log(flags.json === true ? JSON.stringify(account) : textOf(account));
  process.exit(account.bad + account.rejected === 0 ? 0 : 1);
}

function textOf({ files, lines, delivered, rejected, bad }: ShipAccount): string {
  return `${lines} lines of ${files} files: ${delivered} delivered, ${rejected} refused, ${bad} bad`;
}
