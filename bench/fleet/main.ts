import Table from 'cli-table3';
import { Command } from 'commander';
import { DRAIN_MS, FIGURES, OUTAGES, PLANS, RUN_MS } from './plans.ts';
import { simulationTable, writeTable } from './scale-tables.ts';
import { type FleetPlan, type FleetResult, FleetSimulation } from './simulation.ts';

interface Flags {
  readonly seed: string;
  readonly json?: boolean;
  readonly write?: boolean;
}

interface Check {
  readonly what: string;
  readonly is: string;
  readonly limit: string;
  readonly isKept: boolean;
}

const MIB = 1024 ** 2;

function checksOf(plan: FleetPlan, result: FleetResult): Check[] {
  const mib = (bytes: number) => `${Math.round(bytes / MIB)} MiB`;
  const seconds = (ms: number) => `${Math.round(ms / 1000)} s`;
  const most = (what: string, value: number, limit: number, text: (value: number) => string) => ({
    what,
    is: text(value),
    limit: text(limit),
    isKept: value <= limit,
  });
  return [
    most('records lost', result.lost, 0, String),
    most('account, left less right', Math.abs(result.imbalance), 0, String),
    most('fullest spool', result.spoolBytesPeak, plan.spoolBytesMax, mib),
    most('stream', result.streamBytesPeak, plan.streamBytesMax, mib),
    most('recovered after', result.recoveryMs, plan.recoveryMsMax, seconds),
    most('busiest relay, share of a core', result.relayBusyPeak, 1, (share) => share.toFixed(2)),
  ];
}

const program = new Command('bench:fleet')
  .description(
    'simulates the plans of docs/scale.md with outages, and checks their queues and recovery times',
  )
  .option('--seed <number>', 'seed', '1')
  .option('--json', 'results as one JSON list')
  .option('--write', 'keep the results in docs/scale.md')
  .action(({ seed, json, write }: Flags) => {
    const rows = PLANS.map((plan) => {
      const simulation = new FleetSimulation(plan, FIGURES, Number(seed));
      const result = simulation.run(RUN_MS, { outages: OUTAGES, drainMs: DRAIN_MS });
      return { plan, result, checks: checksOf(plan, result) };
    });
    if (json === true)
      console.log(JSON.stringify(rows.map(({ plan, result }) => ({ plan, result }))));
    else {
      for (const { plan, checks } of rows) {
        console.log(`\n${plan.name} (seed ${seed})`);
        const table = new Table({ head: ['', 'in the run', 'plan', ''] });
        for (const { what, is, limit, isKept } of checks) {
          table.push([what, is, limit, isKept ? 'ok' : 'NOT KEPT']);
        }
        console.log(table.toString());
      }
    }
    if (write === true) writeTable('simulation', simulationTable(rows));
    const isKept = rows.every(({ checks }) => checks.every((check) => check.isKept));
    process.exitCode = isKept ? 0 : 1;
  });
program.parse();
