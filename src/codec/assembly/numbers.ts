import { PAIRS_AT, POWER_MIN, POWERS_AT } from '../machine-places';

/** Exact powers of ten that a short decimal is divided by. */
const TENS = memory.data<f64>([1, 10, 100, 1e3, 1e4, 1e5, 1e6]);
const SHORT_DECIMALS: i32 = 6;
const SHORT_BELOW: f64 = 1e9;
const WHOLE_BELOW: f64 = 9007199254740992;
const MANTISSA_BITS: i32 = 52;
const HIDDEN_BIT: u64 = 1 << 52;
const EXPONENT_BIAS: i32 = 1075;
/** JSON writes numbers of at most so many digits before the point without an exponent. */
const PLAIN_DIGITS: i32 = 21;
const PLAIN_ZEROS: i32 = 6;

/** Fills the table of two-digit texts. */
export function makePairs(): void {
  for (let value: u32 = 0; value < 100; value += 1) {
    store<u8>(PAIRS_AT + 2 * value, 0x30 + value / 10);
    store<u8>(PAIRS_AT + 2 * value + 1, 0x30 + (value % 10));
  }
}

@inline
function putPair(value: u32, to: usize): void {
  store<u16>(to, load<u16>(PAIRS_AT + 2 * value));
}

@inline
function putFour(value: u32, to: usize): void {
  const high = value / 100;
  putPair(high, to);
  putPair(value - high * 100, to + 2);
}

@inline
function putEight(value: u32, to: usize): void {
  const high = value / 10000;
  putFour(high, to);
  putFour(value - high * 10000, to + 4);
}

function putBelowTenThousand(value: u32, to: usize): usize {
  if (value < 100) {
    if (value < 10) {
      store<u8>(to, 0x30 + value);
      return to + 1;
    }
    putPair(value, to);
    return to + 2;
  }
  if (value >= 1000) {
    putFour(value, to);
    return to + 4;
  }
  const high = value / 100;
  store<u8>(to, 0x30 + high);
  putPair(value - high * 100, to + 1);
  return to + 3;
}

export function putUint(value: u32, to: usize): usize {
  if (value < 10000) return putBelowTenThousand(value, to);
  if (value < 100000000) {
    const high = value / 10000;
    const next = putBelowTenThousand(high, to);
    putFour(value - high * 10000, next);
    return next + 4;
  }
  const high = value / 100000000;
  const next = putBelowTenThousand(high, to);
  putEight(value - high * 100000000, next);
  return next + 8;
}

export function putInt(value: i32, to: usize): usize {
  if (value >= 0) return putUint(value, to);
  store<u8>(to, 0x2d);
  return putUint(0 - <u32>value, to + 1);
}

function putWide(value: u64, to: usize): usize {
  if (value <= <u64>u32.MAX_VALUE) return putUint(<u32>value, to);
  const high = value / 100000000;
  const next = putWide(high, to);
  putEight(<u32>(value - high * 100000000), next);
  return next + 8;
}

/** A finite number as JSON.stringify prints it; at most 25 bytes. */
export function putDouble(value: f64, to: usize): usize {
  let rest = value;
  if (rest < 0) {
    store<u8>(to, 0x2d);
    to += 1;
    rest = -rest;
  }
  if (rest < WHOLE_BELOW && floor<f64>(rest) == rest) return putWide(<u64>rest, to);
  if (rest < SHORT_BELOW) {
    // A decimal of at most 15 digits that rounds to the number is the shortest one, if no shorter one does.
    for (let decimals = 1; decimals <= SHORT_DECIMALS; decimals += 1) {
      const ten = load<f64>(TENS + (<usize>decimals << 3));
      const digits = nearest<f64>(rest * ten);
      if (digits / ten == rest) return putShort(<u64>digits, decimals, to);
    }
  }
  return putShortest(rest, to);
}

/** `digits` with a point before the last `decimals` of them. */
function putShort(digits: u64, decimals: i32, to: usize): usize {
  const ten = <u64>load<f64>(TENS + (<usize>decimals << 3));
  const whole = digits / ten;
  let fraction = <u32>(digits - whole * ten);
  const point = putWide(whole, to);
  store<u8>(point, 0x2e);
  for (let at = point + <usize>decimals; at > point; at -= 1) {
    const tenth = fraction / 10;
    store<u8>(at, 0x30 + fraction - tenth * 10);
    fraction = tenth;
  }
  return point + 1 + <usize>decimals;
}

@inline
function highProduct(a: u64, b: u64): u64 {
  const aLow = a & 0xffffffff;
  const aHigh = a >> 32;
  const bLow = b & 0xffffffff;
  const bHigh = b >> 32;
  const low = aLow * bLow;
  const middle = aHigh * bLow + (low >> 32);
  const other = aLow * bHigh + (middle & 0xffffffff);
  return aHigh * bHigh + (middle >> 32) + (other >> 32);
}

/** The product of a 128-bit power of ten and `value`, its high part; the last bit says whether more follows. */
@inline
function scaled(powerAt: usize, value: u64): u64 {
  const high = load<u64>(powerAt);
  const low = highProduct(load<u64>(powerAt + 8), value);
  const middle = high * value;
  const sum = middle + low;
  const carry: u64 = sum < middle ? 1 : 0;
  return (highProduct(high, value) + carry) | (sum > 1 ? 1 : 0);
}

/**
 * The shortest decimal that reads back as `value`, by Giulietti's method: the interval of all numbers that round to
 * the value is scaled by a power of ten, and of the decimals of one digit less, and then of full length, the one inside
 * it is taken. Positive numbers only.
 */
function putShortest(value: f64, to: usize): usize {
  const bits = reinterpret<u64>(value);
  const fraction = bits & (HIDDEN_BIT - 1);
  const exponentBits = <i32>(bits >> MANTISSA_BITS);
  const significand = exponentBits == 0 ? fraction : fraction | HIDDEN_BIT;
  const exponent = (exponentBits == 0 ? 1 : exponentBits) - EXPONENT_BIAS;
  const isUneven = fraction == 0 && exponentBits > 1;
  const k = (exponent * 1262611 - (isUneven ? 524031 : 0)) >> 22;
  const shift = <u64>(exponent + ((-k * 1741647) >> 19) + 1);
  const powerAt = POWERS_AT + (<usize>(-k - POWER_MIN) << 4);
  const odd: u64 = significand & 1;
  const lower = scaled(powerAt, (4 * significand - (isUneven ? 1 : 2)) << shift) + odd;
  const middle = scaled(powerAt, (4 * significand) << shift);
  const upper = scaled(powerAt, (4 * significand + 2) << shift) - odd;
  const full = middle >> 2;
  if (full >= 10) {
    const tenth = full / 10;
    const isLow = lower <= 40 * tenth;
    const isHigh = 40 * tenth + 40 <= upper;
    if (isLow != isHigh) return putScientific(tenth + (isHigh ? 1 : 0), k + 1, to);
  }
  const isLow = lower <= 4 * full;
  const isHigh = 4 * full + 4 <= upper;
  if (isLow != isHigh) return putScientific(full + (isHigh ? 1 : 0), k, to);
  const half = 4 * full + 2;
  const isUp = middle > half || (middle == half && (full & 1) != 0);
  return putScientific(full + (isUp ? 1 : 0), k, to);
}

/** `digits` × 10^`exponent` in the notation of JSON.stringify. */
function putScientific(digits: u64, exponent: i32, to: usize): usize {
  let tenth = digits / 10;
  while (tenth * 10 == digits) {
    digits = tenth;
    exponent += 1;
    tenth = digits / 10;
  }
  // Written one byte further on, so that the first digits can step back to make room for the point.
  const start = to + 1;
  const count = <i32>(putWide(digits, start) - start);
  const point = count + exponent;
  if (exponent >= 0 && point <= PLAIN_DIGITS) {
    memory.copy(to, start, count);
    memory.fill(to + <usize>count, 0x30, exponent);
    return to + <usize>point;
  }
  if (point > 0 && point <= PLAIN_DIGITS) {
    memory.copy(to, start, point);
    store<u8>(to + <usize>point, 0x2e);
    return start + <usize>count;
  }
  if (point <= 0 && point > -PLAIN_ZEROS) {
    const zeros = <usize>-point;
    memory.copy(to + 2 + zeros, start, count);
    store<u16>(to, 0x2e30);
    memory.fill(to + 2, 0x30, zeros);
    return to + 2 + zeros + <usize>count;
  }
  store<u8>(to, load<u8>(start));
  let end = to + 1;
  if (count > 1) {
    store<u8>(end, 0x2e);
    end = start + <usize>count;
  }
  store<u8>(end, 0x65);
  store<u8>(end + 1, point > 0 ? 0x2b : 0x2d);
  return putUint(point > 0 ? point - 1 : 1 - point, end + 2);
}
