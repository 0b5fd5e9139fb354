import { execFileSync } from 'node:child_process';
import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { newDirectory } from '../support.ts';
import { MIB } from './drill.ts';

/** A file system of its own, in memory, that can be filled up. Needs Linux and the right to mount. */
export class SmallDisk {
  readonly directory: string;
  #ballasts = 0;

  private constructor(directory: string) {
    this.directory = directory;
  }

  /** @throws where nobody may mount a disk */
  static mount({ bytes, files }: { readonly bytes: number; readonly files: number }): SmallDisk {
    const directory = newDirectory();
    const size = `size=${bytes},nr_inodes=${files}`;
    execFileSync('mount', ['-t', 'tmpfs', '-o', size, 'tmpfs', directory]);
    return new SmallDisk(directory);
  }

  /** Takes all room, or that of so many bytes. */
  fill(bytes: number = 1024 * MIB): void {
    this.#ballasts += 1;
    try {
      writeFileSync(join(this.directory, `ballast-${this.#ballasts}`), Buffer.alloc(bytes));
    } catch {
      // It is full now, which is what the ballast is for.
    }
  }

  /** Takes all names: there is room in files, and none for another file. */
  fillNames(): void {
    try {
      for (;;) {
        this.#ballasts += 1;
        writeFileSync(join(this.directory, `ballast-${this.#ballasts}`), '');
      }
    } catch {
      // There is no name left.
    }
  }

  /** Gives back what was taken. */
  free(): void {
    for (; this.#ballasts > 0; this.#ballasts -= 1) {
      rmSync(join(this.directory, `ballast-${this.#ballasts}`), { force: true });
    }
  }

  makeReadOnly(): void {
    execFileSync('mount', ['-o', 'remount,ro', this.directory], { stdio: 'ignore' });
  }

  makeWritable(): void {
    execFileSync('mount', ['-o', 'remount,rw', this.directory]);
  }

  unmount(): void {
    execFileSync('umount', ['-l', this.directory]);
  }
}
