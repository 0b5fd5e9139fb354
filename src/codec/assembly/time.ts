import { PAIRS_AT, SECOND_AT } from '../machine-places';
import { putSecond } from './text';

/** Offset of the zone at an instant, in ms. The host remembers what it worked out. */
@external("host", "offsetMs")
declare function offsetMs(ms: f64): f64;

/** Zones change their offset on quarter hours of UTC only; before 1972-01-02 that does not hold. */
const WINDOW_MS: i64 = 900000;
export const REGULAR_FROM_MS: f64 = 63158400000;
const DAY_SECONDS: i64 = 86400;

let secondMs: f64 = -1;
let windowOfOffset: i64 = -1;
let offset: i64 = 0;

/** Forgets the zone's offsets: another zone may be meant. */
export function forgetTime(): void {
  secondMs = -1;
  windowOfOffset = -1;
}

/** `yyyy-MM-dd HH:mm:ss.SSS` of an instant from {@link REGULAR_FROM_MS} on. */
export function putTime(ms: f64, to: usize): usize {
  const whole = floor<f64>(ms);
  let rest = whole - secondMs;
  if (rest < 0 || rest >= 1000) {
    keepSecond(<i64>whole);
    rest = whole - secondMs;
  }
  putSecond(to);
  const milliseconds = <u32>rest;
  const hundreds = milliseconds / 100;
  store<u8>(to + 20, 0x30 + hundreds);
  store<u16>(to + 21, load<u16>(PAIRS_AT + 2 * (milliseconds - hundreds * 100)));
  return to + 23;
}

/** Offset of the zone, in hours. */
export function offsetHours(ms: f64): f64 {
  return <f64>offsetAt(<i64>ms) / 3600000;
}

function offsetAt(ms: i64): i64 {
  const window = ms / WINDOW_MS;
  if (window != windowOfOffset) {
    offset = <i64>offsetMs(<f64>(window * WINDOW_MS));
    windowOfOffset = window;
  }
  return offset;
}

function keepSecond(ms: i64): void {
  const second = ms / 1000;
  secondMs = <f64>(second * 1000);
  const wall = second + offsetAt(ms) / 1000;
  const days = wall / DAY_SECONDS;
  const rest = <u32>(wall - days * DAY_SECONDS);
  keepDate(<u32>days);
  store<u8>(SECOND_AT + 10, 0x20);
  keepPair(11, rest / 3600);
  store<u8>(SECOND_AT + 13, 0x3a);
  keepPair(14, (rest / 60) % 60);
  store<u8>(SECOND_AT + 16, 0x3a);
  keepPair(17, rest % 60);
  store<u8>(SECOND_AT + 19, 0x2e);
}

/** Date of the Gregorian calendar by days since 1970-01-01. */
function keepDate(days: u32): void {
  // Counted from 0000-03-01, so that the leap day is the last of its year: 146 097 days in 400 years.
  const shifted = days + 719468;
  const era = shifted / 146097;
  const dayOfEra = shifted - era * 146097;
  const yearOfEra = (dayOfEra - dayOfEra / 1460 + dayOfEra / 36524 - dayOfEra / 146096) / 365;
  const dayOfYear = dayOfEra - (365 * yearOfEra + yearOfEra / 4 - yearOfEra / 100);
  const shiftedMonth = (5 * dayOfYear + 2) / 153;
  const month = shiftedMonth < 10 ? shiftedMonth + 3 : shiftedMonth - 9;
  const year = yearOfEra + era * 400 + (month <= 2 ? 1 : 0);
  keepPair(0, year / 100);
  keepPair(2, year % 100);
  store<u8>(SECOND_AT + 4, 0x2d);
  keepPair(5, month);
  store<u8>(SECOND_AT + 7, 0x2d);
  keepPair(8, dayOfYear - (153 * shiftedMonth + 2) / 5 + 1);
}

function keepPair(at: usize, value: u32): void {
  store<u16>(SECOND_AT + at, load<u16>(PAIRS_AT + 2 * value));
}
