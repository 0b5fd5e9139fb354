import { DateTime } from 'luxon';
import { TIME_MAX_MS } from '../codec/value-writer.ts';
import type { TimeRule } from './mapping.ts';

/** Earliest time that is taken for one. */
const FIRST_MS: number = Date.UTC(100, 0, 2);

/** Ms since 1970 of a time as a column has it; undefined: it is none by that rule. */
export function momentOf(value: unknown, { format, zone }: TimeRule): number | undefined {
  const ms = msOf(value, { format, zone });
  return ms >= FIRST_MS && ms <= TIME_MAX_MS ? Math.round(ms) : undefined;
}

function msOf(value: unknown, { format, zone }: TimeRule): number {
  if (format === 'unix') return numberOf(value) * 1000;
  if (format === 'unixMs') return numberOf(value);
  const text = String(value);
  const options = { zone: luxonZone(zone), setZone: false };
  const time =
    format === 'iso'
      ? DateTime.fromISO(text.trim().replace(' ', 'T'), options)
      : DateTime.fromFormat(text.trim(), format, { ...options, locale: 'en' });
  return time.isValid ? time.toMillis() : Number.NaN;
}

/** Luxon wants `UTC+08:00` where the mapping has `+08:00`. */
function luxonZone(zone: string): string {
  return /^[+-]/.test(zone) ? `UTC${zone}` : zone;
}

function numberOf(value: unknown): number {
  if (typeof value === 'number') return value;
  const text = String(value).trim();
  return text === '' ? Number.NaN : Number(text);
}
