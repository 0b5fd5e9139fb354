import { join } from 'node:path';
import { systemCodeOf } from '../base/errors.ts';
import { type DiskRecord, isSameRecord } from '../lane/from-disk.ts';
import { crc32c } from './crc32c.ts';
import { type SpoolFileSystem, writeAll } from './file-system.ts';

/**
 * What became of those who replayed the folder of an earlier run, in one small file beside the lanes: so a record that ends the whole
 * process is found out by the processes that come after it.
 *
 * ```
 *   opening    +1 to the openings if nothing has got done since the one before, else 1: before a record is handed out. A turn that
 *              ends in good order takes them back
 *   trying     from the fourth opening on, records are tried one at a time: +1 to the record's deaths before the call that a
 *              thread may die in, -1 after it
 *   giving up  at three deaths. Not more than three records without another that gets done in between: if the fourth kills, too,
 *              it isn't the records, and the folder is left alone for an hour
 * ```
 * Each step is one write that comes before what it tells of, so a death anywhere leaves a count that is right or too low. Nothing is synced: what kills a process leaves the system's copy of the file, and after a power cut
 * counting begins anew.
 */
export interface ReplayState {
  /** Records that were not settled at the latest opening. */
  readonly left: number;
  /** Openings in a row that got nothing done and did not end in good order, the latest included. */
  readonly openings: number;
  /** The record tried last, and how often the process ended while it was. */
  readonly suspect: DiskRecord;
  readonly deaths: number;
  /** Records given up since one got done. */
  readonly givenUp: number;
  /** When the folder was left alone, in ms since 1970; 0: it is not. */
  readonly heldMs: number;
}

const REPLAY_NOTE_NAME = 'replay';
const MAGIC = 0x4e_52_4d_ff;
const BYTES = 64;
const CRC_AT = 4;
const FIELDS_AT = 8;
/** Openings without any progress from which on records are tried one at a time. */
const ALONE_OPENINGS = 4;
/** Deaths of one record, tried alone, that prove it. */
const KILLER_DEATHS = 3;
/** Records in a row that may be given up. */
const KILLERS_MAX = 3;
const HOLD_MS = 3_600_000;
const NOTE_MODE = 0o600;

const NEW: ReplayState = {
  left: -1,
  openings: 0,
  suspect: { lane: 0, number: 0 },
  deaths: 0,
  givenUp: 0,
  heldMs: 0,
};

/** Where and when somebody begins to replay a folder. */
export interface ReplayStart {
  readonly directory: string;
  readonly fileSystem: SpoolFileSystem;
  /** Records that are not settled. */
  readonly left: number;
  /** Records that may have been in hand when a process ended. */
  readonly inHand: number;
  /** In ms since 1970. */
  readonly nowMs: number;
}

/** The note of one folder, while it is being replayed. What the disk does not take is not noted. */
export class ReplayNote {
  readonly #start: ReplayStart;
  #state: ReplayState;
  /** Records that are still to be tried one at a time. */
  #aloneLeft: number;

  private constructor(start: ReplayStart, state: ReplayState) {
    this.#start = start;
    this.#state = state;
    const isSuspicious = state.openings >= ALONE_OPENINGS || state.deaths > 0;
    this.#aloneLeft = isSuspicious ? start.inHand : 0;
  }

  /** Notes that somebody begins. */
  static open(start: ReplayStart): ReplayNote {
    const { left, nowMs } = start;
    const saved = readReplayNote(start.directory, start.fileSystem) ?? NEW;
    const { suspect, deaths } = saved;
    const state =
      saved.left === left
        ? { ...saved, openings: saved.openings + 1 }
        : { ...NEW, suspect, deaths, left, openings: 1 };
    const note = new ReplayNote(start, state);
    const isHopeless = deaths >= KILLER_DEATHS && state.givenUp >= KILLERS_MAX;
    // One death more after the pause, and it begins anew.
    note.#change(isHopeless ? { heldMs: nowMs, deaths: KILLER_DEATHS - 1 } : {});
    return note;
  }

  /** Whether the folder is left alone, because every process dies of it. */
  get isHeld(): boolean {
    const heldForMs = this.#start.nowMs - this.#state.heldMs;
    return heldForMs >= 0 && heldForMs < HOLD_MS;
  }

  /** Whether records are to be tried one at a time. */
  get isAlone(): boolean {
    return this.#aloneLeft > 0;
  }

  /** A thread is about to do what it may die of, with the record and no other. */
  enter(record: DiskRecord): void {
    if (!this.isAlone) return;
    const { suspect, deaths } = this.#state;
    const isSame = isSameRecord(suspect, record);
    this.#change({ suspect: record, deaths: isSame ? deaths + 1 : 1 });
  }

  /** It has survived that. */
  leave(): void {
    if (this.isAlone) this.#change({ deaths: this.#state.deaths - 1 });
  }

  /** A record has got done that was tried alone. */
  noteDone(): void {
    if (this.isAlone) this.#aloneLeft -= 1;
  }

  /** Whether the record has to be given up; then that is noted. */
  takeKiller(record: DiskRecord): boolean {
    const { suspect, deaths, givenUp, left } = this.#state;
    if (deaths < KILLER_DEATHS || givenUp >= KILLERS_MAX) return false;
    if (!isSameRecord(suspect, record)) return false;
    this.#change({ left: left - 1, deaths: 0, givenUp: givenUp + 1 });
    return true;
  }

  /** The turn ends in good order. */
  end(): void {
    this.#change({ openings: 0 });
  }

  #change(change: Partial<ReplayState>): void {
    this.#state = { ...this.#state, ...change };
    const { directory, fileSystem } = this.#start;
    const path = join(directory, REPLAY_NOTE_NAME);
    try {
      const fd = openOrCreate(path, fileSystem);
      try {
        writeAll(fileSystem, fd, { bytes: encode(this.#state), at: 0 });
      } finally {
        fileSystem.close(fd);
      }
    } catch {
      // Then a death counts for nothing: it takes longer to find out, or, as long as the disk is like this, is not found out.
    }
  }
}

/** What is noted of a folder. Undefined: nothing that can be read. */
export function readReplayNote(
  directory: string,
  fileSystem: SpoolFileSystem,
): ReplayState | undefined {
  const bytes = new Uint8Array(BYTES);
  try {
    const fd = fileSystem.open(join(directory, REPLAY_NOTE_NAME), 'read');
    try {
      fileSystem.read(fd, bytes, 0);
    } finally {
      fileSystem.close(fd);
    }
  } catch {
    // As a rule there is none.
    return undefined;
  }
  return decode(bytes);
}

/** Removes what is noted of a folder; throws what removing throws. */
export function removeReplayNote(directory: string, fileSystem: SpoolFileSystem): void {
  const path = join(directory, REPLAY_NOTE_NAME);
  if (fileSystem.bytesOf(path) >= 0) fileSystem.remove(path);
}

function openOrCreate(path: string, fileSystem: SpoolFileSystem): number {
  try {
    return fileSystem.open(path, 'update');
  } catch (error) {
    if (systemCodeOf(error) !== 'ENOENT') throw error;
  }
  return fileSystem.create(path, NOTE_MODE);
}

function encode(state: ReplayState): Uint8Array {
  const { left, openings, suspect, deaths, givenUp, heldMs } = state;
  const view = new DataView(new ArrayBuffer(BYTES));
  const fields = [left, openings, suspect.lane, suspect.number, deaths, givenUp, heldMs];
  fields.forEach((field, index) => {
    view.setFloat64(FIELDS_AT + 8 * index, field, true);
  });
  view.setUint32(0, MAGIC, true);
  view.setUint32(CRC_AT, crc32c(view, FIELDS_AT, BYTES), true);
  return new Uint8Array(view.buffer);
}

function decode(bytes: Uint8Array): ReplayState | undefined {
  const view = new DataView(bytes.buffer);
  if (view.getUint32(0, true) !== MAGIC) return undefined;
  if (view.getUint32(CRC_AT, true) !== crc32c(view, FIELDS_AT, BYTES)) return undefined;
  const field = (index: number) => view.getFloat64(FIELDS_AT + 8 * index, true);
  return {
    left: field(0),
    openings: field(1),
    suspect: { lane: field(2), number: field(3) },
    deaths: field(4),
    givenUp: field(5),
    heldMs: field(6),
  };
}
