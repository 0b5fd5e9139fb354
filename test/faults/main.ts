import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import Table from 'cli-table3';
import { Command } from 'commander';
import { randomFrom } from '../random.ts';
import { repositoryRoot } from '../support.ts';
import type { Drill, Finding } from './drill.ts';
import { PROCESS_DRILLS } from './process-drills.ts';
import { RECEIVER_DRILLS } from './receiver-drills.ts';

interface Flags {
  readonly only?: readonly string[];
  readonly seed: string;
  readonly quick?: boolean;
  readonly write?: boolean;
}

const QUICK_SCALE = 0.1;
const DRILLS: readonly Drill[] = [...RECEIVER_DRILLS, ...PROCESS_DRILLS];

interface Row {
  readonly drill: Drill;
  readonly finding: Finding | undefined;
}

async function runAll(flags: Flags): Promise<Row[]> {
  const rows: Row[] = [];
  for (const drill of DRILLS) {
    if (flags.only !== undefined && !flags.only.includes(drill.id)) continue;
    const random = randomFrom(Number(flags.seed));
    const startMs = Date.now();
    try {
      const finding = await drill.run({ random, scale: flags.quick === true ? QUICK_SCALE : 1 });
      rows.push({ drill, finding });
      console.log(
        `ok ${drill.id} ${drill.fault} (${Date.now() - startMs} ms) ${finding.note ?? ''}`,
      );
    } catch (error) {
      rows.push({ drill, finding: undefined });
      console.log(
        `FAILED ${drill.id} ${drill.fault}: npm run test:faults -- --only ${drill.id} --seed ${flags.seed}`,
      );
      console.log(error);
    }
  }
  return rows;
}

function showRows(rows: readonly Row[]): void {
  const table = new Table({ head: ['', 'fault', 'enqueued', 'arrived', 'given up', 'twice', ''] });
  for (const { drill, finding } of rows) {
    table.push([
      drill.id,
      drill.fault,
      finding?.enqueued ?? '',
      finding?.arrived ?? '',
      finding === undefined ? '' : reasons(finding),
      finding?.duplicates ?? '',
      finding === undefined ? 'FAILED' : 'ok',
    ]);
  }
  console.log(table.toString());
}

function reasons({ dropped }: Finding): string {
  return (
    Object.entries(dropped)
      .map(([reason, count]) => `${count} ${reason}`)
      .join(', ') || '0'
  );
}

/** The table of what survives what, for people: docs/survival.md. */
function writeTable(rows: readonly Row[], seed: string): void {
  const lines = rows.map(({ drill, finding }) => {
    const { enqueued = '', arrived = '', duplicates = '' } = finding ?? {};
    const given = finding === undefined ? '**failed**' : reasons(finding);
    return `| ${drill.id} | ${drill.fault} | ${drill.promise} | ${enqueued} | ${arrived} | ${given} | ${duplicates} |`;
  });
  const text = `# What survives what

Made by \`npm run test:faults -- --write\` (seed ${seed}): real sending processes against a real receiver process, every record
compared by its uuid with the sender's account. "Given up" is what the account says was dropped, by reason; "twice" counts repeated records, which
the receiver drops by their \`#uuid\`.

| | fault | promise | enqueued | arrived | given up | twice |
|---|---|---|---|---|---|---|
${lines.join('\n')}
`;
  writeFileSync(join(repositoryRoot(), 'docs', 'survival.md'), text);
}

const flags = new Command('test:faults')
  .description('abuses senders, receivers, threads and disks, and counts every record')
  .option('--only <id...>', 'these drills')
  .option('--seed <n>', 'seed of all that is random', String(Date.now() % 1_000_000))
  .option('--quick', 'a tenth of the length')
  .option('--write', 'write docs/survival.md')
  .parse()
  .opts<Flags>();
console.log(`seed ${flags.seed}`);
const rows = await runAll(flags);
showRows(rows);
if (flags.write === true) writeTable(rows, flags.seed);
process.exitCode = rows.every(({ finding }) => finding !== undefined) ? 0 : 1;
