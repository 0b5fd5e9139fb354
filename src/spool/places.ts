import { join } from 'node:path';
import { systemClock } from '../base/clock.ts';
import { MillraceError, systemCodeOf } from '../base/errors.ts';
import { type Checkpoint, CheckpointFile } from './checkpoint.ts';
import { failureOf, nodeFileSystem, type SpoolFileSystem } from './file-system.ts';
import type { FolderEdge } from './folder.ts';
import { parseLaneFolderName } from './lane.ts';
import type { LockEdge } from './lock.ts';
import { systemProcessTable } from './process-table.ts';
import { SegmentScanner } from './scanner.ts';
import { SEGMENT_HEADER_BYTES } from './segment.ts';
import { type Segment, SegmentShelf } from './shelf.ts';

/** Folders of a spool, or of the part of it that is looked at. */
interface Places {
  readonly instances: readonly string[];
  readonly runs: readonly string[];
  readonly lanes: readonly string[];
}

/** Lets what the disk throws come out as an error that names the folder. */
export function guard<T>(directory: string, work: () => T): T {
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

export function lockEdge(edge: FolderEdge): LockEdge {
  return {
    fileSystem: edge.fileSystem ?? nodeFileSystem,
    processes: edge.processes ?? systemProcessTable(),
    nowMs: () => (edge.clock ?? systemClock).nowMs(),
  };
}

const FOLDER = /^(instance|run|lane)-\d+$/;

/** Lane and run folders at or below a folder, and the instance folders they are in, the folder's own one included. */
export function findPlaces(directory: string, fileSystem: SpoolFileSystem): Places {
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

/** What is in the folder of a lane. */
interface LaneFiles {
  readonly lane: number;
  readonly shelf: SegmentShelf;
  readonly checkpoint: CheckpointFile;
  readonly saved: Checkpoint | undefined;
}

export function readLane(directory: string, fileSystem: SpoolFileSystem): LaneFiles {
  const lane = parseLaneFolderName(directory.split(/[\\/]/).at(-1) ?? '') ?? 0;
  const checkpoint = new CheckpointFile(directory, fileSystem, { mode: 0o600, sync: 'sync' });
  const shelf = SegmentShelf.read(directory, fileSystem);
  return { lane, shelf, checkpoint, saved: checkpoint.read() };
}

/** Number after the last record that may be in a lane: behind a sealed tail its segment is void. */
export function endOf({ saved, shelf }: Pick<LaneFiles, 'saved' | 'shelf'>): number {
  const isLast = (shelf.last?.sequence ?? 0) <= (saved?.tail.sequence ?? -1);
  return isLast && saved?.tail.state === 'sealed' ? saved.tail.number : Number.MAX_SAFE_INTEGER;
}

/** What is at the beginning of a segment file; 'unreadable': the disk gives an error. */
export type HeaderState = 'good' | 'damaged' | 'foreign' | 'unreadable';

/** Visits the good frames of a segment in order; the scanner stands at the frame. */
export function eachFrame(
  segment: Segment,
  fileSystem: SpoolFileSystem,
  visit: (scanner: SegmentScanner) => void,
): HeaderState {
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
