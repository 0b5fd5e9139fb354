import { MillraceError, show } from '../base/errors.ts';

/** What decides a file's name besides the time. */
export interface NameRules {
  readonly rotate: 'day' | 'hour';
  readonly prefix?: string;
  readonly instance?: string;
  /** Size at which a file is full, in bytes; undefined: no limit, and no `_N` in names. */
  readonly maxBytes?: number;
}

/** A file's name in parts: `[head.]log.period[_index]`. */
export interface LogName {
  readonly head: string;
  /** `YYYY-MM-DD` or `YYYY-MM-DD-HH`, local time. */
  readonly period: string;
  /** -1: the name has none. */
  readonly index: number;
}

const NAME_PART = /^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$/;
const NAME = /^(?:(.+)\.)?log\.(\d{4}-\d{2}-\d{2}(?:-\d{2})?)(?:_(\d+))?$/;

/** @throws MillraceError MILLRACE_OPTIONS when `part` could lead out of the folder, or spoil the name */
export function checkNamePart(option: string, part: string): void {
  if (NAME_PART.test(part) && !part.includes('..')) return;
  throw new MillraceError(
    'MILLRACE_OPTIONS',
    `${option} is ${show(part)}; it must be letters, digits, ".", "_" and "-", starting with a letter or digit, without ".."`,
  );
}

/** What stands before `.log`: prefix and instance, joined by a dash. */
export function headOf({ prefix, instance }: NameRules): string {
  return [prefix, instance].filter((part) => part !== undefined).join('-');
}

/** The part of a name that follows from the time, in the process's zone. */
export function periodOf(ms: number, rotate: 'day' | 'hour'): string {
  const date = new Date(ms);
  const two = (value: number) => String(value).padStart(2, '0');
  const year = String(date.getFullYear()).padStart(4, '0');
  const day = `${year}-${two(date.getMonth() + 1)}-${two(date.getDate())}`;
  return rotate === 'day' ? day : `${day}-${two(date.getHours())}`;
}

/** A period as a whole number of 32 bits: the later, the larger. Of periods of one kind, up to the year 2146. */
export function periodNumber(period: string): number {
  return Number(period.replaceAll('-', ''));
}

/** The period of such a number. */
export function periodText(number: number): string {
  const digits = String(number);
  const day = `${digits.slice(0, 4)}-${digits.slice(4, 6)}-${digits.slice(6, 8)}`;
  return digits.length > 8 ? `${day}-${digits.slice(8)}` : day;
}

export function nameOf({ head, period, index }: LogName): string {
  const stem = `${head === '' ? '' : `${head}.`}log.${period}`;
  return index < 0 ? stem : `${stem}_${index}`;
}

/** The parts of a name; undefined: it is none of ours. */
export function parseName(name: string): LogName | undefined {
  const match = NAME.exec(name);
  if (match === null) return undefined;
  const [, head = '', period = '', index] = match;
  return { head, period, index: index === undefined ? -1 : Number(index) };
}

/**
 * Which `_N` to go on with, given the files there are: the highest that is not full, else the next one. A gzipped file is full: its
 * name is used up. Without a size limit names have no number (-1), unless the plain name is used up.
 */
export function indexToWrite(
  files: readonly { readonly name: string; readonly bytes: number }[],
  { head, period, maxBytes }: { head: string; period: string; maxBytes: number | undefined },
): number {
  const first = maxBytes === undefined ? -1 : 0;
  let highest = first - 1;
  let last: { readonly name: string; readonly bytes: number } | undefined;
  for (const file of files) {
    const isPacked = file.name.endsWith('.gz');
    const parsed = parseName(isPacked ? file.name.slice(0, -'.gz'.length) : file.name);
    if (parsed === undefined || parsed.head !== head || parsed.period !== period) continue;
    if (parsed.index < highest || (parsed.index === highest && !isPacked)) continue;
    highest = parsed.index;
    last = file;
  }
  if (last === undefined) return first;
  // A look at the size costs a call of the system: only the last file's counts.
  const isFull = last.name.endsWith('.gz') || (maxBytes !== undefined && last.bytes >= maxBytes);
  return isFull ? highest + 1 : highest;
}
