import {
  DEFINITIONS_BYTES,
  DEFINITIONS_TAIL_WORD,
  SUPER_HEADER_BYTES,
  SUPER_SLOT_BYTES,
  SUPER_SLOTS,
} from '../lane/layout.ts';
import type { Region } from '../lane/region.ts';
import { SHAPES_MAX, type Shape } from '../record/shapes.ts';
import { pack, unpack } from './msgpack.ts';

/**
 * What frames refer to by number: shapes (event name and key list) and super properties.
 *
 * Shapes go into an append-only log, `u32 length | msgpack [event, keys]`, padded to 4, and are never taken
 * back: when the log is full, later shapes travel inside their frames. Super properties go into slots
 * `u32 epoch | u32 length | msgpack map`, which are used again once no unsettled frame names their epoch.
 * Both are complete before the first frame that names them is published, so a worker that sees the
 * frame sees the definition.
 */
const LENGTH_BYTES = 4;

/** The producing thread's side. */
export class DefinitionLog {
  readonly #region: Region;
  #tail: number;
  #count = 0;
  /** Number of names of the shortest key list that found no room: the log never gets shorter, and longer ones are not tried. */
  #tooLong = Number.POSITIVE_INFINITY;

  constructor(region: Region) {
    this.#region = region;
    this.#tail = Atomics.load(region.words, DEFINITIONS_TAIL_WORD);
  }

  /** Publishes a shape and gives it its number. 0: the log is full, the frame must bring its keys. */
  publish(shape: Shape): number {
    if (this.#count >= SHAPES_MAX || shape.size >= this.#tooLong) return 0;
    const definition = pack([shape.event, shape.keys()]);
    const bytes = LENGTH_BYTES + Math.ceil(definition.length / 4) * 4;
    if (this.#tail + bytes > DEFINITIONS_BYTES) {
      this.#tooLong = shape.size;
      return 0;
    }
    const at = this.#region.places.definitionsAt + this.#tail;
    this.#region.view.setUint32(at, definition.length, true);
    this.#region.bytes.set(definition, at + LENGTH_BYTES);
    this.#tail += bytes;
    Atomics.store(this.#region.words, DEFINITIONS_TAIL_WORD, this.#tail);
    this.#count += 1;
    shape.id = this.#count;
    return shape.id;
  }
}

/** An event name with its key list, as a worker reads it. */
export interface Definition {
  readonly event: string;
  readonly keys: readonly string[];
}

/** A worker's side: reads the log as far as it is needed. */
export class DefinitionReader {
  readonly #region: Region;
  readonly #definitions: Definition[] = [];
  #at = 0;

  constructor(region: Region) {
    this.#region = region;
  }

  /** The shape of a number that a published frame carries. */
  shape(id: number): Definition {
    const known = this.#definitions[id - 1];
    if (known !== undefined) return known;
    this.#readOn();
    const definition = this.#definitions[id - 1];
    if (definition === undefined) throw new Error(`millrace: frame of unknown shape ${id}`);
    return definition;
  }

  #readOn(): void {
    const end = Atomics.load(this.#region.words, DEFINITIONS_TAIL_WORD);
    while (this.#at < end) {
      const at = this.#region.places.definitionsAt + this.#at;
      const length = this.#region.view.getUint32(at, true);
      const bytes = this.#region.bytes.slice(at + LENGTH_BYTES, at + LENGTH_BYTES + length);
      this.#definitions.push(parseDefinition(unpack(bytes)));
      this.#at += LENGTH_BYTES + Math.ceil(length / 4) * 4;
    }
  }
}

/** Checks what was read for a definition: `[event, [key, …]]`. */
function parseDefinition(value: unknown): Definition {
  if (Array.isArray(value) && typeof value[0] === 'string' && Array.isArray(value[1])) {
    const keys: unknown[] = value[1];
    return { event: value[0], keys: keys.map(String) };
  }
  throw new Error('millrace: a shape definition is not [event, keys]');
}

/** Puts super properties, already msgpack, into slots of a region. */
export class SuperSlots {
  readonly #region: Region;
  readonly #retiredAt: ((() => boolean) | undefined)[] = [];
  #epoch = 0;

  constructor(region: Region) {
    this.#region = region;
  }

  /**
   * Publishes one msgpack map under a new epoch.
   * 0: too large for a slot, or all slots are still named; the map must travel inside the frames.
   */
  publish(map: Uint8Array): number {
    if (map.length > SUPER_SLOT_BYTES - SUPER_HEADER_BYTES) return 0;
    for (let tries = 0; tries < SUPER_SLOTS; tries += 1) {
      this.#epoch += 1;
      const slot = this.#epoch % SUPER_SLOTS;
      const isUnused = this.#retiredAt[slot];
      if (isUnused !== undefined && !isUnused()) continue;
      this.#retiredAt[slot] = () => false;
      const at = this.#region.places.supersAt + slot * SUPER_SLOT_BYTES;
      this.#region.view.setUint32(at, this.#epoch, true);
      this.#region.view.setUint32(at + 4, map.length, true);
      this.#region.bytes.set(map, at + SUPER_HEADER_BYTES);
      return this.#epoch;
    }
    return 0;
  }

  /** No new frame will name `epoch`; `isUnused` tells when the old ones are settled. */
  retire(epoch: number, isUnused: () => boolean): void {
    if (epoch !== 0) this.#retiredAt[epoch % SUPER_SLOTS] = isUnused;
  }
}

/** The msgpack map of super properties that a published frame names by its epoch. */
export function readSuper(region: Region, epoch: number): Uint8Array {
  const at = region.places.supersAt + (epoch % SUPER_SLOTS) * SUPER_SLOT_BYTES;
  const found = region.view.getUint32(at, true);
  if (found !== epoch) throw new Error(`millrace: super properties ${epoch} gave way to ${found}`);
  const length = region.view.getUint32(at + 4, true);
  return region.bytes.slice(at + SUPER_HEADER_BYTES, at + SUPER_HEADER_BYTES + length);
}
