import { join } from 'node:path';
import { systemClock } from '../base/clock.ts';
import { MillraceError, systemCodeOf } from '../base/errors.ts';
import { type Checkpoint, CheckpointFile } from './checkpoint.ts';
import { failureOf, nodeFileSystem, type SpoolFileSystem, writeAll } from './file-system.ts';
import type { FolderEdge } from './folder.ts';
import { parseLaneFolderName } from './lane.ts';
import { FolderLock, type LockEdge, type LockOwner, ownerOf } from './lock.ts';
import { systemProcessTable } from './process-table.ts';
import { type ReplayState, readReplayNote, removeReplayNote } from './replay-note.ts';
import { cut } from './resume.ts';
import { SegmentScanner } from './scanner.ts';
import { fullNumber, SEGMENT_HEADER_BYTES, writeSegmentHeader } from './segment.ts';
import { PUT_ASIDE, type Segment, SegmentShelf } from './shelf.ts';
import { FrameWalker } from './walker.ts';

/** What is in one segment file. Counts of records leave out those that are void. */
export interface SegmentReport {
  readonly path: string;
  readonly first: number;
  readonly bytes: number;
  /** 'unreadable': the disk gives an error. */
  readonly header: 'good' | 'damaged' | 'foreign' | 'unreadable';
  readonly records: number;
  /** Bytes between the frames that are no frames, and in how many places. */
  readonly damagedBytes: number;
  readonly damagedPlaces: number;
  /** Bytes behind the last frame: what a crash tore off, or what is void. */
  readonly tornBytes: number;
  /** Records that should be there and are not. */
  readonly lost: number;
}

export interface LaneReport {
  readonly directory: string;
  readonly lane: number;
  readonly checkpoint: 'good' | 'missing';
  readonly settled: number;
  /** Records that wait for delivery. */
  readonly pending: number;
  /** Records that would wait, had damage not taken them. */
  readonly lost: number;
  readonly segments: readonly SegmentReport[];
}

/** How processes have fared that replayed an earlier run, since something got done. */
export interface ReplayReport extends Omit<ReplayState, 'left'> {
  /** Folder of the run. */
  readonly directory: string;
}

export interface SpoolReport {
  readonly directory: string;
  readonly lanes: readonly LaneReport[];
  /** Of the runs that somebody has begun to replay. */
  readonly replays: readonly ReplayReport[];
  readonly pending: number;
  readonly lost: number;
  readonly damagedPlaces: number;
  readonly bytes: number;
  /** Processes that use it now: what they write at this moment may look torn. */
  readonly owners: readonly LockOwner[];
  /** Nothing is damaged and nothing is missing. A torn end is no damage: a crash leaves one. */
  readonly isSound: boolean;
}

export interface RepairReport {
  readonly before: SpoolReport;
  readonly after: SpoolReport;
  /** Files that were written anew; the damaged one stays beside it, with `.bad` at its name's end. */
  readonly mended: readonly string[];
}

/** One record as {@link dumpSpool} gives it; the text is valid until the next one. */
export interface DumpedRecord {
  readonly lane: number;
  readonly number: number;
  readonly stampMs: number;
  readonly text: Uint8Array;
}

interface Places {
  readonly instances: readonly string[];
  readonly runs: readonly string[];
  readonly lanes: readonly string[];
}

/**
 * Reads every byte of a spool, or of one part of it (instance, run, lane), and changes nothing. A folder without anything in it is an empty spool.
 *
 * @throws MillraceError MILLRACE_SPOOL that names the folder: it can't be read, or holds no spool
 */
export function verifySpool(directory: string, edge: FolderEdge = {}): SpoolReport {
  const fileSystem = edge.fileSystem ?? nodeFileSystem;
  return guard(directory, () => {
    const places = findPlaces(directory, fileSystem);
    const lanes = places.lanes.map((path) => verifyLane(path, fileSystem));
    const sum = (of: (lane: LaneReport) => number) =>
      lanes.reduce((total, lane) => total + of(lane), 0);
    const lost = sum((lane) => lane.lost);
    const damagedPlaces = sum((lane) => sumOf(lane.segments, damageOf));
    return {
      directory,
      lanes,
      replays: places.runs.flatMap((path) => readReplay(path, fileSystem)),
      pending: sum((lane) => lane.pending),
      lost,
      damagedPlaces,
      bytes: sum((lane) => sumOf(lane.segments, ({ bytes }) => bytes)),
      owners: places.instances.flatMap((path) => ownerOf(path, lockEdge(edge)) ?? []),
      isSound: lost === 0 && damagedPlaces === 0,
    };
  });
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

/**
 * The good records of a spool, lane by lane in order; 'pending': only those that wait. Changes nothing.
 *
 * @throws MillraceError MILLRACE_SPOOL that names the folder, as {@link verifySpool} does
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

function guard<T>(directory: string, work: () => T): T {
  try {
    return work();
  } catch (error) {
    if (error instanceof MillraceError) throw error;
    throw new MillraceError(
      'MILLRACE_SPOOL',
      `the spool folder ${directory}: ${failureOf(error).message}`,
      error,
    );
  }
}

function lockEdge(edge: FolderEdge): LockEdge {
  return {
    fileSystem: edge.fileSystem ?? nodeFileSystem,
    processes: edge.processes ?? systemProcessTable(),
    nowMs: () => (edge.clock ?? systemClock).nowMs(),
  };
}

function lockOrThrow(path: string, edge: FolderEdge): FolderLock {
  const lock = FolderLock.take(path, lockEdge(edge));
  if (lock instanceof FolderLock) return lock;
  throw new MillraceError(
    'MILLRACE_SPOOL',
    `the spool folder ${path} belongs to process ${lock.pid}, which is running`,
  );
}

const FOLDER = /^(instance|run|lane)-\d+$/;

/** Lane and run folders at or below a folder, and the instance folders they are in, the folder's own one included. */
function findPlaces(directory: string, fileSystem: SpoolFileSystem): Places {
  const lanes: string[] = [];
  const runs: string[] = [];
  const instances: string[] = [];
  const found = new Map([
    ['lane', lanes],
    ['run', runs],
    ['instance', instances],
  ]);
  const look = (path: string, depth: number) => {
    const name = path.split(/[\\/]/).at(-1) ?? '';
    const [, kind = ''] = FOLDER.exec(name) ?? [];
    found.get(kind)?.push(path);
    if (kind !== 'lane' && depth < 3) {
      for (const child of fileSystem.list(path).sort()) {
        if (FOLDER.test(child)) look(join(path, child), depth + 1);
      }
    }
  };
  look(directory, 0);
  const above = /^(.*[\\/]instance-\d+)[\\/]/.exec(directory)?.[1];
  if (above !== undefined) instances.push(above);
  // A spool that has been emptied leaves its folder, with nothing in it.
  const isEmpty = () => fileSystem.list(directory).length === 0;
  if (lanes.length === 0 && instances.length === 0 && !isEmpty()) {
    throw new MillraceError('MILLRACE_SPOOL', `${directory} holds no spool`);
  }
  return { instances, runs, lanes };
}

function readReplay(directory: string, fileSystem: SpoolFileSystem): ReplayReport[] {
  const state = readReplayNote(directory, fileSystem);
  if (state === undefined) return [];
  const { left: _, ...rest } = state;
  return [{ directory, ...rest }];
}

interface LaneFiles {
  readonly lane: number;
  readonly shelf: SegmentShelf;
  readonly checkpoint: CheckpointFile;
  readonly saved: Checkpoint | undefined;
}

function readLane(directory: string, fileSystem: SpoolFileSystem): LaneFiles {
  const lane = parseLaneFolderName(directory.split(/[\\/]/).at(-1) ?? '') ?? 0;
  const checkpoint = new CheckpointFile(directory, fileSystem, { mode: 0o600, sync: 'sync' });
  const shelf = SegmentShelf.read(directory, fileSystem);
  return { lane, shelf, checkpoint, saved: checkpoint.read() };
}

/** Number after the last record that may be in a lane: behind a sealed tail its segment is void. */
function endOf({ saved, shelf }: Pick<LaneFiles, 'saved' | 'shelf'>): number {
  const isLast = (shelf.last?.sequence ?? 0) <= (saved?.tail.sequence ?? -1);
  return isLast && saved?.tail.state === 'sealed' ? saved.tail.number : Number.MAX_SAFE_INTEGER;
}

function verifyLane(directory: string, fileSystem: SpoolFileSystem): LaneReport {
  const { lane, shelf, saved } = readLane(directory, fileSystem);
  const settled = saved?.settled ?? shelf.segments[0]?.first ?? 0;
  const segments: SegmentReport[] = [];
  let pending = 0;
  let expected = settled;
  let lost = 0;
  for (const [index, segment] of shelf.segments.entries()) {
    const stop = shelf.stopOf(index, endOf({ saved, shelf }));
    const found = readSegment(segment, { stop, expected, fileSystem });
    // Behind the last record of the youngest segment nothing is known to have been.
    const end = stop > Number.MAX_SAFE_INTEGER / 2 ? found.expected : Math.max(stop, expected);
    const missing = end - found.expected + found.lost;
    lost += missing;
    pending += found.pending;
    expected = end;
    segments.push({ ...found.report, lost: missing });
  }
  const checkpoint = saved === undefined && shelf.last !== undefined ? 'missing' : 'good';
  return { directory, lane, checkpoint, settled, pending, lost, segments };
}

interface SegmentFinding {
  readonly report: SegmentReport;
  /** Number after the last good record, or where the search began. */
  readonly expected: number;
  readonly pending: number;
  readonly lost: number;
}

/** Reads one segment from end to end; records from `expected` on count as pending. */
function readSegment(
  segment: Segment,
  {
    stop,
    expected: start,
    fileSystem,
  }: { readonly stop: number; readonly expected: number; readonly fileSystem: SpoolFileSystem },
): SegmentFinding {
  const tally = { records: 0, pending: 0, lost: 0, damagedBytes: 0, damagedPlaces: 0 };
  let expected = Math.max(start, segment.first);
  const lostBefore = expected - start;
  let end = SEGMENT_HEADER_BYTES;
  const header = eachFrame(segment, fileSystem, (scanner) => {
    const number = fullNumber(segment.first, scanner.low);
    if (number >= stop) return;
    tally.records += 1;
    tally.damagedBytes += scanner.skippedBytes;
    if (scanner.skippedBytes > 0) tally.damagedPlaces += 1;
    end = scanner.nextAt;
    if (number < expected) return;
    tally.lost += number - expected;
    tally.pending += 1;
    expected = number + 1;
  });
  const { path, first, bytes } = segment;
  const { records, damagedBytes, damagedPlaces } = tally;
  const tornBytes = Math.max(0, bytes - end);
  return {
    report: {
      path,
      first,
      bytes,
      header,
      records,
      damagedBytes,
      damagedPlaces,
      tornBytes,
      lost: 0,
    },
    expected,
    pending: tally.pending,
    lost: tally.lost + lostBefore,
  };
}

function eachFrame(
  segment: Segment,
  fileSystem: SpoolFileSystem,
  visit: (scanner: SegmentScanner) => void,
): SegmentReport['header'] {
  const scanner = new SegmentScanner(fileSystem);
  try {
    scanner.open(segment.path, segment.bytes);
    if (scanner.header === 'foreign') return 'foreign';
    let at = SEGMENT_HEADER_BYTES;
    while (scanner.find(at)) {
      visit(scanner);
      at = scanner.nextAt;
    }
    // A file that a crash left without content has nothing to be damaged.
    return scanner.header === 'damaged' && segment.bytes > 0 ? 'damaged' : 'good';
  } catch (error) {
    if (systemCodeOf(error) !== 'EIO') throw error;
    return 'unreadable';
  } finally {
    scanner.close();
  }
}

function damageOf(segment: SegmentReport): number {
  const isHeaderBad = segment.header === 'damaged' || segment.header === 'unreadable';
  return segment.damagedPlaces + (isHeaderBad ? 1 : 0);
}

function sumOf(segments: readonly SegmentReport[], of: (segment: SegmentReport) => number): number {
  return segments.reduce((total, segment) => total + of(segment), 0);
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
