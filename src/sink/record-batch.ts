import { BRACKET_CLOSE, BRACKET_OPEN, COMMA } from '../base/characters.ts';
import { RecordText, type TextRange } from './record-text.ts';
import type { Batch } from './sink.ts';

/** Bytes of memory that is not shared, as `fetch` and others want it. */
export type Bytes = Uint8Array & { readonly buffer: ArrayBuffer };

/**
 * Records on their way, as a sink of your own sees them: finished JSON in UTF-8, encoded once, one record after
 * the other with a line break behind each. The bytes are the sink's to keep.
 */
export class RecordBatch {
  readonly #bytes: Bytes;
  readonly #starts: Uint32Array;
  readonly #ends: Uint32Array;
  readonly #text: RecordText = new RecordText();
  #readIndex = -1;

  /**
   * @param batch laid out as the engine does it
   * @param memory 'own': its bytes are copied. 'borrowed': they are the engine's, and so are all views of them.
   */
  constructor({ count, text, starts, ends }: Batch, memory: 'own' | 'borrowed' = 'own') {
    const from = starts[0] ?? 0;
    const to = count === 0 ? from : (ends[count - 1] ?? 0) + 1;
    const run = text.subarray(from, to) as Bytes;
    this.#bytes = memory === 'own' ? copyOf(run) : run;
    this.#starts = new Uint32Array(count);
    this.#ends = new Uint32Array(count);
    for (let index = 0; index < count; index += 1) {
      this.#starts[index] = (starts[index] ?? 0) - from;
      this.#ends[index] = (ends[index] ?? 0) - from;
    }
  }

  /** A batch of finished JSON lines, to try a sink with. */
  static of(lines: readonly string[]): RecordBatch {
    const text = Buffer.from(lines.map((line) => `${line}\n`).join(''));
    const starts = new Uint32Array(lines.length);
    const ends = new Uint32Array(lines.length);
    let at = 0;
    lines.forEach((line, index) => {
      starts[index] = at;
      at += Buffer.byteLength(line) + 1;
      ends[index] = at - 1;
    });
    return new RecordBatch({ count: lines.length, text, starts, ends });
  }

  /** How many records there are; at least 1. */
  get count(): number {
    return this.#starts.length;
  }

  /** Record `index` as JSON bytes, without the line break. A view, no copy. */
  bytes(index: number): Bytes {
    return this.#view(this.#rangeOf(index));
  }

  /** Record `index` as JSON text. */
  text(index: number): string {
    return this.#decode(this.#rangeOf(index));
  }

  /** The records `[from, to)`, a line each, every line with its line break. A view, no copy. */
  lines(from = 0, to: number = this.count): Bytes {
    if (from >= to) return this.#view({ from: 0, to: 0 });
    return this.#view({ from: this.#rangeOf(from).from, to: this.#rangeOf(to - 1).to + 1 });
  }

  /** Where the line break of each record is in `lines()`. */
  get lineEnds(): Uint32Array {
    return this.#ends;
  }

  /** Length of record `index` in bytes, without the line break. */
  byteLength(index: number): number {
    const { from, to } = this.#rangeOf(index);
    return to - from;
  }

  /** These records, a line each, every line with its line break. A copy. */
  gather(indexes: readonly number[]): Bytes {
    let length = 0;
    for (const index of indexes) length += this.byteLength(index) + 1;
    const gathered = new Uint8Array(length);
    const source = this.#buffer;
    let at = 0;
    // Copied by place: a view of each record would cost more than its bytes.
    for (const index of indexes) {
      const { from, to } = this.#rangeOf(index);
      at += source.copy(gathered, at, from, to + 1);
    }
    return gathered;
  }

  /** The records `[from, to)` as one JSON array. A copy. */
  jsonArray(from = 0, to: number = this.count): Bytes {
    const lines = this.lines(from, to);
    const array = new Uint8Array(Math.max(2, lines.length + 1));
    array.set(lines, 1);
    for (let index = from; index < to; index += 1) {
      array[this.#rangeOf(index).to - this.#rangeOf(from).from + 1] = COMMA;
    }
    array[0] = BRACKET_OPEN;
    array[array.length - 1] = BRACKET_CLOSE;
    return array;
  }

  /** The record's user: its account id, else its distinct id. Empty: it has neither. */
  key(index: number): string {
    const range = this.#read(index).key;
    return range === undefined ? '' : this.#decodeText(range);
  }

  /** The record's uuid; undefined: it has none. A repeated record has the same. */
  uuid(index: number): string | undefined {
    const range = this.#read(index).uuid;
    return range === undefined ? undefined : this.#decode(range);
  }

  /**
   * The partition of the record's user, from 0 to `partitions - 1`: the same for all records of a user, in every process and
   * run, and spread evenly. It is the one `millrace/nats` and `millrace/kafka` use.
   */
  partition(index: number, partitions: number): number {
    return this.#read(index).keyHash % partitions;
  }

  #read(index: number): RecordText {
    const range = this.#rangeOf(index);
    if (this.#readIndex !== index) this.#text.read(this.#bytes, range);
    this.#readIndex = index;
    return this.#text;
  }

  #rangeOf(index: number): TextRange {
    const from = this.#starts[index];
    const to = this.#ends[index];
    if (from === undefined || to === undefined) {
      throw new RangeError(`there is no record ${index} in a batch of ${this.count}`);
    }
    return { from, to };
  }

  get #buffer(): Buffer {
    const { buffer, byteOffset, length } = this.#bytes;
    return Buffer.from(buffer, byteOffset, length);
  }

  #view({ from, to }: TextRange): Bytes {
    return this.#bytes.subarray(from, to) as Bytes;
  }

  #decode({ from, to }: TextRange): string {
    return this.#buffer.toString('utf8', from, to);
  }

  /** A JSON text; its escapes are rare, so that a parser is seldom needed. */
  #decodeText(range: TextRange): string {
    const text = this.#decode(range);
    return text.includes('\\') ? String(JSON.parse(`"${text}"`)) : text;
  }
}

/** In memory of its own, that is not filled with zeros first. */
function copyOf(bytes: Uint8Array): Bytes {
  const copy = Buffer.allocUnsafeSlow(bytes.length);
  copy.set(bytes);
  return new Uint8Array(copy.buffer);
}
