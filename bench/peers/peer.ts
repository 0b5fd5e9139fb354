import { closeSync, openSync, readdirSync, readFileSync, readSync, statSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import type { EventFields } from '../../src/index.ts';
import { RECORD_MARK } from '../events.ts';

/** Where and how a contestant delivers. */
export interface PeerSetting {
  /** The receiver's origin. */
  readonly url: string;
  /** An empty folder of its own. */
  readonly directory: string;
  readonly batchSize: number;
  /** Longest wait of a record, in ms; undefined: the product's default. */
  readonly lingerMs?: number;
  /** Records that will be tracked, by number. */
  readonly events: readonly EventFields[];
  /** More options of the product, for series over its settings. */
  readonly options?: Readonly<Record<string, unknown>>;
}

/** A running contestant. */
export interface PeerClient {
  /** Tracks the event of this number as a user's call would. Whatever it throws fails the run. */
  track(index: number): void;
  /** Records that are still on their way, where the product lets one know: the harness keeps their number bounded. */
  outstanding?(): number;
  /** Resolves to the time (performance.now()) at which everything tracked was delivered, or lost as far as one can see. */
  flush(): Promise<number>;
  close(): Promise<void>;
}

/** One contestant: a product in one of its modes. */
export interface Peer {
  readonly name: string;
  /** The package that must be installed; undefined: none. */
  readonly needs: string | undefined;
  readonly goesTo: 'http' | 'files' | 'nowhere';
  open(setting: PeerSetting): PeerClient | Promise<PeerClient>;
}

/** How long without any sign of progress until a product is taken to have lost the rest, in ms. */
export const PATIENCE_MS = 3000;

const RECORD_BYTES_GUESS = 500;
const SAMPLE_BYTES: number = 64 * 1024;
const NEARLY = 0.97;
const LOOK_RECORDS = 1000;
const QUIET_MS = 150;
const LOOK_MS = 3;

// bench/node_modules in this repository; beside the package where millrace is installed; the folder one works in.
const requires = [
  new URL('../../../bench/package.json', import.meta.url),
  join(process.cwd(), '_'),
].map((from) => createRequire(from));

/**
 * Loads a package of a contestant.
 *
 * @throws Error naming the package, if it isn't installed
 */
export function loadPeer(name: string): unknown {
  return requireOf(name)(name);
}

/** Path of a file of a contestant's package. */
export function resolvePeer(name: string): string {
  return requireOf(name).resolve(name);
}

/** Version of a package, undefined if it isn't installed. */
export function versionOf(name: string): string | undefined {
  for (const require of requires) {
    for (const folder of require.resolve.paths(name) ?? []) {
      try {
        const text = readFileSync(join(folder, name, 'package.json'), 'utf8');
        return String((JSON.parse(text) as { version: unknown }).version);
      } catch {
        // Not in this folder.
      }
    }
  }
  return undefined;
}

function requireOf(name: string): NodeJS.Require {
  for (const require of requires) {
    try {
      require.resolve(name);
      return require;
    } catch {
      // Not from there.
    }
  }
  throw new Error(`${name} isn't installed`);
}

/** Counts what is on its way for products that tell of each end by a callback, and waits for the last of it. */
export class Outstanding {
  tracked = 0;
  settled = 0;
  #settledMs = performance.now();

  get count(): number {
    return this.tracked - this.settled;
  }

  settle(records: number): void {
    this.settled += records;
    this.#settledMs = performance.now();
  }

  /** Resolves to when the last of it was settled; when nothing has happened for `patienceMs`, the rest is lost. */
  async wait(patienceMs: number): Promise<number> {
    this.#settledMs = performance.now();
    while (this.count > 0 && performance.now() - this.#settledMs < patienceMs) await delay(1);
    // What was lost is out of the way of the next run.
    this.settled = this.tracked;
    return this.#settledMs;
  }
}

/** For products that don't tell when their lines are in the file: how the files grow. They start empty. */
class GrowingFiles {
  tracked = 0;
  readonly #directory: string;
  #recordBytes: number | undefined;
  #written = 0;
  #writtenAt = 0;

  constructor(directory: string) {
    this.#directory = directory;
  }

  /** An estimate, from the size of the files. */
  get outstanding(): number {
    // Looking at files for each call would be a cost of ours.
    if (this.tracked - this.#writtenAt >= LOOK_RECORDS) {
      this.#written = bytesIn(this.#directory) / (this.#recordBytes ?? RECORD_BYTES_GUESS);
      this.#writtenAt = this.tracked;
    }
    return this.tracked - this.#written;
  }

  /** Resolves to when they grew last, when they have not grown for a while. The harness empties them then. */
  async wait(): Promise<number> {
    let grownMs = performance.now();
    let bytes = -1;
    while (performance.now() - grownMs < this.#patienceMs(bytes)) {
      const now = bytesIn(this.#directory);
      if (now !== bytes) grownMs = performance.now();
      bytes = now;
      await delay(LOOK_MS);
    }
    this.tracked = 0;
    this.#written = 0;
    this.#writtenAt = 0;
    return grownMs;
  }

  /** As long as much is missing, a pause may be one of the machine's. */
  #patienceMs(bytes: number): number {
    if (this.#recordBytes === undefined && bytes > SAMPLE_BYTES) {
      this.#recordBytes = bytesOfRecord(this.#directory);
    }
    const expected = this.tracked * (this.#recordBytes ?? RECORD_BYTES_GUESS);
    return bytes < NEARLY * expected ? PATIENCE_MS : QUIET_MS;
  }
}

/** A client of a product that writes files and doesn't tell when: calls and the end are its own, the rest is seen by how the files grow. */
export function fileClient(
  directory: string,
  { track, close }: Pick<PeerClient, 'track' | 'close'>,
): PeerClient {
  const files = new GrowingFiles(directory);
  return {
    track: (index) => {
      files.tracked += 1;
      track(index);
    },
    outstanding: () => files.outstanding,
    flush: () => files.wait(),
    close,
  };
}

/** From the beginning of one file. */
function bytesOfRecord(directory: string): number {
  const [name = ''] = readdirSync(directory).filter((file) => !file.startsWith('.'));
  const file = openSync(join(directory, name), 'r');
  const part = Buffer.alloc(SAMPLE_BYTES);
  const bytes = readSync(file, part, 0, SAMPLE_BYTES, 0);
  closeSync(file);
  const records = part.toString('latin1', 0, bytes).split(RECORD_MARK).length - 1;
  return records === 0 ? RECORD_BYTES_GUESS : bytes / records;
}

function bytesIn(directory: string): number {
  const files = readdirSync(directory, { withFileTypes: true }).filter((entry) => entry.isFile());
  return files.reduce((sum, { name }) => sum + statSync(join(directory, name)).size, 0);
}

/** The element of this number, going round. */
export function at<T>(list: readonly T[], index: number): T {
  const found = list[index % list.length];
  if (found === undefined) throw new Error('there are no events');
  return found;
}
