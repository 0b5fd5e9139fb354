import { join } from 'node:path';
import { systemClock } from '../base/clock.ts';
import { MillraceError, systemCodeOf } from '../base/errors.ts';
import { SpoolBacklog } from './backlog.ts';
import { failureOf, nodeFileSystem, type SpoolFileSystem } from './file-system.ts';
import { directoryModeOf, parseLaneFolderName, type SpoolEdge } from './lane.ts';
import { FolderLock, isLockName, type LockEdge } from './lock.ts';
import { type ProcessTable, systemProcessTable } from './process-table.ts';
import { namesIn, SegmentShelf } from './shelf.ts';

export interface SpoolFolderConfig {
  readonly directory: string;
  /** Permission of files; folders follow it. Default 0o600. */
  readonly mode?: number;
  /** 'next' (default): a process that finds the first folder taken has the next one. 'refuse': it is an error. */
  readonly whenHeld?: 'next' | 'refuse';
}

/** What an earlier run left and nobody else takes care of. */
export interface FoundBacklog {
  /** Folder to open a {@link SpoolBacklog} on. */
  readonly directory: string;
  readonly segments: number;
  readonly bytes: number;
}

/** 'lost': another process has the folder now, because this one was silent for too long; a new claim is needed. */
export interface BeatResult {
  readonly state: 'held' | 'lost';
  /** Backlogs of processes that died since. */
  readonly backlogs: readonly FoundBacklog[];
}

export interface FolderEdge extends SpoolEdge {
  readonly processes?: ProcessTable;
}

interface Instance {
  readonly directory: string;
  readonly lock: FolderLock;
}

const INSTANCES_MAX = 10_000;
const MODE_DEFAULT = 0o600;

/**
 * The part of a spool folder that belongs to this client: a folder of its own for this run, and whatever dead processes left.
 * For the thread that starts the engine. {@link beat} it every ten seconds or so.
 */
export class SpoolFolder {
  /** The run's folder, for {@link SpoolLane.open}. */
  readonly directory: string;
  /** What earlier runs left, oldest first by instance. */
  readonly backlogs: readonly FoundBacklog[];
  readonly #config: SpoolFolderConfig;
  readonly #edge: LockEdge;
  readonly #own: Instance;
  #adopted: readonly Instance[];
  #isReleased = false;

  private constructor(
    config: SpoolFolderConfig,
    edge: LockEdge,
    held: {
      readonly directory: string;
      readonly own: Instance;
      readonly adopted: readonly Instance[];
      readonly backlogs: readonly FoundBacklog[];
    },
  ) {
    this.#config = config;
    this.#edge = edge;
    this.directory = held.directory;
    this.#own = held.own;
    this.#adopted = held.adopted;
    this.backlogs = held.backlogs;
  }

  /**
   * Makes the folder if it is missing and takes a part of it. Locks of dead processes are taken over.
   *
   * @throws MillraceError MILLRACE_SPOOL that names the folder: it can't be made or written, or with
   *   'refuse' a living process has it, whose pid is named
   */
  static claim(config: SpoolFolderConfig, parts: FolderEdge = {}): SpoolFolder {
    const edge: LockEdge = {
      fileSystem: parts.fileSystem ?? nodeFileSystem,
      processes: parts.processes ?? systemProcessTable(),
      nowMs: () => (parts.clock ?? systemClock).nowMs(),
    };
    try {
      const own = takeInstance(config, edge);
      const earlier = runsOf(own.directory, edge.fileSystem);
      const backlogs = earlier.flatMap((run) => inspect(run.directory, edge.fileSystem));
      const { adopted, backlogs: others } = adopt(config.directory, [own], edge);
      const directory = makeRun(own.directory, (earlier.at(-1)?.number ?? 0) + 1, {
        fileSystem: edge.fileSystem,
        mode: directoryModeOf(config.mode ?? MODE_DEFAULT),
      });
      const all = [...backlogs, ...others];
      return new SpoolFolder(config, edge, { directory, own, adopted, backlogs: all });
    } catch (error) {
      if (error instanceof MillraceError) throw error;
      throw new MillraceError(
        'MILLRACE_SPOOL',
        `the spool folder ${config.directory} can't be used: ${failureOf(error).message}`,
        error,
      );
    }
  }

  /**
   * Tells other processes that this one lives, gives back what is done with, and looks for processes that died.
   *
   * @throws MillraceError MILLRACE_SPOOL: the disk is in trouble; try again
   */
  beat(): BeatResult {
    try {
      const { fileSystem } = this.#edge;
      if (!this.#own.lock.beat()) return { state: 'lost', backlogs: [] };
      this.#adopted = this.#adopted.filter((instance) => {
        if (!instance.lock.beat()) return false;
        if (runsOf(instance.directory, fileSystem).length > 0) return true;
        give(instance, fileSystem);
        return false;
      });
      const known = [this.#own, ...this.#adopted];
      const { adopted, backlogs } = adopt(this.#config.directory, known, this.#edge);
      this.#adopted = [...this.#adopted, ...adopted];
      return { state: 'held', backlogs };
    } catch (error) {
      throw new MillraceError(
        'MILLRACE_SPOOL',
        `the spool folder ${this.#config.directory}: ${failureOf(error).message}`,
        error,
      );
    }
  }

  /** Gives everything back, after all lanes and backlogs were closed; empty folders go. Idempotent; never throws. */
  release(): void {
    if (this.#isReleased) return;
    this.#isReleased = true;
    const { fileSystem } = this.#edge;
    for (const instance of [this.#own, ...this.#adopted]) {
      try {
        for (const run of runsOf(instance.directory, fileSystem)) {
          inspect(run.directory, fileSystem);
        }
        give(instance, fileSystem);
      } catch {
        // The lock of a process that ended is taken over by the next one.
      }
    }
  }
}

function takeInstance({ directory, mode, whenHeld }: SpoolFolderConfig, edge: LockEdge): Instance {
  for (let number = 0; number < INSTANCES_MAX; number += 1) {
    const path = join(directory, `instance-${number}`);
    const lock = lockInstance(path, directoryModeOf(mode ?? MODE_DEFAULT), edge);
    if (lock instanceof FolderLock) return { directory: path, lock };
    if (whenHeld === 'refuse') {
      throw new MillraceError(
        'MILLRACE_SPOOL',
        `the spool folder ${directory} belongs to process ${lock.pid}, which is running`,
      );
    }
  }
  throw new MillraceError('MILLRACE_SPOOL', `the spool folder ${directory} has too many owners`);
}

function lockInstance(
  path: string,
  mode: number,
  edge: LockEdge,
): ReturnType<typeof FolderLock.take> {
  for (let attempt = 0; ; attempt += 1) {
    edge.fileSystem.makeDirectory(path, mode);
    try {
      return FolderLock.take(path, edge);
    } catch (error) {
      // Whoever gives an empty folder back removes it, perhaps just now.
      if (systemCodeOf(error) !== 'ENOENT' || attempt > 10) throw error;
    }
  }
}

/** Takes the folders of dead processes, as far as there is something in them. */
function adopt(
  directory: string,
  known: readonly Instance[],
  edge: LockEdge,
): { adopted: Instance[]; backlogs: FoundBacklog[] } {
  const adopted: Instance[] = [];
  const backlogs: FoundBacklog[] = [];
  for (const name of namesIn(directory, edge.fileSystem).sort(byNumber)) {
    const path = join(directory, name);
    if (!/^instance-\d+$/.test(name) || known.some((held) => held.directory === path)) continue;
    const lock = tryLock(path, edge);
    if (lock === undefined) continue;
    const found = runsOf(path, edge.fileSystem).flatMap((run) =>
      inspect(run.directory, edge.fileSystem),
    );
    backlogs.push(...found);
    if (found.length > 0) adopted.push({ directory: path, lock });
    else give({ directory: path, lock }, edge.fileSystem);
  }
  return { adopted, backlogs };
}

function tryLock(path: string, edge: LockEdge): FolderLock | undefined {
  try {
    const lock = FolderLock.take(path, edge);
    return lock instanceof FolderLock ? lock : undefined;
  } catch {
    // A folder that can't be taken now (no permission, just removed) is nobody's to lose: the next look finds it again.
    return undefined;
  }
}

interface Run {
  readonly directory: string;
  readonly number: number;
}

function runsOf(directory: string, fileSystem: SpoolFileSystem): Run[] {
  return namesIn(directory, fileSystem)
    .flatMap((name) => {
      const match = /^run-(\d{6,})$/.exec(name);
      return match === null ? [] : [{ directory: join(directory, name), number: Number(match[1]) }];
    })
    .sort((a, b) => a.number - b.number);
}

/** What a run left; a run that left nothing is tidied away. */
function inspect(directory: string, fileSystem: SpoolFileSystem): FoundBacklog[] {
  let segments = 0;
  let bytes = 0;
  for (const name of namesIn(directory, fileSystem)) {
    if (parseLaneFolderName(name) === undefined) continue;
    const shelf = SegmentShelf.read(join(directory, name), fileSystem);
    segments += shelf.segments.length;
    bytes += shelf.bytes;
  }
  if (segments > 0) return [{ directory, segments, bytes }];
  SpoolBacklog.open(directory, { fileSystem }).close();
  return [];
}

function makeRun(
  instance: string,
  number: number,
  { fileSystem, mode }: { readonly fileSystem: SpoolFileSystem; readonly mode: number },
): string {
  const directory = join(instance, `run-${String(number).padStart(6, '0')}`);
  fileSystem.makeDirectory(directory, mode);
  for (const path of [instance, join(instance, '..'), join(instance, '..', '..')]) {
    try {
      fileSystem.syncDirectory(path);
    } catch {
      // A folder above may not be ours to open; what it holds was there before.
    }
  }
  return directory;
}

/** Gives a folder back, and removes it if nothing is left in it. */
function give({ directory, lock }: Instance, fileSystem: SpoolFileSystem): void {
  lock.release();
  try {
    const names = namesIn(directory, fileSystem);
    if (!names.every(isLeftover)) return;
    for (const name of names) fileSystem.remove(join(directory, name));
    fileSystem.removeDirectory(directory);
  } catch {
    // Another process has come in the meantime, and has it now.
  }
}

function isLeftover(name: string): boolean {
  return isLockName(name) && name.endsWith('.tmp');
}

function byNumber(a: string, b: string): number {
  return a.localeCompare(b, 'en', { numeric: true });
}
