import { types } from 'node:util';
import { MillraceError, show } from '../base/errors.ts';
import type { Shape, ShapeTable } from '../record/shapes.ts';

/** Deepest nesting of objects in a property value under strict checking. */
export const DEPTH_MAX = 3;
/** Longest list under strict checking, in elements. */
export const LIST_MAX = 500;
/** Earliest instant that has a positive year in every zone, and the end of the year 9999 in the westernmost, in ms since 1970. */
export const TIME_MIN_MS: number = startOfYearOne();
export const TIME_MAX_MS: number = Date.UTC(10_000, 0, 1, 12) - 1;

const UNCHECKED_DEPTH_MAX = 32;
const COUNT_MAX = 0xffff;
const SHORT_STRING = 48;
const BYTES_PER_UNIT_MAX = 3;
const NUMBER_BYTES_MAX = 9;
const DATE_BYTES = 15;
const BIGINT_MAX = 9007199254740991n;

/** Strings longer than this many UTF-8 bytes are sent, and counted as a warning. */
const STRING_WARN_BYTES = 2048;
/** Texts in a list longer than this many UTF-8 bytes: sent, and counted as a warning. */
const ELEMENT_WARN_BYTES = 255;
/** Ids longer than this many characters: sent, and counted as a warning. */
const ID_WARN_CHARACTERS = 128;
/** Numbers beyond ± this lose digits in the store: sent, and counted as a warning. */
const NUMBER_WARN = 9e15;

function startOfYearOne(): number {
  // Date.UTC takes years 0 to 99 for 1900 to 1999, so the year is set apart. A day of margin for the zones.
  return new Date(Date.UTC(2000, 0, 2)).setUTCFullYear(1);
}

/**
 * Writes values as msgpack, one after the other: what msgpackr would read back. A value that finds no room
 * before the limit makes the writer overflow, and it stays so until the next target.
 */
export class ValueWriter {
  readonly #strict: boolean;
  readonly #nested: ShapeTable;
  readonly #onWarning: () => void;
  #target: WriteTarget;
  #bytes: Uint8Array;
  #view: DataView;
  #buffer: Buffer;
  #limit = 0;
  /** Place of the next byte. May be set back to undo what was written since. */
  at = 0;

  /** @param onWarning hears of each value that is sent though the receiver may cut it (long texts, huge numbers) */
  constructor(
    checks: 'strict' | 'none',
    nested: ShapeTable,
    onWarning: () => void = () => undefined,
  ) {
    this.#strict = checks === 'strict';
    this.#nested = nested;
    this.#onWarning = onWarning;
    this.#target = writeTarget(new ArrayBuffer(0));
    const { bytes, view, buffer } = this.#target;
    this.#bytes = bytes;
    this.#view = view;
    this.#buffer = buffer;
  }

  /** Writes into `[at, limit)` of `target` from now on. */
  start(target: WriteTarget, at: number, limit: number): void {
    if (this.#target !== target) {
      this.#target = target;
      this.#bytes = target.bytes;
      this.#view = target.view;
      this.#buffer = target.buffer;
    }
    this.#limit = limit;
    this.at = at;
  }

  /** Past the limit each further write finds no room either, so one look at the end is enough. */
  #overflow(): void {
    this.at = this.#limit + 1;
  }

  get isOverflowed(): boolean {
    return this.at > this.#limit;
  }

  nil(): void {
    if (this.#hasRoom(1)) this.#bytes[this.at++] = 0xc0;
  }

  /** Leaves `count` bytes free, for a header that is filled in later, and returns where they start. */
  skip(count: number): number {
    const at = this.at;
    if (this.#hasRoom(count)) this.at += count;
    return at;
  }

  /** Fills in the header of a map of `count` entries at `at`, where 3 bytes were skipped. */
  mapHeader(at: number, count: number): void {
    this.#header16(at, 0xde, count);
  }

  string(text: string): void {
    if (this.at + SMALL_BYTES > this.#limit || text.length > SHORT_STRING) {
      this.#longString(text);
      return;
    }
    const to = writeAscii(this.#bytes, this.at, text);
    if (to === NOT_SMALL) this.#unicodeString(text);
    else this.at = to;
  }

  /** A short text beyond ASCII: a loop here is faster than the way to the native encoder and back. */
  #unicodeString(text: string): void {
    const at = this.at;
    const bytes = this.#bytes;
    const length = text.length;
    if (at + 2 + length * BYTES_PER_UNIT_MAX > this.#limit) {
      this.#longString(text);
      return;
    }
    let to = at + 2;
    for (let index = 0; index < length; index += 1) {
      const code = text.charCodeAt(index);
      if (code < 0x80) bytes[to++] = code;
      else if (code < 0x800) {
        bytes[to++] = 0xc0 | (code >> 6);
        bytes[to++] = 0x80 | (code & 0x3f);
      } else if (code >= 0xd800 && code < 0xe000) {
        // Pairs, and halves without their other half, are left to the native encoder.
        this.#longString(text);
        return;
      } else {
        bytes[to++] = 0xe0 | (code >> 12);
        bytes[to++] = 0x80 | ((code >> 6) & 0x3f);
        bytes[to++] = 0x80 | (code & 0x3f);
      }
    }
    bytes[at] = 0xd9;
    bytes[at + 1] = to - at - 2;
    this.at = to;
  }

  /** The id of a user, a text that is not empty. */
  id(text: string): void {
    if (text.length <= ID_WARN_CHARACTERS) {
      this.string(text);
      return;
    }
    // Half as many characters as units, where each is a pair.
    const isLong = text.length > 2 * ID_WARN_CHARACTERS || [...text].length > ID_WARN_CHARACTERS;
    this.#longString(text, isLong ? 0 : Number.POSITIVE_INFINITY);
  }

  #longString(text: string, warnBytes: number = STRING_WARN_BYTES): void {
    const at = this.at;
    const most = text.length * BYTES_PER_UNIT_MAX;
    const headerBytes = most <= 0xff ? 2 : most <= 0xffff ? 3 : 5;
    const textAt = at + headerBytes;
    // Three bytes a unit is only a bound; the true length is looked at before giving up.
    if (textAt + most > this.#limit && !this.#fits(text, textAt)) {
      this.#overflow();
      return;
    }
    const written = this.#buffer.write(text, textAt, this.#limit - textAt, 'utf8');
    if (written > warnBytes) this.#onWarning();
    if (headerBytes === 2) {
      this.#bytes[at] = 0xd9;
      this.#bytes[at + 1] = written;
    } else if (headerBytes === 3) {
      this.#header16(at, 0xda, written);
    } else {
      this.#bytes[at] = 0xdb;
      this.#view.setUint32(at + 1, written);
    }
    this.at = textAt + written;
  }

  #fits(text: string, textAt: number): boolean {
    return textAt + text.length <= this.#limit && textAt + Buffer.byteLength(text) <= this.#limit;
  }

  /** False: the number can't be carried, and nothing was written. */
  number(value: number, name: string): boolean {
    if (!this.#hasRoom(NUMBER_BYTES_MAX)) return true;
    const to = writeNumber(this.#target, this.at, value);
    if (to !== NOT_SMALL) {
      this.at = to;
      return true;
    }
    if (!Number.isFinite(value)) return this.#refuse(name, value, 'must be a finite number');
    this.#onWarning();
    this.at = writeDouble(this.#target, this.at, value);
    return true;
  }

  /**
   * A property's value, whatever it is.
   *
   * @param name of the property, for the message of a refusal
   * @returns false when it can't be carried (only without checks): its key is to be left out
   * @throws MillraceError MILLRACE_INVALID_VALUE or MILLRACE_INVALID_NAME under strict checking
   */
  value(value: unknown, name: string): boolean {
    const at = this.at;
    if (this.#any(value, { name, depth: 0 })) return true;
    this.at = at;
    return false;
  }

  /** Writes a value of a common kind, if it is one and there is room to spare. */
  #small(value: unknown): boolean {
    if (this.at + SMALL_BYTES > this.#limit) return false;
    const to = writeSmall(this.#target, this.at, value);
    if (to === NOT_SMALL) return false;
    this.at = to;
    return true;
  }

  #any(value: unknown, place: Place): boolean {
    if (typeof value === 'string') {
      this.string(value);
      return true;
    }
    if (typeof value === 'object') return value !== null && this.#object(value, place);
    switch (typeof value) {
      case 'number':
        return this.number(value, place.name);
      case 'boolean':
        if (this.#hasRoom(1)) this.#bytes[this.at++] = value ? 0xc3 : 0xc2;
        return true;
      case 'bigint':
        return this.#bigint(value, place.name);
      default:
        return this.#refuse(place.name, value, 'has no place in a record');
    }
  }

  #bigint(value: bigint, name: string): boolean {
    if (value < -BIGINT_MAX || value > BIGINT_MAX) {
      return this.#refuse(name, value, `must be within ±${BIGINT_MAX}`);
    }
    return this.number(Number(value), name);
  }

  #object(value: object, place: Place): boolean {
    if (Array.isArray(value)) return this.#list(value, place);
    if (value instanceof Date || types.isDate(value)) return this.#date(value, place.name);
    if (this.#strict && !isPlain(value)) {
      return this.#refuse(place.name, value, 'must be a plain object, a list or a Date');
    }
    const depthMax = this.#strict ? DEPTH_MAX : UNCHECKED_DEPTH_MAX;
    if (place.depth >= depthMax) {
      return this.#refuse(place.name, value, `is nested deeper than ${depthMax} objects`);
    }
    return this.#map(value as Readonly<Record<string, unknown>>, place);
  }

  /** A Date as the timestamp extension of msgpack, in its 12-byte form. */
  #date(value: Date, name: string): boolean {
    const ms = Date.prototype.getTime.call(value);
    if (!(ms >= TIME_MIN_MS && ms <= TIME_MAX_MS)) {
      return this.#refuse(name, value, 'must be a valid Date of the years 1 to 9999');
    }
    const at = this.skip(DATE_BYTES);
    if (this.isOverflowed) return true;
    const seconds = Math.floor(ms / 1000);
    this.#bytes[at] = 0xc7;
    this.#bytes[at + 1] = 12;
    this.#bytes[at + 2] = 0xff;
    this.#view.setUint32(at + 3, (ms - seconds * 1000) * 1_000_000);
    this.#view.setInt32(at + 7, Math.floor(seconds / 0x1_0000_0000));
    this.#view.setUint32(at + 11, seconds >>> 0);
    return true;
  }

  #map(value: Readonly<Record<string, unknown>>, place: Place): boolean {
    const headerAt = this.skip(3);
    let count = 0;
    let shape = this.#nested.base;
    for (const key of Object.keys(value)) {
      const inner = value[key];
      const next =
        key === shape.lastKey && inner !== null && inner !== undefined
          ? shape.lastShape
          : this.#step(shape, key, { inner, place });
      if (next === undefined || !this.#entry(key, inner, place)) continue;
      shape = next;
      count += 1;
      if (count > COUNT_MAX) return this.#refuse(place.name, value, `has over ${COUNT_MAX} keys`);
      if (this.isOverflowed) return true;
    }
    this.mapHeader(headerAt, count);
    return true;
  }

  #step(
    shape: Shape,
    key: string,
    { inner, place }: { inner: unknown; place: Place },
  ): Shape | undefined {
    try {
      if (inner === null || inner === undefined) {
        this.#nested.checkName(key);
        return undefined;
      }
      return this.#nested.step(shape, key);
    } catch (error) {
      if (!(error instanceof MillraceError)) throw error;
      throw new MillraceError(error.code, `${error.message} (inside ${place.name})`);
    }
  }

  /** A key and its value; nothing of it stays when the value is left out. */
  #entry(key: string, inner: unknown, place: Place): boolean {
    const at = this.at;
    this.string(key);
    // Where a value stands is spelled out only where it may be needed: mistakes are rare.
    if (this.#small(inner)) return true;
    if (this.#any(inner, { name: `${place.name}.${key}`, depth: place.depth + 1 })) return true;
    this.at = at;
    return false;
  }

  #list(list: readonly unknown[], place: Place): boolean {
    const length = list.length;
    const most = this.#strict ? LIST_MAX : COUNT_MAX;
    if (length > most) {
      return this.#refuse(place.name, list, `has more than ${most} elements`);
    }
    const headerAt = this.skip(3);
    let count = 0;
    for (let index = 0; index < length && !this.isOverflowed; index += 1) {
      const at = this.at;
      if (this.#element(list[index], { place, index })) count += 1;
      else this.at = at;
    }
    this.#header16(headerAt, 0xdc, count);
    return true;
  }

  #element(element: unknown, { place, index }: { place: Place; index: number }): boolean {
    if (this.#small(element)) return true;
    const name = `${place.name}[${index}]`;
    if (element === null || element === undefined) {
      return this.#refuse(name, element, 'is not a value: lists hold no null');
    }
    if (Array.isArray(element)) return this.#refuse(name, element, 'is a list inside a list');
    if (typeof element === 'string' && element.length > SHORT_STRING) {
      this.#longString(element, ELEMENT_WARN_BYTES);
      return true;
    }
    return this.#any(element, { name, depth: place.depth });
  }

  #hasRoom(count: number): boolean {
    if (this.at + count <= this.#limit) return true;
    this.#overflow();
    return false;
  }

  #header16(at: number, type: number, count: number): void {
    if (this.isOverflowed) return;
    this.#bytes[at] = type;
    this.#view.setUint16(at + 1, count);
  }

  #refuse(name: string, value: unknown, rule: string): false {
    if (!this.#strict) return false;
    throw new MillraceError(
      'MILLRACE_INVALID_VALUE',
      `properties: ${name} is ${show(value)}, which ${rule}`,
    );
  }
}

/** Room that {@link writeSmall} takes for granted, in bytes. */
export const SMALL_BYTES: number = 2 + SHORT_STRING;
/** The value is none that {@link writeSmall} writes; nothing of it counts. */
export const NOT_SMALL = -1;

/**
 * Writes a value of the most common kinds at `at`, where there is room for SMALL_BYTES: an ASCII text of up to 48 characters,
 * a number that needs no warning, a truth value.
 *
 * @returns place of the next byte, or NOT_SMALL
 */
export function writeSmall(target: WriteTarget, at: number, value: unknown): number {
  // One comparison after the other: a switch over typeof asks the engine for the type's name first.
  if (typeof value === 'string') return writeAscii(target.bytes, at, value);
  if (typeof value === 'number') return writeNumber(target, at, value);
  if (typeof value !== 'boolean') return NOT_SMALL;
  target.bytes[at] = value ? 0xc3 : 0xc2;
  return at + 1;
}

/** As {@link writeSmall}, for the id of a user: a text that is not empty, or nil for none. */
export function writeSmallId(target: WriteTarget, at: number, id: unknown): number {
  if (typeof id === 'string') return id === '' ? NOT_SMALL : writeAscii(target.bytes, at, id);
  if (id !== undefined) return NOT_SMALL;
  target.bytes[at] = 0xc0;
  return at + 1;
}

function writeAscii(bytes: Uint8Array, at: number, text: string): number {
  const length = text.length;
  if (length > SHORT_STRING) return NOT_SMALL;
  const textAt = length < 32 ? at + 1 : at + 2;
  for (let index = 0; index < length; index += 1) {
    const code = text.charCodeAt(index);
    if (code > 0x7f) return NOT_SMALL;
    bytes[textAt + index] = code;
  }
  if (length < 32) {
    bytes[at] = 0xa0 | length;
  } else {
    bytes[at] = 0xd9;
    bytes[at + 1] = length;
  }
  return textAt + length;
}

function writeNumber(target: WriteTarget, at: number, value: number): number {
  const integer = value | 0;
  // -0 passes as 0, as JSON prints it.
  if (integer !== value) {
    const isUsual = value <= NUMBER_WARN && value >= -NUMBER_WARN;
    return isUsual ? writeDouble(target, at, value) : NOT_SMALL;
  }
  if (integer >= 0 && integer < 0x80) {
    target.bytes[at] = integer;
    return at + 1;
  }
  target.bytes[at] = 0xd2;
  target.view.setInt32(at + 1, integer);
  return at + 5;
}

function writeDouble({ bytes, view }: WriteTarget, at: number, value: number): number {
  bytes[at] = 0xcb;
  view.setFloat64(at + 1, value);
  return at + 9;
}

/** Views of the same memory: what one kind of write each is fastest with. */
export interface WriteTarget {
  readonly bytes: Uint8Array;
  readonly view: DataView;
  readonly buffer: Buffer;
  readonly words: Int32Array;
  readonly floats: Float64Array;
}

/** Views of `memory`, whose length is a multiple of 8, to write into. */
export function writeTarget(memory: ArrayBuffer | SharedArrayBuffer): WriteTarget {
  return {
    bytes: new Uint8Array(memory),
    view: new DataView(memory),
    // Buffer.from(memory) shares it; the declared type covers only one of the two kinds of memory.
    buffer: Buffer.from(memory as ArrayBuffer),
    words: new Int32Array(memory),
    floats: new Float64Array(memory),
  };
}

interface Place {
  readonly name: string;
  readonly depth: number;
}

function isPlain(value: object): boolean {
  const prototype: unknown = Object.getPrototypeOf(value);
  if (prototype === Object.prototype || prototype === null) return true;
  // An object of another realm (vm, test runners) has that realm's Object.prototype: one with no prototype above it.
  return (
    typeof prototype === 'object' &&
    Object.getPrototypeOf(prototype) === null &&
    Object.hasOwn(prototype, 'hasOwnProperty')
  );
}
