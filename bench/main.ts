import { fork } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { availableParallelism, cpus, tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import Table from 'cli-table3';
import { Command } from 'commander';
import { parsePositive } from '../src/cli/arguments.ts';
import { ReceiverProcess } from '../src/cli/receiver-process.ts';
import { benchCaller } from './caller.ts';
import { interleave, medianOf, type Series, summarize } from './measure.ts';

interface SenderResult {
  readonly seconds: number;
  readonly cpuSeconds: number;
  readonly rssMb: number;
}

interface BenchFlags {
  readonly rounds: number;
  readonly records: number;
  readonly json?: boolean;
}

const BATCH = 500;

await new Command('bench')
  .description('cost of a call, and sustained delivery, against the official SDK and log libraries')
  .option('--rounds <n>', 'rounds of each contestant', parsePositive, 5)
  .option('--records <n>', 'records of each delivery run', parsePositive, 200_000)
  .option('--json', 'print one JSON object')
  .action(run)
  .parseAsync();

async function run({ rounds, records, json }: BenchFlags): Promise<void> {
  const receiver = await ReceiverProcess.start(['--mode', 'count']);
  const caller = await benchCaller(receiver.url, rounds);
  const http = await benchDelivery(['millrace-http', 'thinkingdata-node'], {
    rounds,
    records,
    target: () => receiver.url,
  });
  const { records: received } = await receiver.snapshot();
  await receiver.stop();
  const files = await benchDelivery(['millrace-file', 'pino', 'winston'], {
    rounds,
    records,
    target: () => mkdtempSync(join(tmpdir(), 'millrace-bench-')),
  });
  if (received === 0) throw new Error('the receiver got nothing');
  const machine = `${cpus()[0]?.model ?? 'unknown'}, ${availableParallelism()} cores, Node ${process.version}`;
  if (json === true) {
    console.log(JSON.stringify({ machine, rounds, records, caller, ...http, files }));
    return;
  }
  console.log(`${machine}; ${rounds} rounds, interleaved; medians, with least and most\n`);
  print('Caller: ns a call', caller, { digits: 0, best: 'low' });
  print('HTTP, gzip, batches of 500: records a second', http.rates, { digits: 0, best: 'high' });
  print('HTTP: CPU seconds of a million records', http.cpu, { digits: 2, best: 'low' });
  print('Files: records a second', files.rates, { digits: 0, best: 'high' });
  print('Files: CPU seconds of a million records', files.cpu, { digits: 2, best: 'low' });
}

/** Records a second and CPU seconds a million records, of contestants in processes of their own. */
async function benchDelivery(
  names: readonly string[],
  { rounds, records, target }: { rounds: number; records: number; target: () => string },
): Promise<{ rates: Series[]; cpu: Series[] }> {
  const cpu = new Map<string, number[]>(names.map((name) => [name, []]));
  const contestants = Object.fromEntries(
    names.map((name) => [
      name,
      async () => {
        const where = target();
        const result = await runSender([name, where, String(records), String(BATCH)]);
        if (where.startsWith(tmpdir())) rmSync(where, { recursive: true });
        cpu.get(name)?.push((result.cpuSeconds * 1e6) / records);
        return records / result.seconds;
      },
    ]),
  );
  const rates = await interleave(contestants, { rounds, warmUps: 0 });
  return { rates, cpu: [...cpu].map(([name, values]) => ({ name, values })) };
}

async function runSender(args: readonly string[]): Promise<SenderResult> {
  const path = fileURLToPath(new URL('./sender.js', import.meta.url));
  const child = fork(path, args, { execArgv: [], stdio: ['ignore', 'ignore', 'inherit', 'ipc'] });
  const ended = once(child, 'exit');
  const result = await Promise.race([
    once(child, 'message').then(([message]: unknown[]) => message as SenderResult),
    ended.then(([code]) => {
      throw new Error(`${args[0]} ended with code ${code} and no result`);
    }),
  ]);
  await ended;
  return result;
}

function print(
  title: string,
  series: readonly Series[],
  { digits, best }: { digits: number; best: 'low' | 'high' },
): void {
  const table = new Table({
    head: [title, 'median', 'min', 'max', 'against the first'],
    style: { head: [], border: [] },
  });
  const first = medianOf(series[0]?.values ?? []);
  const show = (value: number) => value.toLocaleString('en-US', { maximumFractionDigits: digits });
  for (const { name, median, min, max } of series.map(summarize)) {
    const ratio = (median / first).toFixed(2);
    table.push([name, show(median), show(min), show(max), `${ratio} ×`]);
  }
  console.log(`${table.toString()}\n(${best === 'low' ? 'less' : 'more'} is better)\n`);
}
