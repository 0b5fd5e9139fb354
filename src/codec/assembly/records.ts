import { putDouble } from './numbers';
import {
  ENDS_AT,
  LIFT_BYTES,
  LIFTED_AT,
  NAMES_AT,
  NAMES_BYTES,
  LIFTS_AT,
  POSITIONS_AT,
  RECORDS_MAX,
  RESULT_AT,
  RESULT_FLAGS,
  RESULT_NEXT_IN,
  RESULT_NEXT_TEXT,
  SLACK_BYTES,
  STAMPS_AT,
  STARTS_AT,
  TYPE_BYTES,
  TYPES_AT,
} from '../machine-places';
import { putRun, putUuid } from './text';
import { offsetHours, putTime } from './time';
import { isRegular, next, putEntries, putValue, skipValues } from './values';

/** Place of a shape in this memory by the number frames carry; 0: it can't be had here. */
@external("host", "shapeAt")
declare function shapeAt(id: u32): usize;
/** Place of what super and preset properties add to a shape's own, for one epoch; 0: it can't be had here. */
@external("host", "tailAt")
declare function tailAt(shape: usize, epoch: u32): usize;

/** The same where the record has dynamic properties, whose names are at NAMES_AT. */
@external("host", "dynamicTailAt")
declare function dynamicTailAt(shape: usize, epoch: u32, namesBytes: u32): usize;

// Of a frame, as lane/layout.ts has it.
const KIND_AT: usize = 4;
const FLAGS_AT: usize = 5;
const SEQ_AT: usize = 8;
const STAMP_AT: usize = 12;
const SHAPE_AT: usize = 16;
const EPOCH_AT: usize = 20;
const TIME_AT: usize = 24;
const HEADER_BYTES: i32 = 32;
const UUID_BYTES: usize = 16;
const FLAG_UUID: u32 = 1;
const FLAG_EXTRAS: u32 = 4;
const FLAG_DYNAMIC: u32 = 8;
const TRACK_KIND_MAX: u32 = 3;
const KIND_MAX: u32 = 10;
const LIFT_UUID: usize = 2;
const LIFT_IP: usize = 3;
const LIFT_APP_ID: usize = 4;
const LIFT_EVENT_ID: usize = 5;
const LIFT_FIRST_CHECK_ID: usize = 6;
const LIFT_TRANSACTION: usize = 7;
const LIFT_IMPORT_TOOL: usize = 8;
const LIFT_CODES: u32 = 9;
/** Most bytes of text one byte of msgpack can turn into. */
const GROWTH_MAX: usize = 6;

// Of a shape: words, then a word for each run's length and its bytes, padded to a word.
const SHAPE_KEYS: usize = 0;
const SHAPE_RUN_BYTES: usize = 4;
const SHAPE_TAILS: usize = 8;
const SHAPE_EVENT_BYTES: usize = 12;
/** Tails by epoch and names of dynamic properties. */
const SHAPE_DYNAMIC_TAILS: usize = 16;
const SHAPE_EVENT: usize = 20;
// Of a tail.
const TAIL_EPOCH: usize = 0;
const TAIL_NEXT: usize = 4;
const TAIL_HAS_ZONE: usize = 8;
const TAIL_BYTES: usize = 12;
/** Place of the text. */
const TAIL_TEXT: usize = 16;
/** Of tails by names: the names. */
const TAIL_NAMES_BYTES: usize = 20;
const TAIL_NAMES: usize = 24;

// `,"#distinct_id":` and the like, padded to 16.
const DISTINCT_RUN = memory.data<u8>([
  0x2c, 0x22, 0x23, 0x64, 0x69, 0x73, 0x74, 0x69, 0x6e, 0x63, 0x74, 0x5f, 0x69, 0x64, 0x22, 0x3a,
]);
const ACCOUNT_RUN = memory.data<u8>([
  0x2c, 0x22, 0x23, 0x61, 0x63, 0x63, 0x6f, 0x75, 0x6e, 0x74, 0x5f, 0x69, 0x64, 0x22, 0x3a, 0,
]);
const UUID_RUN = memory.data<u8>([
  0x2c, 0x22, 0x23, 0x75, 0x75, 0x69, 0x64, 0x22, 0x3a, 0x22, 0, 0, 0, 0, 0, 0,
]);
const PROPERTIES_RUN = memory.data<u8>([
  0x2c, 0x22, 0x70, 0x72, 0x6f, 0x70, 0x65, 0x72, 0x74, 0x69, 0x65, 0x73, 0x22, 0x3a, 0, 0,
]);
const ZONE_RUN = memory.data<u8>([
  0x2c, 0x22, 0x23, 0x7a, 0x6f, 0x6e, 0x65, 0x5f, 0x6f, 0x66, 0x66, 0x73, 0x65, 0x74, 0x22, 0x3a,
]);

/** Of the region whose frames come next: where each shape is, by number. */
let shapeTable: usize = 0;
let shapeTableEnd: u32 = 0;
let addsZoneOffset: bool = false;

/** Behind the present frame. */
let frameEnd: usize = 0;

/** Tells where the places of shapes are kept, a word for each below `count`, and whether `#zone_offset` is added. */
export function useShapes(table: usize, count: u32, zoneOffset: bool): void {
  shapeTable = table;
  shapeTableEnd = count;
  addsZoneOffset = zoneOffset;
}

/**
 * Turns the frames in `[at, end)` into text at `to`, each record followed by `separator`, until one of the limits is reached
 * or a frame comes that is not for it.
 *
 * @param limit end of the room for text
 * @param fullAt text that reaches further than this ends the call
 * @param shift what is added to the place of a text to get the offset it is known by
 * @param seq number of the first record
 * @param position position of the first frame in its lane
 * @returns the number of records; more about them is in the tables of machine-places.ts
 */
export function transcode(
  at: usize,
  end: usize,
  to: usize,
  limit: usize,
  fullAt: usize,
  shift: i32,
  countMax: u32,
  seq: u32,
  position: u32,
  separator: u32,
): u32 {
  const most = min<u32>(countMax, RECORDS_MAX);
  const positionShift = position - <u32>at;
  let flags: u32 = 0;
  let count: u32 = 0;
  while (count < most && to <= fullAt) {
    if (at + <usize>HEADER_BYTES > end) break;
    const length = load<i32>(at);
    if (length < HEADER_BYTES || (length & 7) != 0 || <usize>length > end - at) break;
    if (load<u32>(at, SEQ_AT) != seq + count) break;
    frameEnd = at + <usize>length;
    const textEnd = putRecord(at, to, limit);
    if (textEnd == 0) break;
    const index = <usize>count << 2;
    store<u32>(STARTS_AT + index, <u32>to + shift);
    store<u32>(ENDS_AT + index, <u32>textEnd + shift);
    store<u32>(STAMPS_AT + index, load<u32>(at, STAMP_AT));
    flags |= <u32>load<u8>(at, FLAGS_AT);
    at = frameEnd;
    store<u32>(POSITIONS_AT + index, <u32>at + positionShift);
    store<u8>(textEnd, <u8>separator);
    to = textEnd + 1;
    count += 1;
  }
  store<u32>(RESULT_AT + 4 * RESULT_NEXT_IN, <u32>at);
  store<u32>(RESULT_AT + 4 * RESULT_NEXT_TEXT, <u32>to);
  store<u32>(RESULT_AT + 4 * RESULT_FLAGS, flags);
  return count;
}

@inline
function findShape(id: u32): usize {
  if (id >= shapeTableEnd) return 0;
  const known = load<u32>(shapeTable + (<usize>id << 2));
  return known != 0 ? known : shapeAt(id);
}

@inline
function findTail(shape: usize, epoch: u32): usize {
  let tail = <usize>load<u32>(shape, SHAPE_TAILS);
  while (tail != 0 && load<u32>(tail, TAIL_EPOCH) != epoch) tail = <usize>load<u32>(tail, TAIL_NEXT);
  return tail != 0 ? tail : tailAt(shape, epoch);
}

/** The tail of a record with dynamic properties, which are found on the way. */
function findDynamicTail(shape: usize, epoch: u32): usize {
  const namesBytes = gatherNames();
  if (namesBytes == 0) return 0;
  let tail = <usize>load<u32>(shape, SHAPE_DYNAMIC_TAILS);
  for (; tail != 0; tail = <usize>load<u32>(tail, TAIL_NEXT)) {
    if (
      load<u32>(tail, TAIL_EPOCH) == epoch &&
      load<u32>(tail, TAIL_NAMES_BYTES) == namesBytes &&
      memory.compare(load<u32>(tail, TAIL_NAMES), NAMES_AT, namesBytes) == 0
    ) {
      return tail;
    }
  }
  return dynamicTailAt(shape, epoch, namesBytes);
}

/** Where the map of dynamic properties starts in the present frame; 0: there is none. */
let dynamicAt: usize = 0;

/** Copies the names of the dynamic properties to NAMES_AT and returns how many bytes they are; 0: this frame is not for here. */
function gatherNames(): u32 {
  let left = <u32>bswap<u16>(load<u16>(dynamicAt, 1));
  let to: usize = NAMES_AT;
  let from = dynamicAt + 3;
  for (; left > 0; left -= 1) {
    const type = load<u8>(from);
    const isText = (type & 0xe0) == 0xa0 || (type >= 0xd9 && type <= 0xdb);
    if (!isText || !skipValues(from, frameEnd, 1)) return 0;
    const bytes = next - from;
    if (to + bytes > <usize>(NAMES_AT + NAMES_BYTES)) return 0;
    memory.copy(to, from, bytes);
    to += bytes;
    if (!skipValues(next, frameEnd, 1)) return 0;
    from = next;
  }
  return <u32>(to - NAMES_AT);
}

/** Returns the place after the record's text; 0: the frame is not for this code, or there is no room. */
function putRecord(at: usize, to: usize, limit: usize): usize {
  const flags = <u32>load<u8>(at, FLAGS_AT);
  const kind = <u32>load<u8>(at, KIND_AT);
  const timeMs = load<f64>(at, TIME_AT);
  if (kind - 1 >= KIND_MAX || !isRegular(timeMs)) return 0;
  const shape = findShape(load<u32>(at, SHAPE_AT));
  if (shape == 0) return 0;
  const isTrack = kind <= TRACK_KIND_MAX;
  const hasUuid = (flags & FLAG_UUID) != 0;
  const idsAt = at + <usize>HEADER_BYTES + (hasUuid ? UUID_BYTES : 0);
  const hasExtras = (flags & FLAG_EXTRAS) != 0;
  dynamicAt = 0;
  if ((flags & (FLAG_EXTRAS | FLAG_DYNAMIC)) != 0) {
    if (!findMaps(idsAt, load<u32>(shape, SHAPE_KEYS), flags)) return 0;
    if (dynamicAt != 0 && !isTrack) return 0;
  }
  let tail: usize = 0;
  let most = GROWTH_MAX * (frameEnd - at) + <usize>load<u32>(shape, SHAPE_RUN_BYTES) + 512;
  if (isTrack) {
    const epoch = load<u32>(at, EPOCH_AT);
    tail = dynamicAt == 0 ? findTail(shape, epoch) : findDynamicTail(shape, epoch);
    if (tail == 0) return 0;
    most += <usize>load<u32>(tail, TAIL_BYTES);
  }
  if (to + most + SLACK_BYTES > limit) return 0;
  const typeAt = TYPES_AT + <usize>kind * TYPE_BYTES;
  let end = putTime(timeMs, putRun(typeAt + 4, <usize>load<u32>(typeAt), to));
  // The quote that ends the time comes with the event's run.
  const eventBytes = <usize>load<u32>(shape, SHAPE_EVENT_BYTES);
  end = putRun(shape + SHAPE_EVENT, eventBytes, end);
  end = putId(idsAt, DISTINCT_RUN, 16, end);
  if (end == 0) return 0;
  end = putId(next, ACCOUNT_RUN, 15, end);
  if (end == 0) return 0;
  const valuesAt = next;
  if (!hasExtras) {
    if (hasUuid) end = putUuidField(at, end);
  } else {
    end = putLiftedFields(at, hasUuid, end);
    if (end == 0) return 0;
  }
  v128.store(end, v128.load(PROPERTIES_RUN));
  end = putProperties(shape, valuesAt, end + 14);
  if (end == 0) return 0;
  const braceAt = propertiesAt;
  if (isTrack) {
    if (addsZoneOffset && load<u32>(tail, TAIL_HAS_ZONE) == 0) {
      v128.store(end, v128.load(ZONE_RUN));
      end = putDouble(offsetHours(timeMs), end + 16);
    }
    if (dynamicAt != 0) {
      end = putEntries(dynamicAt, frameEnd, end);
      if (end == 0) return 0;
    }
    end = putRun(load<u32>(tail, TAIL_TEXT), <usize>load<u32>(tail, TAIL_BYTES), end);
  }
  // Each entry starts with a comma; the first one's is turned into the brace.
  store<u8>(braceAt, 0x7b);
  if (end == braceAt) end += 1;
  store<u16>(end, 0x7d7d);
  return end + 2;
}

let propertiesAt: usize = 0;

function putProperties(shape: usize, valuesAt: usize, to: usize): usize {
  propertiesAt = to;
  const end = frameEnd;
  let run = shape + SHAPE_EVENT + ((<usize>load<u32>(shape, SHAPE_EVENT_BYTES) + 3) & ~3);
  let at = valuesAt;
  for (let left = load<u32>(shape, SHAPE_KEYS); left > 0; left -= 1) {
    const length = <usize>load<u32>(run);
    to = putValue(at, end, putRun(run + 4, length, to));
    if (to == 0) return 0;
    at = next;
    run += 4 + ((length + 3) & ~3);
  }
  return to;
}

/** The id that comes next in the frame, if there is one. */
@inline
function putId(at: usize, run: usize, runBytes: usize, to: usize): usize {
  if (load<u8>(at) == 0xc0) {
    next = at + 1;
    return next > frameEnd ? 0 : to;
  }
  v128.store(to, v128.load(run));
  return putValue(at, frameEnd, to + runBytes);
}

@inline
function putUuidField(at: usize, to: usize): usize {
  v128.store(to, v128.load(UUID_RUN));
  const end = putUuid(at + <usize>HEADER_BYTES, to + 10);
  store<u8>(end, 0x22);
  return end + 1;
}

/** Finds the maps behind the values: the dynamic properties, and the text of each lifted field. */
function findMaps(idsAt: usize, keys: u32, flags: u32): bool {
  if (!skipValues(idsAt, frameEnd, keys + 2)) return false;
  if ((flags & FLAG_DYNAMIC) != 0) {
    dynamicAt = next;
    if (!isMap(next) || !skipValues(next, frameEnd, 1)) return false;
  }
  return (flags & FLAG_EXTRAS) == 0 || findLifted(next);
}

@inline
function isMap(at: usize): bool {
  return at + 3 <= frameEnd && load<u8>(at) == 0xde;
}

function findLifted(at: usize): bool {
  memory.fill(LIFTED_AT, 0, LIFT_CODES << 2);
  if (!isMap(at)) return false;
  const count = <u32>bswap<u16>(load<u16>(at + 1));
  next = at + 3;
  for (let left = count; left > 0; left -= 1) {
    const code = <u32>load<u8>(next);
    if (code >= LIFT_CODES) return false;
    store<u32>(LIFTED_AT + (<usize>code << 2), <u32>next + 1);
    if (!skipValues(next, frameEnd, 2)) return false;
  }
  return true;
}

function putLiftedFields(at: usize, hasUuid: bool, to: usize): usize {
  to = putLifted(LIFT_EVENT_ID, to);
  if (to != 0) to = putLifted(LIFT_FIRST_CHECK_ID, to);
  if (to != 0) to = putLifted(LIFT_IP, to);
  if (to == 0) return 0;
  if (load<u32>(LIFTED_AT + (LIFT_UUID << 2)) != 0) to = putLifted(LIFT_UUID, to);
  else if (hasUuid) to = putUuidField(at, to);
  if (to != 0) to = putLifted(LIFT_APP_ID, to);
  if (to != 0) to = putLifted(LIFT_TRANSACTION, to);
  return to == 0 ? 0 : putLifted(LIFT_IMPORT_TOOL, to);
}

function putLifted(code: usize, to: usize): usize {
  const at = <usize>load<u32>(LIFTED_AT + (code << 2));
  if (at == 0) return to;
  const run = LIFTS_AT + code * LIFT_BYTES;
  return putValue(at, frameEnd, putRun(run + 4, <usize>load<u32>(run), to));
}
