import { dirname, join } from 'node:path';
import { systemCodeOf } from '../base/errors.ts';
import { crc32c } from './crc32c.ts';
import { type SpoolFileSystem, writeAll } from './file-system.ts';

/**
 * What is settled of one lane, and how far it had been written.
 *
 * The file has two slots, a page apart, written in turn: a torn write spoils one slot and leaves the other, which
 * is one step older. Only the slot that is not known to be on stable storage is written to, so that a power cut leaves the other.
 * The file keeps its size for life, so a full disk does not keep it from being written, which is what frees the disk again; a new
 * file and a rename would need space.
 *
 * ```
 * slot      u32 magic  u32 CRC-32C of the bytes 8…128
 *           f64 generation      the slot with the higher one counts
 *           f64 settled         every record below this number is settled
 *           f64 sequence, at    segment and byte of a frame at or before that record
 *           f64 sequence, at, number, seq, flags   where appending goes on
 *           f64 from, to        records whose sync failed
 * ```
 */
export interface Checkpoint {
  /** Every record below this number is settled. */
  readonly settled: number;
  /** A frame at or before that record. */
  readonly place: Place;
  readonly tail: Tail;
  /** Records whose sync failed: on the disk or not, nobody knows. */
  readonly doubt: Doubt | undefined;
}

/** The records `[from, to)`. */
export interface Doubt {
  readonly from: number;
  readonly to: number;
}

/** Where a frame begins: byte `at` of the segment `sequence`. */
export interface Place {
  readonly sequence: number;
  readonly at: number;
}

/** The end of what was written. */
export interface Tail extends Place {
  /** Number of the next record. */
  readonly number: number;
  /** Number that the caller gave to the last record; undefined: none had one. */
  readonly seq: number | undefined;
  /** Whether the segment may be continued. 'sealed': it may not, and what follows in it is void. */
  readonly state: 'open' | 'sealed';
}

export const CHECKPOINT_NAME = 'checkpoint';
const MAGIC = 0x50_43_4d_ff;
const SLOT_BYTES = 128;
const SLOTS_AT = [0, 4096] as const;
const FILE_BYTES: number = SLOTS_AT[1] + SLOT_BYTES;
const FIELDS_AT = 8;
const CRC_AT = 4;
const FLAG_SEQ = 1;
const FLAG_SEALED = 2;

interface Slot {
  readonly generation: number;
  readonly checkpoint: Checkpoint;
}

/** Reads and writes the checkpoint of one lane. Holds no file open. */
export class CheckpointFile {
  readonly #path: string;
  readonly #fileSystem: SpoolFileSystem;
  readonly #mode: number;
  readonly #sync: 'sync' | 'keep';
  #generation = 0;
  /** The slot that is left alone, and whether it is on stable storage. */
  #kept: 0 | 1 = 0;
  #isKeptSynced = false;

  /** @param traits `keep`: nothing ever goes to stable storage on purpose. */
  constructor(
    directory: string,
    fileSystem: SpoolFileSystem,
    traits: { readonly mode: number; readonly sync: 'sync' | 'keep' },
  ) {
    this.#path = join(directory, CHECKPOINT_NAME);
    this.#fileSystem = fileSystem;
    this.#mode = traits.mode;
    this.#sync = traits.sync;
  }

  /** The youngest whole checkpoint; undefined: there is none. Throws what reading throws, except that no file is no error. */
  read(): Checkpoint | undefined {
    const bytes = this.#load();
    const [first, second] = SLOTS_AT.map((at) => decode(bytes, at));
    this.#kept = (second?.generation ?? -1) > (first?.generation ?? -1) ? 1 : 0;
    this.#isKeptSynced = false;
    const slot = this.#kept === 1 ? second : first;
    this.#generation = slot?.generation ?? 0;
    return slot?.checkpoint;
  }

  /** Makes both slots, and the file's name sure, while the disk has room for them. Throws what the disk throws. */
  ensure(checkpoint: Checkpoint): void {
    if (this.#fileSystem.bytesOf(this.#path) >= FILE_BYTES) return;
    this.write(checkpoint, 'sync');
    this.write(checkpoint, 'sync');
    if (this.#sync === 'sync') this.#fileSystem.syncDirectory(dirname(this.#path));
  }

  /**
   * Replaces one slot. Throws what the disk throws; the other one is whole then.
   *
   * @param how 'sync': it is on stable storage afterwards; 'keep': a power cut may bring up an older one
   */
  write(checkpoint: Checkpoint, how: 'sync' | 'keep'): void {
    const fileSystem = this.#fileSystem;
    const generation = this.#generation + 1;
    const fd = this.#open();
    try {
      if (this.#sync === 'sync' && !this.#isKeptSynced) fileSystem.sync(fd);
      this.#isKeptSynced = true;
      const slot = this.#kept === 0 ? 1 : 0;
      writeAll(fileSystem, fd, { bytes: encode(generation, checkpoint), at: SLOTS_AT[slot] });
      if (this.#sync === 'sync' && how === 'sync') fileSystem.sync(fd);
      this.#generation = generation;
      if (this.#sync === 'keep' || how === 'sync') this.#kept = slot;
    } finally {
      fileSystem.close(fd);
    }
  }

  #open(): number {
    try {
      return this.#fileSystem.open(this.#path, 'update');
    } catch (error) {
      if (systemCodeOf(error) !== 'ENOENT') throw error;
    }
    return this.#fileSystem.create(this.#path, this.#mode);
  }

  #load(): Uint8Array {
    const bytes = new Uint8Array(FILE_BYTES);
    try {
      const fd = this.#fileSystem.open(this.#path, 'read');
      try {
        this.#fileSystem.read(fd, bytes, 0);
      } finally {
        this.#fileSystem.close(fd);
      }
    } catch (error) {
      if (systemCodeOf(error) !== 'ENOENT') throw error;
    }
    return bytes;
  }
}

function encode(generation: number, { settled, place, tail, doubt }: Checkpoint): Uint8Array {
  const bytes = new Uint8Array(SLOT_BYTES);
  const view = new DataView(bytes.buffer);
  const fields = [
    generation,
    settled,
    place.sequence,
    place.at,
    tail.sequence,
    tail.at,
    tail.number,
    tail.seq ?? 0,
    (tail.seq === undefined ? 0 : FLAG_SEQ) | (tail.state === 'sealed' ? FLAG_SEALED : 0),
    doubt?.from ?? 0,
    doubt?.to ?? 0,
  ];
  fields.forEach((field, index) => {
    view.setFloat64(FIELDS_AT + 8 * index, field, true);
  });
  view.setUint32(0, MAGIC, true);
  view.setUint32(CRC_AT, crc32c(view, FIELDS_AT, SLOT_BYTES), true);
  return bytes;
}

function decode(file: Uint8Array, at: number): Slot | undefined {
  const bytes = file.subarray(at, at + SLOT_BYTES);
  const view = new DataView(bytes.buffer, bytes.byteOffset, SLOT_BYTES);
  if (view.getUint32(0, true) !== MAGIC) return undefined;
  if (view.getUint32(CRC_AT, true) !== crc32c(view, FIELDS_AT, SLOT_BYTES)) return undefined;
  const field = (index: number) => view.getFloat64(FIELDS_AT + 8 * index, true);
  return {
    generation: field(0),
    checkpoint: {
      settled: field(1),
      place: { sequence: field(2), at: field(3) },
      tail: {
        sequence: field(4),
        at: field(5),
        number: field(6),
        seq: (field(8) & FLAG_SEQ) === 0 ? undefined : field(7),
        state: (field(8) & FLAG_SEALED) === 0 ? 'open' : 'sealed',
      },
      doubt: field(10) > field(9) ? { from: field(9), to: field(10) } : undefined,
    },
  };
}
