import type { TimeText } from './time-text.ts';

const ENCODER = new TextEncoder();

const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const LONG_COPY_BYTES = 64;

/** What follows the backslash for bytes below 0x20, and 0 where only \u00XX will do. */
const SHORT_ESCAPES: Uint8Array = shortEscapes();
const HEX: Uint8Array = utf8('0123456789abcdef');
/** Bytes of a whole value by its first byte; 0: it says its length itself. */
const VALUE_BYTES: Uint8Array = valueBytes();
/** 1 for bytes that JSON text can't hold as they are. */
const NEEDS_ESCAPE: Uint8Array = needsEscape();

/** Most bytes of JSON text one byte of msgpack can turn into. */
export const GROWTH_MAX = 6;

/**
 * Turns msgpack values into JSON text, byte by byte, without building a value in between.
 * Reads at {@link from}, writes at {@link to}; room for the text is the caller's to ensure
 * ({@link GROWTH_MAX} bytes for each byte read, and 32).
 */
export class JsonText {
  readonly #source: Uint8Array;
  readonly #view: DataView;
  readonly #time: TimeText;
  /** Place in the source of the next value. */
  from = 0;
  target: Uint8Array = new Uint8Array(0);
  /** Place in the target of the next byte. */
  to = 0;

  constructor(source: Uint8Array, view: DataView, time: TimeText) {
    this.#source = source;
    this.#view = view;
    this.#time = time;
  }

  byte(byte: number): void {
    this.target[this.to++] = byte;
  }

  /** Copies finished text. */
  run(run: Uint8Array): void {
    const length = run.length;
    const to = this.to;
    if (length > LONG_COPY_BYTES) this.target.set(run, to);
    else {
      const target = this.target;
      for (let index = 0; index < length; index += 1) target[to + index] = run[index] ?? 0;
    }
    this.to = to + length;
  }

  /** Whether the next value is nil; steps over it if so. */
  takeNil(): boolean {
    if (this.#source[this.from] !== 0xc0) return false;
    this.from += 1;
    return true;
  }

  /** Converts the next value. */
  value(): void {
    const type = this.#source[this.from] ?? 0;
    if (type < 0x80) {
      this.from += 1;
      this.#integer(type);
    } else if (type >= 0xa0 && type < 0xc0) {
      this.from += 1;
      this.#text(type & 0x1f);
    } else if (type >= 0xe0) {
      this.from += 1;
      this.#integer(type - 0x100);
    } else this.#typed(type);
  }

  #typed(type: number): void {
    const at = this.from + 1;
    switch (type) {
      case 0xd2:
        this.from = at + 4;
        this.#integer(this.#view.getInt32(at));
        break;
      case 0xcb:
        this.from = at + 8;
        this.#double(this.#view.getFloat64(at));
        break;
      case 0xd9:
      case 0xda:
      case 0xdb:
        this.#text(this.takeTextLength());
        break;
      case 0xc2:
        this.from = at;
        this.#ascii('false');
        break;
      case 0xc3:
        this.from = at;
        this.#ascii('true');
        break;
      case 0xc7:
        this.#date(at);
        break;
      case 0xdc:
        this.#list(at);
        break;
      case 0xde:
        this.#map(at);
        break;
      default:
        throw new Error(`millrace: msgpack type 0x${type.toString(16)} in a frame`);
    }
  }

  /** Length in bytes of the text that comes next; {@link from} then stands at its first byte. */
  takeTextLength(): number {
    const type = this.#source[this.from] ?? 0;
    const at = this.from + 1;
    if (type >= 0xa0 && type < 0xc0) {
      this.from = at;
      return type & 0x1f;
    }
    if (type === 0xd9) {
      this.from = at + 1;
      return this.#source[at] ?? 0;
    }
    if (type === 0xda) {
      this.from = at + 2;
      return this.#view.getUint16(at);
    }
    this.from = at + 4;
    return this.#view.getUint32(at);
  }

  /** The text that comes next, as a string. */
  takeString(): string {
    const length = this.takeTextLength();
    const start = this.from;
    this.from = start + length;
    // A copy, because TextDecoder and Buffer do not all take shared memory.
    return Buffer.from(this.#source.slice(start, start + length)).toString('utf8');
  }

  /** The small number that comes next. */
  takeInteger(): number {
    const type = this.#source[this.from] ?? 0;
    this.from += 1;
    if (type < 0x80) return type;
    this.from += 4;
    return this.#view.getInt32(this.from - 4);
  }

  /** The number of entries of the map that comes next. */
  takeMapCount(): number {
    this.from += 3;
    return this.#view.getUint16(this.from - 2);
  }

  /** Steps over `count` values. */
  skip(count: number): void {
    for (let left = count; left > 0; left -= 1) {
      const type = this.#source[this.from] ?? 0;
      const bytes = VALUE_BYTES[type] ?? 0;
      if (bytes > 0) this.from += bytes;
      else if (type === 0xdc) left += this.takeMapCount();
      else if (type === 0xde) left += 2 * this.takeMapCount();
      else {
        const length = this.takeTextLength();
        this.from += length;
      }
    }
  }

  #list(at: number): void {
    const count = this.#view.getUint16(at);
    this.from = at + 2;
    this.byte(0x5b);
    for (let index = 0; index < count; index += 1) {
      if (index > 0) this.byte(0x2c);
      this.value();
    }
    this.byte(0x5d);
  }

  #map(at: number): void {
    const count = this.#view.getUint16(at);
    this.from = at + 2;
    this.byte(0x7b);
    for (let index = 0; index < count; index += 1) {
      if (index > 0) this.byte(0x2c);
      this.value();
      this.byte(0x3a);
      this.value();
    }
    this.byte(0x7d);
  }

  #date(at: number): void {
    const nanoseconds = this.#view.getUint32(at + 2);
    const high = this.#view.getInt32(at + 6);
    const low = this.#view.getUint32(at + 10);
    this.from = at + 14;
    this.time((high * 0x1_0000_0000 + low) * 1000 + nanoseconds / 1_000_000);
  }

  /** The text of an instant, in quotes. */
  time(ms: number): void {
    this.byte(QUOTE);
    this.to = this.#time.write(this.target, this.to, ms);
    this.byte(QUOTE);
  }

  /** A number as JSON prints it. */
  number(value: number): void {
    if ((value | 0) === value) this.#integer(value);
    else this.#double(value);
  }

  #double(value: number): void {
    this.#ascii(String(value));
  }

  #integer(value: number): void {
    const target = this.target;
    let rest = value;
    if (rest < 0) {
      target[this.to++] = 0x2d;
      rest = -rest;
    }
    let digits = 1;
    for (let power = 10; power <= rest; power *= 10) digits += 1;
    for (let at = this.to + digits - 1; at >= this.to; at -= 1) {
      const tenth = Math.floor(rest / 10);
      target[at] = 0x30 + rest - tenth * 10;
      rest = tenth;
    }
    this.to += digits;
  }

  #ascii(text: string): void {
    const target = this.target;
    const length = text.length;
    for (let index = 0; index < length; index += 1)
      target[this.to + index] = text.charCodeAt(index);
    this.to += length;
  }

  /** `length` bytes of UTF-8 as a JSON string. */
  #text(length: number): void {
    const source = this.#source;
    const target = this.target;
    const end = this.from + length;
    let to = this.to;
    target[to++] = QUOTE;
    for (let from = this.from; from < end; from += 1) {
      const byte = source[from] ?? 0;
      if (NEEDS_ESCAPE[byte] === 0) target[to++] = byte;
      else to = escapeByte(target, to, byte);
    }
    target[to++] = QUOTE;
    this.from = end;
    this.to = to;
  }
}

function escapeByte(target: Uint8Array, at: number, byte: number): number {
  let to = at;
  target[to++] = BACKSLASH;
  const short = SHORT_ESCAPES[byte] ?? 0;
  if (short !== 0) {
    target[to++] = short;
    return to;
  }
  target[to++] = 0x75;
  target[to++] = 0x30;
  target[to++] = 0x30;
  target[to++] = HEX[byte >> 4] ?? 0;
  target[to++] = HEX[byte & 15] ?? 0;
  return to;
}

function shortEscapes(): Uint8Array {
  const escapes = new Uint8Array(256);
  for (const [character, letter] of [
    ['\b', 'b'],
    ['\t', 't'],
    ['\n', 'n'],
    ['\f', 'f'],
    ['\r', 'r'],
    ['"', '"'],
    ['\\', '\\'],
  ] as const) {
    escapes[character.charCodeAt(0)] = letter.charCodeAt(0);
  }
  return escapes;
}

function valueBytes(): Uint8Array {
  const bytes = new Uint8Array(256).fill(1, 0, 0x80).fill(1, 0xe0).fill(1, 0xc0, 0xc4);
  bytes[0xd2] = 5;
  bytes[0xcb] = 9;
  bytes[0xc7] = 15;
  return bytes;
}

function needsEscape(): Uint8Array {
  const table = new Uint8Array(256).fill(1, 0, 0x20);
  table[QUOTE] = 1;
  table[BACKSLASH] = 1;
  return table;
}

/** UTF-8 of a text, for runs made once. */
export function utf8(text: string): Uint8Array {
  return ENCODER.encode(text);
}
