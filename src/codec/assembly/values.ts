import { putDouble, putInt, putUint } from './numbers';
import { putText } from './text';
import { putTime, REGULAR_FROM_MS } from './time';

/** Deeper nesting is left to the reference. */
const DEPTH_MAX: i32 = 48;
const TRUE_TEXT: u32 = 0x65757274;
const FALSE_TEXT: u64 = 0x65736c6166;

/** Where the next value starts, after a function that read one. */
export let next: usize = 0;

@inline
function wide(at: usize): u32 {
  return bswap<u32>(load<u32>(at));
}

@inline
function short(at: usize): usize {
  return <usize>bswap<u16>(load<u16>(at));
}

/**
 * Converts the value at `at`, which must end by `end`; {@link next} is then the place after it. Writes at most 6 bytes for each
 * byte it reads, and some of the slack behind that.
 *
 * @returns the place after the text; 0: this is no value that is understood here
 */
@inline
export function putValue(at: usize, end: usize, to: usize): usize {
  const type = <u32>load<u8>(at);
  if (type - 0xa0 < 0x20) {
    const length = <usize>(type & 0x1f);
    next = at + 1 + length;
    return next > end ? 0 : putText(at + 1, length, to);
  }
  if (type < 0x80) {
    next = at + 1;
    return next > end ? 0 : putUint(type, to);
  }
  return putTyped(type, at + 1, end, to, 0);
}

function putNested(at: usize, end: usize, to: usize, depth: i32): usize {
  const type = <u32>load<u8>(at);
  if (type < 0x80) {
    next = at + 1;
    return next > end ? 0 : putUint(type, to);
  }
  return putTyped(type, at + 1, end, to, depth);
}

/** @param at behind the type */
function putTyped(type: u32, at: usize, end: usize, to: usize, depth: i32): usize {
  if (at > end) return 0;
  switch (type) {
    case 0xd2:
      next = at + 4;
      return next > end ? 0 : putInt(<i32>wide(at), to);
    case 0xcb:
      next = at + 8;
      return next > end ? 0 : putFloat(reinterpret<f64>(bswap<u64>(load<u64>(at))), to);
    case 0xc2:
      next = at;
      store<u64>(to, FALSE_TEXT);
      return to + 5;
    case 0xc3:
      next = at;
      store<u32>(to, TRUE_TEXT);
      return to + 4;
    case 0xc7:
      next = at + 14;
      return next > end ? 0 : putDate(at, to);
    case 0xdc:
      return putList(at, end, to, depth);
    case 0xde:
      return putMap(at, end, to, depth);
    default:
      return putOther(type, at, end, to);
  }
}

function putOther(type: u32, at: usize, end: usize, to: usize): usize {
  if (type >= 0xe0) {
    next = at;
    return putInt(<i32>type - 0x100, to);
  }
  if (!enterText(type, at) || next > end || textLength > end - next) return 0;
  const from = next;
  next = from + textLength;
  return putText(from, textLength, to);
}

let textLength: usize = 0;

/** Reads the header of a text, behind its type: its length, and as {@link next} its first byte. */
function enterText(type: u32, at: usize): bool {
  if (type - 0xa0 < 0x20) {
    textLength = <usize>(type & 0x1f);
    next = at;
  } else if (type == 0xd9) {
    textLength = <usize>load<u8>(at);
    next = at + 1;
  } else if (type == 0xda) {
    textLength = short(at);
    next = at + 2;
  } else if (type == 0xdb) {
    textLength = <usize>wide(at);
    next = at + 4;
  } else return false;
  return true;
}

function putFloat(value: f64, to: usize): usize {
  // JSON has no text for the others, and the encoder lets none through.
  return value - value == 0 ? putDouble(value, to) : 0;
}

function putDate(at: usize, to: usize): usize {
  const nanoseconds = <f64>wide(at + 2);
  const seconds = <i64>((<u64>wide(at + 6) << 32) | <u64>wide(at + 10));
  const ms = <f64>seconds * 1000 + nanoseconds / 1000000;
  if (!isRegular(ms)) return 0;
  store<u8>(to, 0x22);
  const end = putTime(ms, to + 1);
  store<u8>(end, 0x22);
  return end + 1;
}

/** Latest instant of the year 9999, with a day to spare. */
const REGULAR_UNTIL_MS: f64 = 253402214400000;

@inline
export function isRegular(ms: f64): bool {
  return ms >= REGULAR_FROM_MS && ms < REGULAR_UNTIL_MS;
}

function putList(at: usize, end: usize, to: usize, depth: i32): usize {
  if (depth >= DEPTH_MAX || at + 2 > end) return 0;
  next = at + 2;
  store<u8>(to, 0x5b);
  let out = to + 1;
  for (let left = short(at); left > 0; left -= 1) {
    out = putNested(next, end, out, depth + 1);
    if (out == 0) return 0;
    store<u8>(out, 0x2c);
    out += 1;
  }
  return close(to, out, 0x5d);
}

function putMap(at: usize, end: usize, to: usize, depth: i32): usize {
  if (depth >= DEPTH_MAX || at + 2 > end) return 0;
  next = at + 2;
  store<u8>(to, 0x7b);
  let out = to + 1;
  for (let left = short(at); left > 0; left -= 1) {
    out = putNested(next, end, out, depth + 1);
    if (out == 0) return 0;
    store<u8>(out, 0x3a);
    out = putNested(next, end, out + 1, depth + 1);
    if (out == 0) return 0;
    store<u8>(out, 0x2c);
    out += 1;
  }
  return close(to, out, 0x7d);
}

/** The entries of the map at `at`, a comma before each, as the last ones of an object. */
export function putEntries(at: usize, end: usize, to: usize): usize {
  next = at + 3;
  for (let left = short(at + 1); left > 0; left -= 1) {
    store<u8>(to, 0x2c);
    to = putNested(next, end, to + 1, 1);
    if (to == 0) return 0;
    store<u8>(to, 0x3a);
    to = putNested(next, end, to + 1, 1);
    if (to == 0) return 0;
  }
  return to;
}

/** Puts the bracket in the place of the last comma; without one there were no elements. */
@inline
function close(start: usize, to: usize, bracket: u8): usize {
  const end = to == start + 1 ? to : to - 1;
  store<u8>(end, bracket);
  return end + 1;
}

/** Steps over `count` values; false: they are not understood, or do not end by `end`. */
export function skipValues(at: usize, end: usize, count: u32): bool {
  next = at;
  for (let left = count; left > 0; left -= 1) {
    if (next >= end) return false;
    const type = <u32>load<u8>(next);
    next += 1;
    if (type < 0x80 || type >= 0xe0 || (type >= 0xc0 && type < 0xc4)) continue;
    if (type == 0xd2) next += 4;
    else if (type == 0xcb) next += 8;
    else if (type == 0xc7) next += 14;
    else if (type == 0xdc || type == 0xde) {
      left += <u32>short(next) << (type == 0xde ? 1 : 0);
      next += 2;
    } else {
      if (!enterText(type, next) || next > end || textLength > end - next) return false;
      next += textLength;
    }
  }
  return next <= end;
}
