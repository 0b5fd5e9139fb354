import { CODES_AT } from '../machine-places';

/** Literals and lengths, distances, and the lengths of codes themselves: most symbols of each, and most bits. */
export const LITERAL_CODES: u32 = 286;
export const DISTANCE_CODES: u32 = 30;
export const LENGTH_CODES: u32 = 19;
/** Short enough for four literals, or a length with its distance, in one go. */
export const CODE_BITS_MAX: u32 = 12;
export const LENGTH_BITS_MAX: u32 = 7;

/** Of each kind of symbol: counts (u32), then lengths (u8), then codes with the length in the upper half (u32). */
export const LITERAL_COUNTS: usize = CODES_AT;
export const DISTANCE_COUNTS: usize = CODES_AT + 2048;
export const LENGTH_COUNTS: usize = CODES_AT + 2560;
export const LITERAL_LENGTHS: usize = CODES_AT + 3072;
export const DISTANCE_LENGTHS: usize = CODES_AT + 3584;
export const LENGTH_LENGTHS: usize = CODES_AT + 3840;
export const LITERAL_TABLE: usize = CODES_AT + 4096;
export const DISTANCE_TABLE: usize = CODES_AT + 6144;
export const LENGTH_TABLE: usize = CODES_AT + 6656;

const SYMBOL_BITS: u32 = 9;
const SYMBOL_MASK: u32 = (1 << SYMBOL_BITS) - 1;
/** Symbols in use, sorted: u32 count << 9 | symbol. */
const SORTED: usize = CODES_AT + 8192;
/** Weights, then parents, of leaves and inner nodes: u32 each. */
const WEIGHTS: usize = CODES_AT + 10240;
const PARENTS: usize = CODES_AT + 14336;
/** How many symbols have each length, and the next code of each: u32 each. */
const BY_LENGTH: usize = CODES_AT + 18432;
const NEXT_CODE: usize = CODES_AT + 18560;
const BITS_END: u32 = 32;

@inline
function word(base: usize, index: u32): u32 {
  return load<u32>(base + ((<usize>index) << 2));
}

@inline
function setWord(base: usize, index: u32, value: u32): void {
  store<u32>(base + ((<usize>index) << 2), value);
}

/** Adds one to the count of a symbol. */
@inline
export function count(counts: usize, symbol: u32): void {
  setWord(counts, symbol, word(counts, symbol) + 1);
}

/**
 * Makes a prefix code for `symbols` symbols by their counts, no code longer than `bitsMax`. There are at least two codes: some
 * readers do not take fewer.
 */
export function makeCodes(
  counts: usize,
  symbols: u32,
  bitsMax: u32,
  lengths: usize,
  table: usize,
): void {
  const used = sortSymbols(counts, symbols);
  growTree(used);
  countLengths(used, bitsMax);
  memory.fill(lengths, 0, symbols);
  let at: u32 = 0;
  // The rarest symbols come first and get the longest codes.
  for (let bits = bitsMax; bits > 0; bits -= 1) {
    for (let taken = word(BY_LENGTH, bits); taken > 0; taken -= 1) {
      store<u8>(lengths + <usize>(word(SORTED, at) & SYMBOL_MASK), <u8>bits);
      at += 1;
    }
  }
  assignCodes(symbols, lengths, table);
}

function sortSymbols(counts: usize, symbols: u32): u32 {
  let used: u32 = 0;
  for (let symbol: u32 = 0; symbol < symbols; symbol += 1) {
    const times = word(counts, symbol);
    if (times == 0) continue;
    setWord(SORTED, used, (times << SYMBOL_BITS) | symbol);
    used += 1;
  }
  for (let symbol: u32 = 0; used < 2; symbol += 1) {
    if (word(counts, symbol) != 0) continue;
    setWord(SORTED, used, (1 << SYMBOL_BITS) | symbol);
    used += 1;
  }
  sortBy(40, used);
  sortBy(13, used);
  sortBy(4, used);
  sortBy(1, used);
  return used;
}

/** One pass of Shell's sort. */
function sortBy(gap: u32, used: u32): void {
  for (let index = gap; index < used; index += 1) {
    const moved = word(SORTED, index);
    let at = index;
    while (at >= gap && word(SORTED, at - gap) > moved) {
      setWord(SORTED, at, word(SORTED, at - gap));
      at -= gap;
    }
    setWord(SORTED, at, moved);
  }
}

/** Huffman's tree over the sorted symbols: leaves first, then inner nodes in the order they are made. */
function growTree(used: u32): void {
  for (let leaf: u32 = 0; leaf < used; leaf += 1) {
    setWord(WEIGHTS, leaf, word(SORTED, leaf) >> SYMBOL_BITS);
  }
  let leaf: u32 = 0;
  let inner = used;
  for (let node = used; node < 2 * used - 1; node += 1) {
    let weight: u32 = 0;
    for (let child = 0; child < 2; child += 1) {
      const isLeaf =
        leaf < used && (inner >= node || word(WEIGHTS, leaf) <= word(WEIGHTS, inner));
      const taken = isLeaf ? leaf : inner;
      if (isLeaf) leaf += 1;
      else inner += 1;
      setWord(PARENTS, taken, node);
      weight += word(WEIGHTS, taken);
    }
    setWord(WEIGHTS, node, weight);
  }
}

/** How many codes there are of each length, none longer than `bitsMax`. */
function countLengths(used: u32, bitsMax: u32): void {
  memory.fill(BY_LENGTH, 0, BITS_END << 2);
  const root = 2 * used - 2;
  // From here on WEIGHTS holds how deep each node is.
  setWord(WEIGHTS, root, 0);
  for (let node = <i32>root - 1; node >= 0; node -= 1) {
    const depth = word(WEIGHTS, word(PARENTS, node)) + 1;
    setWord(WEIGHTS, node, depth);
    if (<u32>node < used) count(BY_LENGTH, min<u32>(depth, bitsMax));
  }
  const full: u32 = 1 << bitsMax;
  let taken: u32 = 0;
  for (let bits: u32 = 1; bits <= bitsMax; bits += 1) {
    taken += word(BY_LENGTH, bits) << (bitsMax - bits);
  }
  // Cut codes took too much room: one of the longest goes below a shorter one, which gets a bit longer.
  for (; taken > full; taken -= 1) {
    setWord(BY_LENGTH, bitsMax, word(BY_LENGTH, bitsMax) - 1);
    let bits = bitsMax - 1;
    while (word(BY_LENGTH, bits) == 0) bits -= 1;
    setWord(BY_LENGTH, bits, word(BY_LENGTH, bits) - 1);
    setWord(BY_LENGTH, bits + 1, word(BY_LENGTH, bits + 1) + 2);
  }
}

/** Codes in the order of their length and symbol, turned round, because the stream takes bits from below. */
export function assignCodes(symbols: u32, lengths: usize, table: usize): void {
  memory.fill(BY_LENGTH, 0, BITS_END << 2);
  for (let symbol: u32 = 0; symbol < symbols; symbol += 1) {
    count(BY_LENGTH, <u32>load<u8>(lengths + <usize>symbol));
  }
  setWord(BY_LENGTH, 0, 0);
  let code: u32 = 0;
  for (let bits: u32 = 1; bits < BITS_END; bits += 1) {
    code = (code + word(BY_LENGTH, bits - 1)) << 1;
    setWord(NEXT_CODE, bits, code);
  }
  for (let symbol: u32 = 0; symbol < symbols; symbol += 1) {
    const bits = <u32>load<u8>(lengths + <usize>symbol);
    const next = word(NEXT_CODE, bits);
    setWord(NEXT_CODE, bits, next + 1);
    setWord(table, symbol, bits == 0 ? 0 : reversed(next, bits) | (bits << 16));
  }
}

function reversed(code: u32, bits: u32): u32 {
  let from = code;
  from = ((from & 0x5555) << 1) | ((from >> 1) & 0x5555);
  from = ((from & 0x3333) << 2) | ((from >> 2) & 0x3333);
  from = ((from & 0x0f0f) << 4) | ((from >> 4) & 0x0f0f);
  from = ((from & 0x00ff) << 8) | ((from >> 8) & 0x00ff);
  return from >> (16 - bits);
}
