import {
  closeSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readSync,
  rmSync,
  truncateSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Child } from './child.ts';
import type { ContestantStart } from './contestant.ts';
import { RECORD_MARK } from './events.ts';
import type { Outcome, Task } from './exercises.ts';
import type { PeerSetting } from './peers/peer.ts';
import { peerOf } from './peers/registry.ts';
import type { ReceiverProcess, ReceiverTotals } from './receiver-process.ts';

/** What became of one exercise. */
export interface Result extends Outcome {
  /** Records that arrived at the receiver, or are in the files. */
  readonly arrived: number;
  /** What the receiver saw; for contestants that send nothing to it, zeros. */
  readonly receiver: ReceiverTotals;
}

/** How a contestant enters. */
export interface Entry {
  readonly peer: string;
  /** Default 500. */
  readonly batchSize?: number;
  readonly lingerMs?: number;
  readonly options?: PeerSetting['options'];
  /** Different events, used again and again; default 1000. */
  readonly events?: number;
  /** Flags of its Node process. */
  readonly flags?: readonly string[];
}

const BATCH_SIZE = 500;
const PART_BYTES: number = 8 * 1024 * 1024;

/** One contestant that has entered: a process that waits for exercises, until it is closed. */
export class Contestant {
  readonly name: string;
  readonly #goesTo: 'http' | 'files' | 'nowhere';
  readonly #child: Child;
  readonly #receiver: ReceiverProcess;
  readonly #directory: string;
  readonly #onRun: (name: string) => void;

  private constructor(entry: Entry, receiver: ReceiverProcess, onRun: (name: string) => void) {
    this.name = entry.peer;
    this.#onRun = onRun;
    this.#goesTo = peerOf(entry.peer).goesTo;
    this.#receiver = receiver;
    this.#directory = mkdtempSync(join(tmpdir(), 'millrace-bench-'));
    const { peer, batchSize = BATCH_SIZE, lingerMs, options, events, flags } = entry;
    const start: ContestantStart = {
      peer,
      ...(events === undefined ? {} : { events }),
      setting: {
        url: receiver.url,
        directory: this.#directory,
        batchSize,
        ...(lingerMs === undefined ? {} : { lingerMs }),
        ...(options === undefined ? {} : { options }),
      },
    };
    this.#child = new Child('contestant', {
      name: peer,
      args: [JSON.stringify(start)],
      ...(flags === undefined ? {} : { flags }),
    });
  }

  /**
   * @param onRun hears the name at the start of each exercise
   * @throws Error if the product can't be loaded or opened
   */
  static async open(
    entry: Entry,
    receiver: ReceiverProcess,
    onRun: (name: string) => void,
  ): Promise<Contestant> {
    const contestant = new Contestant(entry, receiver, onRun);
    try {
      await contestant.#child.next();
    } catch (error) {
      await contestant.abort();
      throw error;
    }
    return contestant;
  }

  /** One exercise, and then what arrived. `during` runs beside it. */
  async run(
    task: Task,
    { during, looksAtTimes = false }: { during?: () => Promise<void>; looksAtTimes?: boolean } = {},
  ): Promise<Result> {
    this.#onRun(this.name);
    await this.#receiver.reset({ looksAtTimes });
    const [outcome] = await Promise.all([this.#child.ask(task) as Promise<Outcome>, during?.()]);
    const receiver = await this.#receiver.totals();
    const arrived = this.#arrived(outcome, receiver);
    if (this.name.startsWith('millrace') && arrived !== outcome.sent) {
      throw new Error(`${this.name}: ${arrived} of ${outcome.sent} records arrived`);
    }
    return { ...outcome, receiver, arrived };
  }

  #arrived({ sent }: Outcome, { records }: ReceiverTotals): number {
    if (this.#goesTo === 'nowhere') return sent;
    return this.#goesTo === 'http' ? records : takeFiles(this.#directory);
  }

  /** Closes the product: ours looks at its account. */
  async close(): Promise<void> {
    await this.#child.ask({ exercise: 'close' });
    await this.abort();
  }

  /** Ends the process, and takes its files away. */
  async abort(): Promise<void> {
    await this.#child.stop();
    rmSync(this.#directory, { recursive: true, force: true });
  }
}

/** Counts the records in the files, and empties them. */
function takeFiles(directory: string): number {
  let records = 0;
  for (const entry of readdirSync(directory, { withFileTypes: true })) {
    // Hidden ones are the products' own notes.
    if (!entry.isFile() || entry.name.startsWith('.')) continue;
    const path = join(directory, entry.name);
    records += recordsIn(path);
    truncateSync(path);
  }
  return records;
}

function recordsIn(path: string): number {
  const file = openSync(path, 'r');
  const part = Buffer.allocUnsafe(PART_BYTES);
  let records = 0;
  let kept = 0;
  for (;;) {
    const read = readSync(file, part, kept, PART_BYTES - kept, null);
    const text = part.subarray(0, kept + read);
    for (let at = text.indexOf(RECORD_MARK); at >= 0; at = text.indexOf(RECORD_MARK, at + 1)) {
      records += 1;
    }
    if (read === 0) break;
    // A mark may lie across the border: what could be its beginning is looked at again.
    kept = Math.min(text.length, RECORD_MARK.length - 1);
    part.copyWithin(0, text.length - kept, text.length);
  }
  closeSync(file);
  return records;
}
