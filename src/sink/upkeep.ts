import { createReadStream, createWriteStream, existsSync } from 'node:fs';
import { chmod, open, readdir, rename, rm, stat, utimes } from 'node:fs/promises';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { createGzip } from 'node:zlib';
import { makeDirectory } from '../base/directory.ts';
import { systemCodeOf, textOfError } from '../base/errors.ts';
import { beginningOf } from '../lines/beginning.ts';
import { type FileMark, readAllMarks } from '../lines/marks.ts';
import { type LogName, parseName } from './rotation.ts';

/** What becomes of finished files: plain data. */
export interface UpkeepRules {
  /** They are gzipped so long after they were written last, in ms; undefined: never. */
  readonly packAfterMs?: number;
  /** They are removed so long after they were written last, in ms; undefined: never. */
  readonly keepMs?: number;
  /** The oldest are removed while all log files of the folder are larger, in bytes; undefined: no bound. */
  readonly keepBytes?: number;
}

/** Folder for files that are being packed; readers of log files leave it alone. */
const PACK_FOLDER = '.millrace-pack';
/** A half packed file that nobody has written to for so long was left by a process that is gone, in ms. */
const STALE_MS = 600_000;
const PERMISSION_BITS = 0o777;
const PACK_LEVEL = 6;
/** A file that was written later may still be in the hands of a thread that has not noticed the new name, in ms. */
export const FINISHED_REST_MS = 1000;

/** What could not be done with finished files. */
export interface UpkeepFailure {
  readonly work: UpkeepWork;
  /** For people: the file and the system's words. */
  readonly message: string;
}

export type UpkeepWork = 'pack' | 'remove';

interface UpkeepReport {
  readonly failures: readonly UpkeepFailure[];
  readonly isAllDone: boolean;
}

interface FinishedFile {
  readonly name: string;
  readonly path: string;
  readonly parsed: LogName;
  readonly isPacked: boolean;
  readonly inode: string;
  readonly bytes: number;
  readonly modifiedMs: number;
}

/**
 * Packs and removes the finished files of a folder: those of an earlier day or hour, or with a lower `_N` than another of the same day or hour. Where
 * `millrace ship` follows the folder, no file is removed that it has not finished, wherever it keeps its checkpoint; packed ones it
 * reads on. Several threads and processes may do this in one folder at the same time.
 */
export class Upkeep {
  readonly #directory: string;
  readonly #rules: UpkeepRules;
  readonly #abort = new AbortController();

  constructor(directory: string, rules: UpkeepRules) {
    this.#directory = directory;
    this.#rules = rules;
  }

  /** Ends what is under way; a half packed file is taken away, and the plain one is whole. */
  stop(): void {
    this.#abort.abort();
  }

  /**
   * Does what is due. What fails is tried again the next time, and keeps nothing else from being done.
   *
   * @param period the present day or hour, as in names
   * @returns `failures`: one for each file that something failed with; `isAllDone`: nothing that is due is left, not even what
   *   another process is at work on
   */
  async run({ nowMs, period }: { nowMs: number; period: string }): Promise<UpkeepReport> {
    const failures: UpkeepFailure[] = [];
    let isAllDone = true;
    const files = await this.#list().catch((error: unknown) => {
      const work = this.#rules.packAfterMs === undefined ? 'remove' : 'pack';
      failures.push({ work, message: `${this.#directory}: ${textOfError(error)}` });
      return [];
    });
    const finished = files.filter(
      (file) => isFinished(file, files, period) && nowMs - file.modifiedMs >= FINISHED_REST_MS,
    );
    const gone = await this.#removeOld(finished, { files, nowMs, failures });
    const { packAfterMs = Number.POSITIVE_INFINITY } = this.#rules;
    for (const file of finished) {
      const isDue = nowMs - file.modifiedMs >= packAfterMs && !file.isPacked && !gone.has(file);
      if (!isDue) continue;
      const pack = async () => {
        if (!(await this.#pack(file))) isAllDone = false;
      };
      await this.#attempt('pack', file, { failures, work: pack });
    }
    return { failures, isAllDone: isAllDone && failures.length === 0 };
  }

  /** Does one thing to one file. A file that somebody else has packed, moved or removed meanwhile is no failure. */
  async #attempt(
    kind: UpkeepWork,
    file: FinishedFile,
    { failures, work }: { failures: UpkeepFailure[]; work: () => Promise<unknown> },
  ): Promise<boolean> {
    if (this.#abort.signal.aborted) return false;
    try {
      await work();
      return true;
    } catch (error) {
      const isGone = systemCodeOf(error) === 'ENOENT' && !existsSync(file.path);
      if (!isGone && !this.#abort.signal.aborted) {
        failures.push({ work: kind, message: `${file.path}: ${textOfError(error)}` });
      }
      return false;
    }
  }

  async #list(): Promise<FinishedFile[]> {
    const files: FinishedFile[] = [];
    for (const name of await readdir(this.#directory)) {
      const isPacked = name.endsWith('.gz');
      const parsed = parseName(isPacked ? name.slice(0, -'.gz'.length) : name);
      if (parsed === undefined) continue;
      const path = join(this.#directory, name);
      const facts = await stat(path, { bigint: true }).catch(() => undefined);
      if (facts?.isFile() !== true) continue;
      const inode = `${facts.dev}:${facts.ino}`;
      const bytes = Number(facts.size);
      const modifiedMs = Number(facts.mtimeMs);
      files.push({ name, path, parsed, isPacked, inode, bytes, modifiedMs });
    }
    return files.sort(compareAge);
  }

  async #removeOld(
    finished: readonly FinishedFile[],
    {
      files,
      nowMs,
      failures,
    }: { files: readonly FinishedFile[]; nowMs: number; failures: UpkeepFailure[] },
  ): Promise<Set<FinishedFile>> {
    const { keepMs = Number.POSITIVE_INFINITY, keepBytes = Number.POSITIVE_INFINITY } = this.#rules;
    const gone = new Set<FinishedFile>();
    let bytes = files.reduce((sum, file) => sum + file.bytes, 0);
    const isDue = (file: FinishedFile) => nowMs - file.modifiedMs > keepMs || bytes > keepBytes;
    if (!finished.some(isDue)) return gone;
    const isShipped = this.#shippedTest(failures);
    for (const file of finished) {
      if (!isDue(file) || !isShipped(file)) continue;
      const work = () => rm(file.path, { force: true });
      if (!(await this.#attempt('remove', file, { failures, work }))) continue;
      bytes -= file.bytes;
      gone.add(file);
    }
    return gone;
  }

  /** Whether all shippers are done with a file; where there is none, all are. While a checkpoint can't be read, none is. */
  #shippedTest(failures: UpkeepFailure[]): (file: FinishedFile) => boolean {
    try {
      const shippers = readAllMarks(this.#directory).map((marks) => {
        return new Map([...marks.values()].map((mark) => [mark.inode, mark]));
      });
      return (file) => shippers.every((marks) => isDone(file, marks.get(file.inode)));
    } catch (error) {
      failures.push({ work: 'remove', message: `${this.#directory}: ${textOfError(error)}` });
      return () => false;
    }
  }

  /** False: another process is at work on the file, or writes to it. */
  async #pack(file: FinishedFile): Promise<boolean> {
    const folder = join(this.#directory, PACK_FOLDER);
    makeDirectory(folder);
    const temporary = join(folder, `${file.name}.gz`);
    if (!(await claim(temporary))) return false;
    try {
      // Before there is anything in it: who may not read the file may not read it packed.
      await chmod(temporary, (await stat(file.path)).mode & PERMISSION_BITS);
      await pipeline(
        createReadStream(file.path),
        createGzip({ level: PACK_LEVEL }),
        createWriteStream(temporary, { flush: true }),
        { signal: this.#abort.signal },
      );
      const now = await stat(file.path);
      if (now.size !== file.bytes || now.mtimeMs < file.modifiedMs) return false;
      await utimes(temporary, now.atime, now.mtime);
      await rename(temporary, `${file.path}.gz`);
      await rm(file.path);
      return true;
    } finally {
      await rm(temporary, { force: true });
    }
  }
}

function isDone({ bytes, isPacked, path }: FinishedFile, mark: FileMark | undefined): boolean {
  if (mark === undefined) return bytes === 0;
  const isToTheEnd = isPacked ? mark.packedBytes === bytes : mark.offset >= bytes;
  return isToTheEnd && (bytes === 0 || beginsAs(path, mark));
}

/** False: the mark is that of a file which is gone, and this one has its inode; or it can't be read. A mark that knows no beginning is believed. */
function beginsAs(path: string, mark: FileMark): boolean {
  try {
    return mark.headBytes === 0 || beginningOf(path).isOf(mark);
  } catch {
    // Not known to be shipped, so it stays.
    return false;
  }
}

/** Makes the file for this process alone. False: another one is at work on it. */
async function claim(path: string): Promise<boolean> {
  try {
    await (await open(path, 'wx')).close();
    return true;
  } catch (error) {
    if (systemCodeOf(error) !== 'EEXIST') throw error;
  }
  const facts = await stat(path).catch(() => undefined);
  if (facts !== undefined && Date.now() - facts.mtimeMs > STALE_MS) await rm(path, { force: true });
  return false;
}

function isFinished(
  { parsed }: FinishedFile,
  files: readonly FinishedFile[],
  period: string,
): boolean {
  // A day's name is the beginning of its hours' names: it may be the present one of a writer by day.
  if (parsed.period < period && !period.startsWith(parsed.period)) return true;
  return files.some(
    ({ parsed: other }) =>
      other.head === parsed.head && other.period === parsed.period && other.index > parsed.index,
  );
}

function compareAge(a: FinishedFile, b: FinishedFile): number {
  if (a.parsed.period !== b.parsed.period) return a.parsed.period < b.parsed.period ? -1 : 1;
  return a.parsed.index - b.parsed.index || (a.name < b.name ? -1 : 1);
}
