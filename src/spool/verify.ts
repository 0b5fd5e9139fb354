import { nodeFileSystem, type SpoolFileSystem } from './file-system.ts';
import type { FolderEdge } from './folder.ts';
import { type LockOwner, ownerOf } from './lock.ts';
import {
  eachFrame,
  endOf,
  findPlaces,
  guard,
  type HeaderState,
  lockEdge,
  readLane,
} from './places.ts';
import { type ReplayState, readReplayNote } from './replay-note.ts';
import { fullNumber, SEGMENT_HEADER_BYTES } from './segment.ts';
import type { Segment } from './shelf.ts';

/** What is in one segment file. Counts of records leave out those that are void. */
export interface SegmentReport {
  readonly path: string;
  readonly first: number;
  readonly bytes: number;
  readonly header: HeaderState;
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

function readReplay(directory: string, fileSystem: SpoolFileSystem): ReplayReport[] {
  const state = readReplayNote(directory, fileSystem);
  if (state === undefined) return [];
  const { left: _, ...rest } = state;
  return [{ directory, ...rest }];
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

/** Places of a segment that are damaged. */
export function damageOf(segment: SegmentReport): number {
  const isHeaderBad = segment.header === 'damaged' || segment.header === 'unreadable';
  return segment.damagedPlaces + (isHeaderBad ? 1 : 0);
}

function sumOf(segments: readonly SegmentReport[], of: (segment: SegmentReport) => number): number {
  return segments.reduce((total, segment) => total + of(segment), 0);
}
