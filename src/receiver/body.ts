import type { IncomingMessage } from 'node:http';
import { gunzipSync } from 'node:zlib';
import { QUOTE } from '../base/characters.ts';
import { systemCodeOf } from '../base/errors.ts';

/** A body the receiver can't take; `status` is the reply's. */
export class BodyError extends Error {
  override readonly name = 'BodyError';
  readonly status: number;

  constructor(status: number, message: string) {
    super(message);
    this.status = status;
  }
}

/** Reads a request's body. Rejects with a BodyError 413 beyond `bytesMax`, and with what the socket throws. */
export async function readBody(request: IncomingMessage, bytesMax: number): Promise<Buffer> {
  const parts: Buffer[] = [];
  let bytes = 0;
  for await (const part of request) {
    bytes += part.length;
    if (bytes > bytesMax) throw new BodyError(413, `the body has more than ${bytesMax} bytes`);
    parts.push(part);
  }
  return Buffer.concat(parts);
}

/**
 * Undoes the compression that the `compress` header names.
 *
 * @throws BodyError when it is not what the header says, or grows beyond `bytesMax`
 */
export function inflate(
  body: Buffer,
  { compress, bytesMax }: { compress: string | undefined; bytesMax: number },
): Buffer {
  if (compress === undefined || compress === 'none' || compress === '') return body;
  if (compress !== 'gzip') throw new BodyError(200, `compress: ${compress} is not supported`);
  try {
    return gunzipSync(body, { maxOutputLength: bytesMax, chunkSize: roomFor(body) });
  } catch (error) {
    const code = systemCodeOf(error);
    if (code === 'ERR_BUFFER_TOO_LARGE') {
      throw new BodyError(413, `the body unpacks to more than ${bytesMax} bytes`);
    }
    throw new BodyError(200, `the body is not gzip: ${(error as Error).message}`);
  }
}

/**
 * Room to unpack a gzip body into at one go, in bytes: what its last four say it comes to, because many small pieces cost half
 * as much again. They are believed up to a limit only; what comes to more is unpacked in pieces.
 */
export function roomFor(body: Buffer): number {
  const plainBytes = body.length < 4 ? 0 : body.readUInt32LE(body.length - 4);
  return Math.min(Math.max(plainBytes + 1, CHUNK_BYTES_MIN), CHUNK_BYTES_MAX);
}

/**
 * What every record starts with behind a quote, and what nothing else can hold: inside a text the quotes would be escaped.
 * The quote is left out of the search, which looks for the first letter first, and there are many quotes.
 */
const RECORD_MARK = '#type":"';
const CHUNK_BYTES_MIN: number = 1024;
const CHUNK_BYTES_MAX: number = 1024 * 1024;

/** Records in a JSON array, without parsing it: cheap enough to be no part of what a benchmark measures. */
export function countRecords(json: Buffer): number {
  let count = 0;
  for (let at = json.indexOf(RECORD_MARK); at >= 0; at = json.indexOf(RECORD_MARK, at + 1)) {
    if (json[at - 1] === QUOTE) count += 1;
  }
  return count;
}
