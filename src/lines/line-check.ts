import { isUtf8 } from 'node:buffer';
import { checkRecord } from '../record/check.ts';
import { RecordScanner } from './record-scanner.ts';

/** What is wrong with a line. */
export interface LineFault {
  /** Byte of the line, from 1 on; 1 if the place is not known. */
  readonly column: number;
  readonly reason: string;
}

/** Longest line that is looked at, in bytes. */
export const LINE_BYTES_MAX: number = 16 * 1024 * 1024;

/** What is wrong with a longer one. */
export const TOO_LONG: LineFault = {
  column: 1,
  reason: `is longer than ${LINE_BYTES_MAX} bytes`,
};

/** What is wrong with the first line of a file that an editor has saved: the mark is no JSON. */
const MARKED: LineFault = { column: 1, reason: 'begins with a byte order mark' };

const scanner = new RecordScanner();

/**
 * Why a line is no record by the wire contract: the first reason, with its place; undefined: it is fine. This is the reference: it parses the line.
 */
export function faultOf(line: Uint8Array): LineFault | undefined {
  const bytes = Buffer.from(line.buffer, line.byteOffset, line.length);
  if (!isUtf8(bytes)) return { column: 1, reason: 'is not UTF-8' };
  if (bytes[0] === 0xef && bytes[1] === 0xbb && bytes[2] === 0xbf) return MARKED;
  const text = bytes.toString('utf8');
  let record: unknown;
  try {
    record = JSON.parse(text);
  } catch (error) {
    const place = /position (\d+)/.exec(String(error))?.[1];
    const column = place === undefined ? placeOfSyntaxError(bytes) : Number(place) + 1;
    return { column, reason: 'is not JSON' };
  }
  const [problem] = checkRecord(record);
  if (problem === undefined) return undefined;
  const name = problem.path.split('.').at(-1) ?? '';
  const at = name === '' ? -1 : bytes.indexOf(`"${name}"`);
  return { column: at + 1 || 1, reason: `${problem.path} ${problem.reason}`.trim() };
}

/** Not every error of JSON.parse names a place: the scanner stops where the JSON breaks, or at an oddity before. */
function placeOfSyntaxError(bytes: Buffer): number {
  scanner.isFine(bytes, 0, bytes.length);
  return Math.min(scanner.at, Math.max(0, bytes.length - 1)) + 1;
}

/** As {@link faultOf}, for bytes known to be UTF-8: most lines pass without being parsed. */
export function faultIn(bytes: Uint8Array, start: number, end: number): LineFault | undefined {
  return scanner.isFine(bytes, start, end) ? undefined : faultOf(bytes.subarray(start, end));
}

/** Whether a line holds nothing but white space. */
export function isBlank(bytes: Uint8Array, start: number, end: number): boolean {
  for (let at = start; at < end; at += 1) {
    const byte = bytes[at] ?? 0;
    if (byte !== 0x20 && byte !== 0x0d && byte !== 0x09) return false;
  }
  return true;
}
