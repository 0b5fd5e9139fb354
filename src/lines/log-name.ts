/** A log file's name in parts: `head.period[_index][.age][.gz]`. */
export interface LogFileName {
  /** What stands before the date: `log`, `game.log`, or a prefix alone, as the C# SDK writes it. Files of one head are one sequence. */
  readonly head: string;
  /** `YYYY-MM-DD` or `YYYY-MM-DD-HH`. */
  readonly period: string;
  /** `_N`; -1: the name has none. */
  readonly index: number;
  /** What logrotate adds: the higher, the older; 0: nothing. */
  readonly age: number;
  readonly isPacked: boolean;
}

const NAME = /^([^.].*)\.(\d{4}-\d{2}-\d{2}(?:-\d{2})?)(?:_(\d+))?(?:\.(\d+))?(\.gz)?$/;

/** The parts of a name as this library or an official SDK gives it; undefined: it is no log file's. */
export function parseLogFileName(name: string): LogFileName | undefined {
  const match = NAME.exec(name);
  if (match === null) return undefined;
  const [, head = '', period = '', index, age, packed] = match;
  return {
    head,
    period,
    index: index === undefined ? -1 : Number(index),
    age: age === undefined ? 0 : Number(age),
    isPacked: packed !== undefined,
  };
}

/** The order in which files of one head were written. */
export function compareLogFiles(a: LogFileName, b: LogFileName): number {
  if (a.period !== b.period) return a.period < b.period ? -1 : 1;
  return a.index - b.index || b.age - a.age || Number(a.isPacked) - Number(b.isPacked);
}
