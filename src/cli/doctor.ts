import { accessSync, constants, mkdirSync, readFileSync, statfsSync } from 'node:fs';
import { availableParallelism, freemem } from 'node:os';
import { Command } from 'commander';
import { Analytics, DebugConsumer, type MillraceError } from '../index.ts';

interface DoctorFlags {
  readonly url?: string;
  readonly appid?: string;
  readonly dir?: string;
  readonly json?: boolean;
}

/** One thing that was looked at. */
interface Examination {
  readonly what: string;
  readonly state: 'ok' | 'warning' | 'bad';
  readonly detail: string;
}

const MIB: number = 1024 * 1024;
const FILES_MIN = 1024;
const DISK_BYTES_MIN: number = 1024 * MIB;
const MEMORY_BYTES_MIN: number = 256 * MIB;
const SKEW_MS_MAX = 5000;

/** `millrace doctor`: checks this machine, the receiver and the app id. */
export function doctorCommand(): Command {
  return new Command('doctor')
    .description(
      'check this machine, a folder, the receiver and the app id; exit code 1 if something is bad',
    )
    .option('--url <url>', 'the receiver')
    .option('--appid <id>', 'the app id; a record is sent as a dry run, nothing is stored')
    .option('--dir <dir>', 'folder for log files or a spool')
    .option('--json', 'print one JSON object')
    .action(run);
}

async function run(flags: DoctorFlags): Promise<void> {
  const found = [nodeVersion(), cores(), memory(), openFiles()];
  if (flags.dir !== undefined) found.push(...folder(flags.dir));
  if (flags.url !== undefined) found.push(...(await receiver(flags.url, flags.appid)));
  if (flags.json === true) console.log(JSON.stringify({ found }));
  else for (const { what, state, detail } of found) console.log(`${state}\t${what}: ${detail}`);
  process.exitCode = found.some(({ state }) => state === 'bad') ? 1 : 0;
}

function nodeVersion(): Examination {
  const [major = 0, minor = 0] = process.versions.node.split('.').map(Number);
  const isOk = major > 20 || (major === 20 && minor >= 18);
  return {
    what: 'Node',
    state: isOk ? 'ok' : 'bad',
    detail: isOk ? process.versions.node : `${process.versions.node}; 20.18 or later is needed`,
  };
}

function cores(): Examination {
  const count = availableParallelism();
  const detail = count > 1 ? String(count) : '1; workers and the game share it';
  return { what: 'cores', state: count > 1 ? 'ok' : 'warning', detail };
}

function memory(): Examination {
  const bytes = freemem();
  const isOk = bytes >= MEMORY_BYTES_MIN;
  const detail = `${Math.round(bytes / MIB)} MiB are free${isOk ? '' : '; lower ringBytes'}`;
  return { what: 'memory', state: isOk ? 'ok' : 'warning', detail };
}

function openFiles(): Examination {
  const what = 'open files';
  try {
    const limits = readFileSync('/proc/self/limits', 'utf8');
    const limit = /^Max open files\s+(\d+|unlimited)/m.exec(limits)?.[1] ?? 'unlimited';
    const isOk = limit === 'unlimited' || Number(limit) >= FILES_MIN;
    const detail = isOk ? limit : `${limit}; raise it with ulimit -n ${FILES_MIN}`;
    return { what, state: isOk ? 'ok' : 'warning', detail };
  } catch {
    return { what, state: 'ok', detail: 'this system does not tell the limit' };
  }
}

function folder(directory: string): Examination[] {
  const what = `folder ${directory}`;
  try {
    mkdirSync(directory, { recursive: true });
    accessSync(directory, constants.W_OK);
    const { bavail, bsize } = statfsSync(directory);
    const bytes = bavail * bsize;
    const isOk = bytes >= DISK_BYTES_MIN;
    const detail = `writable, ${Math.round(bytes / MIB)} MiB are free`;
    return [{ what, state: isOk ? 'ok' : 'warning', detail }];
  } catch (error) {
    return [{ what, state: 'bad', detail: String(error) }];
  }
}

async function receiver(url: string, appId: string | undefined): Promise<Examination[]> {
  const found: Examination[] = [];
  try {
    const reply = await fetch(url, { redirect: 'manual', signal: AbortSignal.timeout(5000) });
    await reply.body?.cancel();
    found.push({ what: 'receiver', state: 'ok', detail: `answers with status ${reply.status}` });
    const date = reply.headers.get('date');
    if (date !== null) found.push(clock(Date.parse(date)));
  } catch (error) {
    const cause = error instanceof Error && error.cause instanceof Error ? error.cause : error;
    return [{ what: 'receiver', state: 'bad', detail: `does not answer: ${cause}` }];
  }
  if (appId !== undefined) found.push(await dryRun(url, appId));
  return found;
}

function clock(receiverMs: number): Examination {
  const skewMs = Math.abs(Date.now() - receiverMs);
  const isOk = skewMs <= SKEW_MS_MAX;
  const detail = isOk
    ? 'agrees with the receiver'
    : `${Math.round(skewMs / 1000)} s away from the receiver; check the time service`;
  return { what: 'clock', state: isOk ? 'ok' : 'warning', detail };
}

async function dryRun(url: string, appId: string): Promise<Examination> {
  const what = `app id ${appId}`;
  try {
    const consumer = new DebugConsumer({ url, appId, dryRun: true, timeoutMs: 5000 });
    const ta = new Analytics(consumer, { onError: () => undefined });
    try {
      ta.track({ distinctId: 'millrace-doctor', event: 'doctor' });
    } finally {
      await ta.close({ timeoutMs: 1000 });
    }
    return { what, state: 'ok', detail: 'a record was taken as a dry run' };
  } catch (error) {
    const { message } = error as MillraceError;
    return { what, state: 'bad', detail: message };
  }
}
