import { randomUUID } from 'node:crypto';
import { join } from 'node:path';
import { systemCodeOf } from '../base/errors.ts';
import { type SpoolFileSystem, writeAll } from './file-system.ts';
import type { ProcessIdentity, ProcessTable } from './process-table.ts';
import { namesIn } from './shelf.ts';

/**
 * Keeps a folder to one process.
 *
 * The owner is whoever has the `lock-N` of the highest N. A lock is complete before it gets its name, and the name is given
 * only if it is free. Whoever finds a dead owner takes N + 1 and looks again: with a higher lock, or a
 * living owner below, it gives way. Of two that do so at the same time at least one sees the other, so never do both
 * stay. A lock is never overwritten or taken out of the hands of a process that lives.
 */
export interface LockEdge {
  readonly fileSystem: SpoolFileSystem;
  readonly processes: ProcessTable;
  /** Wall time in ms. */
  readonly nowMs: () => number;
}

/** Who has a folder. */
export interface LockOwner extends ProcessIdentity {
  /** When it touched the lock last, in ms since 1970. */
  readonly seenMs: number;
}

/**
 * For how long an owner whose pid can't be looked up (another machine or container, or a system that doesn't tell starts) counts as
 * living after it touched its lock.
 */
const SILENCE_MS_MAX = 60_000;
/** A lock without content is being written, on a disk that knows no second names. */
const EMPTY_MS_MAX = 5000;
const ATTEMPTS_MAX = 100;
const LOCK_BYTES_MAX = 4096;

/** A folder that belongs to this process until {@link release}. */
export class FolderLock {
  readonly #directory: string;
  readonly #number: number;
  readonly #edge: LockEdge;

  private constructor(directory: string, number: number, edge: LockEdge) {
    this.#directory = directory;
    this.#number = number;
    this.#edge = edge;
  }

  /** Takes a folder, which must exist, unless a living process has it: then its owner is returned. Throws what the disk throws. */
  static take(directory: string, edge: LockEdge): FolderLock | LockOwner {
    let owner: LockOwner | undefined;
    for (let attempt = 0; attempt < ATTEMPTS_MAX; attempt += 1) {
      const numbers = lockNumbers(directory, edge.fileSystem);
      owner = livingOwner(directory, numbers, edge);
      if (owner !== undefined) return owner;
      const mine = (numbers.at(-1) ?? 0) + 1;
      if (!make(join(directory, nameOf(mine)), edge)) continue;
      const lock = new FolderLock(directory, mine, edge);
      if (lock.#isAlone()) {
        for (const number of numbers) lock.#remove(number);
        return lock;
      }
      lock.#remove(mine);
    }
    throw new Error(`no turn at the lock in ${directory}`);
  }

  /** Tells others that this process lives. False: the folder is not ours any more. */
  beat(): boolean {
    const { fileSystem, nowMs } = this.#edge;
    const highest = lockNumbers(this.#directory, fileSystem).at(-1);
    if (highest !== this.#number) return false;
    fileSystem.touch(join(this.#directory, nameOf(this.#number)), nowMs());
    return true;
  }

  /** Gives the folder up. Throws what the disk throws. */
  release(): void {
    this.#remove(this.#number);
  }

  #isAlone(): boolean {
    const numbers = lockNumbers(this.#directory, this.#edge.fileSystem);
    if (numbers.at(-1) !== this.#number) return false;
    return livingOwner(this.#directory, numbers.slice(0, -1), this.#edge) === undefined;
  }

  #remove(number: number): void {
    removeIfThere(join(this.#directory, nameOf(number)), this.#edge.fileSystem);
  }
}

/** The living process that has a folder; undefined: none. Changes nothing. Throws what the disk throws. */
export function ownerOf(directory: string, edge: LockEdge): LockOwner | undefined {
  return livingOwner(directory, lockNumbers(directory, edge.fileSystem), edge);
}

/** Whether a file belongs to the lock, be it left over from a crash. */
export function isLockName(name: string): boolean {
  return /^lock-\d{6,}$/.test(name) || /^lock-[0-9a-f-]{36}\.tmp$/.test(name);
}

function nameOf(number: number): string {
  return `lock-${String(number).padStart(6, '0')}`;
}

function lockNumbers(directory: string, fileSystem: SpoolFileSystem): number[] {
  return namesIn(directory, fileSystem)
    .filter((name) => /^lock-\d{6,}$/.test(name))
    .map((name) => Number(name.slice('lock-'.length)))
    .sort((a, b) => a - b);
}

function livingOwner(
  directory: string,
  numbers: readonly number[],
  edge: LockEdge,
): LockOwner | undefined {
  for (const number of numbers.toReversed()) {
    const owner = readOwner(join(directory, nameOf(number)), edge);
    if (owner !== undefined && isAlive(owner, edge)) return owner;
  }
  return undefined;
}

/** Undefined: nobody, or a lock that was never completed. */
function readOwner(path: string, edge: LockEdge): LockOwner | undefined {
  const { fileSystem, nowMs } = edge;
  const seenMs = fileSystem.modifiedMs(path);
  if (seenMs < 0) return undefined;
  const owner = parseOwner(readText(path, fileSystem));
  if (owner !== undefined) return { ...owner, seenMs };
  const isBeingWritten = Math.abs(nowMs() - seenMs) < EMPTY_MS_MAX;
  return isBeingWritten ? { pid: 0, start: '', place: '', seenMs } : undefined;
}

function isAlive(owner: LockOwner, { processes, nowMs }: LockEdge): boolean {
  // Clocks of two machines may differ: what was touched in the future was touched just now.
  const isHeard = nowMs() - owner.seenMs < SILENCE_MS_MAX;
  if (owner.place !== processes.self.place) return isHeard;
  const start = processes.startOf(owner.pid);
  if (start === undefined) return false;
  return start === '' || owner.start === '' ? isHeard : start === owner.start;
}

function parseOwner(text: string): ProcessIdentity | undefined {
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value !== 'object' || value === null) return undefined;
    const { pid, start, place } = value as Record<string, unknown>;
    if (typeof pid !== 'number' || typeof start !== 'string' || typeof place !== 'string') {
      return undefined;
    }
    return { pid, start, place };
  } catch {
    // A torn lock names nobody.
    return undefined;
  }
}

function readText(path: string, fileSystem: SpoolFileSystem): string {
  const bytes = Buffer.alloc(LOCK_BYTES_MAX);
  try {
    const fd = fileSystem.open(path, 'read');
    try {
      return bytes.toString('utf8', 0, fileSystem.read(fd, bytes, 0));
    } finally {
      fileSystem.close(fd);
    }
  } catch (error) {
    if (systemCodeOf(error) === 'ENOENT') return '';
    throw error;
  }
}

/** Gives a complete lock its name. False: the name is taken. */
function make(path: string, { fileSystem, processes }: LockEdge): boolean {
  const bytes = Buffer.from(`${JSON.stringify(processes.self)}\n`);
  const temporary = join(path, '..', `lock-${randomUUID()}.tmp`);
  writeFile(temporary, bytes, fileSystem);
  try {
    fileSystem.link(temporary, path);
    return true;
  } catch (error) {
    if (systemCodeOf(error) === 'EEXIST') return false;
    // Somebody has tidied up in between.
    if (systemCodeOf(error) === 'ENOENT') return false;
  } finally {
    removeIfThere(temporary, fileSystem);
  }
  // Not every disk knows second names. Then the lock is empty for a moment; see EMPTY_MS_MAX.
  try {
    writeFile(path, bytes, fileSystem);
    return true;
  } catch (error) {
    if (systemCodeOf(error) === 'EEXIST') return false;
    throw error;
  }
}

function writeFile(path: string, bytes: Uint8Array, fileSystem: SpoolFileSystem): void {
  const fd = fileSystem.create(path, 0o644);
  try {
    writeAll(fileSystem, fd, { bytes, at: 0 });
  } finally {
    fileSystem.close(fd);
  }
}

function removeIfThere(path: string, fileSystem: SpoolFileSystem): void {
  try {
    fileSystem.remove(path);
  } catch (error) {
    if (systemCodeOf(error) !== 'ENOENT') throw error;
  }
}
