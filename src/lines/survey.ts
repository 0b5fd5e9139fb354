import { closeSync, createReadStream, openSync, readSync } from 'node:fs';
import { pipeline } from 'node:stream/promises';
import { createGunzip } from 'node:zlib';
import { NEWLINE } from '../base/characters.ts';
import {
  faultIn,
  faultOf,
  isBlank,
  LINE_BYTES_MAX,
  type LineFault,
  TOO_LONG,
} from './line-check.ts';
import { LineWalker, type SeenLine } from './line-walker.ts';

/** A part of a log file to look through: the lines that begin in `[from, to)`; a gzipped file; or bytes. */
export type SurveyTask =
  | { readonly kind: 'range'; readonly path: string; readonly from: number; readonly to: number }
  | { readonly kind: 'packed'; readonly path: string }
  | { readonly kind: 'bytes'; readonly bytes: Uint8Array };

/** A line that is no record; `line` counts from 1 within the part. */
export interface SurveyProblem extends LineFault {
  readonly line: number;
}

/** What a part holds. */
export interface SurveyReport {
  readonly lines: number;
  readonly bytes: number;
  readonly bad: number;
  /** The first {@link PROBLEMS_MAX} of them. */
  readonly problems: readonly SurveyProblem[];
  readonly byReason: Readonly<Record<string, number>>;
}

/** Most problems of one part that are told one by one. */
const PROBLEMS_MAX = 10_000;
/** Most different reasons that are counted apart; names in them are the writer's choice. */
const REASONS_MAX = 1000;
const OTHER_REASONS = 'other reasons';
const PIECE_BYTES: number = 1024 * 1024;

/** Looks through a part. Rejects with what reading and unpacking throw. */
export async function survey(task: SurveyTask): Promise<SurveyReport> {
  const count = new Count();
  if (task.kind === 'range') surveyRange(task, count);
  else if (task.kind === 'packed') await surveyPacked(task.path, count);
  else surveyBytes(task.bytes, count);
  return count.report();
}

class Count {
  lines = 0;
  bytes = 0;
  bad = 0;
  readonly problems: SurveyProblem[] = [];
  readonly byReason: Record<string, number> = {};

  take({ bytes, start, end, text }: SeenLine): void {
    this.lines += 1;
    this.bytes += end - start + 1;
    const fault = faultOfSeen({ bytes, start, end, text });
    if (fault === undefined) return;
    this.bad += 1;
    addReason(this.byReason, fault.reason, 1);
    if (this.problems.length < PROBLEMS_MAX) this.problems.push({ line: this.lines, ...fault });
  }

  report(): SurveyReport {
    const { lines, bytes, bad, problems, byReason } = this;
    return { lines, bytes, bad, problems, byReason };
  }
}

/** Adds to a count by reason, which stays small whatever the reasons are. */
export function addReason(counts: Record<string, number>, reason: string, by: number): void {
  const isRoom = counts[reason] !== undefined || Object.keys(counts).length < REASONS_MAX;
  const key = isRoom ? reason : OTHER_REASONS;
  counts[key] = (counts[key] ?? 0) + by;
}

function faultOfSeen({ bytes, start, end, text }: Omit<SeenLine, 'at'>): LineFault | undefined {
  if (text === 'cut' || end - start > LINE_BYTES_MAX) return TOO_LONG;
  if (text === 'utf8') {
    const fault = faultIn(bytes, start, end);
    return fault === undefined || isBlank(bytes, start, end) ? undefined : fault;
  }
  return isBlank(bytes, start, end) ? undefined : faultOf(bytes.subarray(start, end));
}

function surveyRange(
  { path, from, to }: Extract<SurveyTask, { kind: 'range' }>,
  count: Count,
): void {
  const fd = openSync(path, 'r');
  try {
    // One byte earlier: a line that begins exactly at `from` is told by the end of the one before.
    let at = Math.max(0, from - 1);
    let isAligned = from === 0;
    const walker = new LineWalker((line) => {
      if (first + line.at >= to) return false;
      count.take(line);
      return true;
    });
    let first = 0;
    const piece = Buffer.allocUnsafe(PIECE_BYTES);
    while (!walker.isEnded) {
      const bytes = readSync(fd, piece, 0, piece.length, at);
      if (bytes === 0) break;
      let start = 0;
      if (!isAligned) {
        const end = piece.subarray(0, bytes).indexOf(NEWLINE);
        if (end >= 0) {
          isAligned = true;
          start = end + 1;
          first = at + start;
        } else start = bytes;
        if (isAligned && first >= to) break;
      }
      if (start < bytes) walker.push(piece.subarray(start, bytes));
      at += bytes;
    }
    walker.finish();
  } finally {
    closeSync(fd);
  }
}

async function surveyPacked(path: string, count: Count): Promise<void> {
  const walker = countingWalker(count);
  await pipeline(
    createReadStream(path),
    createGunzip({ chunkSize: PIECE_BYTES }),
    async (pieces) => {
      for await (const piece of pieces) walker.push(piece as Buffer);
    },
  );
  walker.finish();
}

function surveyBytes(bytes: Uint8Array, count: Count): void {
  const walker = countingWalker(count);
  walker.push(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length));
  walker.finish();
}

function countingWalker(count: Count): LineWalker {
  return new LineWalker((line) => {
    count.take(line);
    return true;
  });
}
