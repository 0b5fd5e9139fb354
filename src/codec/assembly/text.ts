import { BACKSLASH, QUOTE } from '../../base/characters';
import { SECOND_AT } from '../machine-places';

/** What follows the backslash for bytes below 0x20; 0: only \u00XX will do. */
const SHORT_ESCAPES = memory.data<u8>([
  0, 0, 0, 0, 0, 0, 0, 0, 0x62, 0x74, 0x6e, 0, 0x66, 0x72, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
]);
const HEX = memory.data<u8>([
  0x30, 0x31, 0x32, 0x33, 0x34, 0x35, 0x36, 0x37, 0x38, 0x39, 0x61, 0x62, 0x63, 0x64, 0x65, 0x66,
]);

/** Copies finished text; up to 15 bytes behind it are written, too. */
@inline
export function putRun(at: usize, length: usize, to: usize): usize {
  v128.store(to, v128.load(at));
  for (let done: usize = 16; done < length; done += 16) v128.store(to + done, v128.load(at + done));
  return to + length;
}

/** One bit for each of the 16 bytes that JSON text can't hold as it is. */
@inline
function escapesOf(bytes: v128): u32 {
  const isControl = i8x16.lt_u(bytes, i8x16.splat(0x20));
  const isQuote = i8x16.eq(bytes, i8x16.splat(<i8>QUOTE));
  const isBackslash = i8x16.eq(bytes, i8x16.splat(<i8>BACKSLASH));
  return i8x16.bitmask(v128.or(v128.or(isControl, isQuote), isBackslash));
}

/** `length` bytes of UTF-8 as a JSON string. */
export function putText(from: usize, length: usize, to: usize): usize {
  store<u8>(to, QUOTE);
  let next = to + 1;
  let at = from;
  const end = from + length;
  while (at + 16 <= end) {
    const bytes = v128.load(at);
    v128.store(next, bytes);
    if (escapesOf(bytes) != 0) {
      next = putEscaped(at, at + 16, next);
    } else next += 16;
    at += 16;
  }
  const left = end - at;
  if (left != 0) {
    const bytes = v128.load(at);
    v128.store(next, bytes);
    if ((escapesOf(bytes) & ((1 << <u32>left) - 1)) != 0) next = putEscaped(at, end, next);
    else next += left;
  }
  store<u8>(next, QUOTE);
  return next + 1;
}

function putEscaped(from: usize, end: usize, to: usize): usize {
  let next = to;
  for (let at = from; at < end; at += 1) {
    const byte = load<u8>(at);
    if (byte >= 0x20 && byte != QUOTE && byte != BACKSLASH) {
      store<u8>(next, byte);
      next += 1;
      continue;
    }
    store<u8>(next, BACKSLASH);
    const short: u8 = byte >= 0x20 ? byte : load<u8>(SHORT_ESCAPES + <usize>byte);
    if (short != 0) {
      store<u8>(next + 1, short);
      next += 2;
      continue;
    }
    store<u32>(next + 1, 0x00303075);
    store<u8>(next + 4, load<u8>(HEX + (<usize>byte >> 4)));
    store<u8>(next + 5, load<u8>(HEX + (<usize>byte & 15)));
    next += 6;
  }
  return next;
}

/** The 36 characters of a uuid from its 16 bytes. */
export function putUuid(at: usize, to: usize): usize {
  const bytes = v128.load(at);
  const digits = v128.load(HEX);
  const high = i8x16.swizzle(digits, i8x16.shr_u(bytes, 4));
  const low = i8x16.swizzle(digits, v128.and(bytes, i8x16.splat(15)));
  const first = i8x16.shuffle(high, low, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
  const second = i8x16.shuffle(high, low, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
  store<u64>(to, i64x2.extract_lane(first, 0));
  store<u8>(to + 8, 0x2d);
  store<u32>(to + 9, i32x4.extract_lane(first, 2));
  store<u8>(to + 13, 0x2d);
  store<u32>(to + 14, i32x4.extract_lane(first, 3));
  store<u8>(to + 18, 0x2d);
  store<u32>(to + 19, i32x4.extract_lane(second, 0));
  store<u8>(to + 23, 0x2d);
  store<u32>(to + 24, i32x4.extract_lane(second, 1));
  store<u64>(to + 28, i64x2.extract_lane(second, 1));
  return to + 36;
}

/** The text of the second that is kept, without its milliseconds. */
@inline
export function putSecond(to: usize): void {
  v128.store(to, v128.load(SECOND_AT));
  store<u32>(to + 16, load<u32>(SECOND_AT + 16));
}
