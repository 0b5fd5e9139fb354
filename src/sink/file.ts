import { join } from 'node:path';
import { threadId } from 'node:worker_threads';
import { type Clock, systemClock } from '../base/clock.ts';
import { MillraceError } from '../base/errors.ts';
import { FileLock } from './file-lock.ts';
import { type FileSystem, nodeFileSystem } from './file-system.ts';
import {
  headOf,
  indexToWrite,
  type NameRules,
  nameOf,
  periodNumber,
  periodOf,
  periodText,
} from './rotation.ts';
import type { AttemptFacts, Batch, DiskWork, Outcome, RotationCause, Sink } from './sink.ts';
import { Upkeep, type UpkeepRules } from './upkeep.ts';

/** What a file sink is opened with: plain data. */
export interface FileSinkConfig extends NameRules {
  readonly kind: 'file';
  readonly directory: string;
  /** Where records go while they can't be written to `directory`. */
  readonly spillDirectory?: string;
  /** What becomes of finished files. */
  readonly upkeep?: UpkeepRules;
  readonly fsync: 'never' | 'flush' | 'batch';
  /** Permission of new files. */
  readonly mode: number;
}

/** What touches the machine. */
export interface FileSinkEdge {
  readonly fileSystem?: FileSystem;
  readonly clock?: Clock;
  readonly words?: SharedWords;
}

/** Where the workers of one engine meet before they rotate. */
export interface SharedWords {
  readonly memory: SharedArrayBuffer;
  readonly wordAt: number;
}

/** Beside the words of the lock (file-lock.ts): the latest period, as a number; written by whichever worker comes to it first. */
const PERIOD_WORD = 2;
/** How often finished files are looked after, in ms. */
const UPKEEP_MS = 30_000;
/** A torn line in a file that nobody has written to for so long was left by a writer that is gone, in ms. */
const REST_MS = 2000;
/** How often a file is looked at that may be at rest, in ms. */
const LOOK_MS = 20;
const LOOK_BACK_BYTES: number = 64 * 1024;
const NEWLINE = 0x0a;
const FULL_CODES: ReadonlySet<string> = new Set(['ENOSPC', 'EDQUOT', 'EFBIG']);

interface OpenFile {
  readonly fd: number;
  readonly path: string;
  readonly period: string;
  readonly index: number;
  readonly inode: number;
}

/**
 * Makes the folder and proves that it can be written.
 *
 * @throws MillraceError MILLRACE_OPTIONS that names the folder
 */
export function prepareDirectory(
  { directory }: { readonly directory: string },
  fileSystem: FileSystem = nodeFileSystem,
): void {
  try {
    fileSystem.makeDirectory(directory);
    fileSystem.checkWritable(directory);
  } catch (error) {
    throw new MillraceError(
      'MILLRACE_OPTIONS',
      `directory ${directory} can't be written: ${textOf(error)}`,
      error,
    );
  }
}

/**
 * Appends whole lines to the file of the day or hour. One a thread; several threads and processes may append to the same
 * file, because each write is whole lines to a file opened with O_APPEND. Where a size limit
 * asks for "look, then write", the threads of one engine take turns by a lock; processes may overshoot by one batch.
 */
export class FileSink implements Sink {
  readonly separator = '\n';
  readonly #config: FileSinkConfig;
  readonly #head: string;
  readonly #fileSystem: FileSystem;
  readonly #clock: Clock;
  readonly #words: SharedWords | undefined;
  readonly #lock: FileLock | undefined;
  #file: OpenFile | undefined;
  /** Rest of a line that a full disk cut off; goes first into the same file. */
  #owed: Uint8Array | undefined;
  #facts: AttemptFacts = { status: 0, durationMs: 0 };
  #rotations: RotationCause[] = [];
  #syncsMs: number[] = [];
  #writtenBytes = 0;
  #hasBegun = false;
  readonly #upkeep: Upkeep | undefined;
  #isUpkeeping = false;
  #upkeptMs = Number.NEGATIVE_INFINITY;
  #upkeptPath: string | undefined;

  private constructor(
    config: FileSinkConfig,
    {
      fileSystem,
      clock,
      words,
    }: { fileSystem: FileSystem; clock: Clock; words: SharedWords | undefined },
  ) {
    this.#config = config;
    this.#head = headOf(config);
    this.#fileSystem = fileSystem;
    this.#clock = clock;
    this.#words = words;
    this.#upkeep =
      config.upkeep === undefined ? undefined : new Upkeep(config.directory, config.upkeep);
    this.#lock =
      words === undefined || config.maxBytes === undefined
        ? undefined
        : new FileLock(words.memory, { wordAt: words.wordAt, threadId });
  }

  /** @param edge what touches the machine; only tests put something else in its place */
  static open(config: FileSinkConfig, edge: FileSinkEdge = {}): FileSink {
    return new FileSink(config, {
      fileSystem: edge.fileSystem ?? nodeFileSystem,
      clock: edge.clock ?? systemClock,
      words: edge.words,
    });
  }

  get lastAttempt(): AttemptFacts {
    return this.#facts;
  }

  async deliver(batch: Batch, _signal: AbortSignal): Promise<Outcome> {
    const startMs = this.#clock.monotonicMs();
    const outcome =
      this.#lock === undefined ? this.#write(batch) : this.#lock.hold(() => this.#write(batch));
    this.#facts = { status: 0, durationMs: this.#clock.monotonicMs() - startMs };
    this.#keepUp(startMs);
    return outcome;
  }

  get isOpen(): boolean {
    return this.#file !== undefined;
  }

  /** Packs and removes finished files, now and then, beside the writing. */
  #keepUp(nowMs: number): void {
    const hasRotated = this.#file?.path !== this.#upkeptPath;
    if (this.#upkeep === undefined || this.#isUpkeeping) return;
    if (!hasRotated && nowMs - this.#upkeptMs < UPKEEP_MS) return;
    this.#upkeptMs = nowMs;
    this.#upkeptPath = this.#file?.path;
    this.#isUpkeeping = true;
    const wallMs = this.#clock.nowMs();
    this.#upkeep
      .run({ nowMs: wallMs, period: periodOf(wallMs, this.#config.rotate) })
      .catch(() => {
        // A full disk, or a file that somebody else has moved: the next time does it.
      })
      .finally(() => {
        this.#isUpkeeping = false;
      });
  }

  takeDiskWork(): DiskWork {
    const work = {
      writtenBytes: this.#writtenBytes,
      rotations: this.#rotations,
      syncsMs: this.#syncsMs,
    };
    this.#writtenBytes = 0;
    this.#rotations = [];
    this.#syncsMs = [];
    return work;
  }

  #write(batch: Batch): Outcome {
    let from = 0;
    let sentBytes = 0;
    try {
      while (from < batch.count) {
        const file = this.#current();
        this.#payOwed(file);
        const to = this.#endFor(file, batch, from);
        const written = this.#append(file, batch, { from, to });
        if (this.#config.fsync === 'batch') this.#syncOrTakeBack(file, batch, { from, ...written });
        from += written.count;
        sentBytes += written.bytes;
        if (written.isShort) return this.#partial(from, sentBytes, 'the disk took only a part');
      }
      return { kind: 'delivered', sentBytes };
    } catch (error) {
      return this.#partial(from, sentBytes, error);
    }
  }

  /** A failed sync is no success: what it was for is taken out again, if it still is the end of the file, and written anew, to a file opened anew. */
  #syncOrTakeBack(
    file: OpenFile,
    batch: Batch,
    { from, count }: { from: number; count: number },
  ): void {
    try {
      this.#sync(file);
    } catch (error) {
      const end = count === 0 ? 0 : (batch.ends[from + count - 1] ?? 0) + 1;
      if (end > 0) this.#cutBack(file, batch.text.subarray(batch.starts[from], end));
      this.#forget();
      throw error;
    }
  }

  /** What is in the file for good counts as delivered. */
  #partial(count: number, sentBytes: number, error: unknown): Outcome {
    const isFull = FULL_CODES.has(codeOf(error)) || typeof error === 'string';
    if (codeOf(error) === 'EBADF' || codeOf(error) === 'EIO') this.#forget();
    const rest: Outcome = {
      kind: 'retry',
      reason: isFull ? 'disk_full' : 'disk',
      message: textOf(error),
      budget: 'normal',
    };
    return count === 0 ? rest : { kind: 'partial', count, sentBytes, rest };
  }

  /** Index after the last record that goes into the file: a file is full once it has reached its size. */
  #endFor(file: OpenFile, batch: Batch, from: number): number {
    const { maxBytes } = this.#config;
    if (maxBytes === undefined) return batch.count;
    const start = batch.starts[from] ?? 0;
    const room = maxBytes - this.#fileSystem.size(file.fd);
    let to = from + 1;
    while (to < batch.count && (batch.ends[to - 1] ?? 0) + 1 - start < room) to += 1;
    return to;
  }

  #append(
    file: OpenFile,
    batch: Batch,
    { from, to }: { from: number; to: number },
  ): { count: number; bytes: number; isShort: boolean } {
    const start = batch.starts[from] ?? 0;
    const end = (batch.ends[to - 1] ?? 0) + 1;
    const bytes = this.#fileSystem.append(file.fd, batch.text.subarray(start, end));
    this.#writtenBytes += bytes;
    if (bytes === end - start) return { count: to - from, bytes, isShort: false };
    return { ...this.#mend(file, batch, { from, to, until: start + bytes }), isShort: true };
  }

  /** After a short write: records that are in as a whole count; the rest of a torn line is owed to this file. */
  #mend(
    file: OpenFile,
    batch: Batch,
    { from, to, until }: { from: number; to: number; until: number },
  ): { count: number; bytes: number } {
    let whole = from;
    while (whole < to && (batch.ends[whole] ?? 0) + 1 <= until) whole += 1;
    const start = batch.starts[from] ?? 0;
    const wholeEnd = whole === from ? start : (batch.ends[whole - 1] ?? 0) + 1;
    if (until === wholeEnd) return { count: whole - from, bytes: wholeEnd - start };
    if (this.#cutBack(file, batch.text.subarray(wholeEnd, until))) {
      return { count: whole - from, bytes: wholeEnd - start };
    }
    // Others may have written behind it: the line is finished where it is, before anything else of ours.
    const lineEnd = (batch.ends[whole] ?? 0) + 1;
    this.#owed = batch.text.slice(until, lineEnd);
    return { count: whole + 1 - from, bytes: lineEnd - start };
  }

  /** Takes a torn line out again, if it still is the end of the file. False: others have written behind it. */
  #cutBack(file: OpenFile, torn: Uint8Array): boolean {
    try {
      const at = this.#fileSystem.size(file.fd) - torn.length;
      const end = this.#fileSystem.read(file.fd, { at, bytes: torn.length });
      if (Buffer.compare(end, torn) !== 0) return false;
      this.#fileSystem.truncate(file.fd, at);
      return true;
    } catch {
      // Not every file can be read back or truncated; the line is finished instead.
      return false;
    }
  }

  #payOwed(file: OpenFile): void {
    while (this.#owed !== undefined) {
      const bytes = this.#fileSystem.append(file.fd, this.#owed);
      this.#owed = bytes < this.#owed.length ? this.#owed.subarray(bytes) : undefined;
    }
  }

  /** The file to write to now, opened if need be. */
  #current(): OpenFile {
    const period = this.#latestPeriod(periodOf(this.#clock.nowMs(), this.#config.rotate));
    const file = this.#file;
    if (file !== undefined && this.#owed !== undefined) return file;
    const cause = file === undefined ? this.#beginCause() : this.#endCause(file, period);
    if (file !== undefined && cause === undefined) return file;
    this.#closeFile();
    const opened = this.#open(period);
    this.#rotations.push(cause ?? 'reopen');
    return opened;
  }

  /** Why a file is begun while none is open. */
  #beginCause(): RotationCause {
    const cause = this.#hasBegun ? 'reopen' : 'start';
    this.#hasBegun = true;
    return cause;
  }

  /** The latest day or hour that a worker of the engine has seen: a clock that is set back leads none of them back. */
  #latestPeriod(period: string): string {
    if (this.#words === undefined) return period;
    const { memory, wordAt } = this.#words;
    const words = new Int32Array(memory);
    const at = wordAt + PERIOD_WORD;
    const own = periodNumber(period);
    for (;;) {
      const latest = Atomics.load(words, at);
      if (latest > own) return periodText(latest);
      if (Atomics.compareExchange(words, at, latest, own) === latest) return period;
    }
  }

  /** Why the file is not to be written to any more; undefined: it is. */
  #endCause(file: OpenFile, period: string): RotationCause | undefined {
    // The clock may be set back: names only move forward within a run, so that none is used again for other content.
    if (period > file.period) return 'period';
    const { maxBytes } = this.#config;
    if (maxBytes !== undefined && this.#fileSystem.size(file.fd) >= maxBytes) return 'size';
    return this.#fileSystem.inode(file.path) === file.inode ? undefined : 'reopen';
  }

  #open(period: string): OpenFile {
    const { directory, maxBytes, mode } = this.#config;
    this.#fileSystem.makeDirectory(directory);
    const rules = { head: this.#head, period, maxBytes };
    const index = indexToWrite(this.#fileSystem.list(directory), rules);
    const path = join(directory, nameOf({ head: this.#head, period, index }));
    const fd = this.#fileSystem.openAppend(path, mode);
    this.#mendTail(fd);
    const inode = this.#fileSystem.inodeOf(fd);
    this.#file = { fd, path, period, index, inode };
    return this.#file;
  }

  /** Takes out what a writer that was killed in the middle of a line has left: it is no record, and never will be. */
  #mendTail(fd: number): void {
    const size = this.#fileSystem.size(fd);
    if (size === 0 || this.#endsWithLine(fd, size)) return;
    // Another process may be in the middle of its write right now: only a file at rest is touched.
    const restMs = this.#clock.nowMs() - this.#fileSystem.modifiedMs(fd);
    for (let leftMs = REST_MS - Math.max(0, restMs); leftMs > 0; leftMs -= LOOK_MS) {
      pause(Math.min(LOOK_MS, leftMs));
      // Looked at often, because a live writer ends its line within milliseconds, and whoever waits here shows no sign of life.
      if (this.#fileSystem.size(fd) !== size) return;
    }
    if (this.#fileSystem.size(fd) !== size) return;
    this.#fileSystem.truncate(fd, this.#endOfLastLine(fd, size));
  }

  #endsWithLine(fd: number, size: number): boolean {
    return this.#fileSystem.read(fd, { at: size - 1, bytes: 1 })[0] === NEWLINE;
  }

  #endOfLastLine(fd: number, size: number): number {
    for (let end = size; end > 0; ) {
      const at = Math.max(0, end - LOOK_BACK_BYTES);
      const found = this.#fileSystem.read(fd, { at, bytes: end - at }).lastIndexOf(NEWLINE);
      if (found >= 0) return at + found + 1;
      end = at;
    }
    return 0;
  }

  #closeFile(): void {
    const file = this.#file;
    this.#file = undefined;
    if (file === undefined) return;
    try {
      if (this.#config.fsync !== 'never') this.#sync(file);
    } finally {
      this.#fileSystem.close(file.fd);
    }
  }

  #forget(): void {
    try {
      this.#closeFile();
    } catch {
      // The file is in trouble already; a new one is opened next time.
    }
  }

  #sync(file: OpenFile): void {
    const startMs = this.#clock.monotonicMs();
    this.#fileSystem.sync(file.fd);
    this.#syncsMs.push(this.#clock.monotonicMs() - startMs);
  }

  /** Goes over to the file of the present day or hour, and syncs if that is wanted. */
  async flush(): Promise<void> {
    try {
      const file = this.#current();
      if (this.#config.fsync !== 'never') this.#sync(file);
      this.#keepUp(this.#clock.monotonicMs());
    } catch (error) {
      throw new MillraceError('MILLRACE_UNAVAILABLE', `the log file: ${textOf(error)}`, error);
    }
  }

  async close(): Promise<void> {
    this.#upkeep?.stop();
    this.#closeFile();
  }
}

function codeOf(error: unknown): string {
  return typeof error === 'object' && error !== null && 'code' in error ? String(error.code) : '';
}

function textOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

function pause(ms: number): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms);
}
