import { closeSync, openSync, readSync } from 'node:fs';
import { constants, crc32, gunzipSync } from 'node:zlib';
import { NEWLINE } from '../base/characters.ts';
import { type FileMark, HEAD_BYTES, headHash } from './marks.ts';

const PACKED_BYTES: number = 64 * 1024;
const PIECE_BYTES: number = 1024 * 1024;

/** The first bytes of a file's plain text, to know it again by. */
export class Beginning {
  readonly #bytes: Buffer;
  readonly #hashes = new Map<number, string>();

  constructor(bytes: Buffer) {
    this.#bytes = bytes;
  }

  /** Hash of the first `length` bytes; empty: there are fewer. */
  hashOf(length: number): string {
    if (this.#bytes.length < length) return '';
    const known = this.#hashes.get(length);
    if (known !== undefined) return known;
    const hash = headHash(this.#bytes.subarray(0, length));
    this.#hashes.set(length, hash);
    return hash;
  }

  /** What the file is known by from now on. */
  get lasting(): Uint8Array {
    return lastingPart(this.#bytes);
  }

  isOf({ headBytes, head }: FileMark): boolean {
    return this.hashOf(headBytes) === head;
  }
}

/**
 * The part of a file's beginning that stays as it is: whole lines, for a writer may take half a line out again. A line that is
 * longer than what is compared is taken as far as that goes.
 */
export function lastingPart(bytes: Buffer): Uint8Array {
  const whole = bytes.lastIndexOf(NEWLINE) + 1;
  return whole > 0 || bytes.length < HEAD_BYTES ? bytes.subarray(0, whole) : bytes;
}

/** Reads the beginning of a plain or gzipped (`.gz`) file. Throws what reading and unpacking throw. */
export function beginningOf(path: string): Beginning {
  if (!path.endsWith('.gz')) return new Beginning(readStart(path, HEAD_BYTES));
  // A file that is still being packed is taken as far as it goes.
  const plain = gunzipSync(readStart(path, PACKED_BYTES), { finishFlush: constants.Z_SYNC_FLUSH });
  return new Beginning(plain.subarray(0, HEAD_BYTES));
}

/** CRC-32 of the first `bytes` bytes of a plain file. Throws what reading throws. */
export function crcOfPrefix(path: string, bytes: number): number {
  const fd = openSync(path, 'r');
  try {
    const piece = Buffer.allocUnsafe(Math.min(PIECE_BYTES, bytes));
    let crc = 0;
    for (let at = 0; at < bytes; ) {
      const got = readSync(fd, piece, 0, Math.min(piece.length, bytes - at), at);
      if (got === 0) break;
      crc = crc32(piece.subarray(0, got), crc);
      at += got;
    }
    return crc;
  } finally {
    closeSync(fd);
  }
}

function readStart(path: string, bytes: number): Buffer {
  const fd = openSync(path, 'r');
  try {
    const start = Buffer.alloc(bytes);
    return start.subarray(0, readSync(fd, start, 0, bytes, 0));
  } finally {
    closeSync(fd);
  }
}
