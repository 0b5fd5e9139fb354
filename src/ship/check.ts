import { statSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import type { Readable } from 'node:stream';
import { NEWLINE } from '../base/characters.ts';
import { MillraceError, textOfError } from '../base/errors.ts';
import { OptionReader } from '../engine/option-reader.ts';
import { addReason, type SurveyReport, type SurveyTask, survey } from '../lines/survey.ts';
import { SurveyPool } from './survey-pool.ts';

/** What is wrong with one line. */
export interface LineProblem {
  readonly file: string;
  /** From 1 on. */
  readonly line: number;
  /** Byte of the line, from 1 on; 1 if the place is not known. */
  readonly column: number;
  readonly reason: string;
}

export interface CheckReport {
  readonly files: number;
  /** Files that can't be read, or only up to a place; not more than none without `onUnreadable`. */
  readonly unreadable: number;
  /** Empty ones included. */
  readonly lines: number;
  /** Plain text looked at. */
  readonly bytes: number;
  /** Lines with at least one problem. */
  readonly bad: number;
  /** The first problem of each bad line, counted; reasons beyond the thousandth together. */
  readonly byReason: Readonly<Record<string, number>>;
}

export interface CheckOptions {
  /** Called for each bad line, in the order of files and lines; of one 16 MB part or gzipped file at most 10 000 are told. */
  readonly onProblem?: (problem: LineProblem) => void;
  /** Hears of a file that can't be read, and the others are checked all the same; default: `check` rejects. */
  readonly onUnreadable?: (error: MillraceError) => void;
  /** Called now and then with the bytes on disk that have been looked at. */
  readonly onProgress?: (bytes: number) => void;
  /** Worker threads; default: one a core. With 0 the calling thread does it all. */
  readonly threads?: number;
  /** What the path `-` stands for; default: the process's standard input. */
  readonly input?: Readable;
  /** The worker entry `millrace/workers/check`, for bundled applications only. */
  readonly workerFile?: URL | string;
}

/** A part of the work, and the file it belongs to. */
interface Part {
  readonly file: string;
  readonly task: SurveyTask;
  /** On disk. */
  readonly bytes: number;
  /** Whether the file begins with it. */
  readonly isFirst: boolean;
}

const STDIN = '-';
const PART_BYTES: number = 16 * 1024 * 1024;
const INPUT_BYTES: number = 4 * 1024 * 1024;
/** So little is looked through before a thread has started. */
const SMALL_BYTES: number = 4 * 1024 * 1024;
/** Parts under way for each thread: a thread that is done finds the next one waiting. */
const PARTS_PER_THREAD = 2;

/**
 * Checks log files, plain or `.gz`, or what comes from a stream (`-`), against the wire contract: on all cores, a part of a file each, in memory that
 * does not grow with the files.
 *
 * @throws MillraceError MILLRACE_UNAVAILABLE that names the file that can't be read, without `onUnreadable`; MILLRACE_OPTIONS
 */
export async function check(
  paths: readonly string[],
  options: CheckOptions = {},
): Promise<CheckReport> {
  const reader = new OptionReader('check', options);
  for (const name of ['onProblem', 'onProgress', 'onUnreadable']) reader.callback(name);
  for (const name of ['input']) reader.raw(name);
  const threads = reader.integer('threads', { min: 0, max: 256, fallback: availableParallelism() });
  const workerFile = reader.fileOrUrl('workerFile');
  reader.finish();
  const isSmall = sizeOf(paths) <= SMALL_BYTES;
  const pool = threads === 0 || isSmall ? undefined : new SurveyPool(threads, workerFile);
  try {
    const tally = new Tally(options);
    const parts = partsOf(paths, options.input ?? process.stdin);
    await inOrder(parts, {
      atOnce: pool === undefined ? 1 : threads * PARTS_PER_THREAD,
      run: ({ file, task }) =>
        (pool?.run(task) ?? survey(task)).catch((error: unknown) => unreadable(file, error)),
      take: (part, result) => {
        if (result instanceof MillraceError) tally.miss(part, result);
        else tally.take(part, result);
      },
    });
    return tally.report(paths.length);
  } finally {
    await pool?.close();
  }
}

/** Adds up the reports of parts, which come in order. */
class Tally {
  readonly #options: CheckOptions;
  readonly #byReason: Record<string, number> = {};
  readonly #unreadable = new Set<string>();
  #fileLines = 0;
  #lines = 0;
  #bytes = 0;
  #bad = 0;
  #diskBytes = 0;

  constructor(options: CheckOptions) {
    this.#options = options;
  }

  take(part: Part, { lines, bytes, bad, problems, byReason }: SurveyReport): void {
    if (part.isFirst) this.#fileLines = 0;
    for (const { line, column, reason } of problems) {
      this.#options.onProblem?.({ file: part.file, line: this.#fileLines + line, column, reason });
    }
    for (const [reason, count] of Object.entries(byReason)) {
      addReason(this.#byReason, reason, count);
    }
    this.#fileLines += lines;
    this.#lines += lines;
    this.#bytes += bytes;
    this.#bad += bad;
    this.#diskBytes += part.bytes;
    this.#options.onProgress?.(this.#diskBytes);
  }

  /** A part that can't be read; its file is told of once. */
  miss({ file }: Part, error: MillraceError): void {
    const { onUnreadable } = this.#options;
    if (onUnreadable === undefined) throw error;
    if (!this.#unreadable.has(file)) onUnreadable(error);
    this.#unreadable.add(file);
  }

  report(files: number): CheckReport {
    return {
      files,
      unreadable: this.#unreadable.size,
      lines: this.#lines,
      bytes: this.#bytes,
      bad: this.#bad,
      byReason: this.#byReason,
    };
  }
}

/** Runs jobs side by side, no more than `atOnce` that are begun and not yet taken, and takes their results in order. */
async function inOrder<Job, Result>(
  jobs: AsyncIterable<Job>,
  {
    atOnce,
    run,
    take,
  }: {
    atOnce: number;
    run: (job: Job) => Promise<Result>;
    take: (job: Job, result: Result) => void;
  },
): Promise<void> {
  const open: { job: Job; result: Promise<Result> }[] = [];
  const takeFirst = async () => {
    const first = open.shift();
    if (first !== undefined) take(first.job, await first.result);
  };
  try {
    for await (const job of jobs) {
      open.push({ job, result: run(job) });
      if (open.length >= atOnce) await takeFirst();
    }
    while (open.length > 0) await takeFirst();
  } finally {
    // After a failure nobody asks how the others ended.
    for (const { result } of open) result.catch(() => undefined);
  }
}

async function* partsOf(paths: readonly string[], input: Readable): AsyncGenerator<Part> {
  for (const file of paths) {
    if (file === STDIN) yield* partsOfInput(input);
    else yield* partsOfFile(file);
  }
}

function* partsOfFile(file: string): Generator<Part> {
  const bytes = bytesOf(file);
  if (file.endsWith('.gz')) {
    yield { file, task: { kind: 'packed', path: file }, bytes, isFirst: true };
    return;
  }
  for (let from = 0; from < bytes; from += PART_BYTES) {
    const to = Math.min(from + PART_BYTES, bytes);
    const task = { kind: 'range', path: file, from, to } as const;
    yield { file, task, bytes: to - from, isFirst: from === 0 };
  }
}

/** Whole lines, a few megabytes at a time. */
async function* partsOfInput(input: Readable): AsyncGenerator<Part> {
  let pieces: Buffer[] = [];
  let bytes = 0;
  let isFirst = true;
  const part = (end: Buffer): Part => {
    const all = new Uint8Array(Buffer.concat([...pieces, end]));
    const made = { file: STDIN, task: { kind: 'bytes', bytes: all } as const, bytes: all.length };
    const isBegin = isFirst;
    isFirst = false;
    return { ...made, isFirst: isBegin };
  };
  for await (const piece of input) {
    const chunk = Buffer.from(piece);
    const last = chunk.lastIndexOf(NEWLINE) + 1;
    if (bytes + chunk.length < INPUT_BYTES || last === 0) {
      pieces.push(chunk);
      bytes += chunk.length;
      continue;
    }
    yield part(chunk.subarray(0, last));
    pieces = [chunk.subarray(last)];
    bytes = chunk.length - last;
  }
  if (bytes > 0) yield part(Buffer.alloc(0));
}

function sizeOf(paths: readonly string[]): number {
  return paths.reduce((sum, path) => {
    if (path === STDIN) return Number.POSITIVE_INFINITY;
    return sum + (statSync(path, { throwIfNoEntry: false })?.size ?? 0);
  }, 0);
}

/** Size of a file; 1 of one that does not tell it: whoever reads it finds out why. */
function bytesOf(file: string): number {
  try {
    return statSync(file).size;
  } catch {
    return 1;
  }
}

function isFolder(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false })?.isDirectory() === true;
}

function unreadable(file: string, error: unknown): MillraceError {
  const words = isFolder(file) ? 'it is a folder; name its files' : textOfError(error);
  return new MillraceError('MILLRACE_UNAVAILABLE', `${file} can't be read: ${words}`, error);
}
