import { readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { crc32 } from 'node:zlib';
import { makeDirectory } from '../base/directory.ts';
import { MillraceError, textOfError } from '../base/errors.ts';
import { letOthersRun, within } from '../base/event-loop.ts';
import type { ByteSource } from '../lines/byte-source.ts';
import { LineScanner } from '../lines/line-scanner.ts';
import { HEAD_BYTES, MARKS_NAME, MarkBook, notePlaceOfMarks } from '../lines/marks.ts';
import type { ShipReadings } from '../metrics/ship-catalogue.ts';
import { nodeFileSystem } from '../spool/file-system.ts';
import { FolderLock } from '../spool/lock.ts';
import { systemProcessTable } from '../spool/process-table.ts';
import type { RawDelivery, RawFate } from '../worker/raw-delivery.ts';
import { Load, type LoadLimits } from './load.ts';
import { LogFolder } from './log-folder.ts';
import { Pace } from './pace.ts';
import { Quarantine, type QuarantinedLine } from './quarantine.ts';
import type { Cursor, FoundFile, TrackedFile } from './tracked-file.ts';

/** What a shipper is told; complete and checked. */
export interface ShipPlan {
  readonly directory: string;
  readonly stateDirectory: string;
  readonly quarantine: string;
  readonly match: RegExp | undefined;
  readonly limits: LoadLimits;
  readonly isOnce: boolean;
  readonly pollMs: number;
  readonly removeAfterMs: number | undefined;
  /** Sequences of files that are shipped at the same time. */
  readonly concurrency: number;
  /** 'head': the files of one prefix one after the other; 'file': each by itself. */
  readonly ordering: 'head' | 'file';
  readonly rate: number | undefined;
}

/** Counts of lines since the start, unless said otherwise. */
export interface ShipAccount {
  /** Files of which something was shipped. */
  readonly files: number;
  readonly lines: number;
  readonly delivered: number;
  /** Refused for good by the receiver; in the quarantine. */
  readonly rejected: number;
  /** No records; in the quarantine. */
  readonly bad: number;
  /** Empty lines. */
  readonly blank: number;
  /** `lines` less the four above; always 0. */
  readonly imbalance: number;
  /** Bytes sent over the wire. */
  readonly bytes: number;
  /** Size of all files that are followed, and how much of it is done with, in bytes on disk. */
  readonly totalBytes: number;
  readonly doneBytes: number;
  /** Files that can't be read. */
  readonly failedFiles: number;
  /** Bytes of files that went away before they were shipped. */
  readonly lostBytes: number;
  readonly removedFiles: number;
}

export interface ShipTools {
  readonly delivery: RawDelivery;
  readonly signal: AbortSignal | undefined;
  readonly onError: (error: MillraceError) => void;
  readonly onProgress: (account: ShipAccount) => void;
}

const LOCK_BEAT_MS = 10_000;
const PROGRESS_MS = 100;
/** Rest between two looks that find nothing to ship, where the end of all there is is waited for. */
const ONCE_REST_MS = 10;
const RETRY_MS = 5000;
/** How long what is under way may take after the signal to stop, in ms. */
const STOP_MS = 5000;
const DAY_MS = 86_400_000;
const SKIP_BYTES: number = 256 * 1024;

/** Follows one folder: looks at it, and lets the sequences of its files be shipped side by side. */
export class Shipper {
  readonly #plan: ShipPlan;
  readonly #tools: ShipTools;
  readonly #lock: FolderLock;
  readonly #book: MarkBook;
  readonly #folder: LogFolder;
  readonly #quarantine: Quarantine;
  readonly #pace: Pace;
  readonly #scanner: LineScanner | undefined = LineScanner.open();
  readonly #running = new Map<string, Promise<void>>();
  readonly #spareLoads: Load[] = [];
  readonly #begun = new Set<number>();
  readonly #counts = {
    lines: 0,
    delivered: 0,
    rejected: 0,
    bad: 0,
    blank: 0,
    bytes: 0,
    lostBytes: 0,
    removedFiles: 0,
    textBytes: 0,
  };
  #toldMs = 0;
  #beatMs = 0;

  private constructor(plan: ShipPlan, tools: ShipTools, lock: FolderLock) {
    this.#plan = plan;
    this.#tools = tools;
    this.#lock = lock;
    this.#book = MarkBook.open(join(plan.stateDirectory, MARKS_NAME));
    this.#leaveWord();
    this.#quarantine = new Quarantine(plan.quarantine);
    this.#pace = new Pace(plan.rate);
    this.#folder = new LogFolder({
      directory: plan.directory,
      match: plan.match,
      book: this.#book,
      onLost: (file, bytes) => this.#tellLost(file, bytes),
      onFailure: (file, error) => this.#tell(file.fileName, error),
    });
  }

  /**
   * Takes the folder.
   *
   * @throws MillraceError MILLRACE_UNAVAILABLE when it can't be read or written, or another process ships it
   */
  static open(plan: ShipPlan, tools: ShipTools): Shipper {
    const { directory, stateDirectory } = plan;
    return guard(directory, () => {
      // A folder that is not there is a slip of the pen, and must not be made with the state folder in it.
      readdirSync(directory);
      makeDirectory(stateDirectory);
      const lock = FolderLock.take(stateDirectory, {
        fileSystem: nodeFileSystem,
        processes: systemProcessTable(),
        nowMs: Date.now,
      });
      if (lock instanceof FolderLock) return Shipper.#openLocked(plan, tools, lock);
      throw new MillraceError(
        'MILLRACE_UNAVAILABLE',
        `the folder ${directory} is being shipped by process ${lock.pid} already`,
      );
    });
  }

  static #openLocked(plan: ShipPlan, tools: ShipTools, lock: FolderLock): Shipper {
    try {
      return new Shipper(plan, tools, lock);
    } catch (error) {
      lock.release();
      throw error;
    }
  }

  /** A writer's retention waits for what is shipped, if it knows where that is noted. */
  #leaveWord(): void {
    const { directory, stateDirectory } = this.#plan;
    try {
      notePlaceOfMarks(directory, stateDirectory);
    } catch (error) {
      const message = `${directory} can't be told that its checkpoint is in ${stateDirectory}, so that a writer may remove files there before they are shipped: ${textOfError(error)}`;
      this.#tools.onError(new MillraceError('MILLRACE_UNAVAILABLE', message, error));
    }
  }

  get account(): ShipAccount {
    const { lines, delivered, rejected, bad, blank, bytes, lostBytes, removedFiles } = this.#counts;
    let totalBytes = 0;
    let lagBytes = 0;
    for (const file of this.#folder.files) {
      totalBytes += file.found.bytes;
      lagBytes += file.lagBytes;
    }
    return {
      files: this.#begun.size,
      lines,
      delivered,
      rejected,
      bad,
      blank,
      imbalance: lines - delivered - rejected - bad - blank,
      bytes,
      totalBytes,
      doneBytes: totalBytes - lagBytes,
      failedFiles: this.#failedFiles,
      lostBytes,
      removedFiles,
    };
  }

  /** For the metrics. */
  get readings(): ShipReadings {
    const files = this.#folder.files;
    const waiting = files.filter(({ isPending }) => isPending);
    const oldestMs = Math.min(...waiting.map(({ found }) => found.modifiedMs));
    const failed = this.#failedFiles;
    return {
      ...this.#counts,
      filesWaiting: waiting.length,
      filesFailed: failed,
      filesDone: files.length - waiting.length,
      lagBytes: files.reduce((sum, { lagBytes }) => sum + lagBytes, 0),
      oldestWaitingMs: waiting.length === 0 ? 0 : Math.max(0, Date.now() - oldestMs),
      ledger: this.#tools.delivery.ledger,
    };
  }

  get #failedFiles(): number {
    const failed = this.#folder.files.filter(({ failure }) => failure !== undefined).length;
    return failed + this.#folder.unreadable;
  }

  get #isStopped(): boolean {
    return this.#tools.signal?.aborted === true;
  }

  /** Ships until it is told to stop, or, with `isOnce`, until there is no more. Rejects with a MillraceError when the folder is lost. */
  async run(): Promise<void> {
    try {
      while (!this.#isStopped) {
        guard(this.#plan.directory, () => {
          this.#beat();
          this.#folder.look(performance.now());
          this.#removeOld();
        });
        this.#start();
        const isIdle = this.#running.size === 0 && this.#folder.undecided === 0;
        if (this.#plan.isOnce && isIdle) break;
        await this.#rest();
      }
    } finally {
      await this.#settle();
    }
  }

  /** Throws what the disk throws; the folder is free all the same. */
  async close(): Promise<void> {
    this.#folder.close();
    try {
      this.#book.close();
    } finally {
      this.#lock.release();
    }
  }

  /**
   * Waits until there may be more to do: when a sequence has come to its end, or it is time for a look. One that had nothing to ship is no
   * reason for a look at once: a line that never ends would be looked at all the time.
   */
  async #rest(): Promise<void> {
    const { isOnce, pollMs } = this.#plan;
    const restMs = isOnce ? Math.min(pollMs, ONCE_REST_MS) : pollMs;
    const endMs = performance.now() + restMs;
    const { textBytes } = this.#counts;
    let leftMs = pollMs;
    do {
      await this.#anyEnd(leftMs);
      leftMs = endMs - performance.now();
    } while (leftMs > 0 && !this.#isStopped && this.#counts.textBytes === textBytes);
  }

  /** After the signal, what is under way has a little time. */
  async #settle(): Promise<void> {
    const { delivery } = this.#tools;
    delivery.stop();
    await within(Promise.all(this.#running.values()), STOP_MS, 'late');
    await delivery.close();
    await Promise.all(this.#running.values());
  }

  /** Waits for the end of a sequence, at most so long; a timer that is left would keep the process from ending. */
  async #anyEnd(ms: number): Promise<void> {
    const { signal } = this.#tools;
    const wake = new AbortController();
    const end = () => wake.abort();
    signal?.addEventListener('abort', end);
    if (signal?.aborted === true) end();
    const pause = delay(ms, undefined, { signal: wake.signal }).catch(() => undefined);
    await Promise.race([...this.#running.values(), pause]);
    signal?.removeEventListener('abort', end);
    end();
  }

  #pause(ms: number): Promise<void> {
    const { signal } = this.#tools;
    return delay(ms, undefined, signal === undefined ? {} : { signal }).catch(() => undefined);
  }

  #beat(): void {
    const nowMs = performance.now();
    if (nowMs - this.#beatMs < LOCK_BEAT_MS) return;
    this.#beatMs = nowMs;
    if (this.#lock.beat()) return;
    throw new MillraceError('MILLRACE_UNAVAILABLE', 'another process has taken the folder over');
  }

  /** Sets sequences with something to ship going, as many as may run at a time. */
  #start(): void {
    for (const file of this.#folder.files) {
      if (this.#running.size >= this.#plan.concurrency) return;
      const key = this.#sequenceOf(file);
      if (this.#running.has(key) || !this.#isReady(file)) continue;
      this.#running.set(
        key,
        this.#shipSequence(key).finally(() => this.#running.delete(key)),
      );
    }
  }

  #sequenceOf({ found, cursor }: TrackedFile): string {
    return this.#plan.ordering === 'head' ? found.name.head : String(cursor.id);
  }

  #isReady(file: TrackedFile): boolean {
    return file.isPending && !file.cursor.isBusy && file.retryAtMs <= performance.now();
  }

  async #shipSequence(key: string): Promise<void> {
    const loads = [this.#takeLoad(), this.#takeLoad()] as const;
    const isNext = (file: TrackedFile) => this.#sequenceOf(file) === key && this.#isReady(file);
    for (;;) {
      const file = this.#isStopped ? undefined : this.#folder.files.find(isNext);
      if (file === undefined) break;
      const { cursor } = file;
      cursor.isBusy = true;
      try {
        await this.#shipFile(file, cursor, loads);
        file.failure = undefined;
      } catch (error) {
        // Else the folder has parted with it, and closed it.
        if (file.cursor === cursor) this.#fail(file, error);
      } finally {
        cursor.isBusy = false;
      }
    }
    this.#spareLoads.push(...loads);
  }

  #takeLoad(): Load {
    return this.#spareLoads.pop() ?? new Load(this.#plan.limits, this.#scanner);
  }

  #fail(file: TrackedFile, error: unknown): void {
    const words = textOfError(error);
    file.close();
    file.retryAtMs = performance.now() + RETRY_MS;
    // A packed file that is not complete yet, for one, is told of once.
    if (file.failure !== words) this.#tell(file.found.fileName, error);
    file.failure = words;
    if (this.#plan.isOnce) file.retryAtMs = Number.POSITIVE_INFINITY;
  }

  /** Ships a file to its present end: while one load is on its way, the next is read and checked. */
  async #shipFile(file: TrackedFile, cursor: Cursor, loads: readonly [Load, Load]): Promise<void> {
    const source = file.open();
    if (file.found.name.isPacked && (await this.#skipTo(file, source)) !== 'done') return;
    let [load, spare] = loads;
    const endBytes = file.openBytes ?? file.found.bytes;
    let isMore = await load.fill(source, cursor.mark);
    while (isMore) {
      file.noteHead(source, load);
      cursor.know(file.head.subarray(0, Math.min(HEAD_BYTES, load.after.offset)));
      const fates = this.#send(load);
      // The request goes out first; what is read meanwhile is read while it is on its way.
      await letOthersRun();
      const reading = this.#isStopped
        ? Promise.resolve(false)
        : spare.fill(source, load.after).catch((error: unknown) => asError(error));
      const [settled, next] = await Promise.all([fates, reading]);
      if (settled === undefined) return;
      this.#acknowledge(file, { cursor, load, fates: settled });
      if (file.cursor !== cursor || this.#isStopped) return;
      if (next instanceof Error) throw next;
      isMore = next;
      [load, spare] = [spare, load];
    }
    file.endBytes = endBytes;
    if (file.found.name.isPacked) {
      cursor.change({ packedBytes: endBytes });
      file.close();
    }
  }

  /** Passes what was shipped of a file before it was packed. 'other': it is another file, which has been begun anew. */
  async #skipTo(file: TrackedFile, source: ByteSource): Promise<'done' | 'stopped' | 'other'> {
    const { offset, crc } = file.cursor.mark;
    const piece = Buffer.allocUnsafe(Math.min(SKIP_BYTES, offset));
    let sum = 0;
    for (let at = 0; at < offset; ) {
      const got = await source.read(piece.subarray(0, offset - at), at);
      if (this.#isStopped) return 'stopped';
      if (got === 0) break;
      sum = crc32(piece.subarray(0, got), sum);
      at += got;
    }
    if (sum === crc) return 'done';
    this.#folder.restart(file);
    return 'other';
  }

  /** Delivers a load. Undefined: the work was stopped before. */
  async #send(load: Load): Promise<readonly RawFate[] | undefined> {
    if (load.count === 0) return [];
    const waitMs = this.#pace.take(load.count, performance.now());
    if (waitMs > 0) await this.#pause(waitMs);
    if (this.#isStopped) return undefined;
    const fates: RawFate[] = [];
    const isDone = await this.#tools.delivery.deliver(load, (fate) => fates.push(fate));
    return isDone ? fates : undefined;
  }

  /** Notes what became of a load: first what is put aside, then the mark, then the counts. */
  #acknowledge(
    file: TrackedFile,
    { cursor, load, fates }: { cursor: Cursor; load: Load; fates: readonly RawFate[] },
  ): void {
    const refused = fates.filter(({ state }) => state === 'rejected');
    const { fileName } = file.found;
    this.#quarantine.append([
      ...load.bad.map((line) => ({ file: fileName, ...line })),
      ...refused.flatMap((fate) => refusedLines(fileName, load, fate)),
    ]);
    const { lines, offset } = cursor.mark;
    try {
      cursor.advance(load.after, file.head);
    } finally {
      // Where the disk takes no note, it holds in memory.
      const counts = this.#counts;
      counts.lines += load.after.lines - lines;
      counts.textBytes += load.after.offset - offset;
      counts.bad += load.bad.length;
      counts.blank += load.blank;
      for (const { from, to, state, sentBytes } of fates) {
        counts[state] += to - from;
        counts.bytes += sentBytes;
      }
      this.#begun.add(cursor.id);
    }
    this.#progress();
  }

  #progress(): void {
    const nowMs = performance.now();
    if (nowMs - this.#toldMs < PROGRESS_MS) return;
    this.#toldMs = nowMs;
    this.#tools.onProgress(this.account);
  }

  /** Removes files that are done with and old enough; never the one that is being written. */
  #removeOld(): void {
    const { removeAfterMs } = this.#plan;
    if (removeAfterMs === undefined) return;
    const files = this.#folder.files;
    const newest = new Map(files.map((file) => [file.found.name.head, file]));
    for (const file of files) {
      const { found, cursor } = file;
      if (file.lagBytes > 0 || cursor.isBusy || file.missedAtMs !== undefined) continue;
      const leastMs = newest.get(found.name.head) === file ? DAY_MS : 0;
      if (Date.now() - found.modifiedMs <= Math.max(removeAfterMs, leastMs)) continue;
      rmSync(found.path, { force: true });
      this.#counts.removedFiles += 1;
    }
  }

  #tellLost({ fileName }: FoundFile, bytes: number): void {
    this.#counts.lostBytes += bytes;
    this.#tools.onError(
      new MillraceError(
        'MILLRACE_UNAVAILABLE',
        `${fileName} went away before its last ${bytes} bytes were shipped`,
      ),
    );
  }

  #tell(fileName: string, error: unknown): void {
    const message = `${fileName} can't be shipped now: ${textOfError(error)}`;
    this.#tools.onError(new MillraceError('MILLRACE_UNAVAILABLE', message, error));
  }
}

function refusedLines(file: string, load: Load, { from, to, reason }: RawFate): QuarantinedLine[] {
  const lines: QuarantinedLine[] = [];
  for (let index = from; index < to; index += 1) {
    lines.push({
      file,
      line: load.lineOf[index] ?? 0,
      byte: load.byteOf[index] ?? 0,
      column: 1,
      reason: `refused by the receiver: ${reason}`,
      text: Buffer.from(load.text.bytes.subarray(load.starts[index], load.ends[index])),
    });
  }
  return lines;
}

function guard<T>(directory: string, work: () => T): T {
  try {
    return work();
  } catch (error) {
    if (error instanceof MillraceError) throw error;
    const message = `the folder ${directory} can't be shipped: ${textOfError(error)}`;
    throw new MillraceError('MILLRACE_UNAVAILABLE', message, error);
  }
}

function asError(error: unknown): Error {
  return error instanceof Error ? error : new Error(String(error));
}
