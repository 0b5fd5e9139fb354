import { nodeFileSystem } from './file-system.ts';
import type { FolderEdge } from './folder.ts';
import { endOf, findPlaces, guard, readLane } from './places.ts';
import { FrameWalker } from './walker.ts';

/** One record as {@link dumpSpool} gives it; the text is valid until the next one. */
export interface DumpedRecord {
  readonly lane: number;
  readonly number: number;
  readonly stampMs: number;
  readonly text: Uint8Array;
}

/**
 * The good records of a spool, lane by lane in order; 'pending': only those that wait. Changes nothing.
 *
 * @throws MillraceError MILLRACE_SPOOL that names the folder: it can't be read, or holds no spool
 */
export function* dumpSpool(
  directory: string,
  which: 'pending' | 'all',
  edge: FolderEdge = {},
): Generator<DumpedRecord> {
  const fileSystem = edge.fileSystem ?? nodeFileSystem;
  const places = guard(directory, () => findPlaces(directory, fileSystem));
  for (const path of places.lanes) {
    const { lane, shelf, saved } = guard(directory, () => readLane(path, fileSystem));
    const walker = new FrameWalker(shelf, fileSystem);
    const from = which === 'all' ? 0 : (saved?.settled ?? 0);
    walker.seek({ sequence: 0, at: 0 }, from);
    try {
      while (guard(directory, () => walker.next(endOf({ saved, shelf })))) {
        yield { lane, number: walker.number, stampMs: walker.stampMs, text: walker.text };
      }
    } finally {
      walker.close();
    }
  }
}
