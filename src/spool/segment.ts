import { crc32c } from './crc32c.ts';

/**
 * The spool on disk: this comment is its design.
 *
 * ```
 * DIRECTORY/                               what the user configured; processes may share it
 *   instance-0/                            one process at a time (folder.ts)
 *     lock-000003                          who that is (lock.ts)
 *     run-000007/                          one run of that process; an earlier run's folder is a backlog
 *       lane-002/                          one writer: the worker that attends the lane
 *         checkpoint                       what is settled (checkpoint.ts)
 *         00000004-000000000012000.seg     fourth segment; its first record is the 12 000th of the lane
 *         00000005-000000000014031.seg     the youngest one: appended to
 * ```
 *
 * Records of a lane are numbered from 0 on, over all segments. A segment's name tells its place and the number of
 * its first record, so the count of a segment is the difference of two names: no file is opened to
 * count a backlog. A segment file is only ever appended to, and removed as a whole.
 *
 * ```
 * segment   byte 0          64
 *                | header   | frame | frame | … |
 *
 * header    u32 magic ff 'M' 'R' 53      u32 CRC-32C of the bytes 8…64
 *           u16 version  u16 header bytes  u32 lane  u32 sequence  u32 zero
 *           f64 number of the first record  f64 stamp of the first record; then zero bytes
 *
 * frame     u32 magic ff 'M' 'R' fe      u32 CRC-32C of all that follows
 *           u32 length of the text        u32 number of the record, modulo 2^32
 *           u32 seq   number that the caller gave it (FLAG_SEQ)
 *           u8 flags  3 zero bytes
 *           f64 stamp when it was accepted, ms since 1970
 *           text      JSON in UTF-8
 * ```
 *
 *   P1  a record is returned only if its CRC holds: never a changed text
 *   P2  numbers of the frames of a segment rise; a frame numbered like the next segment's first, or higher,
 *       is void: its writer was told that it failed, and wrote the number anew
 *   P3  a jump in the numbers is a loss, and its size is known
 *   P4  the checkpoint is written before a segment below it is removed; so a missing segment below the checkpoint is normal
 *   P5  what was synced before a power cut is found again after it
 *
 * **Finding the way again.** The length leads from frame to frame. Where magic, length or CRC are wrong, the reader looks
 * for the next `ff 4d 52 fe` and goes on at the first one whose CRC holds. The byte ff never occurs in UTF-8, so no text
 * can pretend to hold a frame, and one damaged frame costs itself only. Blocks of fixed size would
 * do the same, at the price of padding and of records that span blocks.
 *
 * **The end of a dead run** may be torn, or zeros where the file had grown before its content came: everything after the
 * last good frame is left out. Nobody was promised a record there: a promise follows the sync.
 *
 * **The header is not needed for reading**; only its version is heeded. A segment of a later version is left alone.
 */

export const SEGMENT_HEADER_BYTES = 64;
export const FRAME_HEADER_BYTES = 32;
/** Longest text of one record, in bytes. */
export const TEXT_BYTES_MAX = 0x3fff_ffff;

const SEGMENT_MAGIC = 0x53_52_4d_ff;
const VERSION = 1;
const FRAME_MAGIC = 0xfe_52_4d_ff;
/** First byte of a frame, as it is in the file. */
export const FRAME_MARK = 0xff;

const MAGIC_AT = 0;
export const CRC_AT = 4;
const CRC_FROM = 8;
const VERSION_AT = 8;
const HEADER_BYTES_AT = 10;
const LANE_AT = 12;
const SEQUENCE_AT = 16;
const FIRST_AT = 24;
const BASE_MS_AT = 32;
export const LENGTH_AT = 8;
export const NUMBER_AT = 12;
export const SEQ_AT = 16;
export const FLAGS_AT = 20;
export const STAMP_AT = 24;

/** The frame carries the number that the caller gave its record. */
export const FLAG_SEQ = 1;

/** Which segment a file is: all of it is in the file's name. */
export interface SegmentName {
  /** Place among the segments of its lane, from 1 on. */
  readonly sequence: number;
  /** Number of the first record. */
  readonly first: number;
}

export function segmentFileName({ sequence, first }: SegmentName): string {
  return `${String(sequence).padStart(8, '0')}-${String(first).padStart(15, '0')}.seg`;
}

/** Undefined: the file is no segment. */
export function parseSegmentName(name: string): SegmentName | undefined {
  const match = /^(\d{8,10})-(\d{15,16})\.seg$/.exec(name);
  if (match === null) return undefined;
  const [, sequence, first] = match;
  return { sequence: Number(sequence), first: Number(first) };
}

export interface SegmentHeader extends SegmentName {
  readonly lane: number;
  /** When the first record was accepted, in ms since 1970. */
  readonly baseMs: number;
}

/** Fills the 64 bytes from `at` on. */
export function writeSegmentHeader(view: DataView, at: number, header: SegmentHeader): void {
  new Uint8Array(view.buffer, view.byteOffset + at, SEGMENT_HEADER_BYTES).fill(0);
  view.setUint32(at + MAGIC_AT, SEGMENT_MAGIC, true);
  view.setUint16(at + VERSION_AT, VERSION, true);
  view.setUint16(at + HEADER_BYTES_AT, SEGMENT_HEADER_BYTES, true);
  view.setUint32(at + LANE_AT, header.lane, true);
  view.setUint32(at + SEQUENCE_AT, header.sequence, true);
  view.setFloat64(at + FIRST_AT, header.first, true);
  view.setFloat64(at + BASE_MS_AT, header.baseMs, true);
  const crc = crc32c(view, at + CRC_FROM, at + SEGMENT_HEADER_BYTES);
  view.setUint32(at + CRC_AT, crc, true);
}

/** 'damaged': it can't be told; the frames are read all the same. 'foreign': a later version, not to be touched. */
export type HeaderState = SegmentHeader | 'damaged' | 'foreign';

/** Reads the first bytes of a segment, which may be fewer than 64. */
export function readSegmentHeader(bytes: Uint8Array): HeaderState {
  if (bytes.length < SEGMENT_HEADER_BYTES) return 'damaged';
  const view = new DataView(bytes.buffer, bytes.byteOffset, SEGMENT_HEADER_BYTES);
  if (view.getUint32(MAGIC_AT, true) !== SEGMENT_MAGIC) return 'damaged';
  if (view.getUint32(CRC_AT, true) !== crc32c(view, CRC_FROM, SEGMENT_HEADER_BYTES)) {
    return 'damaged';
  }
  if (view.getUint16(VERSION_AT, true) !== VERSION) return 'foreign';
  return {
    lane: view.getUint32(LANE_AT, true),
    sequence: view.getUint32(SEQUENCE_AT, true),
    first: view.getFloat64(FIRST_AT, true),
    baseMs: view.getFloat64(BASE_MS_AT, true),
  };
}

export interface FrameFacts {
  readonly number: number;
  readonly stampMs: number;
  /** Undefined: the caller numbers nothing. */
  readonly seq: number | undefined;
}

/** Bytes a record takes in a segment. */
export function frameBytes(textBytes: number): number {
  return FRAME_HEADER_BYTES + textBytes;
}

/** Completes the frame at `at`, whose text of `textBytes` bytes is in place already. */
export function sealFrame(
  view: DataView,
  { at, textBytes }: { readonly at: number; readonly textBytes: number },
  facts: FrameFacts,
): void {
  view.setUint32(at + MAGIC_AT, FRAME_MAGIC, true);
  view.setUint32(at + LENGTH_AT, textBytes, true);
  view.setUint32(at + NUMBER_AT, facts.number % 2 ** 32, true);
  view.setUint32(at + SEQ_AT, facts.seq ?? 0, true);
  view.setUint32(at + FLAGS_AT, facts.seq === undefined ? 0 : FLAG_SEQ, true);
  view.setFloat64(at + STAMP_AT, facts.stampMs, true);
  const crc = crc32c(view, at + CRC_FROM, at + frameBytes(textBytes));
  view.setUint32(at + CRC_AT, crc, true);
}

/** Length of the text if the bytes at `at` may begin a frame that ends before `limit`; else -1. */
export function probeFrame(view: DataView, at: number, limitBytes: number): number {
  if (view.getUint32(at + MAGIC_AT, true) !== FRAME_MAGIC) return -1;
  const textBytes = view.getUint32(at + LENGTH_AT, true);
  return textBytes <= TEXT_BYTES_MAX && frameBytes(textBytes) <= limitBytes ? textBytes : -1;
}

/** Whether the CRC of the frame at `at` holds. */
export function isFrameIntact(
  view: DataView,
  { at, textBytes }: { readonly at: number; readonly textBytes: number },
): boolean {
  const crc = crc32c(view, at + CRC_FROM, at + frameBytes(textBytes));
  return view.getUint32(at + CRC_AT, true) === crc;
}

/** The whole number of a record, from its last 32 bits and the first number of its segment. */
export function fullNumber(first: number, low: number): number {
  return first + ((low - first) >>> 0);
}
