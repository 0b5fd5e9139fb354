import { randomFillSync } from 'node:crypto';
import { types } from 'node:util';
import { MillraceError, show } from '../base/errors.ts';
import {
  EPOCH_AT,
  FLAG_DYNAMIC,
  FLAG_EXTRAS,
  FLAG_NOTIFY,
  FLAG_UUID,
  FLAGS_AT,
  FRAME_HEADER_BYTES,
  INLINE_FROM,
  INLINE_KEYS_MAX,
  KIND_AT,
  SHAPE_AT,
  STAMP_AT,
  TIME_AT,
  UUID_AT,
  UUID_BYTES,
} from '../lane/layout.ts';
import { isEventName, NAME_CHARACTERS_MAX } from '../record/names.ts';
import {
  checkIsObject,
  compareSpellings,
  reservedName,
  type Shape,
  ShapeTable,
  type Spellings,
  spellingsOf,
} from '../record/shapes.ts';
import {
  LIFT_APP_ID,
  LIFT_CODES,
  LIFT_EVENT_ID,
  LIFT_FIRST_CHECK_ID,
  LIFT_IP,
  LIFT_NAMES,
  LIFT_TIME,
  LIFT_UUID,
  type Properties,
  type RecordFields,
  TRACK_OVERWRITE,
  USER_ADD,
  USER_APPEND,
  USER_UNIQ_APPEND,
  USER_UNSET,
} from '../record/types.ts';
import type { DefinitionLog } from './definitions.ts';
import {
  NOT_SMALL,
  SMALL_BYTES,
  TIME_MAX_MS,
  TIME_MIN_MS,
  ValueWriter,
  type WriteTarget,
  writeSmall,
  writeSmallId,
} from './value-writer.ts';

/** Properties added to every `track*` record, encoded once. */
export interface SuperProperties {
  /** Epoch whose slot holds the map; 0: none, or `inline` holds it. */
  readonly epoch: number;
  /** The properties themselves, for frames that must bring them along. */
  readonly inline: Properties | undefined;
  /** Lifted fields among them (`#ip`, `#app_id` …), by LIFT_ number; undefined: none. */
  readonly lifted: readonly (string | undefined)[] | undefined;
  readonly spellings: Spellings;
}

/** Super properties of a client that has none. */
export const NO_SUPER: SuperProperties = {
  epoch: 0,
  inline: undefined,
  lifted: undefined,
  spellings: new Map(),
};

/** What one frame is made of, besides the caller's fields. */
export interface FrameContext {
  readonly kind: number;
  readonly supers: SuperProperties;
  /** What the dynamic super function gave for this record. */
  readonly dynamic: Properties | undefined;
  /** Wall time of the call, ms. */
  readonly nowMs: number;
  /** `nowMs` as the region stamps it. */
  readonly stampMs: number;
}

/** Names of dynamic properties, and the super properties they were compared with last. */
interface DynamicNames {
  readonly keys: readonly string[];
  readonly spellings: Spellings;
  comparedWith: SuperProperties | undefined;
}

export interface EncoderOptions {
  readonly checks: 'strict' | 'none';
  readonly uuid: boolean;
  readonly definitions: DefinitionLog;
  /** Hears of dynamic super properties that could not be carried; the record goes without them. */
  readonly onDynamicError: (error: unknown) => void;
  /** Hears of each value that is sent though the receiver may cut it. */
  readonly onWarning: () => void;
}

/** The frame does not fit before the limit; what was written is void. */
export const OVERFLOW = -1;

// What each record needs, as constants of this module: imported ones are looked up at every use.
const HEADER: number = FRAME_HEADER_BYTES;
const HEADER_AND_UUID: number = FRAME_HEADER_BYTES + UUID_BYTES;
const KIND_WORD: number = KIND_AT / 4;
const STAMP_WORD: number = STAMP_AT / 4;
const SHAPE_WORD: number = SHAPE_AT / 4;
const EPOCH_WORD: number = EPOCH_AT / 4;
const UUID_WORD: number = UUID_AT / 4;
const TIME_FLOAT: number = TIME_AT / 8;
/** The flags are the byte after the kind; the rest of that word is zero. */
const FLAGS_SHIFT: number = 8 * (FLAGS_AT - KIND_AT);
const HAS_UUID: number = FLAG_UUID;
const HAS_LISTENER: number = FLAG_NOTIFY;
const LAST_TRACK: number = TRACK_OVERWRITE;
const FIRST_CHECKED: number = USER_ADD;
const ROOM: number = SMALL_BYTES;
const NONE: number = NOT_SMALL;
const UUID_WORDS: number = UUID_BYTES / 4;
const UUID_POOL_WORDS: number = UUID_WORDS * 1024;
const UUID_PATTERN = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i;
const DASH = 0x2d;
const EMPTY: Properties = Object.freeze({});
const PLAIN: unknown = Object.prototype;

/**
 * Writes records as frames. One a client thread; not to be entered twice at a time (a getter that tracks):
 * who may be re-entered keeps a second one.
 */
export class FrameEncoder {
  readonly #strict: boolean;
  readonly #uuid: boolean;
  readonly #definitions: DefinitionLog;
  readonly #onDynamicError: (error: unknown) => void;
  readonly #shapes: ShapeTable;
  readonly #dynamicShapes: ShapeTable;
  readonly #writer: ValueWriter;
  readonly #uuidPool = new Int32Array(UUID_POOL_WORDS);
  #uuidAt = UUID_POOL_WORDS;
  readonly #lifted: (string | undefined)[] = new Array(LIFT_CODES).fill(undefined);
  #hasLifted = false;
  #hasTime = false;
  #timeMs = 0;
  #flags = 0;
  #shapeId = 0;
  #kind = 0;
  /** Up to this place writeSmall may write. */
  #smallUntil = 0;
  #dynamicNames: DynamicNames = { keys: [], spellings: new Map(), comparedWith: undefined };

  constructor(options: EncoderOptions) {
    this.#strict = options.checks === 'strict';
    this.#uuid = options.uuid;
    this.#definitions = options.definitions;
    this.#onDynamicError = options.onDynamicError;
    this.#shapes = new ShapeTable(options.checks);
    this.#dynamicShapes = new ShapeTable(options.checks);
    const { checks, onWarning } = options;
    this.#writer = new ValueWriter(checks, new ShapeTable(checks), onWarning);
    // The first random bytes of a process take milliseconds: better now than in the first call.
    if (options.uuid) this.#fillPool();
  }

  /**
   * Writes the frame of one record at `at`, complete but for its length and seq.
   *
   * @returns the frame's length in bytes, a multiple of 8, or OVERFLOW when it would pass `limit`
   * @throws MillraceError under strict checking; what was written is void
   */
  encode(
    target: WriteTarget,
    { at, limit }: { readonly at: number; readonly limit: number },
    fields: RecordFields,
    context: FrameContext,
  ): number {
    const writer = this.#writer;
    const valuesAt = at + (this.#uuid ? HEADER_AND_UUID : HEADER);
    writer.start(target, valuesAt, limit);
    // Where user values are checked one by one, none takes the fast way.
    this.#smallUntil = this.#strict && context.kind >= FIRST_CHECKED ? -1 : limit - ROOM;
    this.#kind = context.kind;
    this.#takeArguments(fields);
    this.#flags = this.#uuid ? HAS_UUID : 0;
    const properties = this.#own(fields.properties ?? EMPTY);
    const shape = this.#body(target, fields, properties);
    if (context.kind <= LAST_TRACK) this.#addContext(shape, properties, context);
    if (this.#hasLifted) this.#addExtras();
    if (fields.onSettled !== undefined) this.#flags |= HAS_LISTENER;
    const end = writer.at;
    const length = (end - at + 7) & -8;
    if (at + length > limit) return OVERFLOW;
    // Zero bytes up to a multiple of 8: at once where 8 bytes may be written.
    if (end + 8 <= limit) target.view.setFloat64(end, 0);
    else target.bytes.fill(0, end, at + length);
    this.#writeHeader(target, at, context);
    return length;
  }

  /** Properties without inherited ones, which a walk over the names would meet as well: the same object where it has none. */
  #own(properties: Properties): Properties {
    const prototype: unknown = Object.getPrototypeOf(properties);
    if (prototype === PLAIN || prototype === null) return properties;
    if (this.#strict) checkIsObject(properties);
    return { ...properties };
  }

  /** Word by word: frames lie at multiples of 8 bytes. */
  #writeHeader({ words, floats, bytes }: WriteTarget, at: number, context: FrameContext): void {
    const wordAt = at / 4;
    words[wordAt + KIND_WORD] = context.kind | (this.#flags << FLAGS_SHIFT);
    words[wordAt + STAMP_WORD] = context.stampMs;
    words[wordAt + SHAPE_WORD] = this.#shapeId;
    words[wordAt + EPOCH_WORD] = context.kind <= LAST_TRACK ? context.supers.epoch : 0;
    floats[at / 8 + TIME_FLOAT] = this.#hasTime ? this.#timeMs : context.nowMs;
    if ((this.#flags & HAS_UUID) === 0) return;
    const given = this.#hasLifted ? this.#lifted[LIFT_UUID] : undefined;
    if (given === undefined) this.#freshUuid(words, wordAt + UUID_WORD);
    else if (this.#fitsHeader(given)) writeUuid(bytes, at + UUID_AT, given);
    // The text is among the extras, and these bytes say so.
    else bytes.fill(0, at + UUID_AT, at + UUID_AT + UUID_BYTES);
  }

  /** Notes what came as arguments, which wins over the same field inside properties. */
  #takeArguments(fields: RecordFields): void {
    if (this.#hasLifted) {
      this.#lifted.fill(undefined);
      this.#hasLifted = false;
    }
    this.#hasTime = false;
    if ((fields.time ?? undefined) !== undefined) this.#liftTime(fields.time, 'time');
    if (fields.uuid !== undefined) this.#lift(LIFT_UUID, fields.uuid, 'uuid');
    if (fields.ip !== undefined) this.#lift(LIFT_IP, fields.ip, 'ip');
    if (fields.appId !== undefined) this.#lift(LIFT_APP_ID, fields.appId, 'appId');
    if (fields.eventId !== undefined) this.#lift(LIFT_EVENT_ID, fields.eventId, 'eventId');
    if (fields.firstCheckId !== undefined) {
      this.#lift(LIFT_FIRST_CHECK_ID, fields.firstCheckId, 'firstCheckId');
    }
  }

  /** Writes ids and values, and returns the key list. */
  #body(target: WriteTarget, fields: RecordFields, properties: Properties): Shape {
    const smallUntil = this.#smallUntil;
    let at = this.#ids(target, fields);
    let shape = this.#kind <= LAST_TRACK ? this.#eventRoot(fields.event) : this.#shapes.base;
    for (const key in properties) {
      const value: unknown = properties[key];
      const next =
        key === shape.lastKey ? shape.lastShape : this.#step(shape, key, { properties, value });
      if (next === undefined) continue;
      let to = next.lift !== 0 || at > smallUntil ? NONE : writeSmall(target, at, value);
      if (to === NONE) to = this.#value(value, next, at);
      if (to === NONE) continue;
      at = to;
      shape = next;
    }
    this.#writer.at = at;
    this.#shapeId = shape.id === 0 ? this.#publish(shape) : shape.id;
    return shape;
  }

  #ids(target: WriteTarget, { distinctId, accountId }: RecordFields): number {
    const at = this.#writer.at;
    if (at <= this.#smallUntil - ROOM) {
      const accountAt = writeSmallId(target, at, distinctId);
      const to = accountAt === NONE ? NONE : writeSmallId(target, accountAt, accountId);
      if (to !== NONE) return to;
    }
    this.#id(distinctId, 'distinctId');
    this.#id(accountId, 'accountId');
    return this.#writer.at;
  }

  #id(id: unknown, name: string): void {
    if (typeof id === 'string' && id !== '') this.#writer.id(id);
    else if (!this.#strict || id === undefined || id === null || id === '') this.#writer.nil();
    else
      throw new MillraceError('MILLRACE_MISSING_ID', `${name} is ${show(id)}; it must be a text`);
  }

  #eventRoot(event: unknown): Shape {
    if (typeof event === 'string') {
      return this.#shapes.root(event, this.#strict ? checkEvent : allowEvent);
    }
    if (this.#strict) throw badEvent(event);
    return this.#shapes.base;
  }

  /** Writes any value, and returns the place after it; NONE: it has no place among the values. */
  #value(value: unknown, next: Shape, at: number): number {
    if (value === undefined || value === null) return NONE;
    if (next.lift !== 0) {
      if (this.#strict && this.#kind === USER_UNSET) throw reservedName(next.key);
      this.#lift(next.lift, value);
      return NONE;
    }
    const writer = this.#writer;
    writer.at = at;
    if (this.#strict && this.#kind >= USER_ADD) checkUserValue(this.#kind, next.key, value);
    return writer.value(value, next.key) ? writer.at : NONE;
  }

  /** The slow way of a step: where names are checked, and inherited keys are told from own ones. */
  #step(
    shape: Shape,
    key: string,
    { properties, value }: { properties: Properties; value: unknown },
  ): Shape | undefined {
    if (value === undefined || value === null) {
      this.#shapes.checkName(key);
      return undefined;
    }
    return Object.hasOwn(properties, key) ? this.#shapes.step(shape, key) : undefined;
  }

  /** Gives a shape its number; one that gets none, as one that does not come again, travels in the frame, keys and all. */
  #publish(shape: Shape): number {
    const id = shape.isKept ? this.#definitions.publish(shape) : 0;
    if (id !== 0) return id;
    if (shape.size > INLINE_KEYS_MAX) {
      throw new MillraceError(
        'MILLRACE_RECORD_TOO_LARGE',
        `properties has ${shape.size} names; a record takes at most ${INLINE_KEYS_MAX}`,
      );
    }
    this.#writer.string(shape.event);
    for (const key of shape.keys()) this.#writer.string(key);
    return INLINE_FROM + shape.size;
  }

  /** What a record of an event has besides its own properties. */
  #addContext(shape: Shape, own: Properties, context: FrameContext): void {
    const { supers } = context;
    if (shape.comparedWith !== supers) this.#compare(shape, supers);
    const isPlain = supers.inline === undefined && supers.lifted === undefined;
    if (isPlain && context.dynamic === undefined) return;
    if (this.#addDynamic(shape, own, context)) this.#flags |= FLAG_DYNAMIC;
  }

  /** Super properties have to be spelled as the record's own names: looked at once for a shape and an epoch. */
  #compare(shape: Shape, supers: SuperProperties): void {
    if (this.#strict && supers.spellings.size > 0) {
      compareSpellings(shape.spellings, supers.spellings);
    }
    shape.comparedWith = supers;
  }

  /** A map of the dynamic properties, and of the super properties that no slot holds. False: there are none. */
  #addDynamic(shape: Shape, own: Properties, { dynamic, supers }: FrameContext): boolean {
    const { inline, lifted } = supers;
    let count = 0;
    if (dynamic !== undefined || inline !== undefined) {
      const writer = this.#writer;
      const headerAt = writer.skip(3);
      if (dynamic !== undefined) count = this.#tryDynamic(dynamic, { shape, own, supers });
      if (inline !== undefined) {
        count += this.#addMap(inline, count === 0 ? [own] : [own, dynamic ?? EMPTY]);
      }
      if (count === 0) writer.at = headerAt;
      else writer.mapHeader(headerAt, count);
    }
    if (lifted !== undefined) this.#liftAll(lifted);
    return count > 0;
  }

  #liftAll(lifted: readonly (string | undefined)[]): void {
    for (let code = 0; code < LIFT_CODES; code += 1) this.#lift(code, lifted[code]);
  }

  /** Dynamic properties that are wrong are left out, and the record goes without them. */
  #tryDynamic(
    dynamic: Properties,
    { shape, own, supers }: { shape: Shape; own: Properties; supers: SuperProperties },
  ): number {
    const { at } = this.#writer;
    const before = this.#liftedSet();
    const hadTime = this.#hasTime;
    try {
      if (this.#strict) this.#compareDynamic(shape, Object.keys(dynamic), supers);
      return this.#addMap(dynamic, [own]);
    } catch (error) {
      this.#onDynamicError(error);
      this.#writer.at = at;
      this.#keepLifted(before);
      this.#hasTime = hadTime;
      return 0;
    }
  }

  /** Which fields are lifted so far: a bit each. */
  #liftedSet(): number {
    if (!this.#hasLifted) return 0;
    let set = 0;
    for (let code = 0; code < LIFT_CODES; code += 1) {
      if (this.#lifted[code] !== undefined) set |= 1 << code;
    }
    return set;
  }

  /** Takes back what was lifted since. */
  #keepLifted(set: number): void {
    for (let code = 0; code < LIFT_CODES; code += 1) {
      if ((set & (1 << code)) === 0) this.#lifted[code] = undefined;
    }
    this.#hasLifted = set !== 0;
  }

  /** Dynamic properties have to be spelled as those beside them: looked at once for each pair of name lists in a row. */
  #compareDynamic(shape: Shape, keys: readonly string[], supers: SuperProperties): void {
    let names = this.#dynamicNames;
    if (!isSameList(names.keys, keys)) {
      names = { keys, spellings: spellingsOf(keys), comparedWith: undefined };
      this.#dynamicNames = names;
    }
    if (shape.comparedDynamic !== names) compareSpellings(shape.spellings, names.spellings);
    shape.comparedDynamic = names;
    if (names.comparedWith !== supers) compareSpellings(names.spellings, supers.spellings);
    names.comparedWith = supers;
  }

  /** Writes the entries of `from` that none of `before` has, and returns how many they are. */
  #addMap(from: Properties, before: readonly Properties[]): number {
    const writer = this.#writer;
    let shape = this.#dynamicShapes.base;
    let count = 0;
    for (const key of Object.keys(from)) {
      const value: unknown = from[key];
      if (value === undefined || value === null) continue;
      const known = key === shape.lastKey ? shape.lastShape : undefined;
      const next = known ?? this.#dynamicShapes.step(shape, key);
      if (next.lift !== 0) {
        this.#lift(next.lift, value);
        continue;
      }
      shape = next;
      if (hasValueInAny(before, key)) continue;
      const at = writer.at;
      writer.string(key);
      if (writer.value(value, key)) count += 1;
      else writer.at = at;
    }
    return count;
  }

  /** Keeps one lifted field; the first to come stays. */
  #lift(code: number, value: unknown, argument = ''): void {
    if (value === null || value === undefined) return;
    if (code === LIFT_TIME) {
      if (!this.#hasTime) this.#liftTime(value, '#time');
      return;
    }
    if (this.#lifted[code] !== undefined) return;
    const text = this.#liftedText(code, value, argument);
    if (text === undefined) return;
    this.#lifted[code] = text;
    this.#hasLifted = true;
  }

  #liftTime(time: unknown, field: string): void {
    const ms = time instanceof Date || types.isDate(time) ? Date.prototype.getTime.call(time) : NaN;
    if (ms >= TIME_MIN_MS && ms <= TIME_MAX_MS) {
      this.#timeMs = ms;
      this.#hasTime = true;
    } else if (this.#strict) {
      throw new MillraceError(
        'MILLRACE_INVALID_TIME',
        `${field} is ${show(time)}; it must be a valid Date of the years 1 to 9999`,
      );
    }
  }

  #liftedText(code: number, value: unknown, argument: string): string | undefined {
    const isText = typeof value === 'string' && value !== '';
    if (!this.#strict) return isText ? value : undefined;
    const field = LIFT_NAMES[code] ?? '';
    const name = argument === '' ? field : `${argument} (${field})`;
    if (!isText) {
      throw new MillraceError(
        'MILLRACE_INVALID_VALUE',
        `${name} is ${show(value)}; it must be a text that is not empty`,
      );
    }
    if (code !== LIFT_UUID) return value;
    if (UUID_PATTERN.test(value)) return value.toLowerCase();
    throw new MillraceError(
      'MILLRACE_INVALID_VALUE',
      `${name} is ${show(value)}; it must be a UUID such as 3f2b8c1e-9a47-4d6e-8b15-7c0d9e2f1a34`,
    );
  }

  /** Writes the lifted fields, if there are any, as a map from their number. */
  #addExtras(): void {
    const writer = this.#writer;
    const headerAt = writer.skip(3);
    let count = 0;
    for (let code = LIFT_UUID; code < LIFT_CODES; code += 1) {
      const text = this.#lifted[code];
      if (text === undefined || (code === LIFT_UUID && this.#fitsHeader(text))) continue;
      writer.number(code, '');
      writer.string(text);
      count += 1;
    }
    if (count === 0) {
      writer.at = headerAt;
      return;
    }
    writer.mapHeader(headerAt, count);
    this.#flags |= FLAG_EXTRAS;
  }

  #fitsHeader(uuid: string): boolean {
    // Under strict checking a text that is none never came so far.
    return this.#uuid && (this.#strict || UUID_PATTERN.test(uuid));
  }

  #freshUuid(words: Int32Array, wordAt: number): void {
    if (this.#uuidAt === UUID_POOL_WORDS) this.#fillPool();
    const pool = this.#uuidPool;
    const from = this.#uuidAt;
    words[wordAt] = pool[from] ?? 0;
    words[wordAt + 1] = pool[from + 1] ?? 0;
    words[wordAt + 2] = pool[from + 2] ?? 0;
    words[wordAt + 3] = pool[from + 3] ?? 0;
    this.#uuidAt = from + UUID_WORDS;
  }

  #fillPool(): void {
    const pool = this.#uuidPool;
    randomFillSync(pool);
    const bytes = new Uint8Array(pool.buffer);
    for (let at = 0; at < bytes.length; at += UUID_BYTES) {
      // RFC 4122: version 4 in the high half of byte 6, variant 10 in the top of byte 8.
      bytes[at + 6] = ((bytes[at + 6] ?? 0) & 0x0f) | 0x40;
      bytes[at + 8] = ((bytes[at + 8] ?? 0) & 0x3f) | 0x80;
    }
    this.#uuidAt = 0;
  }
}

/** Writes the bytes of a uuid that the caller gave as text. */
function writeUuid(bytes: Uint8Array, at: number, uuid: string): void {
  let from = 0;
  for (let index = 0; index < UUID_BYTES; index += 1) {
    if (uuid.charCodeAt(from) === DASH) from += 1;
    const high = hexDigit(uuid.charCodeAt(from));
    bytes[at + index] = (high << 4) | hexDigit(uuid.charCodeAt(from + 1));
    from += 2;
  }
}

function hexDigit(code: number): number {
  // Letters of either case are 9 above their low four bits.
  return (code & 15) + 9 * (code >> 6);
}

function isSameList(one: readonly string[], other: readonly string[]): boolean {
  if (one.length !== other.length) return false;
  for (let index = 0; index < one.length; index += 1) {
    if (one[index] !== other[index]) return false;
  }
  return true;
}

function hasValueInAny(several: readonly Properties[], key: string): boolean {
  for (const properties of several) if (hasValue(properties, key)) return true;
  return false;
}

function hasValue(properties: Properties, key: string): boolean {
  return Object.hasOwn(properties, key) && (properties[key] ?? undefined) !== undefined;
}

function checkEvent(event: string): void {
  if (!isEventName(event)) throw badEvent(event);
}

function allowEvent(): void {
  // Without checks every text may name an event.
}

function badEvent(event: unknown): MillraceError {
  return new MillraceError(
    'MILLRACE_INVALID_NAME',
    `event is ${show(event)}; it must start with a letter, then letters, digits and _, at most ${NAME_CHARACTERS_MAX} characters`,
  );
}

function checkUserValue(kind: number, name: string, value: unknown): void {
  if (kind === USER_ADD && typeof value !== 'number' && typeof value !== 'bigint') {
    throw new MillraceError(
      'MILLRACE_INVALID_VALUE',
      `properties: ${show(name).slice(1, -1)} is ${show(value)}; user_add takes finite numbers`,
    );
  }
  if ((kind === USER_APPEND || kind === USER_UNIQ_APPEND) && !Array.isArray(value)) {
    throw new MillraceError(
      'MILLRACE_INVALID_VALUE',
      `properties: ${show(name).slice(1, -1)} is ${show(value)}; it must be a list to append`,
    );
  }
}
