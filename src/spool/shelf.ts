import { join } from 'node:path';
import { systemCodeOf } from '../base/errors.ts';
import type { SpoolFileSystem } from './file-system.ts';
import { parseSegmentName, type SegmentName, segmentFileName } from './segment.ts';

/** Ending of files that hold what could not be read. */
export const PUT_ASIDE = '.bad';

/** One segment file of a lane. */
export interface Segment extends SegmentName {
  readonly path: string;
  /** Bytes of it that count: for the one being written, up to its last whole frame. */
  bytes: number;
  /** What is known of the file: 'lost': it is gone or can't be read; 'foreign': written by a later version. */
  state: 'good' | 'lost' | 'foreign';
}

/** The segments of one lane in order, and the bytes they take. Reads the folder once; after that it is told of changes. */
export class SegmentShelf {
  readonly #directory: string;
  readonly #fileSystem: SpoolFileSystem;
  readonly #segments: Segment[];

  private constructor(directory: string, fileSystem: SpoolFileSystem, segments: Segment[]) {
    this.#directory = directory;
    this.#fileSystem = fileSystem;
    this.#segments = segments;
  }

  /** Lists a folder, which may be missing. Throws what listing throws. */
  static read(directory: string, fileSystem: SpoolFileSystem): SegmentShelf {
    const segments = namesIn(directory, fileSystem)
      .flatMap((name): Segment[] => {
        const parsed = parseSegmentName(name);
        if (parsed === undefined) return [];
        const path = join(directory, name);
        const bytes = fileSystem.bytesOf(path);
        return bytes < 0 ? [] : [{ ...parsed, path, bytes, state: 'good' }];
      })
      .sort((a, b) => a.sequence - b.sequence);
    return new SegmentShelf(directory, fileSystem, segments);
  }

  get segments(): readonly Segment[] {
    return this.#segments;
  }

  get bytes(): number {
    return this.#segments.reduce((sum, { bytes }) => sum + bytes, 0);
  }

  get last(): Segment | undefined {
    return this.#segments.at(-1);
  }

  /** Number after the last record of a segment; `end`: that of the whole lane. */
  stopOf(index: number, end: number): number {
    // A sync that failed takes records back over more than one segment: the next one's first may be void as well.
    return Math.min(this.#segments[index + 1]?.first ?? end, end);
  }

  /** Index of the segment with that sequence, else of the one that holds the record, else 0. */
  indexOf({ sequence, number }: { readonly sequence: number; readonly number: number }): number {
    const index = this.#segments.findIndex((segment) => segment.sequence === sequence);
    if (index >= 0) return index;
    const after = this.#segments.findIndex(({ first }) => first > number);
    return Math.max(0, (after < 0 ? this.#segments.length : after) - 1);
  }

  /** A new youngest segment; its file is not made yet. */
  add(first: number, after: number): Segment {
    const sequence = Math.max(after, this.last?.sequence ?? 0) + 1;
    const name = { sequence, first };
    const path = join(this.#directory, segmentFileName(name));
    const segment: Segment = { ...name, path, bytes: 0, state: 'good' };
    this.#segments.push(segment);
    return segment;
  }

  /** Forgets the youngest segment, of which no file was made. */
  dropLast(): void {
    this.#segments.pop();
  }

  /** Removes the youngest segment and its file. Throws what removing throws, and keeps it then. */
  removeLast(): void {
    const segment = this.#segments.at(-1);
    if (segment === undefined) return;
    this.#remove(segment);
    this.#segments.pop();
  }

  /** Removes the oldest segment and its file. Throws what removing throws, and keeps it then. */
  removeFirst(): void {
    const [segment] = this.#segments;
    if (segment === undefined) return;
    if (segment.state !== 'foreign') this.#remove(segment);
    this.#segments.shift();
  }

  /** A file that could not be read is put aside, for people to look at. */
  #remove({ path, state }: Segment): void {
    try {
      if (state === 'lost') this.#fileSystem.rename(path, `${path}${PUT_ASIDE}`);
      else this.#fileSystem.remove(path);
    } catch (error) {
      if (systemCodeOf(error) !== 'ENOENT') throw error;
    }
  }
}

/** Names in a folder; none if it is missing. */
export function namesIn(directory: string, fileSystem: SpoolFileSystem): string[] {
  try {
    return fileSystem.list(directory);
  } catch (error) {
    if (systemCodeOf(error) === 'ENOENT') return [];
    throw error;
  }
}
