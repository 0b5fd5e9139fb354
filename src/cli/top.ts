import { setTimeout as delay } from 'node:timers/promises';
import Table from 'cli-table3';
import { Command, InvalidArgumentError } from 'commander';
import logUpdate from 'log-update';
import { MillraceError, textOfError } from '../base/errors.ts';
import { parsePositive } from './arguments.ts';
import { type MetricSample, parseMetrics, quantileOf } from './metrics-text.ts';

interface TopFlags {
  readonly interval: number;
  readonly json?: boolean;
  readonly once?: boolean;
}

/** What one look at the endpoint gave. */
interface Look {
  readonly atMs: number;
  readonly samples: readonly MetricSample[];
}

const COUNTERS = [
  ['accepted', 'millrace_records_accepted_total'],
  ['delivered', 'millrace_records_delivered_total'],
  ['dropped', 'millrace_records_dropped_total'],
  ['refused', 'millrace_records_rejected_total'],
  ['retries', 'millrace_retries_total'],
] as const;
/** Levels; of several series those are added up, or the largest counts. */
const LEVELS = [
  ['queued', 'millrace_queue_records', 'sum'],
  ['on disk', 'millrace_spool_records', 'sum'],
  ['oldest, s', 'millrace_oldest_record_age_seconds', 'max'],
  ['workers', 'millrace_workers', 'sum'],
  ['circuit', 'millrace_circuit_state', 'max'],
  ['imbalance', 'millrace_ledger_imbalance_records', 'sum'],
] as const;
const LATENCY = 'millrace_delivery_latency_seconds_bucket';
const BLOCKS = '▁▂▃▄▅▆▇█';
const HISTORY_MAX = 30;
/** q, Q, Ctrl-C and Ctrl-D. */
const QUIT_KEYS: ReadonlySet<number> = new Set([0x71, 0x51, 0x03, 0x04]);
const CIRCUIT = ['closed', 'half-open', 'open'];

/** `millrace top`: a terminal view of a running engine's metrics endpoint. */
export function topCommand(): Command {
  return new Command('top')
    .description(
      'watch a running engine by its metrics endpoint, for instance that of metricsServer; q or Ctrl-C ends it',
    )
    .argument('<url>', 'http://HOST:PORT/metrics; /metrics may be left out', parseUrl)
    .option('--interval <seconds>', 'time between two looks', parsePositive, 1)
    .option('--once', 'look twice and end')
    .option('--json', 'one JSON object a line')
    .action(run);
}

async function run(url: string, flags: TopFlags): Promise<void> {
  const quit = new AbortController();
  const release = onQuit(() => quit.abort());
  try {
    await watch(url, flags, quit.signal);
  } finally {
    release();
  }
}

async function watch(given: string, flags: TopFlags, signal: AbortSignal): Promise<void> {
  const history = new Map<string, number[]>();
  let { url, found: before } = await lookFirst(given);
  while (!signal.aborted) {
    await delay(flags.interval * 1000, undefined, { signal }).catch(() => {
      // Somebody pressed q; the loop's condition does the rest.
    });
    if (signal.aborted) return;
    const now = await lookAgain(url, flags);
    if (now === undefined) continue;
    const rows = rowsOf(before, now);
    if (flags.json === true) console.log(JSON.stringify(rows));
    else if (flags.once === true) console.log(screenOf(url, rows, history));
    else logUpdate(screenOf(url, rows, history));
    if (flags.once === true) return;
    before = now;
  }
}

/** Calls back at q, Q or Ctrl-C. In a terminal keys come one by one, so Ctrl-C is a key, too. */
function onQuit(quit: () => void): () => void {
  const { stdin } = process;
  if (!stdin.isTTY) return () => {};
  const hear = (keys: Buffer) => {
    if (keys.some((key) => QUIT_KEYS.has(key))) quit();
  };
  stdin.setRawMode(true).resume().on('data', hear);
  return () => {
    stdin.off('data', hear).pause().setRawMode(false);
    logUpdate.done();
  };
}

/** The first look, and where it found metrics: at an address without a path they are as a rule at /metrics. */
async function lookFirst(url: string): Promise<{ url: string; found: Look }> {
  try {
    return { url, found: await look(url) };
  } catch (error) {
    if (new URL(url).pathname !== '/') throw error;
    const usual = new URL('/metrics', url).href;
    return { url: usual, found: await look(usual) };
  }
}

/** @throws MillraceError MILLRACE_UNAVAILABLE: there are no metrics of millrace */
async function look(url: string): Promise<Look> {
  const samples = parseMetrics(await read(url));
  if (!samples.some(({ name }) => name === 'millrace_workers')) {
    throw new MillraceError('MILLRACE_UNAVAILABLE', `${url} has no metrics of millrace`);
  }
  return { atMs: Date.now(), samples };
}

async function read(url: string): Promise<string> {
  let why: string;
  try {
    const reply = await fetch(url, { signal: AbortSignal.timeout(5000) });
    if (reply.ok) return await reply.text();
    why = `status ${reply.status}`;
  } catch (error) {
    why = textOfError(error instanceof Error ? (error.cause ?? error) : error);
  }
  throw new MillraceError('MILLRACE_UNAVAILABLE', `no metrics at ${url}: ${why}`);
}

function parseUrl(text: string): string {
  if (URL.canParse(text) && /^https?:/.test(text)) return text;
  throw new InvalidArgumentError('It must be like http://HOST:PORT/metrics.');
}

/** A server that goes away for a while is waited for, unless one look is all that is wanted. */
async function lookAgain(url: string, { once, json }: TopFlags): Promise<Look | undefined> {
  try {
    return await look(url);
  } catch (error) {
    if (once === true) throw error;
    const message = `${error instanceof Error ? error.message : error}; trying again`;
    if (json === true) console.error(message);
    else logUpdate(message);
    return undefined;
  }
}

interface Part {
  readonly value: number;
  /** Per second; undefined: a level. */
  readonly rate?: number;
}

/** One number: of all clients, and of each. */
interface Row extends Part {
  readonly name: string;
  readonly clients: Readonly<Record<string, Part>>;
}

function clientOf({ labels: { client = '', instance, consumer } }: MetricSample): string {
  const place = instance === undefined ? '' : `${instance} `;
  return consumer === undefined ? `${place}${client}` : `${place}${client} (${consumer})`;
}

function clientsOf({ samples }: Look): string[] {
  return [...new Set(samples.filter(({ name }) => name === 'millrace_workers').map(clientOf))];
}

/** Sum or largest of a metric's series, of one client or of all. */
function total(
  { samples }: Look,
  { metric, client, how = 'sum' }: { metric: string; client?: string; how?: 'sum' | 'max' },
): number {
  let result = 0;
  for (const sample of samples) {
    if (sample.name !== metric) continue;
    if (client !== undefined && clientOf(sample) !== client) continue;
    result = how === 'sum' ? result + sample.value : Math.max(result, sample.value);
  }
  return result;
}

function rowsOf(before: Look, now: Look): Row[] {
  const clients = clientsOf(now);
  const seconds = Math.max(0.001, (now.atMs - before.atMs) / 1000);
  const row = (name: string, partOf: (client?: string) => Part): Row => ({
    name,
    ...partOf(),
    clients: Object.fromEntries(clients.map((client) => [client, partOf(client)])),
  });
  const counters = COUNTERS.map(([name, metric]) =>
    row(name, (client) => {
      const of = client === undefined ? { metric } : { metric, client };
      const value = total(now, of);
      return { value, rate: Math.round(Math.max(0, value - total(before, of)) / seconds) };
    }),
  );
  const levels = LEVELS.map(([name, metric, how]) =>
    row(name, (client) => ({
      value: total(now, client === undefined ? { metric, how } : { metric, client, how }),
    })),
  );
  const latencies = (
    [
      ['p50, ms', 0.5],
      ['p99, ms', 0.99],
    ] as const
  ).map(([name, share]) =>
    row(name, (client) => ({ value: latencyMs(share, { before, now, client }) })),
  );
  return [...counters, ...levels, ...latencies];
}

function latencyMs(
  share: number,
  { before, now, client }: { before: Look; now: Look; client: string | undefined },
): number {
  const seconds = quantileOf(share, bucketsOf(before, client), bucketsOf(now, client));
  return seconds === undefined ? 0 : Math.round(seconds * 10_000) / 10;
}

function bucketsOf({ samples }: Look, client: string | undefined): Map<number, number> {
  const buckets = new Map<number, number>();
  for (const sample of samples) {
    if (sample.name !== LATENCY || (client !== undefined && clientOf(sample) !== client)) continue;
    const bound = Number(sample.labels.le === '+Inf' ? Number.POSITIVE_INFINITY : sample.labels.le);
    buckets.set(bound, (buckets.get(bound) ?? 0) + sample.value);
  }
  return buckets;
}

/** A line of blocks, the latest at its end; the highest is the largest value there is. */
export function sparkline(values: readonly number[]): string {
  const top = Math.max(1, ...values);
  return values
    .map((value) => BLOCKS[Math.round((value / top) * (BLOCKS.length - 1))] ?? '')
    .join('');
}

function screenOf(url: string, rows: readonly Row[], history: Map<string, number[]>): string {
  const clients = Object.keys(rows[0]?.clients ?? {});
  const columns = ['all', ...clients];
  const partOf = (row: Row, column: string) => (column === 'all' ? row : row.clients[column]);
  const table = new Table({ head: ['', ...columns], style: { head: [], border: [] } });
  for (const row of rows) {
    table.push([row.name, ...columns.map((column) => textOf(row.name, partOf(row, column)))]);
  }
  const delivered = rows.find(({ name }) => name === 'delivered');
  const lines = columns.map((column) => {
    const past = [
      ...(history.get(column) ?? []),
      (delivered && partOf(delivered, column)?.rate) ?? 0,
    ];
    history.set(column, past.slice(-HISTORY_MAX));
    return sparkline(past.slice(-HISTORY_MAX));
  });
  table.push(['delivered', ...lines]);
  return `${url}   ${new Date().toLocaleTimeString('en-GB')}   q ends\n${table.toString()}`;
}

function textOf(name: string, part: Part | undefined): string {
  if (part === undefined) return '';
  if (name === 'circuit') return CIRCUIT[part.value] ?? '';
  const value = (Math.round(part.value * 10) / 10).toLocaleString('en-US');
  return part.rate === undefined ? value : `${value}  ${part.rate.toLocaleString('en-US')}/s`;
}
