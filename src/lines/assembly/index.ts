import { BACKSLASH, BRACE_CLOSE, BRACE_OPEN, BRACKET_CLOSE, BRACKET_OPEN, COLON, COMMA, HASH, MINUS, NEWLINE, PLUS, POINT, QUOTE, SMALL_E, SMALL_U, SPACE, ZERO } from '../../base/characters';
import {
  FIELDS_AT,
  FIELD_INDEX_AT,
  RULES_AT,
  SEEN_AT,
  SEEN_SLOTS,
  TYPES_AT,
  TYPE_INDEX_AT,
  UNSURE,
  WORD_BYTES,
  WORD_LENGTH_MAX,
} from '../scanner-places';

/**
 * Decides from the bytes of lines alone that they are records by the wire contract, as record-scanner.ts does, which is the
 * reference: yes only when it is sure. The text is UTF-8 and ends with a line end; nothing here passes a line end but `scan`.
 */

const TRUE_WORD: u32 = 0x65757274;
const FALS_WORD: u32 = 0x736c6166;

const NAME_BYTES_MAX: usize = 50;
const NUMBER_BYTES_MAX: usize = 200;
const EXPONENT_DIGITS_MAX: usize = 2;
const DEPTH_MAX: u32 = 3;
const LIST_MAX: u32 = 500;
const TIME_BYTES: usize = 23;
const UUID_BYTES: usize = 36;
/** The last day that every month has. */
const SAFE_DAY: i32 = 28;
const DAYS = memory.data<u8>([0, 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]);

const TYPE: u32 = 1;
const TIME: u32 = 2;
const UUID: u32 = 4;
const ACCOUNT_ID: u32 = 8;
const DISTINCT_ID: u32 = 16;
const EVENT_NAME: u32 = 32;
const EVENT_ID: u32 = 64;
const FIRST_CHECK_ID: u32 = 128;
const PROPERTIES: u32 = 256;
const LAST_TRACK_KIND: u32 = 3;

const ALL_NUMBERS: u32 = 1;
const ALL_ZERO: u32 = 2;
const ALL_LISTS: u32 = 4;
const NO_VALUES: u32 = 8;

const HASH_FACTOR: u64 = 0x9e3779b97f4a7c15;
const LOWER_CASE: u64 = 0x2020202020202020;

/** What the latest value is, of ALL_NUMBERS, ALL_ZERO and ALL_LISTS. */
let valueBits: u32 = 0;
let kind: u32 = 0;
/** What all values of `properties` have in common. */
let shared: u32 = 0;
let line: u32 = 0;
let objects: u32 = 0;
let seenCount: u32 = 0;

/** Looks through the lines in `[from, end)`, and notes the end of each. The count of them, at most `linesMax`. */
export function scan(from: usize, end: usize, ends: usize, linesMax: u32): u32 {
  let at = from;
  let lines: u32 = 0;
  while (at < end && lines < linesMax) {
    let stop = record(at);
    if (stop != 0) stop = blanks(stop);
    if (stop != 0 && load<u8>(stop) == NEWLINE) store<u32>(ends, <u32>stop);
    else {
      stop = lineEnd(at);
      store<u32>(ends, <u32>stop | UNSURE);
    }
    ends += 4;
    lines += 1;
    at = stop + 1;
  }
  return lines;
}

function lineEnd(from: usize): usize {
  const wanted = i8x16.splat(<i8>NEWLINE);
  let at = from;
  let found: u32 = 0;
  while (true) {
    found = <u32>i8x16.bitmask(i8x16.eq(v128.load(at), wanted));
    if (found != 0) break;
    at += 16;
  }
  return at + ctz(found);
}

/** Place behind the record that begins at `from`; 0: it may be none. So do all below. */
function record(from: usize): usize {
  let at = blanks(from);
  if (load<u8>(at) != BRACE_OPEN) return 0;
  line += 1;
  objects = 0;
  seenCount = 0;
  let fields: u32 = 0;
  do {
    at = blanks(at + 1);
    if (load<u8>(at) != QUOTE) return 0;
    const start = at + 1;
    const nameEnd = plainEnd(start);
    if (load<u8>(nameEnd) != QUOTE) return 0;
    const field = codeOf(FIELD_INDEX_AT, FIELDS_AT, start, nameEnd - start);
    if (field == 0 || (fields & field) != 0) return 0;
    fields |= field;
    at = colon(nameEnd + 1);
    if (at == 0) return 0;
    at = fieldValue(field, at);
    if (at == 0) return 0;
    at = blanks(at);
  } while (load<u8>(at) == COMMA);
  if (load<u8>(at) != BRACE_CLOSE) return 0;
  return isComplete(fields) ? at + 1 : 0;
}

function isComplete(fields: u32): bool {
  const wanted = TYPE | TIME | PROPERTIES;
  if ((fields & wanted) != wanted || (fields & (ACCOUNT_ID | DISTINCT_ID)) == 0) return false;
  const ofEvents = fields & (EVENT_NAME | EVENT_ID | FIRST_CHECK_ID);
  if (kind > LAST_TRACK_KIND) {
    const rule = load<u32>(RULES_AT + 4 * kind);
    return ofEvents == 0 && (shared & rule) == rule;
  }
  if ((ofEvents & EVENT_NAME) == 0) return false;
  return kind == 1 || ((ofEvents & EVENT_ID) != 0 && (ofEvents & FIRST_CHECK_ID) == 0);
}

function fieldValue(field: u32, at: usize): usize {
  if (field == PROPERTIES) return properties(at);
  if (load<u8>(at) != QUOTE) return 0;
  const start = at + 1;
  const after = text(at);
  if (after == 0) return 0;
  const length = after - 1 - start;
  let isFine = length > 0;
  if (field == TYPE) {
    kind = codeOf(TYPE_INDEX_AT, TYPES_AT, start, length);
    isFine = kind != 0;
  } else if (field == TIME) isFine = length == TIME_BYTES && isTime(start);
  else if (field == UUID) isFine = length == UUID_BYTES && isUuid(start);
  else if (field == EVENT_NAME) isFine = isName(start, length);
  return isFine ? after : 0;
}

function properties(from: usize): usize {
  if (load<u8>(from) != BRACE_OPEN) return 0;
  shared = ALL_NUMBERS | ALL_ZERO | ALL_LISTS | NO_VALUES;
  let at = blanks(from + 1);
  if (load<u8>(at) == BRACE_CLOSE) return at + 1;
  objects += 1;
  const object = objects;
  while (true) {
    const nameAt = at + 1;
    const nameEnd = newName(at, object);
    if (nameEnd == 0) return 0;
    if (
      load<u8>(nameAt) == HASH &&
      codeOf(FIELD_INDEX_AT, FIELDS_AT, nameAt, nameEnd - 1 - nameAt) != 0
    ) {
      return 0;
    }
    at = colon(nameEnd);
    if (at == 0) return 0;
    at = value(at, 0);
    if (at == 0) return 0;
    shared &= valueBits;
    at = blanks(at);
    if (load<u8>(at) != COMMA) break;
    at = blanks(at + 1);
  }
  return load<u8>(at) == BRACE_CLOSE ? at + 1 : 0;
}

/** Place behind the value; what it is, is in `valueBits`. `depth` counts the objects around it. */
function value(at: usize, depth: u32): usize {
  const byte = load<u8>(at);
  if (byte == QUOTE) {
    valueBits = 0;
    return text(at);
  }
  if (isDigit(byte) || byte == MINUS) return number(at);
  if (byte == BRACE_OPEN) {
    const after = object(at, depth);
    valueBits = 0;
    return after;
  }
  if (byte == BRACKET_OPEN) {
    const after = list(at, depth);
    valueBits = ALL_LISTS;
    return after;
  }
  valueBits = 0;
  const word = load<u32>(at);
  if (word == TRUE_WORD) return at + 4;
  return word == FALS_WORD && load<u8>(at + 4) == SMALL_E ? at + 5 : 0;
}

function object(from: usize, depth: u32): usize {
  if (depth >= DEPTH_MAX) return 0;
  objects += 1;
  const own = objects;
  let at = blanks(from + 1);
  if (load<u8>(at) == BRACE_CLOSE) return at + 1;
  while (true) {
    at = newName(at, own);
    if (at == 0) return 0;
    at = colon(at);
    if (at == 0) return 0;
    at = value(at, depth + 1);
    if (at == 0) return 0;
    at = blanks(at);
    if (load<u8>(at) != COMMA) break;
    at = blanks(at + 1);
  }
  return load<u8>(at) == BRACE_CLOSE ? at + 1 : 0;
}

function list(from: usize, depth: u32): usize {
  let at = blanks(from + 1);
  if (load<u8>(at) == BRACKET_CLOSE) return at + 1;
  let count: u32 = 0;
  while (true) {
    count += 1;
    if (count > LIST_MAX || load<u8>(at) == BRACKET_OPEN) return 0;
    at = value(at, depth);
    if (at == 0) return 0;
    at = blanks(at);
    if (load<u8>(at) != COMMA) break;
    at = blanks(at + 1);
  }
  return load<u8>(at) == BRACKET_CLOSE ? at + 1 : 0;
}

function number(from: usize): usize {
  const start = load<u8>(from) == MINUS ? from + 1 : from;
  const first = load<u8>(start);
  if (!isDigit(first)) return 0;
  let at = first == ZERO ? start + 1 : digitsEnd(start + 1);
  if (load<u8>(at) == POINT) {
    if (!isDigit(load<u8>(at + 1))) return 0;
    at = digitsEnd(at + 1);
  }
  if ((load<u8>(at) | 0x20) == SMALL_E) {
    const sign = load<u8>(at + 1);
    const from = at + (sign == MINUS || sign == PLUS ? 2 : 1);
    at = digitsEnd(from);
    if (at == from || (sign != MINUS && at - from > EXPONENT_DIGITS_MAX)) return 0;
  }
  if (at - start > NUMBER_BYTES_MAX) return 0;
  valueBits = at == start + 1 && first == ZERO ? ALL_NUMBERS | ALL_ZERO : ALL_NUMBERS;
  return at;
}

function digitsEnd(from: usize): usize {
  let at = from;
  while (isDigit(load<u8>(at))) at += 1;
  return at;
}

/** Place behind a name, quotes included, that is new in its object. */
function newName(at: usize, object: u32): usize {
  if (load<u8>(at) != QUOTE) return 0;
  const start = at + 1;
  const first = load<u8>(start) == HASH ? start + 1 : start;
  if (!isLetter(load<u8>(first))) return 0;
  const end = nameEndAt(first);
  const length = end - start;
  if (load<u8>(end) != QUOTE || length > NAME_BYTES_MAX) return 0;
  let hash: u64 = ((<u64>object << 32) | length) * HASH_FACTOR;
  for (let done: usize = 0; done < length; done += 8) {
    const word = load<u64>(start + done) & maskOf(length - done);
    hash = (hash ^ (word | LOWER_CASE)) * HASH_FACTOR;
    hash ^= hash >> 32;
  }
  return isNew(<u32>hash) ? end + 1 : 0;
}

/** Keeps the first `length` bytes of eight. */
@inline
function maskOf(length: usize): u64 {
  return length >= 8 ? u64.MAX_VALUE : ((<u64>1) << (<u64>length << 3)) - 1;
}

/** Notes a hash. False: it has been there in this line, by chance or not. */
function isNew(hash: u32): bool {
  let slot = (hash ^ (hash >> 15)) & (SEEN_SLOTS - 1);
  while (load<u32>(SEEN_AT + 8 * slot, 4) == line) {
    if (load<u32>(SEEN_AT + 8 * slot) == hash) return false;
    slot = (slot + 1) & (SEEN_SLOTS - 1);
  }
  store<u32>(SEEN_AT + 8 * slot, hash);
  store<u32>(SEEN_AT + 8 * slot, line, 4);
  seenCount += 1;
  return seenCount < <u32>SEEN_SLOTS / 2;
}

/** Code of the word that stands at `start`; 0: it is none of the table. */
function codeOf(index: usize, table: usize, start: usize, length: usize): u32 {
  if (length > <usize>WORD_LENGTH_MAX) return 0;
  const first = load<u64>(start) & maskOf(length);
  const second = length > 8 ? load<u64>(start + 8) & maskOf(length - 8) : 0;
  const third = length > 16 ? load<u64>(start + 16) & maskOf(length - 16) : 0;
  const until = load<u32>(index + 4 * length, 4);
  for (let word = load<u32>(index + 4 * length); word < until; word += 1) {
    const entry = table + WORD_BYTES * word;
    if (
      load<u64>(entry, 8) == first &&
      load<u64>(entry, 16) == second &&
      load<u64>(entry, 24) == third
    ) {
      return load<u32>(entry, 4);
    }
  }
  return 0;
}

function colon(from: usize): usize {
  const at = blanks(from);
  return load<u8>(at) == COLON ? blanks(at + 1) : 0;
}

@inline
function blanks(from: usize): usize {
  let at = from;
  let byte = load<u8>(at);
  // One comparison, nearly always.
  while (byte <= <u8>SPACE && (byte == SPACE || byte == 0x09 || byte == 0x0d)) {
    at += 1;
    byte = load<u8>(at);
  }
  return at;
}

/** Place of the first byte from `at` on that is not part of a name. */
@inline
function nameEndAt(from: usize): usize {
  let at = from;
  let other: u32 = 0;
  while (true) {
    const bytes = v128.load(at);
    const letters = i8x16.lt_u(
      i8x16.sub(v128.or(bytes, i8x16.splat(0x20)), i8x16.splat(0x61)),
      i8x16.splat(26),
    );
    const digits = i8x16.lt_u(i8x16.sub(bytes, i8x16.splat(<i8>ZERO)), i8x16.splat(10));
    const lines = i8x16.eq(bytes, i8x16.splat(0x5f));
    other = <u32>i8x16.bitmask(v128.or(v128.or(letters, digits), lines)) ^ 0xffff;
    if (other != 0) break;
    at += 16;
  }
  return at + ctz(other);
}

/** Place of the first byte from `at` on that is not plain text: at the line end at the latest. */
function plainEnd(from: usize): usize {
  let at = from;
  let found: u32 = 0;
  while (true) {
    const bytes = v128.load(at);
    const isControl = i8x16.lt_u(bytes, i8x16.splat(0x20));
    const isQuote = i8x16.eq(bytes, i8x16.splat(<i8>QUOTE));
    const isBackslash = i8x16.eq(bytes, i8x16.splat(<i8>BACKSLASH));
    found = <u32>i8x16.bitmask(v128.or(v128.or(isControl, isQuote), isBackslash));
    if (found != 0) break;
    at += 16;
  }
  return at + ctz(found);
}

/** Place behind a string, quotes included. */
function text(from: usize): usize {
  let at = plainEnd(from + 1);
  while (load<u8>(at) == BACKSLASH) {
    const length = escapeLength(at);
    if (length == 0) return 0;
    at = plainEnd(at + length);
  }
  return load<u8>(at) == QUOTE ? at + 1 : 0;
}

/** Bytes of the escape at a backslash; 0: it is none. */
function escapeLength(at: usize): usize {
  const next = load<u8>(at + 1);
  switch (next) {
    case <u8>QUOTE:
    case <u8>BACKSLASH:
    case 0x2f:
    case 0x62:
    case 0x66:
    case 0x6e:
    case 0x72:
    case 0x74:
      return 2;
    default:
      break;
  }
  if (next != SMALL_U) return 0;
  for (let digit: usize = 2; digit < 6; digit += 1) {
    const byte = load<u8>(at + digit);
    const letter = byte | 0x20;
    if (!isDigit(byte) && !(letter >= 0x61 && letter <= 0x66)) return 0;
  }
  return 6;
}

@inline
function isDigit(byte: u8): bool {
  return <u8>(byte - ZERO) < 10;
}

@inline
function isLetter(byte: u8): bool {
  return <u8>((byte | 0x20) - 0x61) < 26;
}

function isName(start: usize, length: usize): bool {
  if (length == 0 || length > NAME_BYTES_MAX || !isLetter(load<u8>(start))) return false;
  return nameEndAt(start) == start + length;
}

/** Two digits; -1: they are none. */
@inline
function pairAt(at: usize): i32 {
  const tens = load<u8>(at);
  const ones = load<u8>(at + 1);
  if (!isDigit(tens) || !isDigit(ones)) return -1;
  return <i32>(tens - ZERO) * 10 + <i32>(ones - ZERO);
}

/** `yyyy-MM-dd HH:mm:ss.SSS`, of a day that is there in every year. */
function isTime(at: usize): bool {
  const hasMarks =
    load<u8>(at + 4) == MINUS &&
    load<u8>(at + 7) == MINUS &&
    load<u8>(at + 10) == SPACE &&
    load<u8>(at + 13) == COLON &&
    load<u8>(at + 16) == COLON &&
    load<u8>(at + 19) == POINT;
  if (!hasMarks) return false;
  const century = pairAt(at);
  const year = pairAt(at + 2);
  if (century < 0 || year < 0 || century + year == 0) return false;
  return isDay(at + 5) && isTimeOfDay(at + 11);
}

function isDay(at: usize): bool {
  const month = pairAt(at);
  const day = pairAt(at + 3);
  if (month < 1 || month > 12 || day < 1) return false;
  return day <= SAFE_DAY || day <= <i32>load<u8>(DAYS + month);
}

function isTimeOfDay(at: usize): bool {
  const hour = pairAt(at);
  const minute = pairAt(at + 3);
  const second = pairAt(at + 6);
  if (hour < 0 || hour > 23 || minute < 0 || minute > 59 || second < 0 || second > 59) return false;
  return pairAt(at + 9) >= 0 && isDigit(load<u8>(at + 11));
}

function isUuid(at: usize): bool {
  for (let index: usize = 0; index < UUID_BYTES; index += 1) {
    const byte = load<u8>(at + index);
    const isDash = index == 8 || index == 13 || index == 18 || index == 23;
    if (isDash ? byte != MINUS : !(isDigit(byte) || (byte >= 0x61 && byte <= 0x66))) return false;
  }
  return true;
}
