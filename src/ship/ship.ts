import { appendFileSync, readdirSync, rmSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { MillraceError } from '../base/errors.ts';
import { Control, MODE_STOP } from '../lane/control.ts';
import { LedgerWriter } from '../lane/ledger.ts';
import { DELIVERED, REJECTED } from '../lane/settlement.ts';
import { parseEndpoint } from '../sink/endpoint.ts';
import { HttpSink } from '../sink/http.ts';
import { DeadLetterFile } from '../worker/dead-letter.ts';
import { Delivery, type DeliveryJob } from '../worker/delivery.ts';
import { Gate } from '../worker/gate.ts';
import { problemOf } from './check.ts';
import { Checkpoints } from './checkpoints.ts';
import { LineReader } from './lines.ts';

export interface ShipOptions {
  readonly directory: string;
  readonly url: string;
  readonly appId: string;
  /** Records of one request; default 500. */
  readonly batchSize?: number;
  /** End when everything there is has been shipped; default: follow the folder. */
  readonly once?: boolean;
  /** How often the folder is looked at, in ms; default 500. */
  readonly pollMs?: number;
  /** Files that are done with and this old are removed; default: none is. */
  readonly removeAfterDays?: number;
  /** Where lines that are no records, and records refused for good, are kept; default `.millrace-bad.jsonl` in the folder. */
  readonly quarantine?: string;
  /** Ends the work in good order. */
  readonly signal?: AbortSignal;
  readonly onError?: (error: MillraceError) => void;
  readonly onProgress?: (account: ShipAccount) => void;
}

/** Counts of records and lines since the start. */
export interface ShipAccount {
  readonly files: number;
  readonly lines: number;
  readonly delivered: number;
  /** Refused for good by the receiver. */
  readonly rejected: number;
  /** Lines that are no records. */
  readonly bad: number;
  readonly bytes: number;
}

const CHECKPOINT_NAME = '.millrace-ship.json';
const QUARANTINE_NAME = '.millrace-bad.jsonl';
const LOG_NAME = /(^|\.)log\.\d{4}-\d{2}-\d{2}/;
const BATCH_BYTES: number = 512 * 1024;
const ATTEMPT_MS = 30_000;
const DAY_MS = 86_400_000;

interface LogFile {
  readonly name: string;
  readonly path: string;
  readonly inode: string;
  readonly modifiedMs: number;
}

/** Lines on their way, laid out as a sink wants them. */
interface Load {
  readonly text: Buffer;
  readonly starts: Uint32Array;
  readonly ends: Uint32Array;
  readonly count: number;
  /** Byte of the file after the last line read. */
  readonly offset: number;
}

/**
 * Follows a folder of log files and delivers them by HTTP, file after file in the order of their names: at least once, and
 * once at the receiver for records with a `#uuid`. What is acknowledged is noted in `.millrace-ship.json` in the folder, so it goes on
 * there after any end.
 *
 * @throws MillraceError MILLRACE_OPTIONS for a bad URL; MILLRACE_UNAVAILABLE when the folder can't be read
 */
export async function ship(options: ShipOptions): Promise<ShipAccount> {
  const shipper = new Shipper(options);
  try {
    await shipper.run();
  } finally {
    await shipper.close();
  }
  return shipper.account;
}

class Shipper {
  readonly #options: ShipOptions;
  readonly #control: Control = Control.create();
  readonly #sink: HttpSink;
  readonly #delivery: Delivery;
  readonly #checkpoints: Checkpoints;
  readonly #quarantine: string;
  readonly #seen = new Set<string>();
  readonly #counts = { files: 0, lines: 0, delivered: 0, rejected: 0, bad: 0, bytes: 0 };

  constructor(options: ShipOptions) {
    const { directory, url, appId } = options;
    this.#options = options;
    this.#quarantine = options.quarantine ?? join(directory, QUARANTINE_NAME);
    this.#checkpoints = guard(directory, () => Checkpoints.read(join(directory, CHECKPOINT_NAME)));
    this.#sink = HttpSink.open({
      kind: 'http',
      endpoint: parseEndpoint(url),
      appId,
      headers: {},
      compress: 'gzip',
      level: 2,
      timeoutMs: ATTEMPT_MS,
      connections: 4,
      version: 'ship',
    });
    this.#delivery = new Delivery({
      sink: this.#sink,
      gate: new Gate(this.#control, 'breaker'),
      ledger: new LedgerWriter(this.#control.floats, this.#control.slotFloatAt(0)),
      limits: { retries: 'forever', baseMs: 200, capMs: 30_000 },
      attemptTimeoutMs: ATTEMPT_MS,
      onExhausted: 'expire',
      deadLetter: new DeadLetterFile(this.#quarantine),
      onTrouble: (error) => options.onError?.(error),
    });
    options.signal?.addEventListener('abort', () => {
      this.#control.mode = MODE_STOP;
    });
  }

  get account(): ShipAccount {
    return { ...this.#counts };
  }

  get #isStopped(): boolean {
    return this.#options.signal?.aborted === true;
  }

  async run(): Promise<void> {
    const { once = false, pollMs = 500 } = this.#options;
    for (;;) {
      const shipped = await this.#pass();
      if (this.#isStopped || (once && shipped === 0)) return;
      if (shipped === 0) await delay(pollMs);
    }
  }

  async close(): Promise<void> {
    await this.#sink.close();
  }

  /** Looks at every file once; returns how many lines were new. */
  async #pass(): Promise<number> {
    const files = guard(this.#options.directory, () => logFiles(this.#options.directory));
    const before = this.#counts.lines;
    for (const file of files) {
      if (this.#isStopped) break;
      await this.#shipFile(file);
    }
    this.#checkpoints.keepOnly(new Set(files.map(({ inode }) => inode)));
    return this.#counts.lines - before;
  }

  async #shipFile(file: LogFile): Promise<void> {
    let reader: LineReader;
    try {
      const probe = new LineReader(file.path, 0);
      const offset = this.#checkpoints.offsetOf(file, probe);
      probe.close();
      reader = new LineReader(file.path, offset);
    } catch (error) {
      // Renamed, removed or half packed: the next look finds what has become of it.
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') this.#tell(file, error);
      return;
    }
    try {
      await this.#shipLines(file, reader);
    } finally {
      reader.close();
    }
  }

  async #shipLines(file: LogFile, reader: LineReader): Promise<void> {
    for (;;) {
      const load = this.#load(file, reader);
      if (load === undefined) break;
      if (!(await this.#deliver(load))) return;
      this.#checkpoints.set(file, load.offset, reader);
      this.#options.onProgress?.(this.account);
    }
    if (!this.#seen.has(file.inode)) {
      this.#seen.add(file.inode);
      this.#counts.files += 1;
    }
    this.#removeOld(file);
  }

  #removeOld({ path, modifiedMs }: LogFile): void {
    const { removeAfterDays } = this.#options;
    if (removeAfterDays === undefined) return;
    if (Date.now() - modifiedMs > removeAfterDays * DAY_MS) rmSync(path, { force: true });
  }

  /** The next lines; those that are no records are put aside. Undefined: there is no line. */
  #load(file: LogFile, reader: LineReader): Load | undefined {
    const { batchSize = 500 } = this.#options;
    const parts: Buffer[] = [Buffer.from(' ')];
    const starts = new Uint32Array(batchSize);
    const ends = new Uint32Array(batchSize);
    let at = 1;
    let count = 0;
    let lines = 0;
    while (count < batchSize && at < BATCH_BYTES) {
      const line = reader.next();
      if (line === undefined) break;
      lines += 1;
      if (!this.#isGood(file, line, reader.offset)) continue;
      starts[count] = at;
      ends[count] = at + line.length;
      count += 1;
      at += line.length + 1;
      parts.push(Buffer.from(line), Buffer.from(this.#sink.separator));
    }
    this.#counts.lines += lines;
    if (lines === 0) return undefined;
    return { text: Buffer.concat(parts), starts, ends, count, offset: reader.offset };
  }

  #isGood(file: LogFile, line: Buffer, offset: number): boolean {
    const problem = problemOf(line);
    if (problem === undefined) return true;
    this.#counts.bad += 1;
    const entry = {
      file: file.name,
      byte: offset - line.length - 1,
      ...problem,
      line: line.toString('utf8'),
    };
    appendFileSync(this.#quarantine, `${JSON.stringify(entry)}\n`, { mode: 0o600 });
    return false;
  }

  /** True: every record has its fate. */
  async #deliver({ text, starts, ends, count }: Load): Promise<boolean> {
    if (count === 0) return true;
    let open = 0;
    const job: DeliveryJob = {
      batch: { count, text: { bytes: text }, starts, ends },
      hold: () => (this.#isStopped ? -1 : open),
      release: () => undefined,
      settle: ({ from, to }, counter, { sentBytes }) => {
        open = to;
        this.#counts.bytes += sentBytes;
        if (counter === DELIVERED) this.#counts.delivered += to - from;
        if (counter === REJECTED) this.#counts.rejected += to - from;
      },
      countDeadLettered: () => undefined,
    };
    const end = await this.#delivery.run(job);
    return end.kind === 'done';
  }

  #tell({ name }: LogFile, error: unknown): void {
    const message = `${name} can't be read: ${error}`;
    this.#options.onError?.(new MillraceError('MILLRACE_UNAVAILABLE', message, error));
  }
}

function guard<T>(directory: string, work: () => T): T {
  try {
    return work();
  } catch (error) {
    const message = `the folder ${directory} can't be shipped: ${error}`;
    throw new MillraceError('MILLRACE_UNAVAILABLE', message, error);
  }
}

/** The log files of a folder, oldest first by name; a packed one stands where its plain one stood. */
function logFiles(directory: string): LogFile[] {
  const files: LogFile[] = [];
  for (const name of readdirSync(directory)) {
    if (!LOG_NAME.test(name)) continue;
    const path = join(directory, name);
    const facts = statSync(path, { throwIfNoEntry: false });
    if (facts === undefined || !facts.isFile()) continue;
    files.push({ name, path, inode: `${facts.dev}:${facts.ino}`, modifiedMs: facts.mtimeMs });
  }
  const keyOf = ({ name }: LogFile) => name.replace(/\.gz$/, '');
  return files.sort((a, b) => keyOf(a).localeCompare(keyOf(b), 'en', { numeric: true }));
}
