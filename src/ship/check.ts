import { checkRecord } from '../record/check.ts';
import { LineReader } from './lines.ts';

/** What is wrong with one line. */
export interface LineProblem {
  readonly file: string;
  /** From 1 on. */
  readonly line: number;
  /** From 1 on; 1 if the place is not known. */
  readonly column: number;
  readonly reason: string;
}

export interface CheckReport {
  readonly files: number;
  readonly lines: number;
  /** Lines with at least one problem. */
  readonly bad: number;
  readonly byReason: Readonly<Record<string, number>>;
}

/** Why a line is no good record: the first reason, with its column; undefined: it is fine. */
export function problemOf(line: Buffer): { column: number; reason: string } | undefined {
  const text = line.toString('utf8');
  let record: unknown;
  try {
    record = JSON.parse(text);
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    const place = /position (\d+)/.exec(message)?.[1];
    return { column: place === undefined ? 1 : Number(place) + 1, reason: 'is not JSON' };
  }
  const [problem] = checkRecord(record);
  if (problem === undefined) return undefined;
  const name = problem.path.split('.').at(-1) ?? '';
  const at = name === '' ? -1 : text.indexOf(`"${name}"`);
  return { column: at + 1 || 1, reason: `${problem.path} ${problem.reason}`.trim() };
}

/** Checks log files (plain or `.gz`) against the wire contract, line by line. Throws what opening throws. */
export function check(
  paths: readonly string[],
  onProblem: (problem: LineProblem) => void = () => undefined,
): CheckReport {
  let lines = 0;
  let bad = 0;
  const byReason: Record<string, number> = {};
  for (const file of paths) {
    const reader = new LineReader(file, 0);
    try {
      let number = 0;
      for (let line = reader.next(); line !== undefined; line = reader.next()) {
        number += 1;
        const problem = problemOf(line);
        if (problem === undefined) continue;
        bad += 1;
        byReason[problem.reason] = (byReason[problem.reason] ?? 0) + 1;
        onProblem({ file, line: number, ...problem });
      }
      lines += number;
    } finally {
      reader.close();
    }
  }
  return { files: paths.length, lines, bad, byReason };
}
