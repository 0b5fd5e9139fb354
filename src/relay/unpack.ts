import { gunzipSync } from 'node:zlib';
import { BRACE_OPEN, NEWLINE } from '../base/characters.ts';
import type { SourceMessage } from './source.ts';

/** Records of several messages, laid out as a sink wants them (`sink/sink.ts`, Batch). */
export interface Load {
  readonly count: number;
  readonly text: Buffer;
  readonly starts: Uint32Array;
  readonly ends: Uint32Array;
  /** For each message, in order: how many records of the load come up to its end. */
  readonly marks: readonly { readonly position: number; readonly records: number }[];
  /** Lines that can be no records, and messages that can't be unpacked. */
  readonly bad: readonly { readonly text: string; readonly reason: string }[];
}

/** @param separator what the sink wants behind each record */
export function unpack(messages: readonly SourceMessage[], separator: ',' | '\n'): Load {
  const bad: { text: string; reason: string }[] = [];
  const texts = messages.map((message) => textOf(message, bad));
  const bytes = texts.reduce((sum, text) => sum + text.length + 1, 1);
  const text = Buffer.allocUnsafe(bytes);
  text[0] = 0x20;
  const places = new Places(text, separator.charCodeAt(0), bad);
  const marks = texts.map((part, index) => {
    places.append(part);
    return { position: messages[index]?.position ?? 0, records: places.count };
  });
  return { count: places.count, text, ...places.arrays(), marks, bad };
}

function textOf(
  { payload, isPacked }: SourceMessage,
  bad: { text: string; reason: string }[],
): Uint8Array {
  if (!isPacked) return payload;
  try {
    return gunzipSync(payload);
  } catch (error) {
    bad.push({
      text: Buffer.from(payload).toString('base64'),
      reason: `can't be unpacked: ${error}`,
    });
    return Buffer.alloc(0);
  }
}

/** Finds the lines while it copies them. */
class Places {
  readonly #text: Buffer;
  readonly #separator: number;
  readonly #bad: { text: string; reason: string }[];
  readonly #starts: number[] = [];
  readonly #ends: number[] = [];
  #at = 1;

  constructor(text: Buffer, separator: number, bad: { text: string; reason: string }[]) {
    this.#text = text;
    this.#separator = separator;
    this.#bad = bad;
  }

  get count(): number {
    return this.#starts.length;
  }

  append(part: Uint8Array): void {
    const lines = Buffer.from(part.buffer, part.byteOffset, part.length);
    for (let from = 0; from < lines.length; ) {
      const found = lines.indexOf(NEWLINE, from);
      const to = found < 0 ? lines.length : found;
      if (lines[from] === BRACE_OPEN) this.#line(lines, from, to);
      else if (to > from) {
        this.#bad.push({ text: lines.toString('utf8', from, to), reason: 'is no JSON object' });
      }
      from = to + 1;
    }
  }

  #line(lines: Buffer, from: number, to: number): void {
    const start = this.#at;
    lines.copy(this.#text, start, from, to);
    const end = start + to - from;
    this.#text[end] = this.#separator;
    this.#starts.push(start);
    this.#ends.push(end);
    this.#at = end + 1;
  }

  arrays(): { starts: Uint32Array; ends: Uint32Array } {
    return { starts: Uint32Array.from(this.#starts), ends: Uint32Array.from(this.#ends) };
  }
}
