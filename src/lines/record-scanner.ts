import {
  BACKSLASH,
  BRACE_CLOSE,
  BRACE_OPEN,
  BRACKET_CLOSE,
  BRACKET_OPEN,
  COLON,
  COMMA,
  HASH,
  MINUS,
  PLUS,
  POINT,
  QUOTE,
  SMALL_E,
  ZERO,
} from '../base/characters.ts';
import { LIFT_NAMES, TYPE_NAMES } from '../record/types.ts';

/**
 * Decides from the bytes of a line alone, building no object, that it is a record by the wire contract. It says yes only when it is sure; what is
 * rare (escapes in names, duplicate fields, the 29th of February) it leaves to the reference, `faultOf` in line-check.ts.
 * The bytes must be UTF-8.
 */

/** Classes of bytes. A string's byte: 0 plain, else the string ends, escapes, or breaks there. */
const TEXT_STOPS: Uint8Array = tableOf(
  (byte) => byte < 0x20 || byte === QUOTE || byte === BACKSLASH,
);
const DIGITS: Uint8Array = tableOf((byte) => isIn('0123456789', byte));
const BLANKS: Uint8Array = tableOf((byte) => isIn(' \t\r\n', byte));
const HEX_DIGITS: Uint8Array = tableOf((byte) => isIn('0123456789abcdef', byte));
const ANY_HEX_DIGITS: Uint8Array = tableOf((byte) => isIn('0123456789abcdefABCDEF', byte));
const LETTERS: Uint8Array = tableOf(
  (byte) => isIn('abcdefghijklmnopqrstuvwxyz', byte | 0x20) && byte >= 0x41,
);
const NAME_BYTES: Uint8Array = tableOf((byte) => LETTERS[byte] === 1 || isIn('0123456789_', byte));
const SIMPLE_ESCAPES: Uint8Array = tableOf((byte) => isIn('"\\/bfnrt', byte));

const NAME_BYTES_MAX = 50;
/** The longest number, and the most digits of an exponent, that are finite for sure: less than 1e300. */
const NUMBER_BYTES_MAX = 200;
const EXPONENT_DIGITS_MAX = 2;
const DEPTH_MAX = 3;
const LIST_MAX = 500;
const TIME_BYTES = 23;
const UUID_BYTES = 36;
/** The last day that every month has. */
const SAFE_DAY = 28;
const DAYS: readonly number[] = [0, 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];

const TYPE = 1;
const TIME = 2;
const UUID = 4;
const ACCOUNT_ID = 8;
const DISTINCT_ID = 16;
const EVENT_NAME = 32;
const EVENT_ID = 64;
const FIRST_CHECK_ID = 128;
const PROPERTIES = 256;
/** Fields that must be texts and no more, from this bit on. */
const OTHER = 512;

/** What all values of `properties` have in common. */
const ALL_NUMBERS = 1;
const ALL_ZERO = 2;
const ALL_LISTS = 4;
const NO_VALUES = 8;

const VALUE_OTHER = 0;
const VALUE_NUMBER: number = ALL_NUMBERS;
const VALUE_ZERO: number = ALL_NUMBERS | ALL_ZERO;
const VALUE_LIST: number = ALL_LISTS;
const VALUE_UNSURE = -1;

export interface Word {
  readonly bytes: Uint8Array;
  readonly code: number;
}

const OWN_BITS: Readonly<Record<string, number>> = {
  '#type': TYPE,
  '#time': TIME,
  '#uuid': UUID,
  '#account_id': ACCOUNT_ID,
  '#distinct_id': DISTINCT_ID,
  '#event_name': EVENT_NAME,
  '#event_id': EVENT_ID,
  '#first_check_id': FIRST_CHECK_ID,
  properties: PROPERTIES,
};
const FIELD_NAMES: readonly string[] = [
  ...new Set([...Object.keys(OWN_BITS), ...LIFT_NAMES.filter((name) => name !== '')]),
];
export const FIELDS: readonly (readonly Word[])[] = byLength(
  FIELD_NAMES.map((name, index) => [name, OWN_BITS[name] ?? OTHER << index]),
);
/** By kind, what its properties must have in common; 0: nothing. */
export const KIND_RULES: readonly number[] = TYPE_NAMES.map((name) => ruleOf(name));
export const TYPES: readonly (readonly Word[])[] = byLength(
  TYPE_NAMES.map((name, kind): [string, number] => [name, kind]).slice(1),
);
const LAST_TRACK_KIND = 3;

function ruleOf(type: string): number {
  switch (type) {
    case 'user_add':
      return ALL_NUMBERS;
    case 'user_unset':
      return ALL_ZERO;
    case 'user_append':
    case 'user_uniq_append':
      return ALL_LISTS;
    case 'user_del':
      return NO_VALUES;
    default:
      return 0;
  }
}

function tableOf(isMember: (byte: number) => boolean): Uint8Array {
  return Uint8Array.from({ length: 256 }, (_, byte) => (isMember(byte) ? 1 : 0));
}

function isIn(characters: string, byte: number): boolean {
  return characters.includes(String.fromCharCode(byte));
}

function byLength(words: readonly (readonly [string, number])[]): Word[][] {
  const table: Word[][] = Array.from({ length: 32 }, () => []);
  for (const [name, code] of words) table[name.length]?.push({ bytes: Buffer.from(name), code });
  return table;
}

const NO_WORDS: readonly Word[] = [];

/** Names seen in the objects of a line, lower-cased, as hashes: an open table that a new line empties by its number. */
const SEEN_SLOTS = 4096;

export class RecordScanner {
  /** Where the last look ended. */
  at = 0;
  #bytes: Uint8Array = new Uint8Array(0);
  #end = 0;
  #kind = 0;
  #shared = 0;
  readonly #seen: Int32Array = new Int32Array(SEEN_SLOTS);
  readonly #seenIn: Int32Array = new Int32Array(SEEN_SLOTS);
  #seenCount = 0;
  #line = 0;
  #objects = 0;

  /** True: the bytes `[start, end)` are a record. False: they may be. */
  isFine(bytes: Uint8Array, start: number, end: number): boolean {
    this.#bytes = bytes;
    this.#end = end;
    this.at = start;
    this.#line = (this.#line + 1) | 0;
    this.#objects = 0;
    this.#seenCount = 0;
    const fields = this.#record();
    if (fields < 0) return false;
    this.#skipBlanks();
    return this.at === end && this.#isComplete(fields);
  }

  /** The fields there are, as bits; -1: not sure. */
  #record(): number {
    this.#skipBlanks();
    if (this.#bytes[this.at] !== BRACE_OPEN) return -1;
    let fields = 0;
    do {
      this.at += 1;
      const field = this.#fieldName();
      if (field === 0 || (fields & field) !== 0) return -1;
      fields |= field;
      if (!this.#colon() || !this.#field(field)) return -1;
      this.#skipBlanks();
    } while (this.#bytes[this.at] === COMMA);
    if (this.#bytes[this.at] !== BRACE_CLOSE) return -1;
    this.at += 1;
    return fields;
  }

  #isComplete(fields: number): boolean {
    const wanted = TYPE | TIME | PROPERTIES;
    if ((fields & wanted) !== wanted || (fields & (ACCOUNT_ID | DISTINCT_ID)) === 0) return false;
    const ofEvents = fields & (EVENT_NAME | EVENT_ID | FIRST_CHECK_ID);
    const kind = this.#kind;
    if (kind > LAST_TRACK_KIND) {
      const rule = KIND_RULES[kind] ?? 0;
      return ofEvents === 0 && (this.#shared & rule) === rule;
    }
    if ((ofEvents & EVENT_NAME) === 0) return false;
    return kind === 1 || ((ofEvents & EVENT_ID) !== 0 && (ofEvents & FIRST_CHECK_ID) === 0);
  }

  /** The bit of the field whose name stands here; 0: none that is known. */
  #fieldName(): number {
    this.#skipBlanks();
    if (this.#bytes[this.at] !== QUOTE) return 0;
    const start = this.at + 1;
    const end = this.#plainEnd(start);
    if (this.#bytes[end] !== QUOTE) return 0;
    this.at = end + 1;
    return this.#codeOf(FIELDS, start, end);
  }

  #codeOf(table: readonly (readonly Word[])[], start: number, end: number): number {
    const bytes = this.#bytes;
    const length = end - start;
    const words = table[length] ?? NO_WORDS;
    for (let index = 0; index < words.length; index += 1) {
      const word = words[index];
      if (word === undefined) continue;
      let same = 0;
      while (same < length && word.bytes[same] === bytes[start + same]) same += 1;
      if (same === length) return word.code;
    }
    return 0;
  }

  #field(field: number): boolean {
    if (field === PROPERTIES) return this.#properties();
    const bytes = this.#bytes;
    if (bytes[this.at] !== QUOTE) return false;
    const start = this.at + 1;
    if (!this.#text()) return false;
    const end = this.at - 1;
    switch (field) {
      case TYPE:
        this.#kind = this.#codeOf(TYPES, start, end);
        return this.#kind !== 0;
      case TIME:
        return end - start === TIME_BYTES && isTimeAt(bytes, start);
      case UUID:
        return end - start === UUID_BYTES && isUuidAt(bytes, start);
      case EVENT_NAME:
        return isName(bytes, start, end);
      default:
        return end > start;
    }
  }

  #properties(): boolean {
    const bytes = this.#bytes;
    if (bytes[this.at] !== BRACE_OPEN) return false;
    this.#shared = ALL_NUMBERS | ALL_ZERO | ALL_LISTS | NO_VALUES;
    this.at += 1;
    this.#skipBlanks();
    if (bytes[this.at] === BRACE_CLOSE) {
      this.at += 1;
      return true;
    }
    this.#objects += 1;
    const object = this.#objects;
    this.at -= 1;
    do {
      this.at += 1;
      this.#skipBlanks();
      const nameAt = this.at + 1;
      if (!this.#name(object)) return false;
      if (bytes[nameAt] === HASH && this.#codeOf(FIELDS, nameAt, this.at - 1) !== 0) return false;
      if (!this.#colon()) return false;
      const value = this.#value(0);
      if (value === VALUE_UNSURE) return false;
      this.#shared &= value;
      this.#skipBlanks();
    } while (bytes[this.at] === COMMA);
    if (bytes[this.at] !== BRACE_CLOSE) return false;
    this.at += 1;
    return true;
  }

  /** A name of a property that is new in its object. */
  #name(object: number): boolean {
    const bytes = this.#bytes;
    if (bytes[this.at] !== QUOTE) return false;
    const start = this.at + 1;
    let at = bytes[start] === HASH ? start + 1 : start;
    if (LETTERS[bytes[at] ?? 0] !== 1) return false;
    let hash = object;
    while (NAME_BYTES[bytes[at] ?? 0] === 1) {
      hash = (Math.imul(hash, 31) + ((bytes[at] ?? 0) | 0x20)) | 0;
      at += 1;
    }
    if (bytes[at] !== QUOTE || at >= this.#end || at - start > NAME_BYTES_MAX) return false;
    if (bytes[start] === HASH) hash = ~hash;
    this.at = at + 1;
    return this.#isNew(hash);
  }

  /** Notes a hash. False: it has been there in this line, by chance or not. */
  #isNew(hash: number): boolean {
    const line = this.#line;
    let slot = (hash ^ (hash >>> 15)) & (SEEN_SLOTS - 1);
    while (this.#seenIn[slot] === line) {
      if (this.#seen[slot] === hash) return false;
      slot = (slot + 1) & (SEEN_SLOTS - 1);
    }
    this.#seenIn[slot] = line;
    this.#seen[slot] = hash;
    this.#seenCount += 1;
    return this.#seenCount < SEEN_SLOTS / 2;
  }

  /** One value; what it is, or VALUE_UNSURE. `depth` counts the objects around it. */
  #value(depth: number): number {
    const byte = this.#bytes[this.at] ?? 0;
    if (byte === QUOTE) return this.#text() ? VALUE_OTHER : VALUE_UNSURE;
    if (DIGITS[byte] === 1 || byte === MINUS) return this.#number();
    if (byte === BRACE_OPEN) return this.#object(depth) ? VALUE_OTHER : VALUE_UNSURE;
    if (byte === BRACKET_OPEN) return this.#list(depth) ? VALUE_LIST : VALUE_UNSURE;
    return this.#word() ? VALUE_OTHER : VALUE_UNSURE;
  }

  #object(depth: number): boolean {
    const bytes = this.#bytes;
    if (depth >= DEPTH_MAX) return false;
    this.#objects += 1;
    const object = this.#objects;
    this.at += 1;
    this.#skipBlanks();
    if (bytes[this.at] === BRACE_CLOSE) {
      this.at += 1;
      return true;
    }
    this.at -= 1;
    do {
      this.at += 1;
      this.#skipBlanks();
      if (!this.#name(object) || !this.#colon()) return false;
      if (this.#value(depth + 1) === VALUE_UNSURE) return false;
      this.#skipBlanks();
    } while (bytes[this.at] === COMMA);
    if (bytes[this.at] !== BRACE_CLOSE) return false;
    this.at += 1;
    return true;
  }

  #list(depth: number): boolean {
    const bytes = this.#bytes;
    this.at += 1;
    this.#skipBlanks();
    if (bytes[this.at] === BRACKET_CLOSE) {
      this.at += 1;
      return true;
    }
    this.at -= 1;
    let count = 0;
    do {
      this.at += 1;
      this.#skipBlanks();
      count += 1;
      if (count > LIST_MAX || bytes[this.at] === BRACKET_OPEN) return false;
      if (this.#value(depth) === VALUE_UNSURE) return false;
      this.#skipBlanks();
    } while (bytes[this.at] === COMMA);
    if (bytes[this.at] !== BRACKET_CLOSE) return false;
    this.at += 1;
    return true;
  }

  #colon(): boolean {
    this.#skipBlanks();
    if (this.#bytes[this.at] !== COLON) return false;
    this.at += 1;
    this.#skipBlanks();
    return true;
  }

  #skipBlanks(): void {
    const bytes = this.#bytes;
    let at = this.at;
    while (BLANKS[bytes[at] ?? 0] === 1 && at < this.#end) at += 1;
    this.at = at;
  }

  /** Place of the first byte from `at` on that is not plain text. */
  #plainEnd(at: number): number {
    const bytes = this.#bytes;
    const end = this.#end;
    let place = at;
    while (place < end && TEXT_STOPS[bytes[place] ?? 0] === 0) place += 1;
    return Math.min(place, end);
  }

  /** Passes a string, quotes included. */
  #text(): boolean {
    const bytes = this.#bytes;
    let at = this.#plainEnd(this.at + 1);
    while (at < this.#end && bytes[at] === BACKSLASH) {
      const length = escapeLength(bytes, at);
      if (length === 0) return false;
      at = this.#plainEnd(at + length);
    }
    this.at = at;
    if (at >= this.#end || bytes[at] !== QUOTE) return false;
    this.at = at + 1;
    return true;
  }

  #number(): number {
    const bytes = this.#bytes;
    const start = bytes[this.at] === MINUS ? this.at + 1 : this.at;
    const first = bytes[start] ?? 0;
    if (DIGITS[first] !== 1) return VALUE_UNSURE;
    const wholeEnd = first === ZERO ? start + 1 : digitsEnd(bytes, start + 1);
    const fractionEnd = endOfFraction(bytes, wholeEnd);
    const end = fractionEnd < 0 ? -1 : endOfExponent(bytes, fractionEnd);
    if (end < 0 || end > this.#end || end - start > NUMBER_BYTES_MAX) return VALUE_UNSURE;
    this.at = end;
    return end === start + 1 && first === ZERO ? VALUE_ZERO : VALUE_NUMBER;
  }

  /** `true` or `false`. */
  #word(): boolean {
    const bytes = this.#bytes;
    const word = bytes[this.at] === TRUE[0] ? TRUE : FALSE;
    for (let index = 0; index < word.length; index += 1) {
      if (bytes[this.at + index] !== word[index]) return false;
    }
    this.at += word.length;
    return this.at <= this.#end;
  }
}

const TRUE: Uint8Array = Buffer.from('true');
const FALSE: Uint8Array = Buffer.from('false');

function digitsEnd(bytes: Uint8Array, from: number): number {
  let at = from;
  while (DIGITS[bytes[at] ?? 0] === 1) at += 1;
  return at;
}

/** Place after a fraction, if one stands at `at`; -1: it is broken. */
function endOfFraction(bytes: Uint8Array, at: number): number {
  if (bytes[at] !== POINT) return at;
  return DIGITS[bytes[at + 1] ?? 0] === 1 ? digitsEnd(bytes, at + 1) : -1;
}

/** As for a fraction; -1 also for one that may make the number infinite. */
function endOfExponent(bytes: Uint8Array, at: number): number {
  if (((bytes[at] ?? 0) | 0x20) !== SMALL_E) return at;
  const sign = bytes[at + 1];
  const from = sign === MINUS || sign === PLUS ? at + 2 : at + 1;
  const end = digitsEnd(bytes, from);
  const isSmall = sign === MINUS || end - from <= EXPONENT_DIGITS_MAX;
  return end > from && isSmall ? end : -1;
}

/** Bytes of the escape at a backslash; 0: it is none. */
function escapeLength(bytes: Uint8Array, at: number): number {
  const next = bytes[at + 1] ?? 0;
  if (SIMPLE_ESCAPES[next] === 1) return 2;
  if (next !== 0x75) return 0;
  for (let index = 2; index < 6; index += 1) {
    if (ANY_HEX_DIGITS[bytes[at + index] ?? 0] !== 1) return 0;
  }
  return 6;
}

function isName(bytes: Uint8Array, start: number, end: number): boolean {
  if (end - start > NAME_BYTES_MAX || LETTERS[bytes[start] ?? 0] !== 1) return false;
  let at = start;
  while (at < end && NAME_BYTES[bytes[at] ?? 0] === 1) at += 1;
  return at === end;
}

function numberAt(bytes: Uint8Array, at: number): number {
  const tens = bytes[at] ?? 0;
  const ones = bytes[at + 1] ?? 0;
  if (DIGITS[tens] !== 1 || DIGITS[ones] !== 1) return Number.NaN;
  return (tens - ZERO) * 10 + ones - ZERO;
}

/** `yyyy-MM-dd HH:mm:ss.SSS`, of a day that is there in every year. */
function isTimeAt(bytes: Uint8Array, at: number): boolean {
  const marks =
    bytes[at + 4] === MINUS &&
    bytes[at + 7] === MINUS &&
    bytes[at + 10] === 0x20 &&
    bytes[at + 13] === COLON &&
    bytes[at + 16] === COLON &&
    bytes[at + 19] === POINT;
  if (!marks) return false;
  const isYear = numberAt(bytes, at) * 100 + numberAt(bytes, at + 2) > 0;
  return isYear && isDayAt(bytes, at + 5) && isTimeOfDayAt(bytes, at + 11);
}

function isDayAt(bytes: Uint8Array, at: number): boolean {
  const month = numberAt(bytes, at);
  const day = numberAt(bytes, at + 3);
  if (!(month >= 1 && month <= 12 && day >= 1)) return false;
  return day <= SAFE_DAY || day <= (DAYS[month] ?? 0);
}

function isTimeOfDayAt(bytes: Uint8Array, at: number): boolean {
  const isWithin =
    numberAt(bytes, at) < 24 && numberAt(bytes, at + 3) < 60 && numberAt(bytes, at + 6) < 60;
  return isWithin && numberAt(bytes, at + 9) >= 0 && DIGITS[bytes[at + 11] ?? 0] === 1;
}

function isUuidAt(bytes: Uint8Array, at: number): boolean {
  for (let index = 0; index < UUID_BYTES; index += 1) {
    const byte = bytes[at + index] ?? 0;
    const isDash = index === 8 || index === 13 || index === 18 || index === 23;
    if (isDash ? byte !== MINUS : HEX_DIGITS[byte] !== 1) return false;
  }
  return true;
}
