import { CODES_AT, STEPS_AT } from '../machine-places';
import {
  assignCodes,
  CODE_BITS_MAX,
  count,
  DISTANCE_CODES,
  DISTANCE_COUNTS,
  DISTANCE_LENGTHS,
  DISTANCE_TABLE,
  LENGTH_BITS_MAX,
  LENGTH_CODES,
  LENGTH_COUNTS,
  LENGTH_LENGTHS,
  LENGTH_TABLE,
  LITERAL_CODES,
  LITERAL_COUNTS,
  LITERAL_LENGTHS,
  LITERAL_TABLE,
  makeCodes,
} from './prefix-codes';

const END_OF_BLOCK: u32 = 256;
const STORED_MAX: usize = 65535;
/** By length of a match: u8 symbol less 257, u8 extra bits, u8 what they hold. Then by distance less 1, see distanceSymbol. */
const LENGTH_SYMBOLS: usize = CODES_AT + 24576;
const DISTANCE_SYMBOLS: usize = CODES_AT + 26624;
/** By symbol: u32 smallest distance. */
const DISTANCE_BASES: usize = CODES_AT + 27648;
/** By length of a match: u32 its code with the extra bits, u32 how many bits that is. */
const LENGTH_CODED: usize = CODES_AT + 28672;
/** The lengths of all codes of a block one after the other, then the same in short: u8 symbol, u8 repeats. */
const ALL_LENGTHS: usize = CODES_AT + 32768;
const SHORT_LENGTHS: usize = CODES_AT + 33280;

/** Order in which the lengths of the codes for lengths are written. */
const LENGTH_ORDER = memory.data<u8>([
  16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15,
]);

let out: usize = 0;
let bits: u64 = 0;
let bitCount: u64 = 0;

export function startBits(at: usize): void {
  out = at;
  bits = 0;
  bitCount = 0;
}

/** Writes what is left, up to a whole byte, and returns the place after it. */
export function finishBits(): usize {
  flush();
  if (bitCount > 0) {
    store<u8>(out, <u8>bits);
    out += 1;
  }
  return out;
}

@inline
function add(value: u64, length: u64): void {
  bits |= value << bitCount;
  bitCount += length;
}

/** At most 7 bits wait afterwards. */
@inline
function flush(): void {
  store<u64>(out, bits);
  out += <usize>(bitCount >> 3);
  bits >>= bitCount & ~7;
  bitCount &= 7;
}

function putBits(value: u32, length: u32): void {
  add(<u64>value, <u64>length);
  flush();
}

/** Fills the tables of what deflate's lengths and distances are made of. */
export function makeSymbols(): void {
  let symbol: u32 = 0;
  let length: u32 = 3;
  while (length < 258) {
    const extra = symbol < 8 ? 0 : (symbol >> 2) - 1;
    for (let more: u32 = 0; more < 1 << extra && length < 258; more += 1) {
      putLengthSymbol(length, symbol, extra, more);
      length += 1;
    }
    symbol += 1;
  }
  putLengthSymbol(258, 28, 0, 0);
  let distance: u32 = 0;
  for (symbol = 0; symbol < DISTANCE_CODES; symbol += 1) {
    store<u32>(DISTANCE_BASES + ((<usize>symbol) << 2), distance);
    for (let more: u32 = 0; more < 1 << distanceExtra(symbol); more += 1) {
      const at = distance < 256 ? distance : 256 + (distance >> 7);
      store<u8>(DISTANCE_SYMBOLS + <usize>at, <u8>symbol);
      distance += 1;
    }
  }
}

function putLengthSymbol(length: u32, symbol: u32, extra: u32, more: u32): void {
  store<u32>(LENGTH_SYMBOLS + ((<usize>length) << 2), symbol | (extra << 8) | (more << 16));
}

@inline
function distanceExtra(symbol: u32): u32 {
  return symbol < 4 ? 0 : (symbol >> 1) - 1;
}

/** @param less the distance less 1 */
@inline
function distanceSymbol(less: u32): u32 {
  return <u32>load<u8>(DISTANCE_SYMBOLS + <usize>(less < 256 ? less : 256 + (less >> 7)));
}

/**
 * Writes the text from `from` to `end` as a block with codes of its own, by the steps up to `steps`.
 * False: it would take more room than the text as it is, and nothing was written.
 */
export function writeCoded(from: usize, end: usize, steps: usize, isLast: bool): bool {
  countSymbols(from, end, steps);
  makeCodes(LITERAL_COUNTS, LITERAL_CODES, CODE_BITS_MAX, LITERAL_LENGTHS, LITERAL_TABLE);
  makeCodes(DISTANCE_COUNTS, DISTANCE_CODES, CODE_BITS_MAX, DISTANCE_LENGTHS, DISTANCE_TABLE);
  const literals = usedSymbols(LITERAL_LENGTHS, LITERAL_CODES, 257);
  const distances = usedSymbols(DISTANCE_LENGTHS, DISTANCE_CODES, 1);
  const short = shortenLengths(literals, distances);
  makeCodes(LENGTH_COUNTS, LENGTH_CODES, LENGTH_BITS_MAX, LENGTH_LENGTHS, LENGTH_TABLE);
  const own = codedBits() + headerBits();
  const fixed = fixedBits();
  const plain = <u64>(end - from + 5 * (1 + (end - from) / STORED_MAX)) << 3;
  if (min<u64>(own, fixed) >= plain) return false;
  if (fixed <= own) {
    putBits(<u32>isLast | 2, 3);
    useFixedCodes();
  } else {
    putBits(<u32>isLast | 4, 3);
    writeHeader(literals, distances, short);
  }
  makeLengthCodes();
  writeSteps(from, end, steps);
  return true;
}

/** Writes the text as it is. */
export function writeStored(from: usize, end: usize, isLast: bool): void {
  let at = from;
  do {
    const length = min<usize>(end - at, STORED_MAX);
    putBits(<u32>(isLast && at + length == end), 3);
    if (bitCount > 0) putBits(0, 8 - <u32>bitCount);
    store<u16>(out, <u16>length);
    store<u16>(out, <u16>~length, 2);
    memory.copy(out + 4, at, length);
    out += 4 + length;
    at += length;
  } while (at != end);
}

function countSymbols(from: usize, end: usize, steps: usize): void {
  memory.fill(LITERAL_COUNTS, 0, LITERAL_CODES << 2);
  memory.fill(DISTANCE_COUNTS, 0, DISTANCE_CODES << 2);
  let at = from;
  for (let step: usize = STEPS_AT; step < steps; step += 8) {
    const literalsEnd = at + <usize>load<u32>(step);
    for (; at < literalsEnd; at += 1) count(LITERAL_COUNTS, <u32>load<u8>(at));
    const match = load<u32>(step, 4);
    const length = match >>> 16;
    count(LITERAL_COUNTS, 257 + <u32>load<u8>(LENGTH_SYMBOLS + ((<usize>length) << 2)));
    count(DISTANCE_COUNTS, distanceSymbol((match & 0xffff) - 1));
    at += <usize>length;
  }
  for (; at < end; at += 1) count(LITERAL_COUNTS, <u32>load<u8>(at));
  count(LITERAL_COUNTS, END_OF_BLOCK);
}

function usedSymbols(lengths: usize, symbols: u32, least: u32): u32 {
  let used = symbols;
  while (used > least && load<u8>(lengths + <usize>(used - 1)) == 0) used -= 1;
  return used;
}

/** Puts the lengths of both codes in short form and counts its symbols; returns the end of it. */
function shortenLengths(literals: u32, distances: u32): usize {
  memory.copy(ALL_LENGTHS, LITERAL_LENGTHS, literals);
  memory.copy(ALL_LENGTHS + <usize>literals, DISTANCE_LENGTHS, distances);
  memory.fill(LENGTH_COUNTS, 0, LENGTH_CODES << 2);
  const total = literals + distances;
  let to: usize = SHORT_LENGTHS;
  for (let index: u32 = 0; index < total; ) {
    const length = load<u8>(ALL_LENGTHS + <usize>index);
    let run: u32 = 1;
    while (index + run < total && load<u8>(ALL_LENGTHS + <usize>(index + run)) == length) run += 1;
    index += run;
    if (length != 0) {
      to = putShort(to, length, 0);
      run -= 1;
    }
    while (run >= 3) {
      const part = min<u32>(run, length != 0 ? 6 : 138);
      if (length != 0) to = putShort(to, 16, part - 3);
      else if (part < 11) to = putShort(to, 17, part - 3);
      else to = putShort(to, 18, part - 11);
      run -= part;
    }
    for (; run > 0; run -= 1) to = putShort(to, length, 0);
  }
  return to;
}

function putShort(to: usize, symbol: u8, more: u32): usize {
  store<u8>(to, symbol);
  store<u8>(to, <u8>more, 1);
  count(LENGTH_COUNTS, <u32>symbol);
  return to + 2;
}

/** Extra bits behind a symbol of the short form. */
@inline
function repeatBits(symbol: u32): u32 {
  if (symbol == 18) return 7;
  if (symbol == 17) return 3;
  return symbol == 16 ? 2 : 0;
}

function lengthCodesUsed(): u32 {
  let used: u32 = LENGTH_CODES;
  while (used > 4 && load<u8>(LENGTH_LENGTHS + <usize>load<u8>(LENGTH_ORDER + <usize>(used - 1))) == 0) {
    used -= 1;
  }
  return used;
}

function headerBits(): u64 {
  let sum = 3 + 14 + 3 * lengthCodesUsed();
  for (let symbol: u32 = 0; symbol < LENGTH_CODES; symbol += 1) {
    const length = <u32>load<u8>(LENGTH_LENGTHS + <usize>symbol) + repeatBits(symbol);
    sum += load<u32>(LENGTH_COUNTS + ((<usize>symbol) << 2)) * length;
  }
  return <u64>sum;
}

function writeHeader(literals: u32, distances: u32, short: usize): void {
  const used = lengthCodesUsed();
  putBits(literals - 257, 5);
  putBits(distances - 1, 5);
  putBits(used - 4, 4);
  for (let index: u32 = 0; index < used; index += 1) {
    putBits(<u32>load<u8>(LENGTH_LENGTHS + <usize>load<u8>(LENGTH_ORDER + <usize>index)), 3);
  }
  for (let at: usize = SHORT_LENGTHS; at < short; at += 2) {
    const symbol = <u32>load<u8>(at);
    const code = load<u32>(LENGTH_TABLE + ((<usize>symbol) << 2));
    putBits(code & 0xffff, code >>> 16);
    putBits(<u32>load<u8>(at, 1), repeatBits(symbol));
  }
}

/** Bits of the block's symbols with the codes made for it, and of their extra bits. */
function codedBits(): u64 {
  let sum = extraBits();
  for (let symbol: u32 = 0; symbol < LITERAL_CODES; symbol += 1) {
    sum += times(LITERAL_COUNTS, symbol) * <u64>load<u8>(LITERAL_LENGTHS + <usize>symbol);
  }
  for (let symbol: u32 = 0; symbol < DISTANCE_CODES; symbol += 1) {
    sum += times(DISTANCE_COUNTS, symbol) * <u64>load<u8>(DISTANCE_LENGTHS + <usize>symbol);
  }
  return sum;
}

@inline
function times(counts: usize, symbol: u32): u64 {
  return <u64>load<u32>(counts + ((<usize>symbol) << 2));
}

function extraBits(): u64 {
  let sum: u64 = 0;
  for (let symbol: u32 = 8; symbol < 28; symbol += 1) {
    sum += times(LITERAL_COUNTS, 257 + symbol) * <u64>((symbol >> 2) - 1);
  }
  for (let symbol: u32 = 4; symbol < DISTANCE_CODES; symbol += 1) {
    sum += times(DISTANCE_COUNTS, symbol) * <u64>distanceExtra(symbol);
  }
  return sum;
}

@inline
function fixedLength(symbol: u32): u32 {
  if (symbol < 144) return 8;
  if (symbol < 256) return 9;
  return symbol < 280 ? 7 : 8;
}

/** Bits of the block with the codes that need no header. */
function fixedBits(): u64 {
  let sum: u64 = 3 + extraBits();
  for (let symbol: u32 = 0; symbol < LITERAL_CODES; symbol += 1) {
    sum += times(LITERAL_COUNTS, symbol) * <u64>fixedLength(symbol);
  }
  for (let symbol: u32 = 0; symbol < DISTANCE_CODES; symbol += 1) {
    sum += times(DISTANCE_COUNTS, symbol) * 5;
  }
  return sum;
}

function useFixedCodes(): void {
  // 288 and 32 symbols have codes, though two of each never occur.
  for (let symbol: u32 = 0; symbol < 288; symbol += 1) {
    store<u8>(LITERAL_LENGTHS + <usize>symbol, <u8>fixedLength(symbol));
  }
  memory.fill(DISTANCE_LENGTHS, 5, 32);
  assignCodes(288, LITERAL_LENGTHS, LITERAL_TABLE);
  assignCodes(32, DISTANCE_LENGTHS, DISTANCE_TABLE);
}

function makeLengthCodes(): void {
  for (let length: u32 = 3; length <= 258; length += 1) {
    const known = load<u32>(LENGTH_SYMBOLS + ((<usize>length) << 2));
    const code = load<u32>(LITERAL_TABLE + ((<usize>(257 + (known & 0xff))) << 2));
    const at = LENGTH_CODED + ((<usize>length) << 3);
    store<u32>(at, (code & 0xffff) | ((known >>> 16) << (code >>> 16)));
    store<u32>(at, (code >>> 16) + ((known >>> 8) & 0xff), 4);
  }
}

/** The block's symbols. What waits to be written is kept in local variables, which are registers. */
function writeSteps(from: usize, end: usize, steps: usize): void {
  let to = out;
  let waiting = bits;
  let length = bitCount;
  let at = from;
  let step: usize = STEPS_AT;
  for (;;) {
    const literalsEnd = step < steps ? at + <usize>load<u32>(step) : end;
    for (; at + 4 <= literalsEnd; at += 4) {
      const four = load<u32>(at);
      let code = load<u32>(LITERAL_TABLE + ((<usize>(four & 0xff)) << 2));
      waiting |= <u64>(code & 0xffff) << length;
      length += <u64>(code >>> 16);
      code = load<u32>(LITERAL_TABLE + ((<usize>((four >>> 8) & 0xff)) << 2));
      waiting |= <u64>(code & 0xffff) << length;
      length += <u64>(code >>> 16);
      code = load<u32>(LITERAL_TABLE + ((<usize>((four >>> 16) & 0xff)) << 2));
      waiting |= <u64>(code & 0xffff) << length;
      length += <u64>(code >>> 16);
      code = load<u32>(LITERAL_TABLE + ((<usize>(four >>> 24)) << 2));
      waiting |= <u64>(code & 0xffff) << length;
      length += <u64>(code >>> 16);
      store<u64>(to, waiting);
      to += <usize>(length >> 3);
      waiting >>= length & ~7;
      length &= 7;
    }
    for (; at < literalsEnd; at += 1) {
      const code = load<u32>(LITERAL_TABLE + ((<usize>load<u8>(at)) << 2));
      waiting |= <u64>(code & 0xffff) << length;
      length += <u64>(code >>> 16);
    }
    store<u64>(to, waiting);
    to += <usize>(length >> 3);
    waiting >>= length & ~7;
    length &= 7;
    if (step >= steps) break;
    const match = load<u32>(step, 4);
    const coded = LENGTH_CODED + ((<usize>(match >>> 16)) << 3);
    waiting |= <u64>load<u32>(coded) << length;
    length += <u64>load<u32>(coded, 4);
    const less = (match & 0xffff) - 1;
    const symbol = distanceSymbol(less);
    const code = load<u32>(DISTANCE_TABLE + ((<usize>symbol) << 2));
    waiting |= <u64>(code & 0xffff) << length;
    length += <u64>(code >>> 16);
    waiting |= <u64>(less - load<u32>(DISTANCE_BASES + ((<usize>symbol) << 2))) << length;
    length += <u64>distanceExtra(symbol);
    store<u64>(to, waiting);
    to += <usize>(length >> 3);
    waiting >>= length & ~7;
    length &= 7;
    at += <usize>(match >>> 16);
    step += 8;
  }
  out = to;
  bits = waiting;
  bitCount = length;
  const code = load<u32>(LITERAL_TABLE + (END_OF_BLOCK << 2));
  putBits(code & 0xffff, code >>> 16);
}
