import { dirname, join } from 'node:path';
import { assert } from '../base/assert.ts';
import { systemClock } from '../base/clock.ts';
import { MillraceError } from '../base/errors.ts';
import { CHECKPOINT_NAME, CheckpointFile } from './checkpoint.ts';
import {
  type DiskFailure,
  failureOf,
  nodeFileSystem,
  type SpoolFileSystem,
} from './file-system.ts';
import { parseLaneFolderName, type SpoolCounts, type SpoolEdge } from './lane.ts';
import { LaneReader, type SettleResult, type SpoolBatch, type SpoolLimits } from './reader.ts';
import { ReplayNote, type ReplayStart, removeReplayNote } from './replay-note.ts';
import { resume } from './resume.ts';
import { namesIn, SegmentShelf } from './shelf.ts';

interface LaneBacklog {
  readonly lane: number;
  readonly directory: string;
  readonly shelf: SegmentShelf;
  readonly reader: LaneReader;
}

/**
 * What one earlier run left, over all its lanes: nothing is appended, records are handed out and settled. Opening reads names, the
 * checkpoints and the youngest segment of each lane, so it takes as long for ten thousand segments as for ten; one
 * segment file is open at a time. For one thread, and for one owner: see {@link SpoolFolder}.
 */
export class SpoolBacklog {
  readonly #directory: string;
  readonly #fileSystem: SpoolFileSystem;
  readonly #lanes: readonly LaneBacklog[];
  #current: LaneBacklog | undefined;
  #currentSegment = -1;

  private constructor(
    directory: string,
    fileSystem: SpoolFileSystem,
    lanes: readonly LaneBacklog[],
  ) {
    this.#directory = directory;
    this.#fileSystem = fileSystem;
    this.#lanes = lanes;
  }

  /**
   * Opens a run's folder. `known`: a lane whose records below a number are settled, whatever its checkpoint says.
   *
   * @throws MillraceError MILLRACE_SPOOL that names the folder: it can't be read now
   */
  static open(
    directory: string,
    edge: SpoolEdge = {},
    known?: { readonly lane: number; readonly settled: number },
  ): SpoolBacklog {
    const fileSystem = edge.fileSystem ?? nodeFileSystem;
    const clock = edge.clock ?? systemClock;
    try {
      const lanes = namesIn(directory, fileSystem).flatMap((name): LaneBacklog[] => {
        const lane = parseLaneFolderName(name);
        if (lane === undefined) return [];
        const path = join(directory, name);
        const shelf = SegmentShelf.read(path, fileSystem);
        const checkpoint = new CheckpointFile(path, fileSystem, { mode: 0o600, sync: 'sync' });
        const settled = known?.lane === lane ? known.settled : 0;
        const start = resume(shelf, fileSystem, { saved: checkpoint.read(), settled });
        const parts = { lane, shelf, checkpoint, fileSystem, clock };
        return [{ lane, directory: path, shelf, reader: new LaneReader(parts, start) }];
      });
      return new SpoolBacklog(directory, fileSystem, lanes);
    } catch (error) {
      throw new MillraceError(
        'MILLRACE_SPOOL',
        `the spool folder ${directory} can't be read: ${failureOf(error).message}`,
        error,
      );
    }
  }

  /** Notes that the backlog is about to be handed out, and tells what became of those who did that before. Undefined: nothing is left. */
  beginReplay(start: Pick<ReplayStart, 'inHand' | 'nowMs'>): ReplayNote | undefined {
    const { records: left } = this.counts();
    if (left === 0) return undefined;
    return ReplayNote.open({
      ...start,
      left,
      directory: this.#directory,
      fileSystem: this.#fileSystem,
    });
  }

  /**
   * The next records: of the lane whose oldest record is the oldest, a segment at a time, so that lanes are
   * replayed side by side. Undefined: there are none. Valid until the next call.
   *
   * @throws MillraceError MILLRACE_SPOOL: the disk can't be read now; nothing has changed, try again
   */
  peek(limits: SpoolLimits): SpoolBatch | undefined {
    return this.#choose()?.reader.peek(limits);
  }

  /** See {@link LaneReader.settle}. */
  settle(batch: SpoolBatch, count: number = batch.count): SettleResult {
    return this.#laneOf(batch).reader.settle(batch, count);
  }

  /** Drops the oldest segment of all, for the bound of the whole spool; returns how many records that were. */
  evictOldest(): number {
    const oldest = this.#oldest();
    if (oldest === undefined) return 0;
    const records = oldest.reader.evictOldest();
    this.#current = undefined;
    if (oldest.reader.records === 0) this.#clear(oldest);
    return records;
  }

  /** Writes the checkpoints now, as {@link LaneReader.note} does. A failure costs nothing but repeated records. */
  save(): DiskFailure | undefined {
    for (const { reader } of this.#lanes) reader.note();
    return this.#lanes.find(({ reader }) => reader.failure !== undefined)?.reader.failure;
  }

  counts(): SpoolCounts {
    const sum = (of: (lane: LaneBacklog) => number) =>
      this.#lanes.reduce((total, lane) => total + of(lane), 0);
    const oldest = this.#oldest();
    return {
      records: sum(({ reader }) => reader.records),
      bytes: sum(({ shelf }) => shelf.bytes),
      segments: sum(({ shelf }) => shelf.segments.length),
      oldestMs: oldest?.reader.oldestMs ?? 0,
      corruptFrames: sum(({ reader }) => reader.lostRecords),
    };
  }

  /**
   * Writes the checkpoints and lets go of all files. What is settled as a whole is removed, folders too, but for files that
   * are not ours to remove. Idempotent; never throws.
   */
  close(): void {
    for (const lane of this.#lanes) {
      lane.reader.save();
      lane.reader.close();
      if (lane.reader.records === 0) this.#clear(lane);
    }
    // A crash between making a folder and its content leaves an empty one.
    if (this.#lanes.every(({ shelf }) => shelf.segments.length === 0)) this.#removeRun();
  }

  #laneOf({ lane }: SpoolBatch): LaneBacklog {
    const found = this.#lanes.find((candidate) => candidate.lane === lane);
    assert(found !== undefined, 'a batch goes back to the backlog it came from');
    return found;
  }

  /** Stays with a lane until it is in another segment: going to and fro would read every chunk twice. */
  #choose(): LaneBacklog | undefined {
    const current = this.#current;
    if (
      current !== undefined &&
      current.reader.records > 0 &&
      current.reader.sequence === this.#currentSegment
    ) {
      return current;
    }
    current?.reader.close();
    const next = this.#oldest();
    this.#current = next;
    this.#currentSegment = next?.reader.sequence ?? -1;
    return next;
  }

  #oldest(): LaneBacklog | undefined {
    let oldest: LaneBacklog | undefined;
    for (const lane of this.#lanes) {
      if (lane.reader.records === 0) continue;
      const isOlder = oldest === undefined || lane.reader.oldestMs < oldest.reader.oldestMs;
      if (lane !== this.#current) lane.reader.close();
      if (isOlder) oldest = lane;
    }
    return oldest;
  }

  /** Removes what is left of a settled lane. */
  #clear(lane: LaneBacklog): void {
    lane.reader.markDirty();
    lane.reader.close();
    if (lane.shelf.segments.length > 0 && !lane.reader.save()) return;
    try {
      while (lane.shelf.last !== undefined) lane.shelf.removeFirst();
      // Last, so that no segment is ever without the checkpoint that says it is settled.
      if (this.#fileSystem.bytesOf(join(lane.directory, CHECKPOINT_NAME)) >= 0) {
        this.#fileSystem.remove(join(lane.directory, CHECKPOINT_NAME));
      }
      this.#fileSystem.removeDirectory(lane.directory);
    } catch {
      // Something in it is not ours, or the disk is in trouble: the next start finds nothing to deliver, and tries again.
    }
  }

  #removeRun(): void {
    try {
      removeReplayNote(this.#directory, this.#fileSystem);
      this.#fileSystem.removeDirectory(this.#directory);
      this.#fileSystem.syncDirectory(dirname(this.#directory));
    } catch {
      // See above.
    }
  }
}
