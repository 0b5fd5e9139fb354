import { setTimeout as delay } from 'node:timers/promises';
import Table from 'cli-table3';
import { Command } from 'commander';
import logUpdate from 'log-update';
import { parsePositive } from './arguments.ts';

interface TopFlags {
  readonly interval: number;
  readonly json?: boolean;
  readonly once?: boolean;
}

type Totals = ReadonlyMap<string, number>;

const COUNTERS = [
  ['accepted', 'millrace_records_accepted_total'],
  ['delivered', 'millrace_records_delivered_total'],
  ['dropped', 'millrace_records_dropped_total'],
  ['refused', 'millrace_records_rejected_total'],
  ['retries', 'millrace_retries_total'],
] as const;
const LEVELS = [
  ['queued', 'millrace_queue_records'],
  ['on disk', 'millrace_spool_records'],
  ['oldest, s', 'millrace_oldest_record_age_seconds'],
  ['workers', 'millrace_workers'],
  ['imbalance', 'millrace_ledger_imbalance_records'],
] as const;

/** `millrace top`: a terminal view of a running engine's metrics endpoint. */
export function topCommand(): Command {
  return new Command('top')
    .description(
      'watch a running engine by its metrics endpoint, for instance that of metricsServer',
    )
    .argument('<url>', 'http://HOST:PORT/metrics')
    .option('--interval <seconds>', 'time between two looks', parsePositive, 1)
    .option('--once', 'look twice and end')
    .option('--json', 'one JSON object a line')
    .action(run);
}

async function run(url: string, flags: TopFlags): Promise<void> {
  let before = await look(url);
  for (;;) {
    await delay(flags.interval * 1000);
    const now = await look(url);
    const view = viewOf(before, now, flags.interval);
    if (flags.json === true) console.log(JSON.stringify(view));
    else if (flags.once === true) console.log(tableOf(view));
    else logUpdate(tableOf(view));
    if (flags.once === true) return;
    before = now;
  }
}

/** Sums of all series of each metric. */
async function look(url: string): Promise<Totals> {
  const reply = await fetch(url, { signal: AbortSignal.timeout(5000) });
  if (!reply.ok) throw new Error(`${url} answers with status ${reply.status}`);
  const totals = new Map<string, number>();
  for (const line of (await reply.text()).split('\n')) {
    const match = /^(\w+)(?:\{.*\})? (\S+)/.exec(line);
    if (match === null) continue;
    const [, name = '', value = '0'] = match;
    totals.set(name, (totals.get(name) ?? 0) + Number(value));
  }
  if (!totals.has('millrace_workers')) throw new Error(`${url} has no metrics of millrace`);
  return totals;
}

interface Row {
  readonly name: string;
  readonly value: number;
  /** Per second; undefined: a level. */
  readonly rate?: number;
}

function viewOf(before: Totals, now: Totals, seconds: number): Row[] {
  const of = (totals: Totals, metric: string) => totals.get(metric) ?? 0;
  return [
    ...COUNTERS.map(([name, metric]) => ({
      name,
      value: of(now, metric),
      rate: Math.round((of(now, metric) - of(before, metric)) / seconds),
    })),
    ...LEVELS.map(([name, metric]) => ({ name, value: of(now, metric) })),
  ];
}

function tableOf(rows: readonly Row[]): string {
  const table = new Table({ head: ['', 'now', 'a second'] });
  for (const { name, value, rate } of rows) {
    table.push([name, Math.round(value * 10) / 10, rate ?? '']);
  }
  return table.toString();
}
