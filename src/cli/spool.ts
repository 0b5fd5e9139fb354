import { once } from 'node:events';
import { setTimeout as delay } from 'node:timers/promises';
import { Command } from 'commander';
import { NEWLINE } from '../base/characters.ts';
import { Analytics, AsyncBatchConsumer, type MillraceError } from '../index.ts';
import { dumpSpool } from '../spool/dump.ts';
import { repairSpool } from '../spool/repair.ts';
import {
  type LaneReport,
  type ReplayReport,
  type SpoolReport,
  verifySpool,
} from '../spool/verify.ts';
import { parsePositive } from './arguments.ts';

interface Flags {
  readonly json?: boolean;
}

interface DrainFlags extends Flags {
  readonly url: string;
  readonly appid: string;
  readonly seconds: number;
}

interface DumpFlags extends Flags {
  readonly all?: boolean;
}

const WRITE_BYTES: number = 64 * 1024;

/** `millrace spool`: look into a spool folder and mend it. */
export function spoolCommand(): Command {
  const spool = new Command('spool').description('look into a spool folder, and mend it');
  spool
    .command('verify')
    .description('read every byte; exit code 1 if something is damaged or missing')
    .argument('<dir>', 'spool folder, or an instance, run or lane in it')
    .option('--json', 'print one JSON object')
    .action(verify);
  spool
    .command('repair')
    .description(
      'write damaged segments anew with what is good in them, and forget what processes died of',
    )
    .argument('<dir>', 'spool folder, or an instance, run or lane in it')
    .option('--json', 'print one JSON object')
    .action(repair);
  spool
    .command('dump')
    .description('print the records that wait, one a line')
    .argument('<dir>', 'spool folder, or an instance, run or lane in it')
    .option('--all', 'also those that are delivered and not yet removed')
    .option('--json', 'print lane, number, time and record of each as one JSON object a line')
    .action(dump);
  spool
    .command('drain')
    .description('deliver what waits; exit code 1 if something is left')
    .argument('<dir>', 'spool folder')
    .requiredOption('--url <url>', 'the receiver')
    .requiredOption('--appid <id>', 'the app id')
    .option('--seconds <n>', 'longest time', parsePositive, 3600)
    .option('--json', 'print the final account as one JSON object')
    .action(drain);
  return spool;
}

function verify(directory: string, flags: Flags): void {
  const report = verifySpool(directory);
  if (flags.json === true) console.log(JSON.stringify(report));
  else printReport(report);
  process.exitCode = report.isSound ? 0 : 1;
}

function repair(directory: string, flags: Flags): void {
  const report = repairSpool(directory);
  if (flags.json === true) console.log(JSON.stringify(report));
  else {
    for (const path of report.mended) console.log(`mended ${path}`);
    if (report.mended.length === 0) console.log('nothing to mend');
    printReport(report.after);
  }
  process.exitCode = report.after.damagedPlaces === 0 ? 0 : 1;
}

async function drain(directory: string, flags: DrainFlags): Promise<void> {
  const { pending, lost } = verifySpool(directory);
  const wanted = pending + lost;
  const consumer = new AsyncBatchConsumer({
    url: flags.url,
    appId: flags.appid,
    spool: { directory },
  });
  const onError = ({ code, message }: MillraceError) => console.error(`${code}: ${message}`);
  const ta = new Analytics(consumer, { onError });
  const endMs = performance.now() + flags.seconds * 1000;
  const isDone = () => ta.stats().recovered >= wanted && ta.stats().spooled === 0;
  while (!isDone() && performance.now() < endMs) await delay(20);
  const stats = await ta.close({ timeoutMs: 5000 });
  if (flags.json === true) console.log(JSON.stringify(stats));
  else {
    const { delivered, rejected, dropped, spooled } = stats;
    console.log(
      `${delivered} delivered, ${rejected} refused, ${dropped.corrupt} lost, ${dropped.crashed} deadly to workers, ${spooled} are left`,
    );
  }
  process.exitCode = stats.spooled === 0 && stats.recovered >= wanted ? 0 : 1;
}

async function dump(directory: string, flags: DumpFlags): Promise<void> {
  let parts: Buffer[] = [];
  let bytes = 0;
  const flush = async () => {
    const isRoom = process.stdout.write(Buffer.concat(parts));
    parts = [];
    bytes = 0;
    if (!isRoom) await once(process.stdout, 'drain');
  };
  // `millrace spool dump DIR | head` closes the pipe before the end; that is no error.
  process.stdout.on('error', () => process.exit(0));
  for (const { lane, number, stampMs, text } of dumpSpool(
    directory,
    flags.all === true ? 'all' : 'pending',
  )) {
    const line = Buffer.from(text);
    parts.push(
      flags.json === true
        ? Buffer.from(
            `{"lane":${lane},"number":${number},"acceptedMs":${stampMs},"record":${line.toString()}}`,
          )
        : line,
      Buffer.of(NEWLINE),
    );
    bytes += line.length;
    if (bytes >= WRITE_BYTES) await flush();
  }
  await flush();
}

function printReport(report: SpoolReport): void {
  for (const lane of report.lanes) printLane(lane);
  for (const replay of report.replays) printReplay(replay);
  for (const { pid } of report.owners) console.log(`in use by process ${pid}`);
  if (report.lanes.length === 0) {
    console.log(`${report.directory}: empty; 0 records wait`);
    return;
  }
  const state = report.isSound ? 'sound' : 'not sound';
  console.log(
    `${report.directory}: ${state}; ${report.pending} records wait, ${report.lost} are lost, ${report.damagedPlaces} damaged places, ${report.bytes} bytes`,
  );
}

function printReplay({
  directory,
  openings,
  suspect,
  deaths,
  givenUp,
  heldMs,
}: ReplayReport): void {
  if (openings <= 1 && deaths === 0 && givenUp === 0) return;
  const of =
    deaths > 0 ? `, ${deaths} of them at record ${suspect.number} of lane ${suspect.lane}` : '';
  const hold = heldMs > 0 ? `; left alone since ${new Date(heldMs).toISOString()}` : '';
  console.log(
    `${directory}: ${openings} attempts in a row to deliver it got nothing done${of}; ${givenUp} records given up${hold}`,
  );
}

function printLane({ directory, checkpoint, settled, pending, lost, segments }: LaneReport): void {
  const note = checkpoint === 'missing' ? ', no checkpoint' : '';
  console.log(
    `${directory}: ${segments.length} segments, ${settled} settled, ${pending} wait, ${lost} lost${note}`,
  );
  for (const { path, header, damagedBytes, damagedPlaces, tornBytes, lost } of segments) {
    if (header === 'good' && damagedPlaces === 0 && tornBytes === 0 && lost === 0) continue;
    console.log(
      `  ${path}: header ${header}, ${damagedPlaces} damaged places (${damagedBytes} bytes), ${tornBytes} bytes torn, ${lost} records lost`,
    );
  }
}
