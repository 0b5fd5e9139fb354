import { MillraceError } from '../base/errors.ts';
import type { Checkpoint } from './checkpoint.ts';
import { nodeFileSystem, type SpoolFileSystem, writeAll } from './file-system.ts';
import type { FolderEdge } from './folder.ts';
import { FolderLock } from './lock.ts';
import { eachFrame, endOf, findPlaces, guard, lockEdge, readLane } from './places.ts';
import { removeReplayNote } from './replay-note.ts';
import { cut } from './resume.ts';
import { fullNumber, SEGMENT_HEADER_BYTES, writeSegmentHeader } from './segment.ts';
import { PUT_ASIDE, type Segment } from './shelf.ts';
import { damageOf, type LaneReport, type SpoolReport, verifySpool } from './verify.ts';

export interface RepairReport {
  readonly before: SpoolReport;
  readonly after: SpoolReport;
  /** Files that were written anew; the damaged one stays beside it, with `.bad` at its name's end. */
  readonly mended: readonly string[];
}

/**
 * Writes damaged segments anew with what is good in them, cuts torn ends off and makes checkpoints that are missing. What processes died of
 * when they replayed it is forgotten, so that it is tried again at once.
 * Records that damage took can't be brought back.
 *
 * @throws MillraceError MILLRACE_SPOOL that names the folder: a running process has it, it can't be written, or it holds no spool
 */
export function repairSpool(directory: string, edge: FolderEdge = {}): RepairReport {
  const fileSystem = edge.fileSystem ?? nodeFileSystem;
  return guard(directory, () => {
    const places = findPlaces(directory, fileSystem);
    const locks: FolderLock[] = [];
    try {
      for (const path of places.instances) locks.push(lockOrThrow(path, edge));
      // The owner is this very call: nobody else uses the spool now.
      const look = (): SpoolReport => ({ ...verifySpool(directory, edge), owners: [] });
      const before = look();
      const mended = before.lanes.flatMap((lane) => mendLane(lane, fileSystem));
      for (const path of places.runs) removeReplayNote(path, fileSystem);
      return { before, after: look(), mended };
    } finally {
      for (const lock of locks) lock.release();
    }
  });
}

function lockOrThrow(path: string, edge: FolderEdge): FolderLock {
  const lock = FolderLock.take(path, lockEdge(edge));
  if (lock instanceof FolderLock) return lock;
  throw new MillraceError(
    'MILLRACE_SPOOL',
    `the spool folder ${path} belongs to process ${lock.pid}, which is running`,
  );
}

function mendLane(report: LaneReport, fileSystem: SpoolFileSystem): string[] {
  const { lane, shelf, checkpoint, saved } = readLane(report.directory, fileSystem);
  const mended: string[] = [];
  let end = saved?.tail.number ?? 0;
  for (const [index, segment] of shelf.segments.entries()) {
    const found = report.segments[index];
    if (found === undefined || found.header === 'foreign' || found.header === 'unreadable') {
      continue;
    }
    const stop = shelf.stopOf(index, endOf({ saved, shelf }));
    if (damageOf(found) > 0) {
      rewrite(segment, { lane, stop, fileSystem });
      mended.push(segment.path);
    } else if (found.tornBytes > 0) {
      cut(fileSystem, { ...segment, bytes: segment.bytes - found.tornBytes });
      mended.push(segment.path);
    }
    end = Math.max(end, lastNumber(segment, stop, fileSystem) + 1);
  }
  if (mended.length === 0 && report.checkpoint === 'good') return mended;
  const last = shelf.last;
  const tail = {
    sequence: last?.sequence ?? saved?.tail.sequence ?? 0,
    at: last === undefined ? 0 : Math.max(0, fileSystem.bytesOf(last.path)),
    number: Math.max(end, report.settled),
    seq: saved?.tail.seq,
  };
  // Frames have moved within their files, so the place of the first unsettled one is left to be found.
  const mendedState: Checkpoint = {
    settled: report.settled,
    place: { sequence: 0, at: 0 },
    tail: { ...tail, state: 'sealed' },
    doubt: saved?.doubt,
  };
  checkpoint.write(mendedState, 'sync');
  return mended;
}

function lastNumber(segment: Segment, stop: number, fileSystem: SpoolFileSystem): number {
  let last = segment.first - 1;
  const bytes = Math.max(0, fileSystem.bytesOf(segment.path));
  eachFrame({ ...segment, bytes }, fileSystem, (scanner) => {
    const number = fullNumber(segment.first, scanner.low);
    if (number < stop) last = number;
  });
  return last;
}

/** Writes the good frames of a segment into a new file, and puts that in its place. */
function rewrite(
  segment: Segment,
  {
    lane,
    stop,
    fileSystem,
  }: { readonly lane: number; readonly stop: number; readonly fileSystem: SpoolFileSystem },
): void {
  const temporary = `${segment.path}.tmp`;
  if (fileSystem.bytesOf(temporary) >= 0) fileSystem.remove(temporary);
  const fd = fileSystem.create(temporary, 0o600);
  try {
    let at = 0;
    const put = (bytes: Uint8Array) => {
      writeAll(fileSystem, fd, { bytes, at });
      at += bytes.length;
    };
    eachFrame(segment, fileSystem, (scanner) => {
      if (fullNumber(segment.first, scanner.low) >= stop) return;
      if (at === 0) put(headerOf(segment, { lane, baseMs: scanner.stampMs }));
      put(scanner.frame);
    });
    fileSystem.sync(fd);
  } finally {
    fileSystem.close(fd);
  }
  putAside(segment.path, fileSystem);
  fileSystem.rename(temporary, segment.path);
}

function headerOf(
  { sequence, first }: Segment,
  { lane, baseMs }: { readonly lane: number; readonly baseMs: number },
): Uint8Array {
  const bytes = new Uint8Array(SEGMENT_HEADER_BYTES);
  writeSegmentHeader(new DataView(bytes.buffer), 0, { lane, sequence, first, baseMs });
  return bytes;
}

/** Keeps a damaged file under another name, so that nobody has to trust a repair. */
function putAside(path: string, fileSystem: SpoolFileSystem): void {
  try {
    if (fileSystem.bytesOf(`${path}${PUT_ASIDE}`) >= 0) fileSystem.remove(`${path}${PUT_ASIDE}`);
    fileSystem.link(path, `${path}${PUT_ASIDE}`);
  } catch {
    // Without second names on this disk the old file gives way: its good frames are in the new one.
  }
}
