import { MillraceError, show } from '../base/errors.ts';

/** How instants become wall time: plain data, so that it can go to a worker. */
export type Zone =
  | { readonly kind: 'process' }
  | { readonly kind: 'fixed'; readonly offsetMinutes: number }
  | { readonly kind: 'named'; readonly name: string };

/** Bytes of `yyyy-MM-dd HH:mm:ss.SSS`. */
export const TIME_TEXT_BYTES = 23;
/** Wall time stops at the end of the year 9999, which comes earlier in the east: the text has room for four digits. */
const LAST_SECOND_MS: number = Date.UTC(9999, 11, 31, 23, 59, 59);

const FIXED = /^([+-])(\d{2}):(\d{2})$/;
const MINUTE_MS = 60_000;
const HOUR_MS: number = 60 * MINUTE_MS;
const DAY_MS: number = 24 * HOUR_MS;
const OFFSET_HOURS_MAX = 18;
/** Zones change their offset on quarter hours of UTC, in all that IANA's tables know since 1972. */
const WINDOW_MS: number = 15 * MINUTE_MS;
const OFFSETS_MAX = 1024;
const ZERO = 0x30;
/** Before this instant offsets have seconds and change at odd moments; nothing is cached there. */
const REGULAR_FROM_MS: number = Date.UTC(1972, 0, 2);

/**
 * The zone of the option `timeZone`.
 *
 * @throws MillraceError MILLRACE_OPTIONS
 */
export function resolveZone(timeZone: string | undefined): Zone {
  if (timeZone === undefined) return { kind: 'process' };
  if (timeZone === 'UTC') return { kind: 'fixed', offsetMinutes: 0 };
  const fixed = FIXED.exec(timeZone);
  if (fixed !== null) {
    const hours = Number(fixed[2]);
    const minutes = Number(fixed[3]);
    if (hours > OFFSET_HOURS_MAX || minutes > 59) throw badZone(timeZone);
    const sign = fixed[1] === '-' ? -1 : 1;
    return { kind: 'fixed', offsetMinutes: sign * (60 * hours + minutes) };
  }
  try {
    new Intl.DateTimeFormat('en-US', { timeZone });
  } catch {
    // The RangeError says only "Invalid time zone"; ours names the option and what may stand there.
    throw badZone(timeZone);
  }
  // Engines differ in what offsets they take for a name; only the form above is ours.
  if (!/^[A-Za-z]/.test(timeZone)) throw badZone(timeZone);
  return { kind: 'named', name: timeZone };
}

function badZone(timeZone: string): MillraceError {
  return new MillraceError(
    'MILLRACE_OPTIONS',
    `timeZone is ${show(timeZone)}; it must be 'UTC', an offset such as +08:00, or an IANA name such as Asia/Shanghai`,
  );
}

/** Writes instants as wall time of one zone. One a thread: it remembers what it worked out last. */
export class TimeText {
  readonly #zone: Zone;
  readonly #format: Intl.DateTimeFormat | undefined;
  /** Offset in ms by window of time. */
  readonly #offsets = new Map<number, number>();
  readonly #second: Uint8Array = new Uint8Array(TIME_TEXT_BYTES);
  #secondMs = Number.NaN;
  #window = Number.NaN;
  #windowOffsetMs = 0;

  constructor(zone: Zone) {
    this.#zone = zone;
    this.#format =
      zone.kind === 'named'
        ? new Intl.DateTimeFormat('en-US', {
            timeZone: zone.name,
            calendar: 'gregory',
            numberingSystem: 'latn',
            hourCycle: 'h23',
            era: 'short',
            year: 'numeric',
            month: 'numeric',
            day: 'numeric',
            hour: 'numeric',
            minute: 'numeric',
            second: 'numeric',
          })
        : undefined;
  }

  /** Writes `yyyy-MM-dd HH:mm:ss.SSS` at `at` and returns the place after it. Years 1 to 9999. */
  write(target: Uint8Array, at: number, ms: number): number {
    const whole = Math.floor(ms);
    const milliseconds = ((whole % 1000) + 1000) % 1000;
    const secondMs = whole - milliseconds;
    if (secondMs !== this.#secondMs) this.#makeSecond(secondMs);
    const second = this.#second;
    for (let index = 0; index < TIME_TEXT_BYTES - 3; index += 1) {
      target[at + index] = second[index] ?? 0;
    }
    const hundreds = (milliseconds / 100) | 0;
    const tens = ((milliseconds / 10) | 0) % 10;
    target[at + 20] = ZERO + hundreds;
    target[at + 21] = ZERO + tens;
    target[at + 22] = ZERO + (milliseconds % 10);
    return at + TIME_TEXT_BYTES;
  }

  /** Offset of the zone at an instant, in hours: 8, 5.5, -3.5. */
  offsetHours(ms: number): number {
    return this.#offsetMs(ms) / HOUR_MS;
  }

  #makeSecond(secondMs: number): void {
    this.#secondMs = secondMs;
    const wallMs = Math.min(secondMs + this.#offsetMs(secondMs), LAST_SECOND_MS);
    const days = Math.floor(wallMs / DAY_MS);
    const rest = (wallMs - days * DAY_MS) / 1000;
    const { year, month, day } = civilOf(days);
    const text = this.#second;
    putDigits(text, { at: 0, digits: 4, value: year });
    text[4] = 0x2d;
    putDigits(text, { at: 5, digits: 2, value: month });
    text[7] = 0x2d;
    putDigits(text, { at: 8, digits: 2, value: day });
    text[10] = 0x20;
    putDigits(text, { at: 11, digits: 2, value: Math.floor(rest / 3600) });
    text[13] = 0x3a;
    putDigits(text, { at: 14, digits: 2, value: Math.floor(rest / 60) % 60 });
    text[16] = 0x3a;
    putDigits(text, { at: 17, digits: 2, value: Math.floor(rest) % 60 });
    text[19] = 0x2e;
  }

  #offsetMs(ms: number): number {
    if (this.#zone.kind === 'fixed') return this.#zone.offsetMinutes * MINUTE_MS;
    if (ms < REGULAR_FROM_MS) return this.#lookUp(ms);
    const window = Math.floor(ms / WINDOW_MS);
    if (window !== this.#window) {
      this.#window = window;
      this.#windowOffsetMs = this.#cached(window);
    }
    return this.#windowOffsetMs;
  }

  #cached(window: number): number {
    const known = this.#offsets.get(window);
    if (known !== undefined) return known;
    const offset = this.#lookUp(window * WINDOW_MS);
    if (this.#offsets.size >= OFFSETS_MAX) this.#offsets.clear();
    this.#offsets.set(window, offset);
    return offset;
  }

  #lookUp(ms: number): number {
    const instant = new Date(ms);
    const wallMs = this.#format === undefined ? wallOf(instant) : formatted(this.#format, instant);
    return wallMs - Math.floor(ms / 1000) * 1000;
  }
}

/** Wall time in the process's zone, as ms of a clock without zones; whole seconds. */
function wallOf(instant: Date): number {
  return utcOf([
    instant.getFullYear(),
    instant.getMonth(),
    instant.getDate(),
    instant.getHours(),
    instant.getMinutes(),
    instant.getSeconds(),
  ]);
}

function formatted(format: Intl.DateTimeFormat, instant: Date): number {
  const parts = new Map(format.formatToParts(instant).map(({ type, value }) => [type, value]));
  const part = (type: Intl.DateTimeFormatPartTypes) => Number(parts.get(type));
  // 1 BC is the year 0 of a calendar that counts on.
  const year = parts.get('era')?.startsWith('B') ? 1 - part('year') : part('year');
  return utcOf([
    year,
    part('month') - 1,
    part('day'),
    part('hour'),
    part('minute'),
    part('second'),
  ]);
}

function utcOf([year, month, day, hour, minute, second]: readonly [
  number,
  number,
  number,
  number,
  number,
  number,
]): number {
  // Date.UTC takes the years 0 to 99 for 1900 to 1999, so the year is set apart.
  const date = new Date(Date.UTC(2000, month, 1, hour, minute, second));
  date.setUTCFullYear(year, month, day);
  return date.getTime();
}

/** Date of the proleptic Gregorian calendar by days since 1970-01-01. */
function civilOf(days: number): { year: number; month: number; day: number } {
  // Counted from 0000-03-01, so that the leap day is the last of its year: 146 097 days in 400 years.
  const shifted = days + 719_468;
  const era = Math.floor(shifted / 146_097);
  const dayOfEra = shifted - era * 146_097;
  const yearOfEra = Math.floor(
    (dayOfEra -
      Math.floor(dayOfEra / 1460) +
      Math.floor(dayOfEra / 36_524) -
      Math.floor(dayOfEra / 146_096)) /
      365,
  );
  const dayOfYear =
    dayOfEra - (365 * yearOfEra + Math.floor(yearOfEra / 4) - Math.floor(yearOfEra / 100));
  const shiftedMonth = Math.floor((5 * dayOfYear + 2) / 153);
  const month = shiftedMonth < 10 ? shiftedMonth + 3 : shiftedMonth - 9;
  return {
    year: yearOfEra + era * 400 + (month <= 2 ? 1 : 0),
    month,
    day: dayOfYear - Math.floor((153 * shiftedMonth + 2) / 5) + 1,
  };
}

function putDigits(
  target: Uint8Array,
  { at, digits, value }: { at: number; digits: number; value: number },
): void {
  let rest = value;
  for (let index = digits - 1; index >= 0; index -= 1) {
    const tenth = Math.floor(rest / 10);
    target[at + index] = ZERO + rest - tenth * 10;
    rest = tenth;
  }
}
