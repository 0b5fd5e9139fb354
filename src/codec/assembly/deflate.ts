import {
  CODES_AT,
  HASH_BITS,
  HASHES_AT,
  HASHES_BYTES,
  PACKED_AT,
  PLAIN_AT,
  PLAIN_BYTES,
  STEPS_AT,
  STEPS_MAX,
} from '../machine-places';
import { finishBits, startBits, writeCoded, writeStored } from './blocks';

/**
 * Deflate for JSON text, and for anything else. Matches are looked for only where they are likely to start: behind the one before, and at
 * borders: quotes, commas, braces, spaces, where names, values and words begin and end.
 */
const WINDOW: usize = 32768;
const LENGTH_MAX: u32 = 258;
const LENGTH_MIN: u32 = 3;
/** A longer match is taken up again behind it; it fills at most 32 of the 64 steps that are kept free. */
const MATCH_MAX: usize = 8192;
/** Shorter matches cost more than the literals they stand for. */
const WORTH: u32 = 5;
const WORTH_FAR: u32 = 6;
const FAR: usize = 4096;
/** Nothing is looked for so close to the end, so that reads of 16 bytes stay inside. */
const END_BYTES: usize = 32;
const MULTIPLIER: u64 = 0x9e3779b97f4a7c15;
/** By byte: how far a word of 8 is shifted so that the bytes to be hashed are left: 4 of a value's start, 6 at a border. */
const SHIFTS: usize = CODES_AT + 20480;
/** All bytes but these are borders: from `-` to `z`, which has letters, digits, and what joins words and numbers. */
const INNER_FIRST: u8 = 0x2d;
const INNER_SPAN: u8 = 0x7a - INNER_FIRST;
const VALUE_SHIFT: u8 = 32;
const BORDER_SHIFT: u8 = 16;
/** Places are noted with a base that grows from call to call, so that the notes of earlier calls are out of reach. */
const BASE_MAX: u32 = 0x7000_0000;

let base: u32 = 0;
let steps: usize = 0;

export function makeShifts(): void {
  for (let byte: u32 = 0; byte < 256; byte += 1) {
    const isBorder = byte - INNER_FIRST > INNER_SPAN;
    store<u8>(SHIFTS + <usize>byte, isBorder ? BORDER_SHIFT : VALUE_SHIFT);
  }
}

/**
 * Compresses the first `length` bytes at PLAIN_AT to PACKED_AT, and returns how many that gives: a raw deflate stream up to its end
 * with `isEnd`, else a part of one that the next can be put behind. 0: there are more bytes than the place holds.
 */
export function deflate(length: u32, isEnd: bool): u32 {
  if (length > <u32>PLAIN_BYTES) return 0;
  if (base == 0 || base > BASE_MAX) {
    memory.fill(HASHES_AT, 0xff, HASHES_BYTES);
    base = <u32>WINDOW;
  }
  startBits(PACKED_AT);
  const end = PLAIN_AT + <usize>length;
  let at: usize = PLAIN_AT;
  do {
    const from = at;
    at = takeSteps(from, end);
    const isLast = isEnd && at == end;
    if (!writeCoded(from, at, steps, isLast)) writeStored(from, at, isLast);
  } while (at != end);
  // An empty block ends at a whole byte.
  if (!isEnd) writeStored(end, end, false);
  base += length + <u32>WINDOW;
  return <u32>(finishBits() - PACKED_AT);
}

/** One bit for each of the 16 bytes at `at` that is a border. */
@inline
function bordersAt(at: usize): u32 {
  const above = i8x16.sub(v128.load(at), i8x16.splat(INNER_FIRST));
  return <u32>i8x16.bitmask(i8x16.gt_u(above, i8x16.splat(INNER_SPAN)));
}

/** How many bytes at `a` and `b` are alike, none of `a` at or behind `end`. */
@inline
function alike(a: usize, b: usize, end: usize): u32 {
  let length: usize = 0;
  while (a + length + 16 <= end) {
    const same = i8x16.eq(v128.load(a + length), v128.load(b + length));
    const different = <u32>i8x16.bitmask(same) ^ 0xffff;
    if (different != 0) return <u32>length + ctz<u32>(different);
    length += 16;
  }
  while (a + length < end && load<u8>(a + length) == load<u8>(b + length)) length += 1;
  return <u32>length;
}

/** Finds the matches from `from` on until `end`, or until the table of steps is full; returns the place after the last step. */
function takeSteps(from: usize, end: usize): usize {
  const shift = base - <u32>PLAIN_AT;
  const last = end - min<usize>(end - from, END_BYTES);
  const full = <usize>STEPS_AT + ((<usize>STEPS_MAX - 64) << 3);
  let step: usize = STEPS_AT;
  let done = from;
  let at = from;
  while (at < last) {
    const word = load<u64>(at);
    const border = <u64>load<u8>(SHIFTS + <usize>(word & 0xff));
    const slot = HASHES_AT + (<usize>(((word << border) * MULTIPLIER) >> (64 - HASH_BITS)) << 2);
    const distance = <usize>(<u32>at + shift - load<u32>(slot));
    store<u32>(slot, <u32>at + shift);
    if (distance <= WINDOW && load<u32>(at - distance) == <u32>word) {
      const length = alike(at, at - distance, min<usize>(end, at + MATCH_MAX));
      if (length >= (distance > FAR ? WORTH_FAR : WORTH)) {
        step = putStep(step, at, done, length, distance);
        at += <usize>length;
        done = at;
        if (step >= full) break;
        continue;
      }
    }
    const borders = bordersAt(at + 1);
    at += borders == 0 ? 16 : 1 + ctz<u32>(borders);
  }
  steps = step;
  return step >= full ? done : end;
}

/**
 * Notes a match of `length` bytes at `at`, with the literals since `done`. Where it follows the match before at once, and what
 * comes before it there is the same as here, both become one.
 */
@inline
function putStep(step: usize, at: usize, done: usize, length: u32, distance: usize): usize {
  let literals = <u32>(at - done);
  if (literals == 0 && step > <usize>STEPS_AT) {
    const before = load<u32>(step - 4) >>> 16;
    const start = at - <usize>before;
    if (
      length + before <= LENGTH_MAX &&
      start >= <usize>PLAIN_AT + distance &&
      alike(start, start - distance, at) == before
    ) {
      step -= 8;
      literals = load<u32>(step);
      length += before;
    }
  }
  while (length > LENGTH_MAX) {
    // What is left over has to be a match, too.
    const part = min<u32>(LENGTH_MAX, length - LENGTH_MIN);
    store<u32>(step, literals);
    store<u32>(step, (part << 16) | <u32>distance, 4);
    step += 8;
    literals = 0;
    length -= part;
  }
  store<u32>(step, literals);
  store<u32>(step, (length << 16) | <u32>distance, 4);
  return step + 8;
}
