import { basename, dirname, join } from 'node:path';
import { NEWLINE } from '../base/characters.ts';
import type { Clock } from '../base/clock.ts';
import type { FileSystem } from './file-system.ts';

/** A torn line in a file that nobody has written to for so long was left by a writer that is gone, in ms. */
const REST_MS = 2000;
/** Mending takes microseconds: a claim so old was left by a process that died meanwhile, in ms. */
const CLAIM_STALE_MS = 10_000;
const LOOK_BACK_BYTES: number = 64 * 1024;

/** An open file, as far as its end is concerned. */
interface Tailed {
  readonly fd: number;
  readonly path: string;
}

/**
 * Watches the end of files that several threads and processes append to: nothing may be written behind half a line, or two records are lost.
 * Half a line is that of a writer in the middle of its write, or of one that was killed there: then it is taken out, for it is no record and never will be.
 */
export class FileTail {
  readonly #fileSystem: FileSystem;
  readonly #clock: Clock;
  /** Half a line that was found, and when it was found first. */
  #torn: { path: string; bytes: number; sinceMs: number } | undefined;

  constructor(fileSystem: FileSystem, clock: Clock) {
    this.#fileSystem = fileSystem;
    this.#clock = clock;
  }

  /** Whether a file of `bytes` ends with a whole line, if need be by mending. False: look again in a moment. Throws what the disk throws. */
  isWhole(file: Tailed, bytes: number): boolean {
    if (bytes > 0 && !this.#endsWithLine(file.fd, bytes)) {
      return this.#isAtRest(file, bytes) && this.#mend(file, bytes);
    }
    this.#torn = undefined;
    return true;
  }

  #isAtRest({ fd, path }: Tailed, bytes: number): boolean {
    const { nowMs, wallMs } = { nowMs: this.#clock.monotonicMs(), wallMs: this.#clock.nowMs() };
    if (this.#torn?.path !== path || this.#torn.bytes !== bytes) {
      this.#torn = { path, bytes, sinceMs: nowMs };
    }
    if (nowMs - this.#torn.sinceMs >= REST_MS) return true;
    return wallMs - this.#fileSystem.modifiedMs(fd) >= REST_MS;
  }

  /** One at a time: a second one that comes late would take out what was written after the first. */
  #mend({ fd, path }: Tailed, bytes: number): boolean {
    const claim = join(dirname(path), `.${basename(path)}.mend`);
    if (!this.#fileSystem.claim(claim, CLAIM_STALE_MS)) return false;
    try {
      if (this.#fileSystem.size(fd) !== bytes) return false;
      this.#fileSystem.truncate(fd, this.#endOfLastLine(fd, bytes));
      return true;
    } finally {
      this.#fileSystem.remove(claim);
    }
  }

  #endsWithLine(fd: number, bytes: number): boolean {
    return this.#fileSystem.read(fd, { at: bytes - 1, bytes: 1 })[0] === NEWLINE;
  }

  #endOfLastLine(fd: number, bytes: number): number {
    for (let end = bytes; end > 0; ) {
      const at = Math.max(0, end - LOOK_BACK_BYTES);
      const found = this.#fileSystem.read(fd, { at, bytes: end - at }).lastIndexOf(NEWLINE);
      if (found >= 0) return at + found + 1;
      end = at;
    }
    return 0;
  }
}
