import { systemCodeOf } from '../base/errors.ts';
import type { Checkpoint, Tail } from './checkpoint.ts';
import type { SpoolFileSystem } from './file-system.ts';
import type { Segment, SegmentShelf } from './shelf.ts';
import { FrameWalker } from './walker.ts';

/** A tail that nothing is appended to any more. */
export function sealed(tail: Tail): Tail {
  return { ...tail, state: 'sealed' };
}

/** Takes the bytes behind the last whole frame off the file. False: it can't be done. */
export function cut(fileSystem: SpoolFileSystem, segment: Segment | undefined): boolean {
  if (segment === undefined) return true;
  try {
    const fd = fileSystem.open(segment.path, 'update');
    try {
      fileSystem.truncate(fd, segment.bytes);
    } finally {
      fileSystem.close(fd);
    }
    return true;
  } catch {
    // The segment is left as it is; see P2.
    return false;
  }
}

/**
 * Where a lane stands, from its checkpoint and from what was written after it. Cuts the youngest segment's `bytes` back to
 * its last whole frame.
 */
export function resume(
  shelf: SegmentShelf,
  fileSystem: SpoolFileSystem,
  { saved, settled }: { readonly saved: Checkpoint | undefined; readonly settled: number },
): Checkpoint {
  const tail = findTail(shelf, fileSystem, saved);
  const first = shelf.segments[0]?.first ?? 0;
  const done = Math.max(saved?.settled ?? first, settled);
  return {
    settled: done,
    place: saved?.place ?? { sequence: 0, at: 0 },
    // A checkpoint may be ahead of data that was never synced: the numbers go on behind it.
    tail: {
      ...tail,
      number: Math.max(tail.number, done),
      state: tail.number < done ? 'sealed' : tail.state,
    },
    doubt: saved?.doubt,
  };
}

/**
 * The same place without the records from `end` on. Segments that begin there are removed; what an older one holds of them is void, because
 * the next segment begins with that number (P2). Throws what removing throws.
 */
export function cutBack(start: Checkpoint, shelf: SegmentShelf, end: number): Checkpoint {
  if (end >= start.tail.number) return start;
  while (shelf.last !== undefined && shelf.last.first >= end) shelf.removeLast();
  const { tail, doubt } = start;
  const to = Math.min(doubt?.to ?? 0, end);
  return {
    ...start,
    tail: { ...sealed(tail), number: Math.max(end, start.settled) },
    doubt: doubt !== undefined && doubt.from < to ? { from: doubt.from, to } : undefined,
  };
}

function findTail(
  shelf: SegmentShelf,
  fileSystem: SpoolFileSystem,
  saved: Checkpoint | undefined,
): Tail {
  const segment = shelf.last;
  const known = saved?.tail;
  if (segment === undefined || (known !== undefined && known.sequence > segment.sequence)) {
    return known === undefined
      ? { sequence: 0, at: 0, number: 0, seq: undefined, state: 'sealed' }
      : sealed(known);
  }
  const isKnown = known?.sequence === segment.sequence && known.at <= segment.bytes;
  if (isKnown && known.state === 'sealed') {
    segment.bytes = known.at;
    return known;
  }
  return scanTail(shelf, fileSystem, isKnown ? known : undefined);
}

/** Reads the youngest segment from the known tail, or from its beginning, to its last good frame. */
function scanTail(shelf: SegmentShelf, fileSystem: SpoolFileSystem, known: Tail | undefined): Tail {
  const segment = shelf.last;
  const walker = new FrameWalker(shelf, fileSystem);
  const { sequence = 0, first = 0 } = segment ?? {};
  let tail: Tail = known ?? { sequence, at: 0, number: first, seq: undefined, state: 'open' };
  walker.seek({ sequence, at: tail.at }, tail.number);
  const step = () => {
    for (;;) {
      try {
        return walker.next(Number.MAX_SAFE_INTEGER);
      } catch (error) {
        // After some of these the walker gives the segment up.
        if (systemCodeOf(error) !== 'EIO') throw error;
      }
    }
  };
  try {
    while (step()) {
      const { number, nextAt: at, seq } = walker;
      tail = { sequence, at, number: number + 1, seq, state: 'open' };
    }
  } finally {
    walker.close();
  }
  if (segment !== undefined && segment.state === 'good') segment.bytes = tail.at;
  return segment?.state === 'good' ? tail : sealed(tail);
}
