/**
 * Where everything in shared memory is. Offsets live here and nowhere else.
 *
 * Two kinds of shared memory exist. One **control** block per engine: what workers report and what
 * they are told. One **region** per producing thread: its definitions and its lanes.
 *
 * ```
 * region   byte 0          128          lanesAt                 definitionsAt   supersAt    framesAt
 *               | header    | producer   | lane control × lanes  | shapes log    | supers    | frames × lanes
 *               | constants | counters   | (LANE_CONTROL_BYTES)  | (append only) | (slots)   | (laneBytes each)
 *
 * lane control  block of 128 bytes     written by      words
 *               0  tail                producer        TAIL TAIL_SEQ FLUSH_POSITION FLUSH_ROUND, counters
 *               1  bell                both, by CAS    BELL
 *               2  attendant           worker          WAKE_POSITION WAKE_SEQ OWNER ROUND_DONE ROUND_CODE CLAIMED_TERM BUSY
 *                                                       FROM_DISK (records, lane, number)
 *               3  commit              both, by CAS    COMMIT, SPOOLING (spooling.ts); GIVEN_UP is written once, by the supervisor
 *               4… settlement slots    see settlement.ts
 *               …  mailbox             worker          MAIL_LENGTH, then MAIL_BYTES of UTF-8
 *
 * frame         i32 length (this frame, header and padding included, a multiple of 8;
 *                   negative: a skip frame, nothing but -length bytes to step over)
 *               u8 kind, u8 flags, u16 zero
 *               u32 seq        number of the record in its lane, modulo 2^32
 *               u32 stampMs    when it was accepted, ms since the region's base, modulo 2^32
 *               u32 shape      shape number, or INLINE_FROM + number of keys
 *               u32 epoch      number of the super properties in force; 0: none
 *               f64 timeMs     the record's time
 *               16 bytes uuid  only with FLAG_UUID
 *               msgpack values, one after the other; then zero bytes up to a multiple of 8
 * ```
 *
 * Tail and head are byte positions that only grow, modulo 2^32; place in the lane = position & (laneBytes - 1).
 *   L1  0 <= tail - head <= laneBytes
 *   L2  only the producer stores tail; head moves only by a commit (settlement.ts)
 *   L3  every byte in [head, tail) belongs to a complete frame
 *   L4  seq of successive frames (skip frames aside) differ by one; TAIL_SEQ is the seq of the next frame
 *   L5  bytes are written before the tail is stored, and read after it was loaded
 */

export const BLOCK_BYTES = 128;
export const WORD_BYTES = 4;
const BLOCK_WORDS: number = BLOCK_BYTES / WORD_BYTES;
const BLOCK_FLOATS: number = BLOCK_BYTES / 8;

// --- region header (int32 words, written once by whoever makes the region)
export const REGION_MAGIC = 0x6d696c6c;
export const REGION_VERSION = 1;
export const MAGIC_WORD = 0;
export const VERSION_WORD = 1;
export const LANES_WORD = 2;
export const LANE_BYTES_WORD = 3;
export const DEFINITIONS_BYTES_WORD = 4;
export const REGION_ID_WORD = 5;
/** Float64 index: wall time in ms that `stampMs` counts from. */
export const BASE_MS_FLOAT = 4;

// --- region producer block (byte 128): DEFINITIONS_TAIL is an int32, the rest float64 counters
export const DEFINITIONS_TAIL_WORD: number = BLOCK_WORDS;
export const PRODUCER_FLOATS_AT: number = 2 * BLOCK_FLOATS;
export const PRODUCER_FLOATS = 128;
const PRODUCER_FLOATS_BYTES: number = 8 * PRODUCER_FLOATS;
/** Float64 indices from PRODUCER_FLOATS_AT; written by the producing thread. */
export const WARNINGS_FLOAT = 1;
/** Time callers were held by a full ring, in ms. */
export const BLOCKED_MS_FLOAT = 2;
export const CALL_SUM_FLOAT = 4;
/** Records that were kept out for more important ones: low, then normal. */
export const SHED_LOW_FLOAT = 40;
export const SHED_NORMAL_FLOAT = 41;
/** Wrong calls: one float64 a reason, in the order of {@link INVALID_REASONS}. */
export const INVALID_FLOAT = 48;
/** What can be wrong with a call, as a metric label. */
export const INVALID_REASONS = [
  'missing_id',
  'missing_field',
  'invalid_name',
  'invalid_value',
  'invalid_time',
  'too_large',
  'closed',
] as const;
export type InvalidReason = (typeof INVALID_REASONS)[number];
/** Histogram of the cost of a tracking call: one float64 a bucket. */
export const CALL_BUCKETS_FLOAT = 5;
export const CALL_BOUNDS_SECONDS: readonly number[] = [
  0.00000025, 0.0000005, 0.000001, 0.000002, 0.000005, 0.00001, 0.00002, 0.00005, 0.0001, 0.0005,
  0.001, 0.01, 0.1,
];
const LANES_AT: number = 2 * BLOCK_BYTES + PRODUCER_FLOATS_BYTES;

// --- lane control (int32 words relative to the lane's control)
export const TAIL_WORD = 0;
export const TAIL_SEQ_WORD = 1;
/** Everything before this position is wanted without linger. */
export const FLUSH_POSITION_WORD = 2;
/** Number of the latest round asked for; only consumers that deliver in rounds ask. */
export const FLUSH_ROUND_WORD = 3;
/** Float64 indices relative to the lane's control, inside block 0. */
export const ACCEPTED_FLOAT = 4;
export const OVERFLOW_NEWEST_FLOAT = 5;

export const BELL_WORD: number = BLOCK_WORDS;

export const WAKE_POSITION_WORD: number = 2 * BLOCK_WORDS;
export const WAKE_SEQ_WORD: number = WAKE_POSITION_WORD + 1;
export const OWNER_WORD: number = WAKE_POSITION_WORD + 2;
export const ROUND_DONE_WORD: number = WAKE_POSITION_WORD + 3;
export const ROUND_CODE_WORD: number = WAKE_POSITION_WORD + 4;
/** Results of a round. */
export const ROUND_DONE = 0;
/** Attempts ran out; the records are still in the lane, or expired, as the plan says. */
export const ROUND_KEPT = 1;
/** Some records were refused for good. */
export const ROUND_REJECTED = 2;
/** Term under which OWNER claimed the lane. */
export const CLAIMED_TERM_WORD: number = WAKE_POSITION_WORD + 5;

/** What the worker does for the lane right now, without giving anybody else a turn: see below. */
export const BUSY_WORD: number = WAKE_POSITION_WORD + 6;
/** Nothing that could kill it. */
export const BUSY_NOT = 0;
/** It reads the records at the head, or hands them to the sink. */
export const BUSY_AT_HEAD = 1;
/** It does so with records from disk. */
export const BUSY_AT_DISK = 2;

/** Records from disk that are under way: how many, the lane of the spool they are from, and the number of the first modulo 2^32. */
export const FROM_DISK_RECORDS_WORD: number = WAKE_POSITION_WORD + 7;
export const FROM_DISK_LANE_WORD: number = WAKE_POSITION_WORD + 8;
export const FROM_DISK_NUMBER_WORD: number = WAKE_POSITION_WORD + 9;

export const COMMIT_WORD: number = 3 * BLOCK_WORDS;
/** 1: no worker survives the lane; nothing that enters it will be delivered. */
export const GIVEN_UP_WORD: number = COMMIT_WORD + 1;
/** Whether records are on their way to the disk: see spooling.ts. */
export const SPOOLING_WORD: number = COMMIT_WORD + 2;

export const SLOTS = 16;
export const SLOT_BYTES = 256;
export const SLOT_WORDS: number = SLOT_BYTES / WORD_BYTES;
export const SLOT_FLOATS: number = SLOT_BYTES / 8;
const SLOTS_AT: number = 4 * BLOCK_BYTES;
export const SLOTS_AT_WORD: number = SLOTS_AT / WORD_BYTES;
export const SLOTS_AT_FLOAT: number = SLOTS_AT / 8;

const MAIL_AT: number = SLOTS_AT + SLOTS * SLOT_BYTES;
export const MAIL_LENGTH_WORD: number = MAIL_AT / WORD_BYTES;
export const MAIL_BYTES_AT: number = MAIL_AT + BLOCK_BYTES;
export const MAIL_BYTES: number = 16 * 1024 - MAIL_BYTES_AT;
export const LANE_CONTROL_BYTES: number = 16 * 1024;

// --- frames
export const LENGTH_AT = 0;
export const KIND_AT = 4;
export const FLAGS_AT = 5;
export const SEQ_AT = 8;
export const STAMP_AT = 12;
export const SHAPE_AT = 16;
export const EPOCH_AT = 20;
export const TIME_AT = 24;
export const UUID_AT = 32;
export const FRAME_HEADER_BYTES = 32;
export const UUID_BYTES = 16;

/** The frame carries 16 bytes of uuid. */
export const FLAG_UUID = 1;
/** The caller wants to hear how the record was settled. */
export const FLAG_NOTIFY = 2;
/** A map of lifted top-level fields follows the values. */
export const FLAG_EXTRAS = 4;
/** A map of dynamic (and inline super) properties follows. */
export const FLAG_DYNAMIC = 8;

/** From this shape number on, a frame brings its own event name and key list; the number less this is the count of keys. */
export const INLINE_FROM = 0xffff_0000;
/** Most keys of a frame that brings its own. */
export const INLINE_KEYS_MAX = 0xffff;

// --- definitions
export const DEFINITIONS_BYTES: number = 1024 * 1024;
export const SUPER_SLOTS = 32;
export const SUPER_SLOT_BYTES: number = 8 * 1024;
/** Within a slot: u32 epoch, u32 length, then msgpack. */
export const SUPER_HEADER_BYTES = 8;

export const LANE_BYTES_MIN: number = 16 * 1024;
export const LANE_BYTES_MAX: number = 1024 * 1024 * 1024;

export interface RegionShape {
  readonly lanes: number;
  /** Bytes of one lane's frames: a power of two. */
  readonly laneBytes: number;
}

export interface RegionPlaces {
  readonly lanesAt: number;
  readonly definitionsAt: number;
  readonly supersAt: number;
  readonly framesAt: number;
  readonly totalBytes: number;
}

/** Byte offsets of a region's parts. */
export function regionPlaces({ lanes, laneBytes }: RegionShape): RegionPlaces {
  const definitionsAt = alignUp(LANES_AT + lanes * LANE_CONTROL_BYTES, 4096);
  const supersAt = definitionsAt + DEFINITIONS_BYTES;
  const framesAt = alignUp(supersAt + SUPER_SLOTS * SUPER_SLOT_BYTES, 4096);
  return {
    lanesAt: LANES_AT,
    definitionsAt,
    supersAt,
    framesAt,
    totalBytes: framesAt + lanes * laneBytes,
  };
}

/** Longest frame a lane takes, header included, in bytes: a quarter of the lane. */
export function frameBytesMax(laneBytes: number): number {
  return laneBytes / 4;
}

export function alignUp(bytes: number, to: number): number {
  return Math.ceil(bytes / to) * to;
}
