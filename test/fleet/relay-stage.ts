import { fork } from 'node:child_process';
import { once } from 'node:events';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { TestReceiver } from '../support.ts';
import { type Run, stopwatch } from './rounds.ts';

const MAIN = fileURLToPath(new URL('../../src/cli/main.js', import.meta.url));

export interface RelayStage {
  readonly from: string;
  readonly args: readonly string[];
  readonly records: number;
  readonly broker: number | undefined;
  /** Brings the records, where they are not there yet; resolves when the last one is sent. */
  readonly send?: (arrived: () => Promise<number>) => Promise<void>;
}

/** A relay process from its first record to its last, at a receiver that counts. */
export async function relayRun({ from, args, records, broker, send }: RelayStage): Promise<Run> {
  const receiver = await TestReceiver.start(['--mode', 'count']);
  const to = ['relay', '--from', from, '--url', receiver.url, '--appid', 'A', ...args, '--json'];
  const child = fork(MAIN, to, { execArgv: [], stdio: ['ignore', 'ignore', 'inherit', 'ipc'] });
  const arrived = async (): Promise<number> => (await receiver.snapshot()).records;
  const sending = send?.(arrived);
  while ((await arrived()) === 0) await delay(10);
  const before = await arrived();
  const measured = stopwatch(records - before, { broker, process: child.pid });
  await sending;
  while ((await arrived()) < records) await delay(20);
  const run = measured(0);
  const exited = once(child, 'exit');
  child.kill('SIGTERM');
  await exited;
  await receiver.stop();
  return run;
}
