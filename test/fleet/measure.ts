import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { cpus } from 'node:os';
import { fileURLToPath } from 'node:url';
import { Command } from 'commander';
import { MEASURED_FILE, type Measured } from '../../bench/fleet/measured.ts';
import { figuresOf, plansOf } from '../../bench/fleet/plans.ts';
import { callerTable, planTable, stageTable, writeTable } from '../../bench/fleet/scale-tables.ts';
import { missing } from '../nats-server.ts';
import { measureCallers } from './callers.ts';
import { WAYS } from './kafka-stages.ts';
import { HTTP_SENDER } from './load.ts';
import { measureInTurn, type Run, type Stage, type StageFacts } from './rounds.ts';

/**
 * Measures each stage of a fleet on this machine: the figures docs/scale.md reckons with. All stages share its cores, so rates are
 * low; the CPU time of a record is what counts. Each has a process of its own, so that none has to look through another's heap.
 */
interface Flags {
  readonly records: string;
  readonly rounds: string;
  readonly write?: boolean;
}

/** Set, and the stages of one process; a relay takes what the sender before it has left at their broker. */
const PROCESSES: readonly (readonly [string, readonly string[]])[] = [
  ['http', [HTTP_SENDER]],
  ...['plain', 'gzip'].flatMap((how): [string, string[]][] => [
    ['nats', [`nats bare ${how}`]],
    ['nats', [`nats sink ${how}`]],
    ['nats', [`nats sender ${how}`, `nats relay ${how}`]],
  ]),
  ['nats', ['nats by hand']],
  ...WAYS.flatMap(({ how }): [string, string[]][] => [
    ['kafka', [`kafka bare ${how}`]],
    ['kafka', [`kafka sink ${how}`]],
    ['kafka', [`kafka sender ${how}`]],
  ]),
  ['kafka', ['kafka relay gzip']],
];
const STAGE_PROCESS = fileURLToPath(new URL('./stage-process.js', import.meta.url));

async function openStages(records: string): Promise<{ stages: Stage[]; children: ChildProcess[] }> {
  const stages: Stage[] = [];
  const children: ChildProcess[] = [];
  for (const [set, ids] of PROCESSES) {
    const child = fork(STAGE_PROCESS, [set, records], { execArgv: ['--expose-gc'] });
    children.push(child);
    const every = (await heard(child)) as readonly StageFacts[];
    const run = async (id: string): Promise<Run> => {
      child.send(id);
      return (await heard(child)) as Run;
    };
    const own = every.filter(({ id }) => ids.includes(id));
    stages.push(...own.map((facts) => ({ ...facts, run: () => run(facts.id) })));
  }
  return { stages, children };
}

/** The next message of a process. Rejects when it ends instead. */
async function heard(child: ChildProcess): Promise<unknown> {
  const ended = new AbortController();
  const end = once(child, 'exit', { signal: ended.signal }).then(([code]) => {
    throw new Error(`the process of a stage ended with ${code}`);
  });
  end.catch(() => undefined);
  try {
    const [message] = (await Promise.race([once(child, 'message'), end])) as [unknown];
    return message;
  } finally {
    ended.abort();
  }
}

const program = new Command('measure:fleet')
  .option('--records <count>', 'of a stage', '200000')
  .option('--rounds <count>', 'of which the median is taken', '5')
  .option(
    '--write',
    'keep the figures in bench/fleet/measured.json and docs/scale.md; then run bench:fleet -- --write',
  )
  .action(async ({ records, rounds, write }: Flags) => {
    for (const needed of [missing('nats-server', ['--version']), missing('kcat', ['-V'])]) {
      if (needed !== false) throw new Error(needed);
    }
    const { stages, children } = await openStages(records);
    const found = await measureInTurn(stages, Number(rounds), (text) => console.error(text));
    for (const child of children) {
      const exited = once(child, 'exit');
      child.disconnect();
      await exited;
    }
    const measured: Measured = {
      how: `${records} records a stage, ${rounds} rounds, ${cpus().length} cores, Node ${process.versions.node.split('.')[0]}`,
      stages: found,
      callers: await measureCallers(),
    };
    console.log(stageTable(measured));
    console.log(callerTable(measured));
    if (write === true) {
      const figures = figuresOf(measured);
      writeFileSync(MEASURED_FILE, `${JSON.stringify(measured, null, 2)}\n`);
      writeTable('stages', stageTable(measured));
      writeTable('callers', callerTable(measured));
      writeTable('plans', planTable(plansOf(figures), figures));
    }
    process.exit(0);
  });
await program.parseAsync();
