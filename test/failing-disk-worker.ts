import fs from 'node:fs';
import { syncBuiltinESMExports } from 'node:module';
import { workerData } from 'node:worker_threads';
import { HttpSink, type HttpSinkConfig } from '../src/sink/http.ts';
import type { TurnEnd, TurnTask } from '../src/worker/contract.ts';
import { WorkerRuntime } from '../src/worker/runtime.ts';

/**
 * Which work of the spool fails, and with what: the content of the file that MILLRACE_TEST_DISK names. Each failure is a line in
 * the file of that name and `.hits`.
 */
export interface DiskPlan {
  readonly code: 'ENOSPC' | 'EIO' | 'EROFS' | 'EACCES' | 'EMFILE';
  /** Records to a segment; the checkpoint; a new segment; stable storage. */
  readonly work: 'append' | 'cursor' | 'rotation' | 'sync';
}

let runtime: WorkerRuntime | undefined;

/** A worker entry as ours, but calls to the disk fail as long as a plan says so. */
export default function turn(task: TurnTask): Promise<TurnEnd> {
  runtime ??= WorkerRuntime.start(workerData, ({ sink }, machine) =>
    HttpSink.open(sink as HttpSinkConfig, machine),
  );
  return runtime.turn(task);
}

const paths = new Map<number, string>();
const real = { openSync: fs.openSync, writeSync: fs.writeSync, fsyncSync: fs.fsyncSync };

function failIf(work: DiskPlan['work']): void {
  let text: string;
  try {
    text = fs.readFileSync(process.env.MILLRACE_TEST_DISK ?? '', 'utf8');
  } catch {
    // No plan: the disk is well.
    return;
  }
  const plan = JSON.parse(text) as DiskPlan;
  if (plan.work !== work) return;
  fs.appendFileSync(`${process.env.MILLRACE_TEST_DISK}.hits`, `${plan.work} ${plan.code}\n`);
  throw Object.assign(new Error(`${plan.code}: made up`), { code: plan.code });
}

function isSegment(path: unknown): boolean {
  return typeof path === 'string' && path.endsWith('.seg');
}

function isCheckpoint(path: unknown): boolean {
  return typeof path === 'string' && path.endsWith('checkpoint');
}

/** The modules under test hold these by name, so the names are led here. */
Object.assign(fs, {
  openSync: (path: string, flags: string | number, mode?: number) => {
    if (isSegment(path) && flags === 'wx+') failIf('rotation');
    if (isCheckpoint(path) && flags !== fs.constants.O_RDONLY) failIf('cursor');
    const fd = real.openSync(path, flags, mode);
    paths.set(fd, path);
    return fd;
  },
  writeSync: (fd: number, ...rest: [Uint8Array, number, number, number]) => {
    if (isSegment(paths.get(fd))) failIf('append');
    return real.writeSync(fd, ...rest);
  },
  fsyncSync: (fd: number) => {
    if (isSegment(paths.get(fd))) failIf('sync');
    real.fsyncSync(fd);
  },
});
syncBuiltinESMExports();
