import { createHash } from 'node:crypto';
import {
  appendFileSync,
  closeSync,
  fsyncSync,
  openSync,
  readFileSync,
  renameSync,
  writeFileSync,
} from 'node:fs';
import { basename, dirname, join, resolve } from 'node:path';
import { makeDirectory } from '../base/directory.ts';
import { systemCodeOf } from '../base/errors.ts';

/** How far one file has been shipped. */
export interface FileMark {
  /** Number of the mark in its book. */
  readonly id: number;
  /** Latest name of the file, without `.gz`. */
  readonly name: string;
  /** `device:inode`; empty: the file is gone, or has other content now. */
  readonly inode: string;
  /** Bytes of plain text that are done with, always up to the end of a line. */
  readonly offset: number;
  /** Lines that are done with. */
  readonly lines: number;
  /** Bytes at the beginning that `head` covers. */
  readonly headBytes: number;
  /** Hash of the beginning: tells the file from one that took over its inode. */
  readonly head: string;
  /** CRC-32 of all bytes before `offset`: tells a copy of the file from one that only begins alike. */
  readonly crc: number;
  /** Size of a gzipped file that is done with; 0: it is not, or it is a plain file. */
  readonly packedBytes: number;
}

/** Name of the folder, within the folder of log files, that a shipper keeps its own files in; readers of log files leave it alone. */
export const STATE_FOLDER = '.millrace-ship';
export const MARKS_NAME = 'checkpoint.jsonl';
/** In the state folder of the log files: where shippers of these files keep theirs, if it is elsewhere; a JSON text a line. */
const POINTERS_NAME = 'elsewhere.jsonl';
/** Most bytes of a file's beginning that are compared. */
export const HEAD_BYTES = 1024;
const JOURNAL_BYTES_MAX: number = 4 * 1024 * 1024;
const SYNC_MS = 1000;

export function headHash(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex').slice(0, 32);
}

/** The marks in a file, the latest of each id; a line torn by a crash is none. Undefined: there is no such file. Throws what reading throws. */
function readMarks(path: string): Map<number, FileMark> | undefined {
  const marks = new Map<number, FileMark>();
  let text = '';
  try {
    text = readFileSync(path, 'utf8');
  } catch (error) {
    if (systemCodeOf(error) === 'ENOENT') return undefined;
    throw error;
  }
  for (const line of text.split('\n')) {
    const entry = parseEntry(line);
    if (entry === undefined) continue;
    if (typeof entry === 'number') marks.delete(entry);
    else marks.set(entry.id, entry);
  }
  return marks;
}

/** Leaves word in a folder of log files that a shipper keeps its marks elsewhere, for whoever removes files there. Throws what the disk throws. */
export function notePlaceOfMarks(directory: string, stateDirectory: string): void {
  const own = join(directory, STATE_FOLDER);
  if (resolve(stateDirectory) === resolve(own)) return;
  const places = placesElsewhere(directory);
  if (places.includes(resolve(stateDirectory))) return;
  makeDirectory(own);
  // A line torn by a crash spoils no other, and is written again with the next start.
  appendFileSync(join(own, POINTERS_NAME), `\n${JSON.stringify(resolve(stateDirectory))}`);
}

/**
 * The marks of each shipper of a folder; none: nobody ships it.
 *
 * @throws what reading throws, also when a shipper keeps its marks elsewhere and there are none: what it has finished is not known then
 */
export function readAllMarks(directory: string): Map<number, FileMark>[] {
  const own = readMarks(join(directory, STATE_FOLDER, MARKS_NAME));
  const others = placesElsewhere(directory).map((place) => {
    const marks = readMarks(join(place, MARKS_NAME));
    if (marks !== undefined) return marks;
    throw new Error(
      `${join(place, MARKS_NAME)}, where a shipper keeps its checkpoint, is not there`,
    );
  });
  return own === undefined ? others : [own, ...others];
}

function placesElsewhere(directory: string): string[] {
  let text = '';
  try {
    text = readFileSync(join(directory, STATE_FOLDER, POINTERS_NAME), 'utf8');
  } catch (error) {
    if (systemCodeOf(error) !== 'ENOENT') throw error;
  }
  return text.split('\n').flatMap((line) => {
    try {
      return [String(JSON.parse(line))];
    } catch {
      // Torn by a crash; its shipper leaves word again.
      return [];
    }
  });
}

/** A mark, or the id of one that is taken back. */
function parseEntry(line: string): FileMark | number | undefined {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch {
    // Torn by a crash; the mark before it holds, so lines are sent again.
    return undefined;
  }
  if (typeof value !== 'object' || value === null) return undefined;
  const { id, forget, name, inode, offset, lines, headBytes, head, crc, packedBytes } =
    value as Record<string, unknown>;
  if (typeof forget === 'number') return forget;
  const numbers = [id, offset, lines, headBytes, crc, packedBytes];
  const isMark =
    numbers.every((number) => typeof number === 'number') &&
    [name, inode, head].every((text) => typeof text === 'string');
  return isMark ? (value as FileMark) : undefined;
}

/**
 * The marks of a folder, on disk: a file of JSON lines that only grows, so that a note costs one small write, and is replaced as a whole when it has become long.
 * After a crash it is at most a few notes behind: then lines are sent again, never left out.
 */
export class MarkBook {
  readonly #path: string;
  readonly #marks: Map<number, FileMark>;
  /** Ids whose latest state is not in the file yet. */
  readonly #unwritten = new Set<number>();
  #fd: number;
  #bytes = 0;
  #nextId: number;
  #syncedMs = 0;

  private constructor(path: string, marks: Map<number, FileMark>) {
    this.#path = path;
    this.#marks = marks;
    this.#nextId = Math.max(0, ...marks.keys()) + 1;
    this.#fd = this.#rewrite();
  }

  /** Opens the book in `path`, made if missing. Throws what the disk throws. */
  static open(path: string): MarkBook {
    return new MarkBook(path, readMarks(path) ?? new Map());
  }

  get marks(): Iterable<FileMark> {
    return this.#marks.values();
  }

  /** A number that no mark has. */
  newId(): number {
    this.#nextId += 1;
    return this.#nextId - 1;
  }

  /** Notes a mark. Throws what the disk throws: it is in memory then, and goes to the disk with the next one. */
  set(mark: FileMark): void {
    this.#marks.set(mark.id, mark);
    this.#append(mark.id);
  }

  /** Takes a mark back. Throws as {@link set}. */
  forget(id: number): void {
    this.#marks.delete(id);
    this.#append(id);
  }

  /** Throws what the disk throws; it is closed all the same. */
  close(): void {
    try {
      fsyncSync(this.#fd);
    } finally {
      closeSync(this.#fd);
    }
  }

  #append(id: number): void {
    this.#unwritten.add(id);
    if (this.#bytes > JOURNAL_BYTES_MAX + this.#marks.size * 1024) {
      const old = this.#fd;
      this.#fd = this.#rewrite();
      closeSync(old);
      return;
    }
    // The line end comes first, so that an entry torn by a full disk spoils no other.
    const entries = [...this.#unwritten].map((each) => {
      return `\n${JSON.stringify(this.#marks.get(each) ?? { forget: each })}`;
    });
    const text = entries.join('');
    writeFileSync(this.#fd, text);
    this.#bytes += Buffer.byteLength(text);
    this.#unwritten.clear();
    const nowMs = performance.now();
    if (nowMs - this.#syncedMs < SYNC_MS) return;
    this.#syncedMs = nowMs;
    fsyncSync(this.#fd);
  }

  /** Writes all marks anew: after a crash there is the old file or the new one. */
  #rewrite(): number {
    const temporary = join(dirname(this.#path), `${basename(this.#path)}.tmp`);
    const text = [...this.#marks.values()].map((mark) => JSON.stringify(mark)).join('\n');
    const fd = openSync(temporary, 'w', 0o644);
    try {
      writeFileSync(fd, text);
      fsyncSync(fd);
      renameSync(temporary, this.#path);
    } catch (error) {
      closeSync(fd);
      throw error;
    }
    this.#bytes = Buffer.byteLength(text);
    this.#unwritten.clear();
    return fd;
  }
}
