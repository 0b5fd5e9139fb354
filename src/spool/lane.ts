import { dirname, join } from 'node:path';
import { type Clock, systemClock } from '../base/clock.ts';
import { MillraceError, systemCodeOf } from '../base/errors.ts';
import { CheckpointFile, type Tail } from './checkpoint.ts';
import {
  type DiskFailure,
  failureOf,
  nodeFileSystem,
  type SpoolFileSystem,
} from './file-system.ts';
import { LaneReader, type SettleResult, type SpoolBatch, type SpoolLimits } from './reader.ts';
import { cut, cutBack, resume, sealed } from './resume.ts';
import {
  FRAME_HEADER_BYTES,
  frameBytes,
  SEGMENT_HEADER_BYTES,
  sealFrame,
  TEXT_BYTES_MAX,
  writeSegmentHeader,
} from './segment.ts';
import { type Segment, SegmentShelf } from './shelf.ts';

/** What a lane of the spool is opened with: plain data. */
export interface SpoolLaneConfig {
  /** The run's folder, as {@link SpoolFolder} gave it. */
  readonly directory: string;
  readonly lane: number;
  /** Size at which a new segment is begun. */
  readonly segmentBytes: number;
  /**
   * When data goes to stable storage: 'batch' before every append returns; 'interval', with {@link SpoolLane.tend} called often enough,
   * `intervalMs` after its append, unless it is settled by then.
   */
  readonly fsync: 'never' | 'interval' | 'batch';
  readonly intervalMs: number;
  /** Permission of new files. Default 0o600. */
  readonly mode?: number;
  /** 'leave': a new segment is begun, because another thread may still be writing to the youngest one. Default 'continue'. */
  readonly tail?: 'continue' | 'leave';
  /** Records below this number are known to be settled, whatever the checkpoint says. */
  readonly settled?: number;
  /** Records from this number on were appended without their writer's word for it: they are void. */
  readonly end?: number;
}

/** Records `[from, to)` of a text, as a batch holds them. */
export interface SpoolRecords {
  readonly text: Uint8Array;
  readonly starts: Uint32Array;
  readonly ends: Uint32Array;
  readonly from: number;
  readonly to: number;
  /** When the oldest of them was accepted, in ms since 1970. */
  readonly stampMs: number;
  /** Number that the caller gave to record `from`, modulo 2^32; the others follow it. */
  readonly seq?: number;
}

/**
 * `written`: so many records, from the first on, are in the spool ('batch': and on stable storage). With a
 * failure: the others are not, and no trace of them will come up.
 */
export type AppendResult =
  | { readonly written: number }
  | (DiskFailure & { readonly written: number });

/** Levels and totals of a lane since it was opened. */
export interface SpoolCounts {
  /** Records that are not settled. */
  readonly records: number;
  /** Size of the segment files. */
  readonly bytes: number;
  readonly segments: number;
  /** When the oldest unsettled record was accepted, in ms since 1970; 0: there is none. */
  readonly oldestMs: number;
  /** Records that damage took. */
  readonly corruptFrames: number;
}

/** What touches the machine; only tests put something else in its place. */
export interface SpoolEdge {
  readonly fileSystem?: SpoolFileSystem;
  readonly clock?: Clock;
}

/** A segment that was ended before it was synced. */
interface Unsynced {
  readonly fd: number;
  readonly sequence: number;
  readonly first: number;
  /** Number after its last record. */
  readonly stop: number;
}

const MODE_DEFAULT = 0o600;
const WRITE_BYTES: number = 256 * 1024;
/** Ended segments that may wait for an 'interval' sync; each keeps a file open. */
const UNSYNCED_MAX = 2;

/** Folder of a lane in a run's folder. */
function laneFolderName(lane: number): string {
  return `lane-${String(lane).padStart(3, '0')}`;
}

/** Number of the lane whose folder that is; undefined: it is none. */
export function parseLaneFolderName(name: string): number | undefined {
  const match = /^lane-(\d{3,})$/.exec(name);
  return match === null ? undefined : Number(match[1]);
}

/** Permission of the folders that hold files of this permission: who may read may also enter. */
export function directoryModeOf(fileMode: number): number {
  return fileMode | 0o300 | ((fileMode & 0o444) >> 2);
}

/**
 * One lane of the spool: a queue of records on disk, for one thread at a time. What it holds can be opened again by another
 * thread of the process, even if this one died in the middle of a write. Makes no file before the first append.
 */
export class SpoolLane {
  readonly #config: SpoolLaneConfig;
  readonly #directory: string;
  readonly #fileSystem: SpoolFileSystem;
  readonly #clock: Clock;
  readonly #shelf: SegmentShelf;
  readonly #reader: LaneReader;
  #fd = -1;
  #isFolderSynced = false;
  /** What a sync that succeeded covers; records in doubt excepted. */
  #synced: Tail;
  /** Number of records that a sync was asked for, with whatever result. */
  #askedNumber: number;
  /** Records below the number were appended before the time. */
  #mark: { readonly number: number; readonly ms: number };
  /** Oldest first. */
  readonly #unsynced: Unsynced[] = [];
  #bytes: Uint8Array = new Uint8Array(0);
  #view: DataView = new DataView(new ArrayBuffer(0));

  private constructor(
    config: SpoolLaneConfig,
    edge: { readonly fileSystem: SpoolFileSystem; readonly clock: Clock },
    found: { readonly shelf: SegmentShelf; readonly reader: LaneReader },
  ) {
    this.#config = config;
    this.#directory = join(config.directory, laneFolderName(config.lane));
    this.#fileSystem = edge.fileSystem;
    this.#clock = edge.clock;
    this.#shelf = found.shelf;
    this.#reader = found.reader;
    this.#synced = { ...found.reader.tail, number: firstUnsynced(config, found) };
    this.#askedNumber = this.#synced.number;
    // What is found may have waited for long.
    this.#mark = { number: found.reader.tail.number, ms: Number.NEGATIVE_INFINITY };
  }

  /**
   * Finds what earlier turns of this run wrote: reads the checkpoint, and what was written after it.
   *
   * @throws MillraceError MILLRACE_SPOOL that names the folder: it can't be read now
   */
  static open(config: SpoolLaneConfig, edge: SpoolEdge = {}): SpoolLane {
    const fileSystem = edge.fileSystem ?? nodeFileSystem;
    const clock = edge.clock ?? systemClock;
    const directory = join(config.directory, laneFolderName(config.lane));
    try {
      const shelf = SegmentShelf.read(directory, fileSystem);
      const checkpoint = new CheckpointFile(directory, fileSystem, {
        mode: config.mode ?? MODE_DEFAULT,
        sync: config.fsync === 'never' ? 'keep' : 'sync',
      });
      const saved = checkpoint.read();
      const before = shelf.last?.bytes ?? 0;
      const start = resume(shelf, fileSystem, { saved, settled: config.settled ?? 0 });
      const tornBytes = before - (shelf.last?.bytes ?? 0);
      const parts = { lane: config.lane, shelf, checkpoint, fileSystem, clock };
      const begin = cutBack(start, shelf, config.end ?? start.tail.number);
      const reader = new LaneReader(parts, begin);
      // What was cut off may stay in the file, so the file is only continued if it could be cut.
      if (tornBytes > 0 && !cut(fileSystem, shelf.last)) reader.tail = sealed(reader.tail);
      if (config.tail === 'leave') reader.tail = sealed(reader.tail);
      const isNews = begin !== start || start.settled > (saved?.settled ?? start.settled);
      if (isNews) reader.markDirty();
      reader.save();
      const lane = new SpoolLane(config, { fileSystem, clock }, { shelf, reader });
      lane.#takeUnsynced();
      return lane;
    } catch (error) {
      throw new MillraceError(
        'MILLRACE_SPOOL',
        `the spool folder ${directory} can't be read: ${failureOf(error).message}`,
        error,
      );
    }
  }

  /** Appends whole records, in order. Never throws for what the disk does. */
  append(records: SpoolRecords): AppendResult {
    const before = this.#reader.tail;
    let failure = this.#appendAll(records);
    if (this.#config.fsync === 'batch') {
      // Whole records of a call that failed stay in, so they must be on stable storage as well.
      failure = this.sync() ?? failure;
      if ((this.#reader.doubt?.to ?? 0) > before.number) this.#takeBack(before);
    } else failure ??= this.tend();
    const written = this.#reader.tail.number - before.number;
    return failure === undefined ? { written } : { ...failure, written };
  }

  /** See {@link LaneReader.peek}. */
  peek(limits: SpoolLimits): SpoolBatch | undefined {
    return this.#reader.peek(limits);
  }

  /** See {@link LaneReader.settle}. */
  settle(batch: SpoolBatch, count: number = batch.count): SettleResult {
    const result = this.#reader.settle(batch, count);
    this.#dropSettled();
    return result;
  }

  /** Settles every record below a number, as {@link settle} does for a batch. */
  settleTo(number: number): void {
    this.#reader.moveTo(number);
    this.#dropSettled();
  }

  /** Size of the segment files. */
  get bytes(): number {
    return this.#shelf.bytes;
  }

  get segments(): number {
    return this.#shelf.segments.length;
  }

  /** Lets go of all files and changes nothing: somebody else has the lane now. */
  leave(): void {
    this.#closeFiles();
    this.#reader.close();
  }

  /** What is due without a record's coming. */
  tend(): DiskFailure | undefined {
    return this.#isSyncDue() ? this.sync() : undefined;
  }

  /** Puts all that was appended on stable storage. A failure means that {@link durableNumber} has not moved. */
  sync(): DiskFailure | undefined {
    try {
      this.#sync();
      return undefined;
    } catch (error) {
      return failureOf(error);
    }
  }

  /** Writes the checkpoint now. A failure costs nothing but repeated records after a crash. */
  save(): DiskFailure | undefined {
    if (this.#reader.tail.sequence === 0) return undefined;
    this.#reader.markDirty();
    return this.#reader.save() ? undefined : this.#reader.failure;
  }

  /** Drops the oldest segment, for the bound of the whole spool; returns how many records that were. */
  evictOldest(): number {
    if (this.#shelf.segments.length <= 1) this.#abandon();
    const records = this.#reader.evictOldest();
    this.#dropSettled();
    if (this.#reader.records === 0) this.#clear();
    return records;
  }

  /** Number that the next record will have. */
  get nextNumber(): number {
    return this.#reader.tail.number;
  }

  /** Every record below this number is settled, or on stable storage for certain. */
  get durableNumber(): number {
    const { doubt, settled } = this.#reader;
    return Math.max(settled, Math.min(this.#synced.number, doubt?.from ?? Number.MAX_VALUE));
  }

  /** Every record below this number is settled. */
  get settledNumber(): number {
    return this.#reader.settled;
  }

  counts(): SpoolCounts {
    return {
      records: this.#reader.records,
      bytes: this.#shelf.bytes,
      segments: this.#shelf.segments.length,
      oldestMs: this.#reader.oldestMs,
      corruptFrames: this.#reader.lostRecords,
    };
  }

  /** Syncs (unless 'never'), writes the checkpoint, removes what is settled, lets go of all files. Idempotent; never throws. */
  close(): void {
    // What fails here was reported before or costs repeated records; a caller that must know calls sync() first.
    if (this.#config.fsync !== 'never') this.sync();
    this.#closeFiles();
    if (this.#reader.records === 0) this.#clear();
    else this.save();
    this.#reader.close();
  }

  #appendAll(records: SpoolRecords): DiskFailure | undefined {
    try {
      this.#look();
      let at = records.from;
      while (at < records.to) at = this.#write(records, at);
      return undefined;
    } catch (error) {
      return failureOf(error);
    }
  }

  /** The folder may be removed, or the file cut short, while we run: then it is left, and a new one begun. */
  #look(): void {
    const segment = this.#shelf.last;
    if (segment === undefined || this.#reader.tail.state === 'sealed') return;
    if (this.#fileSystem.bytesOf(segment.path) === segment.bytes) return;
    this.#isFolderSynced = false;
    this.#giveUpFile();
  }

  /** Writes as many records as go into one write; returns the index after them. Throws after keeping those that are whole. */
  #write(records: SpoolRecords, at: number): number {
    const segment = this.#segmentFor(lengthOf(records, at));
    const { end, to } = this.#fill(records, at, segment);
    let done = 0;
    try {
      while (done < end) {
        const bytes = this.#bytes.subarray(done, end);
        const written = this.#fileSystem.write(this.#fd, bytes, segment.bytes + done);
        if (written === 0) throw new Error('the disk took no byte');
        done += written;
      }
      this.#advance(records, { at, to, bytes: end });
    } catch (error) {
      this.#keepWhole(records, at, { segment, done });
      throw error;
    }
    return to;
  }

  /** Puts frames into the buffer: `end` bytes, records up to `to`. */
  #fill(records: SpoolRecords, from: number, segment: Segment): { end: number; to: number } {
    const { lane, segmentBytes } = this.#config;
    const isNew = segment.bytes === 0;
    let end = isNew ? SEGMENT_HEADER_BYTES : 0;
    this.#reserve(end + frameBytes(lengthOf(records, from)));
    if (isNew) {
      const { sequence, first } = segment;
      writeSegmentHeader(this.#view, 0, { lane, sequence, first, baseMs: records.stampMs });
    }
    const room = Math.min(this.#bytes.length, segmentBytes - segment.bytes);
    let to = from;
    while (to < records.to) {
      const textBytes = lengthOf(records, to);
      // The first record always goes in: room for it was made, in the buffer and in the segment.
      if (to > from && end + frameBytes(textBytes) > room) break;
      this.#frame(records, to, { at: end, number: this.#reader.tail.number + to - from });
      end += frameBytes(textBytes);
      to += 1;
    }
    return { end, to };
  }

  #frame(
    records: SpoolRecords,
    index: number,
    { at, number }: { readonly at: number; readonly number: number },
  ): void {
    const start = records.starts[index] ?? 0;
    const textBytes = lengthOf(records, index);
    this.#bytes.set(records.text.subarray(start, start + textBytes), at + FRAME_HEADER_BYTES);
    sealFrame(
      this.#view,
      { at, textBytes },
      { number, stampMs: records.stampMs, seq: seqOf(records, index) },
    );
  }

  /** After a write that failed in the middle: what is whole counts, the rest is cut off. */
  #keepWhole(
    records: SpoolRecords,
    at: number,
    { segment, done }: { readonly segment: Segment; readonly done: number },
  ): void {
    let bytes = segment.bytes === 0 ? SEGMENT_HEADER_BYTES : 0;
    let to = at;
    while (to < records.to && bytes + frameBytes(lengthOf(records, to)) <= done) {
      bytes += frameBytes(lengthOf(records, to));
      to += 1;
    }
    if (to > at) this.#advance(records, { at, to, bytes });
    try {
      this.#fileSystem.truncate(this.#fd, segment.bytes);
    } catch {
      // What can't be cut off is void, because the next segment begins with the same number (P2).
      this.#giveUpFile();
    }
  }

  #advance(
    records: SpoolRecords,
    { at, to, bytes }: { readonly at: number; readonly to: number; readonly bytes: number },
  ): void {
    const segment = this.#shelf.last;
    if (segment === undefined) return;
    segment.bytes += bytes;
    this.#reader.tail = {
      sequence: segment.sequence,
      at: segment.bytes,
      number: this.#reader.tail.number + to - at,
      seq: to > at ? seqOf(records, to - 1) : this.#reader.tail.seq,
      state: 'open',
    };
  }

  /** The segment to write to, opened or made if need be; it has room for a record of that length. */
  #segmentFor(textBytes: number): Segment {
    const segment = this.#shelf.last;
    const isOpen = this.#reader.tail.state === 'open' && segment !== undefined;
    const hasRoom =
      segment !== undefined &&
      (segment.bytes <= SEGMENT_HEADER_BYTES ||
        segment.bytes + frameBytes(textBytes) <= this.#config.segmentBytes);
    if (isOpen && hasRoom) {
      if (this.#fd < 0) this.#fd = this.#fileSystem.open(segment.path, 'update');
      return segment;
    }
    this.#seal();
    return this.#begin();
  }

  #begin(): Segment {
    this.#ensureFolder();
    const { number, sequence, seq } = this.#reader.tail;
    const segment = this.#shelf.add(number, sequence);
    try {
      this.#fd = this.#fileSystem.create(segment.path, this.#config.mode ?? MODE_DEFAULT);
    } catch (error) {
      // A file that somebody else left under this name is in the way of this number only.
      if (systemCodeOf(error) === 'EEXIST') {
        this.#reader.tail = { ...this.#reader.tail, sequence: segment.sequence };
      }
      this.#shelf.dropLast();
      throw error;
    }
    this.#reader.tail = { sequence: segment.sequence, at: 0, number, seq, state: 'open' };
    this.#isFolderSynced = false;
    return segment;
  }

  #ensureFolder(): void {
    const { directory, mode = MODE_DEFAULT } = this.#config;
    if (this.#fileSystem.bytesOf(this.#directory) < 0) {
      this.#fileSystem.makeDirectory(this.#directory, directoryModeOf(mode));
      if (this.#config.fsync !== 'never') {
        this.#fileSystem.syncDirectory(directory);
        this.#fileSystem.syncDirectory(dirname(directory));
      }
    }
    this.#reader.ensureCheckpoint();
  }

  /**
   * Looked at twice an interval: whether anything that was there the last time is neither settled nor synced. So as long as the receiver
   * keeps up, nothing is synced at all, and else once an interval.
   */
  #isSyncDue(): boolean {
    if (this.#config.fsync !== 'interval') return false;
    if (this.#clock.monotonicMs() - this.#mark.ms < this.#config.intervalMs / 2) return false;
    if (Math.max(this.#askedNumber, this.#reader.settled) < this.#mark.number) return true;
    this.#setMark();
    return false;
  }

  #setMark(): void {
    this.#mark = { number: this.#reader.tail.number, ms: this.#clock.monotonicMs() };
  }

  #sync(): void {
    const { tail, records } = this.#reader;
    this.#setMark();
    if (this.#askedNumber >= tail.number || records === 0) return;
    this.#askedNumber = tail.number;
    try {
      const first = this.#unsynced[0]?.first ?? this.#shelf.last?.first ?? 0;
      if (this.#synced.number < first) this.#doubtUntil(first);
      this.#syncFiles();
      this.#synced = tail;
    } catch (error) {
      // Nobody knows what of the unsynced records is on the disk, and asking again may succeed without writing them.
      this.#doubtUntil(tail.number);
      this.#abandon();
      this.#dropUnsynced(this.#unsynced.length);
      this.save();
      throw error;
    }
  }

  #syncFiles(): void {
    const segment = this.#shelf.last;
    const isAside = segment?.sequence === this.#unsynced.at(-1)?.sequence;
    for (const { fd } of this.#unsynced) this.#fileSystem.sync(fd);
    this.#dropUnsynced(this.#unsynced.length);
    if (segment !== undefined && !isAside) {
      if (this.#fd < 0) this.#fd = this.#fileSystem.open(segment.path, 'update');
      this.#fileSystem.sync(this.#fd);
    }
    if (this.#isFolderSynced) return;
    this.#fileSystem.syncDirectory(this.#directory);
    this.#isFolderSynced = true;
  }

  #doubtUntil(number: number): void {
    const { doubt, settled } = this.#reader;
    const from = Math.max(settled, doubt?.from ?? this.#synced.number);
    if (from < number) this.#reader.doubt = { from, to: number };
  }

  /** After a sync that failed: the caller still has its records, so those that are not synced are made void. */
  #takeBack(before: Tail): void {
    const { doubt, tail } = this.#reader;
    const kept = this.#synced.number > before.number ? this.#synced : before;
    const at = kept.sequence === tail.sequence ? kept.at : 0;
    this.#reader.tail = { ...tail, at, number: kept.number, seq: kept.seq, state: 'sealed' };
    this.#reader.doubt =
      doubt !== undefined && doubt.from < kept.number
        ? { from: doubt.from, to: kept.number }
        : undefined;
    this.#askedNumber = kept.number;
    const segment = this.#shelf.last;
    if (segment?.sequence === tail.sequence) segment.bytes = at;
    // If they can't be cut off, the next segment's first number says that they are void (P2).
    cut(this.#fileSystem, segment);
    this.save();
  }

  /** The youngest segment's file is in trouble: what waits for a sync in it is in doubt. */
  #giveUpFile(): void {
    if (this.#config.fsync === 'interval') this.#doubtUntil(this.#reader.tail.number);
    this.#abandon();
  }

  /** Leaves the youngest segment as it is: it will not be written to again. */
  #abandon(): void {
    this.#closeFile();
    this.#reader.tail = sealed(this.#reader.tail);
  }

  /** Ends the youngest segment in good order. Throws what syncing throws. */
  #seal(): void {
    const canWait = this.#config.fsync === 'interval' && this.#unsynced.length < UNSYNCED_MAX;
    if (canWait && this.#fd >= 0) this.#setAside(this.#fd);
    else if (this.#config.fsync !== 'never') this.#sync();
    this.#abandon();
  }

  /** The file stays open until it is synced, or settled. */
  #setAside(fd: number): void {
    this.#fd = -1;
    const { sequence, number: stop } = this.#reader.tail;
    this.#unsynced.push({ fd, sequence, first: this.#shelf.last?.first ?? stop, stop });
  }

  /** Segments that whoever had the lane before may have left unsynced. Throws what opening them throws. */
  #takeUnsynced(): void {
    if (this.#config.fsync === 'never') return;
    const { segments } = this.#shelf;
    const end = this.#reader.tail.number;
    for (let at = Math.max(0, segments.length - 1 - UNSYNCED_MAX); at < segments.length; at += 1) {
      const segment = segments[at];
      const stop = this.#shelf.stopOf(at, end);
      if (segment?.state !== 'good' || stop <= this.#reader.settled) continue;
      const { path, sequence, first } = segment;
      this.#unsynced.push({ fd: this.#fileSystem.open(path, 'update'), sequence, first, stop });
    }
  }

  /** What is settled needs no sync any more, and an open file keeps its blocks on the disk. */
  #dropSettled(): void {
    const { settled } = this.#reader;
    const open = this.#unsynced.findIndex(({ stop }) => stop > settled);
    this.#dropUnsynced(open < 0 ? this.#unsynced.length : open);
  }

  #dropUnsynced(count: number): void {
    for (const { fd } of this.#unsynced.splice(0, count)) this.#closeQuietly(fd);
  }

  #closeFiles(): void {
    this.#closeFile();
    this.#dropUnsynced(this.#unsynced.length);
  }

  #closeFile(): void {
    const fd = this.#fd;
    this.#fd = -1;
    if (fd >= 0) this.#closeQuietly(fd);
  }

  #closeQuietly(fd: number): void {
    try {
      this.#fileSystem.close(fd);
    } catch {
      // The content was synced before where that was promised; a descriptor that can't be closed is no one's any more.
    }
  }

  /** Removes all files but the checkpoint, which remembers the numbers. */
  #clear(): void {
    if (this.#shelf.last === undefined) return;
    this.#abandon();
    this.#reader.close();
    if (this.save() !== undefined) return;
    try {
      while (this.#shelf.last !== undefined) this.#shelf.removeFirst();
    } catch {
      // A settled segment that can't be removed now is removed at the next opening.
    }
  }

  #reserve(bytes: number): void {
    const wanted = Math.max(bytes, WRITE_BYTES);
    const isTooLarge = this.#bytes.length > 4 * WRITE_BYTES && bytes <= WRITE_BYTES;
    if (this.#bytes.length >= wanted && !isTooLarge) return;
    this.#bytes = new Uint8Array(wanted);
    this.#view = new DataView(this.#bytes.buffer);
  }
}

function lengthOf({ starts, ends }: SpoolRecords, index: number): number {
  const bytes = (ends[index] ?? 0) - (starts[index] ?? 0);
  if (bytes > TEXT_BYTES_MAX) throw new RangeError(`a record of ${bytes} bytes is too long`);
  return bytes;
}

function seqOf({ seq, from }: SpoolRecords, index: number): number | undefined {
  return seq === undefined ? undefined : (seq + index - from) >>> 0;
}

/** Number of the first record that was perhaps never synced: of the segments before, only the last ones may wait for that. */
function firstUnsynced(
  { fsync }: SpoolLaneConfig,
  { shelf, reader }: { readonly shelf: SegmentShelf; readonly reader: LaneReader },
): number {
  if (fsync === 'never') return reader.settled;
  const { segments } = shelf;
  const oldest = segments[Math.max(0, segments.length - 1 - UNSYNCED_MAX)];
  return Math.min(oldest?.first ?? reader.tail.number, reader.tail.number);
}
