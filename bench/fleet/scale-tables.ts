import { readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import type { Measured, MeasuredRatio, MeasuredStage, Span } from './measured.ts';
import { OUTAGE_SECONDS, SHARE } from './plans.ts';
import type { Figures, FleetPlan, FleetResult } from './simulation.ts';

/** docs/scale.md has tables that programs write; a test holds them against what they are made of. */
const SCALE_FILE: string = fileURLToPath(new URL('../../../docs/scale.md', import.meta.url));

export type TableName = 'stages' | 'callers' | 'plans' | 'simulation';

const MIB = 1024 ** 2;
const GIB = 1024 ** 3;

function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]) => `| ${cells.join(' | ')} |`;
  return [line(head), `|${head.map(() => '---|').join('')}`, ...rows.map(line)].join('\n');
}

/** Three digits, and commas between thousands. */
function few(value: number): string {
  return Number(value.toPrecision(3)).toLocaleString('en-US');
}

function spread({ median, least, most }: Span): string {
  return least === most ? few(median) : `${few(median)} (${few(least)} to ${few(most)})`;
}

/** What each stage took. */
export function stageTable({ stages }: Measured): string {
  const head = ['stage', 'CPU, µs a record', 'of the broker', 'bytes', 'records/s'];
  const rows = stages.map(({ title, cpuMicros, brokerMicros, bytes, recordsPerSecond }) => [
    title,
    spread(cpuMicros),
    brokerMicros.most === 0 ? '–' : few(brokerMicros.median),
    bytes === 0 ? '–' : few(bytes),
    spread(recordsPerSecond),
  ]);
  const compared = stages.flatMap((stage) =>
    stage.ratios.map((ratio) => ratioRow(stages, stage, ratio)),
  );
  return `${table(head, rows)}\n\n${table(['', 'to', 'rate', 'CPU time'], compared)}`;
}

function ratioRow(
  stages: readonly MeasuredStage[],
  { title }: MeasuredStage,
  { to, rate, cpu }: MeasuredRatio,
): string[] {
  const other = stages.find(({ id }) => id === to)?.title ?? to;
  return [title, other, spread(rate), spread(cpu)];
}

/** What a call took, by where its record goes. */
export function callerTable({ callers }: Measured): string {
  return table(
    ['records go to', '`track()`, µs', 'to HTTP'],
    callers.map(({ consumer, micros, toHttp }) => [
      consumer,
      few(micros.median),
      few(toHttp.median),
    ]),
  );
}

/** The arithmetic of the plans. */
export function planTable(plans: readonly FleetPlan[], figures: Figures): string {
  const { senderMicros, brokerMicros, relayMicros, packedBytes, spoolBytes } = figures;
  const row = (title: string, cell: (plan: FleetPlan) => string) => [title, ...plans.map(cell)];
  const cores = (plan: FleetPlan, micros: number) => (plan.recordsPerSecond * micros) / 1e6 / SHARE;
  const each = ({ recordsPerSecond, servers }: FleetPlan) => recordsPerSecond / servers;
  const mega = (bytes: number) => `${few(bytes / 1e6)} MB/s`;
  return table(
    ['', ...plans.map(({ name }) => name)],
    [
      row('game servers', (plan) => `${few(plan.servers)}, ${few(each(plan))}/s each`),
      row(
        `sender: ${few(senderMicros)} µs × rate of a server`,
        (plan) => `${few((each(plan) * senderMicros) / 1e4)} % of a core`,
      ),
      row(
        `spool of a server: ${OUTAGE_SECONDS} s × rate × ${spoolBytes} B`,
        (plan) => `${few((OUTAGE_SECONDS * each(plan) * spoolBytes) / 1e9)} GB`,
      ),
      row(`into the brokers: rate × ${packedBytes} B`, (plan) =>
        mega(plan.recordsPerSecond * packedBytes),
      ),
      row('written by all brokers: × 3', (plan) =>
        mega(plan.recordsPerSecond * packedBytes * plan.replicas),
      ),
      row('brokers; a disk writes', (plan) => {
        const written = plan.recordsPerSecond * packedBytes * plan.replicas;
        return `${plan.brokers}; ${mega(written / plan.brokers)}`;
      }),
      row(
        `leader of one stream: rate × ${few(brokerMicros)} µs`,
        (plan) => `${few((plan.recordsPerSecond * brokerMicros) / 1e6)} of a core`,
      ),
      row(`their cores: rate × ${few(brokerMicros)} µs × 3 ÷ 50 %`, (plan) =>
        few(cores(plan, brokerMicros) * plan.replicas),
      ),
      row(
        `stream: ${OUTAGE_SECONDS} s × rate × ${packedBytes} B, each copy`,
        (plan) => `${few((OUTAGE_SECONDS * plan.recordsPerSecond * packedBytes) / 1e9)} GB`,
      ),
      row(
        `relays: rate × ${few(relayMicros)} µs ÷ 50 %, two at least`,
        (plan) => `${few(cores(plan, relayMicros))} → ${plan.relays}`,
      ),
      row('partitions: at least 4 a relay', ({ partitions }) => String(partitions)),
      row(
        'receiver, to work off an hour in two',
        ({ receiverPerSecond }) => `${few(receiverPerSecond / 1000)} k/s`,
      ),
    ],
  );
}

export interface SimulatedPlan {
  readonly plan: FleetPlan;
  readonly result: FleetResult;
}

/** What became of the plans in the simulation. */
export function simulationTable(runs: readonly SimulatedPlan[]): string {
  const row = (title: string, cell: (run: SimulatedPlan) => string) => [title, ...runs.map(cell)];
  return table(
    ['', ...runs.map(({ plan }) => plan.name)],
    [
      row('lost', ({ result }) => String(result.lost)),
      row(
        'fullest spool',
        ({ plan, result }) =>
          `${few(result.spoolBytesPeak / MIB)} MiB of ${few(plan.spoolBytesMax / MIB)}`,
      ),
      row(
        'stream',
        ({ plan, result }) =>
          `${few(result.streamBytesPeak / GIB)} GiB of ${few(plan.streamBytesMax / GIB)}`,
      ),
      row('recovered after the last outage', ({ result }) => `${few(result.recoveryMs / 1000)} s`),
      row('busiest relay', ({ result }) => `${result.relayBusyPeak.toFixed(2)} of a core`),
    ],
  );
}

/** Text of a table in docs/scale.md. */
export function readTable(name: TableName): string {
  const { text, from, to } = placeOf(name);
  return text.slice(from, to).trim();
}

export function writeTable(name: TableName, content: string): void {
  const { text, from, to } = placeOf(name);
  writeFileSync(SCALE_FILE, `${text.slice(0, from)}\n\n${content}\n\n${text.slice(to)}`);
}

function placeOf(name: TableName): { text: string; from: number; to: number } {
  const text = readFileSync(SCALE_FILE, 'utf8');
  const begin = new RegExp(`<!-- ${name}: written by .* -->`).exec(text);
  const to = text.indexOf(`<!-- end of ${name} -->`);
  if (begin === null || to < begin.index) throw new Error(`docs/scale.md has no table ${name}`);
  return { text, from: begin.index + begin[0].length, to };
}
