import { createReadStream, createWriteStream } from 'node:fs';
import { mkdir, open, readdir, rename, rm, stat, utimes } from 'node:fs/promises';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { createGzip } from 'node:zlib';
import { type FileMark, MARKS_NAME, readMarks, STATE_FOLDER } from '../lines/marks.ts';
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
const PACK_LEVEL = 6;
/** A file that was written later may still be in the hands of a thread that has not noticed the new name, in ms. */
export const FINISHED_REST_MS = 1000;

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
 * `millrace ship` keeps its checkpoint in the folder, no file is removed that it has not finished; packed ones it
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

  /** @param period the present day or hour, as in names. Rejects with what the disk throws; all is tried again the next time. */
  async run({ nowMs, period }: { nowMs: number; period: string }): Promise<void> {
    const files = await this.#list();
    const finished = files.filter(
      (file) => isFinished(file, files, period) && nowMs - file.modifiedMs >= FINISHED_REST_MS,
    );
    const gone = await this.#removeOld(finished, { files, nowMs });
    const { packAfterMs } = this.#rules;
    if (packAfterMs === undefined) return;
    for (const file of finished) {
      if (this.#abort.signal.aborted) return;
      const isDue = nowMs - file.modifiedMs >= packAfterMs;
      if (isDue && !file.isPacked && !gone.has(file)) await this.#pack(file);
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
      if (facts === undefined) continue;
      const inode = `${facts.dev}:${facts.ino}`;
      const bytes = Number(facts.size);
      const modifiedMs = Number(facts.mtimeMs);
      files.push({ name, path, parsed, isPacked, inode, bytes, modifiedMs });
    }
    return files.sort(compareAge);
  }

  async #removeOld(
    finished: readonly FinishedFile[],
    { files, nowMs }: { files: readonly FinishedFile[]; nowMs: number },
  ): Promise<Set<FinishedFile>> {
    const { keepMs = Number.POSITIVE_INFINITY, keepBytes = Number.POSITIVE_INFINITY } = this.#rules;
    const gone = new Set<FinishedFile>();
    if (keepMs === Number.POSITIVE_INFINITY && keepBytes === Number.POSITIVE_INFINITY) return gone;
    const isShipped = this.#shippedTest();
    let bytes = files.reduce((sum, file) => sum + file.bytes, 0);
    for (const file of finished) {
      const isDue = nowMs - file.modifiedMs > keepMs || bytes > keepBytes;
      if (!isDue || !isShipped(file)) continue;
      await rm(file.path, { force: true });
      bytes -= file.bytes;
      gone.add(file);
    }
    return gone;
  }

  /** Whether `millrace ship` is done with a file; without its checkpoint nobody ships here, and all are. */
  #shippedTest(): (file: FinishedFile) => boolean {
    const path = join(this.#directory, STATE_FOLDER, MARKS_NAME);
    const marks = readMarks(path);
    if (marks === undefined) return () => true;
    const byInode = new Map<string, FileMark>();
    for (const mark of marks.values()) byInode.set(mark.inode, mark);
    return ({ inode, bytes, isPacked }) => {
      const mark = byInode.get(inode);
      if (mark === undefined) return bytes === 0;
      return isPacked ? mark.packedBytes === bytes : mark.offset >= bytes;
    };
  }

  async #pack(file: FinishedFile): Promise<void> {
    const folder = join(this.#directory, PACK_FOLDER);
    await mkdir(folder, { recursive: true });
    const temporary = join(folder, `${file.name}.gz`);
    if (!(await claim(temporary))) return;
    try {
      await pipeline(
        createReadStream(file.path),
        createGzip({ level: PACK_LEVEL }),
        createWriteStream(temporary, { flush: true }),
        { signal: this.#abort.signal },
      );
      const now = await stat(file.path);
      if (now.size !== file.bytes || now.mtimeMs < file.modifiedMs) return;
      await utimes(temporary, now.atime, now.mtime);
      await rename(temporary, `${file.path}.gz`);
      await rm(file.path);
    } finally {
      await rm(temporary, { force: true });
    }
  }
}

/** Makes the file for this process alone. False: another one is at work on it. */
async function claim(path: string): Promise<boolean> {
  try {
    await (await open(path, 'wx')).close();
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
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
