import { createHash } from 'node:crypto';
import { closeSync, fsyncSync, openSync, readFileSync, renameSync, writeSync } from 'node:fs';
import type { LineReader } from './lines.ts';

/** How far one file has been shipped. */
export interface FileMark {
  readonly name: string;
  readonly inode: string;
  /** Bytes of plain text that are done with. */
  readonly offset: number;
  /** Bytes that the hash covers, and the hash: tells a file that took over an inode from the one before. */
  readonly headBytes: number;
  readonly head: string;
}

const HEAD_BYTES = 1024;

/** The marks of a folder, in a file that is replaced as a whole: after a crash it is the old one or the new one. */
export class Checkpoints {
  readonly #path: string;
  readonly #marks = new Map<string, FileMark>();

  private constructor(path: string) {
    this.#path = path;
  }

  /** Reads the file, which may be missing. Throws for one that is none of ours. */
  static read(path: string): Checkpoints {
    const checkpoints = new Checkpoints(path);
    let text = '';
    try {
      text = readFileSync(path, 'utf8');
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return checkpoints;
      throw error;
    }
    const { marks } = JSON.parse(text) as { marks: readonly FileMark[] };
    for (const mark of marks) checkpoints.#marks.set(mark.inode, mark);
    return checkpoints;
  }

  /** Where to go on in a file: known by inode, or by name when it was packed or copied; its beginning must be the same. */
  offsetOf(file: { readonly name: string; readonly inode: string }, reader: LineReader): number {
    const plain = file.name.replace(/\.gz$/, '');
    const sameName = [...this.#marks.values()].find((mark) => mark.name === plain);
    for (const mark of [this.#marks.get(file.inode), sameName]) {
      if (mark === undefined) continue;
      const head = reader.head(mark.headBytes);
      if (head.length === mark.headBytes && hashOf(head) === mark.head) return mark.offset;
    }
    return 0;
  }

  /** Notes that a file is done with up to `offset`, and makes it last. Throws what the disk throws. */
  set(
    file: { readonly name: string; readonly inode: string },
    offset: number,
    reader: LineReader,
  ): void {
    const head = reader.head(Math.min(HEAD_BYTES, offset));
    this.#marks.set(file.inode, {
      name: file.name.replace(/\.gz$/, ''),
      inode: file.inode,
      offset,
      headBytes: head.length,
      head: hashOf(head),
    });
    this.#write();
  }

  /** Forgets files that are gone. */
  keepOnly(inodes: ReadonlySet<string>): void {
    for (const inode of this.#marks.keys()) if (!inodes.has(inode)) this.#marks.delete(inode);
  }

  #write(): void {
    const temporary = `${this.#path}.tmp`;
    const fd = openSync(temporary, 'w', 0o644);
    try {
      writeSync(fd, `${JSON.stringify({ marks: [...this.#marks.values()] })}\n`);
      fsyncSync(fd);
    } finally {
      closeSync(fd);
    }
    renameSync(temporary, this.#path);
  }
}

function hashOf(bytes: Buffer): string {
  return createHash('sha256').update(bytes).digest('hex');
}
