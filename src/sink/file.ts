import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { threadId } from 'node:worker_threads';
import { type Clock, systemClock } from '../base/clock.ts';
import { MillraceError, systemCodeOf, textOfError } from '../base/errors.ts';
import { letOthersRun } from '../base/event-loop.ts';
import { FileLock } from './file-lock.ts';
import { type DiskSign, type FileSystem, nodeFileSystem, signalling } from './file-system.ts';
import { FileTail } from './file-tail.ts';
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
import { FINISHED_REST_MS, Upkeep, type UpkeepRules } from './upkeep.ts';
import { UpkeepSchedule } from './upkeep-schedule.ts';

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
  readonly disk?: DiskSign;
}

/** Where the workers of one engine meet before they rotate. */
export interface SharedWords {
  readonly memory: SharedArrayBuffer;
  readonly wordAt: number;
}

/** Beside the word of the lock (file-lock.ts): the latest period, as a number; written by whichever worker comes to it first. */
const PERIOD_WORD = 1;
/** How soon a file is looked at again in which somebody is in the middle of a line, in ms: a live writer ends it within milliseconds. */
const LOOK_MS = 5;
/** Longest time without showing life while one batch goes into many files, in ms. */
const BREATH_MS = 50;
const HELD_UP = 'another writer is in the middle of a line';
const DISK_FULL = 'the disk took only a part';
const FULL_CODES: ReadonlySet<string> = new Set(['ENOSPC', 'EDQUOT', 'EFBIG']);

const NO_UPKEEP = { upkeepFailures: [], upkeepNews: undefined };

interface OpenFile {
  readonly fd: number;
  readonly path: string;
  readonly period: string;
  readonly index: number;
  readonly inode: number;
  /** Size after our own latest write, if that ended with a line: nobody has written since, if it still is. */
  wholeBytes: number;
  /** When it was last seen with room, on the monotonic clock. */
  roomMs: number;
}

/** What came of one look at the file: so many records more are in, or none, because another writer is in the middle of its line. */
type Part =
  | { readonly kind: 'written'; readonly count: number; readonly bytes: number }
  | { readonly kind: 'short'; readonly count: number; readonly bytes: number }
  | { readonly kind: 'torn' };

const TORN: Part = { kind: 'torn' };

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
      `directory ${directory} can't be written: ${textOfError(error)}`,
      error,
    );
  }
}

/**
 * Appends whole lines to the file of the day or hour. One a thread; several threads and processes may append to the same
 * file, because each write is whole lines to a file opened with O_APPEND, behind a whole line. Where a size limit
 * asks for "look, then write", the threads of one engine take turns by a lock; processes may overshoot by one batch.
 * Waiting for others never blocks the thread: a worker that shows no life for seconds is given up, and its batch written again.
 */
export class FileSink implements Sink {
  readonly separator = '\n';
  readonly #config: FileSinkConfig;
  readonly #head: string;
  readonly #fileSystem: FileSystem;
  readonly #clock: Clock;
  readonly #words: SharedWords | undefined;
  readonly #lock: FileLock | undefined;
  readonly #tail: FileTail;
  #file: OpenFile | undefined;
  /** Rest of a line that a full disk cut off; goes first into the same file. */
  #owed: Uint8Array | undefined;
  #facts: AttemptFacts = { status: 0, durationMs: 0 };
  #rotations: RotationCause[] = [];
  #syncsMs: number[] = [];
  #writtenBytes = 0;
  #hasBegun = false;
  readonly #upkeep: UpkeepSchedule | undefined;

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
    this.#tail = new FileTail(fileSystem, clock);
    this.#upkeep = scheduleOf(config, clock);
    this.#lock =
      words === undefined || config.maxBytes === undefined
        ? undefined
        : new FileLock(words.memory, { wordAt: words.wordAt, threadId });
  }

  /** @param edge what touches the machine; only tests put something else in its place */
  static open(config: FileSinkConfig, edge: FileSinkEdge = {}): FileSink {
    const { fileSystem = nodeFileSystem, disk } = edge;
    return new FileSink(config, {
      fileSystem: disk === undefined ? fileSystem : signalling(fileSystem, disk),
      clock: edge.clock ?? systemClock,
      words: edge.words,
    });
  }

  get lastAttempt(): AttemptFacts {
    return this.#facts;
  }

  async deliver(batch: Batch, signal: AbortSignal): Promise<Outcome> {
    const startMs = this.#clock.monotonicMs();
    const outcome = await this.#write(batch, signal);
    this.#facts = { status: 0, durationMs: this.#clock.monotonicMs() - startMs };
    this.#upkeep?.tick(this.#file?.path);
    return outcome;
  }

  get isOpen(): boolean {
    return this.#file !== undefined;
  }

  takeDiskWork(): DiskWork {
    const work = {
      writtenBytes: this.#writtenBytes,
      rotations: this.#rotations,
      syncsMs: this.#syncsMs,
      ...(this.#upkeep?.take() ?? NO_UPKEEP),
    };
    this.#writtenBytes = 0;
    this.#rotations = [];
    this.#syncsMs = [];
    return work;
  }

  async #write(batch: Batch, signal: AbortSignal): Promise<Outcome> {
    let from = 0;
    let sentBytes = 0;
    let breathMs = performance.now();
    try {
      while (from < batch.count) {
        const part = await this.#alone(() => this.#writePart(batch, from));
        if (part.kind === 'torn') {
          if (signal.aborted) return this.#partial(from, sentBytes, new Error(HELD_UP));
          await delay(LOOK_MS);
          continue;
        }
        from += part.count;
        sentBytes += part.bytes;
        if (part.kind === 'short') return this.#partial(from, sentBytes, DISK_FULL);
        if (performance.now() - breathMs < BREATH_MS) continue;
        await letOthersRun();
        breathMs = performance.now();
      }
      return { kind: 'delivered', sentBytes };
    } catch (error) {
      return this.#partial(from, sentBytes, error);
    }
  }

  /** Looks and writes while no other thread of the engine does. */
  #alone<T>(work: () => T): T | Promise<T> {
    return this.#lock === undefined ? work() : this.#lock.hold(work);
  }

  /** Writes the records from `from` on that go into the present file. Throws what the disk throws. */
  #writePart(batch: Batch, from: number): Part {
    const file = this.#current();
    if (!this.#payOwed(file)) return { kind: 'short', count: 0, bytes: 0 };
    const size = this.#fileSystem.size(file.fd);
    if (size !== file.wholeBytes && !this.#tail.isWhole(file, size)) return TORN;
    const part = this.#append(file, batch, { from, to: this.#endFor(size, batch, from) });
    file.wholeBytes = part.kind === 'written' ? size + part.bytes : -1;
    if (this.#config.fsync === 'batch') this.#syncOrTakeBack(file, batch, { from, ...part });
    return part;
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
    const isFull = FULL_CODES.has(systemCodeOf(error)) || typeof error === 'string';
    if (systemCodeOf(error) === 'EBADF' || systemCodeOf(error) === 'EIO') this.#forget();
    const rest: Outcome = {
      kind: 'retry',
      reason: isFull ? 'disk_full' : 'disk',
      message: textOfError(error),
      budget: 'normal',
    };
    return count === 0 ? rest : { kind: 'partial', count, sentBytes, rest };
  }

  /** Index after the last record that goes into a file of `size` bytes: a file is full once it has reached its size. */
  #endFor(size: number, batch: Batch, from: number): number {
    const { maxBytes } = this.#config;
    if (maxBytes === undefined) return batch.count;
    const start = batch.starts[from] ?? 0;
    const room = maxBytes - size;
    let to = from + 1;
    while (to < batch.count && (batch.ends[to - 1] ?? 0) + 1 - start < room) to += 1;
    return to;
  }

  #append(
    file: OpenFile,
    batch: Batch,
    { from, to }: { from: number; to: number },
  ): Exclude<Part, { kind: 'torn' }> {
    const start = batch.starts[from] ?? 0;
    const end = (batch.ends[to - 1] ?? 0) + 1;
    const bytes = this.#fileSystem.append(file.fd, batch.text.subarray(start, end));
    this.#writtenBytes += bytes;
    if (bytes === end - start) return { kind: 'written', count: to - from, bytes };
    return { kind: 'short', ...this.#mend(file, batch, { from, to, until: start + bytes }) };
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
    if (this.#cutBack(file, batch.text.subarray(wholeEnd, until)) !== 'impossible') {
      return { count: whole - from, bytes: wholeEnd - start };
    }
    // The line is finished where it is, before anything else of ours.
    const lineEnd = (batch.ends[whole] ?? 0) + 1;
    this.#owed = batch.text.slice(until, lineEnd);
    return { count: whole + 1 - from, bytes: lineEnd - start };
  }

  /** Takes out again what was written last, if it still is the end of the file: not if others have written behind it. */
  #cutBack(file: OpenFile, written: Uint8Array): 'done' | 'covered' | 'impossible' {
    try {
      const at = this.#fileSystem.size(file.fd) - written.length;
      const end = this.#fileSystem.read(file.fd, { at, bytes: written.length });
      if (Buffer.compare(end, written) !== 0) return 'covered';
      this.#fileSystem.truncate(file.fd, at);
      return 'done';
    } catch {
      // Not every file can be read back or truncated.
      return 'impossible';
    }
  }

  /** Finishes the line that a short write left; false: the file takes nothing for now. */
  #payOwed(file: OpenFile): boolean {
    while (this.#owed !== undefined) {
      const bytes = this.#fileSystem.append(file.fd, this.#owed);
      if (bytes === 0) return false;
      this.#owed = bytes < this.#owed.length ? this.#owed.subarray(bytes) : undefined;
    }
    return true;
  }

  /** The file to write to now, opened if need be. */
  #current(): OpenFile {
    const period = this.#latestPeriod(periodOf(this.#clock.nowMs(), this.#config.rotate));
    const file = this.#file;
    if (file !== undefined && this.#owed !== undefined) return file;
    const cause = file === undefined ? this.#beginCause() : this.#endCause(file, period);
    if (file !== undefined && cause === undefined) return file;
    this.#closeFile();
    const next = file !== undefined && cause === 'size' ? this.#indexAfter(file) : undefined;
    const opened = this.#open(period, next);
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
    if (maxBytes !== undefined) {
      if (this.#fileSystem.size(file.fd) >= maxBytes) return 'size';
      file.roomMs = this.#clock.monotonicMs();
    }
    return this.#fileSystem.inode(file.path) === file.inode ? undefined : 'reopen';
  }

  /** The number behind that of a full file, if that can't have been used and removed meanwhile: a folder of many files is not listed each time. */
  #indexAfter({ index, roomMs }: OpenFile): number | undefined {
    return this.#clock.monotonicMs() - roomMs < FINISHED_REST_MS ? index + 1 : undefined;
  }

  #indexIn(period: string): number {
    const { directory, maxBytes } = this.#config;
    this.#fileSystem.makeDirectory(directory);
    const rules = { head: this.#head, period, maxBytes };
    return indexToWrite(this.#fileSystem.list(directory), rules);
  }

  #open(period: string, first: number = this.#indexIn(period)): OpenFile {
    for (let index = first; ; index += 1) {
      const path = join(this.#config.directory, nameOf({ head: this.#head, period, index }));
      const file = this.#openAt(path, { period, index });
      if (file === undefined) continue;
      this.#file = file;
      return file;
    }
  }

  /** Opens a file to append to. Undefined: other processes have filled it up, or even packed it, since the folder was looked at. */
  #openAt(
    path: string,
    { period, index }: { period: string; index: number },
  ): OpenFile | undefined {
    const { maxBytes, mode } = this.#config;
    if (this.#fileSystem.inode(`${path}.gz`) !== -1) return undefined;
    const fd = this.#fileSystem.openAppend(path, mode);
    if (maxBytes !== undefined && this.#fileSystem.size(fd) >= maxBytes) {
      this.#fileSystem.close(fd);
      return undefined;
    }
    const inode = this.#fileSystem.inodeOf(fd);
    return { fd, path, period, index, inode, wholeBytes: -1, roomMs: this.#clock.monotonicMs() };
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
      await this.#alone(() => {
        const file = this.#current();
        if (this.#config.fsync !== 'never') this.#sync(file);
      });
      this.#upkeep?.tick(this.#file?.path);
    } catch (error) {
      throw new MillraceError('MILLRACE_UNAVAILABLE', `the log file: ${textOfError(error)}`, error);
    }
  }

  async close(): Promise<void> {
    this.#upkeep?.stop();
    this.#closeFile();
  }
}

function scheduleOf(
  { directory, upkeep, rotate }: FileSinkConfig,
  clock: Clock,
): UpkeepSchedule | undefined {
  if (upkeep === undefined) return undefined;
  const periodAt = (wallMs: number) => periodOf(wallMs, rotate);
  return new UpkeepSchedule(new Upkeep(directory, upkeep), { clock, periodAt });
}
