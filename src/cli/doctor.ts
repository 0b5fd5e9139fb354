import {
  closeSync,
  fsyncSync,
  openSync,
  readFileSync,
  rmSync,
  statfsSync,
  writeSync,
} from 'node:fs';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { Command } from 'commander';
import { makeDirectory } from '../base/directory.ts';
import { textOfError } from '../base/errors.ts';
import { Analytics, DebugConsumer, type MillraceError } from '../index.ts';
import { askReceiver } from './ask-receiver.ts';

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
const REPLY_MS = 5000;
/** The beginning of a shorter app id would say too much of it. */
const LONG_CHARACTERS = 6;
/** What receivers say to a request without records. */
const USUAL: ReadonlySet<number> = new Set([400, 404, 405]);

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
  const found = [nodeVersion(), cores(), memory(), openFiles(), timeZone()];
  if (flags.dir !== undefined) found.push(...folder(flags.dir));
  if (flags.url !== undefined) found.push(...(await receiver(flags.url, flags.appid)));
  if (flags.json === true) console.log(JSON.stringify({ found }));
  else for (const { what, state, detail } of found) console.log(`${state}\t${what}: ${detail}`);
  process.exitCode = found.some(({ state }) => state === 'bad') ? 1 : 0;
}

function nodeVersion(): Examination {
  const { node } = process.versions;
  const [major = 0, minor = 0, patch = 0] = node.split('.').map(Number);
  const isOk = major > 20 || (major === 20 && (minor > 18 || (minor === 18 && patch >= 1)));
  return {
    what: 'Node',
    state: isOk ? 'ok' : 'bad',
    detail: isOk ? node : `${node}; install 20.18.1 or later`,
  };
}

function cores(): Examination {
  const count = availableParallelism();
  const detail = count > 1 ? String(count) : '1; workers and the game share it';
  return { what: 'cores', state: count > 1 ? 'ok' : 'warning', detail };
}

/** What this process may still take, limits of a container included. */
function memory(): Examination {
  const bytes = process.availableMemory();
  const isOk = bytes >= MEMORY_BYTES_MIN;
  const advice = isOk ? '' : '; lower ringBytes (64 MiB unless set), or give the process more';
  const detail = `${Math.round(bytes / MIB)} MiB are free${advice}`;
  return { what: 'memory', state: isOk ? 'ok' : 'warning', detail };
}

/** The usual cause of events at odd hours. */
function timeZone(): Examination {
  const { timeZone: zone } = Intl.DateTimeFormat().resolvedOptions();
  return { what: 'time zone', state: 'ok', detail: `${zone}; times of records are in it` };
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

/** Makes the folder as a consumer would, writes to it, and looks how much room there is. */
function folder(directory: string): Examination[] {
  const what = `folder ${directory}`;
  try {
    makeDirectory(directory);
    const fsyncMs = probe(join(directory, `.millrace-doctor-${process.pid}`));
    const { bavail, bsize } = statfsSync(directory);
    const bytes = bavail * bsize;
    const isOk = bytes >= DISK_BYTES_MIN;
    const advice = isOk ? '' : '; make room, or set spool.maxBytes below that';
    const detail = `writable, fsync takes ${fsyncMs.toFixed(1)} ms, ${Math.round(bytes / MIB)} MiB are free${advice}`;
    return [{ what, state: isOk ? 'ok' : 'warning', detail }];
  } catch (error) {
    const { message } = error as Error;
    const detail = `${message}; name a folder that user ${process.getuid?.() ?? ''} may write`;
    return [{ what, state: 'bad', detail }];
  }
}

/** Writes a file and takes it away again; gives how long the disk took to make it safe. */
function probe(path: string): number {
  const file = openSync(path, 'wx');
  try {
    writeSync(file, 'millrace doctor\n');
    const startMs = performance.now();
    fsyncSync(file);
    return performance.now() - startMs;
  } finally {
    closeSync(file);
    rmSync(path);
  }
}

async function receiver(url: string, appId: string | undefined): Promise<Examination[]> {
  const found: Examination[] = [];
  try {
    const reply = await askReceiver(url);
    found.push(answer(reply));
    const dateMs = Date.parse(reply.headers.get('date') ?? '');
    if (!Number.isNaN(dateMs)) found.push(clock(dateMs));
  } catch (error) {
    return [{ what: 'receiver', state: 'bad', detail: textOfError(error) }];
  }
  if (appId !== undefined) found.push(await dryRun(url, appId));
  return found;
}

function answer(reply: Response): Examination {
  const { status } = reply;
  const what = 'receiver';
  if (status >= 300 && status < 400) {
    const location = reply.headers.get('location') ?? 'nowhere';
    const detail = `redirects to ${location}; redirects are not followed, so name that address`;
    return { what, state: 'bad', detail };
  }
  const isOk = status < 500;
  const note = USUAL.has(status) ? ', which is usual for a bare GET: records come by POST' : '';
  const detail = `answers with status ${status}${isOk ? note : '; ask its owner'}`;
  return { what, state: isOk ? 'ok' : 'warning', detail };
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
  const what = 'app id';
  try {
    const consumer = new DebugConsumer({ url, appId, dryRun: true, timeoutMs: REPLY_MS });
    const ta = new Analytics(consumer, { onError: () => undefined });
    try {
      ta.track({ distinctId: 'millrace-doctor', event: 'doctor' });
    } finally {
      await ta.close({ timeoutMs: 1000 });
    }
    return { what, state: 'ok', detail: 'a record was taken as a dry run' };
  } catch (error) {
    const { message } = error as MillraceError;
    return {
      what,
      state: 'bad',
      detail: `${message}; check the app id of the project: ${shapeOf(appId)}`,
    };
  }
}

/** Enough of an app id to compare it with another; it is printed nowhere as a whole. */
function shapeOf(appId: string): string {
  const beginning = appId.length < LONG_CHARACTERS ? '' : ` begins with ${appId.slice(0, 2)} and`;
  return `the one given${beginning} has ${appId.length} ${appId.length === 1 ? 'character' : 'characters'}`;
}
