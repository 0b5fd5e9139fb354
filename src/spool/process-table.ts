import { readFileSync, readlinkSync } from 'node:fs';
import { hostname } from 'node:os';
import { systemCodeOf } from '../base/errors.ts';

/** A process, so that it is told from a later one with the same pid. */
export interface ProcessIdentity {
  readonly pid: number;
  /** When it started, as the system counts; empty: the system doesn't say. */
  readonly start: string;
  /** Machine, boot and pid namespace: only within one place do pids mean anything. */
  readonly place: string;
}

/** What is known of processes; tests put another one in its place. */
export interface ProcessTable {
  readonly self: ProcessIdentity;
  /** Start of a living process of this place; empty: the system doesn't say; undefined: no such process. */
  startOf(pid: number): string | undefined;
}

/** Looks at this machine. Linux tells starts; elsewhere only whether a pid is in use. */
export function systemProcessTable(): ProcessTable {
  const place = [
    hostname(),
    readOrNothing(() => readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim()),
    readOrNothing(() => readlinkSync('/proc/self/ns/pid')),
  ].join(' ');
  return {
    self: { pid: process.pid, start: startOf(process.pid) ?? '', place },
    startOf,
  };
}

function startOf(pid: number): string | undefined {
  const stat = readOrNothing(() => readFileSync(`/proc/${pid}/stat`, 'utf8'));
  if (stat === '') return isInUse(pid) ? '' : undefined;
  // The name of the program stands in parentheses and may hold anything; the fields after it are plain.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  const [state = ''] = fields;
  // A zombie has ended; only its parent has not asked how.
  return state === 'Z' || state === 'X' ? undefined : (fields[19] ?? '');
}

function isInUse(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return systemCodeOf(error) === 'EPERM';
  }
}

function readOrNothing(read: () => string): string {
  try {
    return read();
  } catch {
    // The system has no such file; what it would tell stays unknown.
    return '';
  }
}
