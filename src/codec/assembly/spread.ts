import { BACKSLASH, BRACE_CLOSE, BRACE_OPEN, BRACKET_CLOSE, BRACKET_OPEN, COLON, COMMA, QUOTE } from '../../base/characters';
import {
  PACKED_AT,
  PLAIN_AT,
  RUN_COUNTS_AT,
  RUN_ENDS_AT,
  RUN_FIRSTS_AT,
  RUN_LASTS_AT,
  SPREAD_ENDS_AT,
  SPREAD_PARTITIONS_AT,
} from '../machine-places';

const FNV_OFFSET: u32 = 0x811c9dc5;
const FNV_PRIME: u32 = 0x01000193;
/** `#account_id`, `#distinct_id`. */
const ACCOUNT = memory.data<u8>([0x23, 0x61, 0x63, 0x63, 0x6f, 0x75, 0x6e, 0x74, 0x5f, 0x69, 0x64]);
const ACCOUNT_BYTES: usize = 11;
const DISTINCT = memory.data<u8>([0x23, 0x64, 0x69, 0x73, 0x74, 0x69, 0x6e, 0x63, 0x74, 0x5f, 0x69, 0x64]);
const DISTINCT_BYTES: usize = 12;

/**
 * Copies `count` records at PLAIN_AT, lines of JSON with their line breaks at SPREAD_ENDS_AT, to PACKED_AT, those of a partition together and in
 * order, and notes what is where.
 */
export function spread(count: u32, partitions: u32): void {
  memory.fill(RUN_ENDS_AT, 0, <usize>partitions * 4);
  memory.fill(RUN_COUNTS_AT, 0, <usize>partitions * 4);
  sort(<usize>count, partitions);
  let total: u32 = 0;
  for (let partition: usize = 0; partition < <usize>partitions; partition += 1) {
    const bytes = load<u32>(RUN_ENDS_AT + partition * 4);
    // Where the run starts; it grows to where it ends.
    store<u32>(RUN_ENDS_AT + partition * 4, total);
    total += bytes;
  }
  let from: usize = PLAIN_AT;
  for (let record: usize = 0; record < <usize>count; record += 1) {
    const next = PLAIN_AT + <usize>load<u32>(SPREAD_ENDS_AT + record * 4) + 1;
    const run = RUN_ENDS_AT + <usize>load<u32>(SPREAD_PARTITIONS_AT + record * 4) * 4;
    const bytes = next - from;
    copy(from, bytes, PACKED_AT + <usize>load<u32>(run));
    store<u32>(run, load<u32>(run) + <u32>bytes);
    from = next;
  }
}

/** Exactly these bytes: the next run may stand behind them already. */
@inline
function copy(from: usize, length: usize, to: usize): void {
  if (length < 16) {
    memory.copy(to, from, length);
    return;
  }
  const last = length - 16;
  for (let done: usize = 0; done < last; done += 16) v128.store(to + done, v128.load(from + done));
  v128.store(to + last, v128.load(from + last));
}

/** Finds the partition of each record. */
function sort(count: usize, partitions: u32): void {
  let from: usize = PLAIN_AT;
  for (let record: usize = 0; record < count; record += 1) {
    const end = PLAIN_AT + <usize>load<u32>(SPREAD_ENDS_AT + record * 4);
    const partition = <usize>(hashOfKey(from, end) % partitions);
    store<u32>(SPREAD_PARTITIONS_AT + record * 4, <u32>partition);
    const bytes = RUN_ENDS_AT + partition * 4;
    const records = RUN_COUNTS_AT + partition * 4;
    if (load<u32>(records) == 0) store<u32>(RUN_FIRSTS_AT + partition * 4, <u32>record);
    store<u32>(RUN_LASTS_AT + partition * 4, <u32>record);
    store<u32>(records, load<u32>(records) + 1);
    store<u32>(bytes, load<u32>(bytes) + <u32>(end + 1 - from));
    from = end + 1;
  }
}

/** The number that sink/record-text.ts gives the user of the record in `[from, end)`. */
function hashOfKey(from: usize, end: usize): u32 {
  let distinct: u32 = 0;
  let at = from + 1;
  while (at < end && load<u8>(at) != BRACE_CLOSE) {
    if (load<u8>(at) != QUOTE) {
      at += 1;
      continue;
    }
    const name = at + 1;
    const nameEnd = endOfText(name, end);
    at = nameEnd + 1;
    while (at < end && (load<u8>(at) <= 0x20 || load<u8>(at) == COLON)) at += 1;
    if (load<u8>(at) != QUOTE) {
      at = endOfValue(at, end);
      continue;
    }
    const text = at + 1;
    const textEnd = endOfText(text, end);
    at = textEnd + 1;
    if (text == textEnd) continue;
    if (isName(name, nameEnd - name, ACCOUNT, ACCOUNT_BYTES)) return hashOf(text, textEnd);
    if (isName(name, nameEnd - name, DISTINCT, DISTINCT_BYTES)) distinct = hashOf(text, textEnd);
  }
  return distinct;
}

@inline
function isName(at: usize, length: usize, name: usize, nameBytes: usize): bool {
  return length == nameBytes && memory.compare(at, name, nameBytes) == 0;
}

function hashOf(from: usize, to: usize): u32 {
  let hash = FNV_OFFSET;
  for (let at = from; at < to; at += 1) hash = (hash ^ <u32>load<u8>(at)) * FNV_PRIME;
  return hash ^ (hash >> 15);
}

/** Place of the quote that ends the text begun before `from`. */
function endOfText(from: usize, end: usize): usize {
  let at = from;
  while (at < end) {
    const bytes = v128.load(at);
    const isQuote = i8x16.eq(bytes, i8x16.splat(<i8>QUOTE));
    const isBackslash = i8x16.eq(bytes, i8x16.splat(<i8>BACKSLASH));
    const marks = i8x16.bitmask(v128.or(isQuote, isBackslash));
    if (marks == 0) {
      at += 16;
      continue;
    }
    at += <usize>ctz(marks);
    if (load<u8>(at) == QUOTE) return at;
    at += 2;
  }
  return end;
}

/** Place behind a number, a word, a list or an object. */
function endOfValue(from: usize, end: usize): usize {
  let depth: i32 = 0;
  let at = from;
  while (at < end) {
    const byte = load<u8>(at);
    if (depth == 0 && (byte == COMMA || byte == BRACE_CLOSE)) return at;
    if (byte == QUOTE) at = endOfText(at + 1, end);
    else if (byte == BRACE_OPEN || byte == BRACKET_OPEN) depth += 1;
    else if (byte == BRACE_CLOSE || byte == BRACKET_CLOSE) depth -= 1;
    at += 1;
  }
  return at;
}
