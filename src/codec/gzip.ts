import { crc32, gzipSync } from 'node:zlib';
import { BRACKET_CLOSE, BRACKET_OPEN } from '../base/characters.ts';
import type { BodyMemory } from './body-memory.ts';
import type { Machine } from './machine.ts';
import { PACKED_AT, PLAIN_AT, PLAIN_BYTES } from './machine-places.ts';

/** Of zlib, where the machine can't be had: an 8 KiB window stays in the cache, and makes batches of 500 events no larger. */
const WINDOW_BITS = 13;
const MEMORY_LEVEL = 9;
const CHUNK_BYTES: number = 256 * 1024;
const FAST_LEVEL = 2;

const HEADER: Uint8Array = Uint8Array.of(0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 4, 0xff);
const TRAILER_BYTES = 8;

/** How bodies are compressed: not at all, by the machine's own deflate, or by a level of zlib. */
export type BodyLevel = 'none' | 'fast' | number;

/** A run of records with a spare byte before the first and a separator after each (sink.ts, Batch). */
export interface JsonRun {
  readonly count: number;
  readonly text: Uint8Array;
  readonly starts: Uint32Array;
  readonly ends: Uint32Array;
}

/** What bodies are made with. */
export interface BodyTools {
  /** For the level 'fast'; without one zlib does it. */
  readonly machine: Machine | undefined;
  /** Where bodies come from that zlib does not make; without it each has memory of its own. */
  readonly memory?: BodyMemory;
}

/**
 * The records as a JSON array, ready for the wire: plain or gzipped.
 *
 * Compression runs on the calling worker thread: libuv's pool is shared with the game server's own files and DNS,
 * and handing a batch over and back costs more than it frees. The bytes around the run are as before afterwards.
 */
export function jsonBody(run: JsonRun, level: BodyLevel, tools: BodyTools): Buffer<ArrayBuffer> {
  const from = (run.starts[0] ?? 1) - 1;
  const last = run.ends[run.count - 1] ?? from;
  const { text } = run;
  const before = text[from] ?? 0;
  const after = text[last] ?? 0;
  text[from] = BRACKET_OPEN;
  text[last] = BRACKET_CLOSE;
  try {
    const json = text.subarray(from, last + 1);
    // A copy in both cases: the text is written over by the next batch while sockets may still read this one.
    return level === 'none' ? copyOf(json, tools.memory) : gzip(json, level, tools);
  } finally {
    text[from] = before;
    text[last] = after;
  }
}

/** `plain` as a gzip stream of its own. */
export function gzip(
  plain: Uint8Array,
  level: Exclude<BodyLevel, 'none'>,
  { machine, memory }: BodyTools,
): Buffer<ArrayBuffer> {
  if (level === 'fast' && machine !== undefined) {
    return packed(plain, machine, memory);
  }
  return gzipSync(plain, {
    level: level === 'fast' ? FAST_LEVEL : level,
    windowBits: WINDOW_BITS,
    memLevel: MEMORY_LEVEL,
    chunkSize: CHUNK_BYTES,
  });
}

function copyOf(json: Uint8Array, memory: BodyMemory | undefined): Buffer<ArrayBuffer> {
  const body = room(json.length, memory);
  body.set(json);
  return body;
}

function room(bytes: number, memory: BodyMemory | undefined): Buffer<ArrayBuffer> {
  return memory === undefined ? Buffer.allocUnsafe(bytes) : memory.take(bytes);
}

function packed(
  plain: Uint8Array,
  machine: Machine,
  memory: BodyMemory | undefined,
): Buffer<ArrayBuffer> {
  const parts = deflated(plain, machine);
  const length = parts.reduce((sum, part) => sum + part.length, 0);
  const body = room(HEADER.length + length + TRAILER_BYTES, memory);
  body.set(HEADER);
  let end = HEADER.length;
  for (const part of parts) {
    body.set(part, end);
    end += part.length;
  }
  body.writeUInt32LE(crc32(plain), end);
  body.writeUInt32LE(plain.length, end + 4);
  return body;
}

/** What `plain` comes to, in parts: the last one is valid until the machine is used again. */
function deflated(plain: Uint8Array, machine: Machine): Uint8Array[] {
  const parts: Uint8Array[] = [];
  for (let from = 0; from === 0 || from < plain.length; from += PLAIN_BYTES) {
    const part = plain.subarray(from, from + PLAIN_BYTES);
    const isEnd = from + part.length === plain.length;
    machine.bytes.set(part, PLAIN_AT);
    const length = machine.calls.deflate(part.length, isEnd ? 1 : 0);
    const packedPart = machine.bytes.subarray(PACKED_AT, PACKED_AT + length);
    parts.push(isEnd ? packedPart : packedPart.slice());
  }
  return parts;
}
