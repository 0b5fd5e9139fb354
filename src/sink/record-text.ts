import {
  BACKSLASH,
  BRACE_CLOSE,
  BRACE_OPEN,
  BRACKET_CLOSE,
  BRACKET_OPEN,
  COMMA,
  QUOTE,
} from '../base/characters.ts';

const FNV_OFFSET = 0x811c9dc5;
const FNV_PRIME = 0x01000193;

/** Where a text stands in a buffer, its quotes left out. */
export interface TextRange {
  readonly from: number;
  readonly to: number;
}

const ACCOUNT: Uint8Array = Buffer.from('#account_id');
const DISTINCT: Uint8Array = Buffer.from('#distinct_id');
const UUID: Uint8Array = Buffer.from('#uuid');
const PROPERTIES: Uint8Array = Buffer.from('properties');

/**
 * Reads what tells one record from another out of its finished JSON, without parsing it: the texts at the top level.
 * One is used for many records, so that nothing is allocated per record but what is asked for.
 */
export class RecordText {
  #bytes: Uint8Array = new Uint8Array(0);
  #at = 0;
  #end = 0;
  /** Place of each text found; `to` 0: there is none. */
  readonly #account = { from: 0, to: 0 };
  readonly #distinct = { from: 0, to: 0 };
  readonly #uuid = { from: 0, to: 0 };

  /** Goes to the record in `[from, to)` of `bytes`. */
  read(bytes: Uint8Array, { from, to }: TextRange): void {
    this.#bytes = bytes;
    this.#at = from + 1;
    this.#end = to;
    this.#account.to = 0;
    this.#distinct.to = 0;
    this.#uuid.to = 0;
    while (this.#at < this.#end && bytes[this.#at] !== BRACE_CLOSE) this.#entry();
  }

  /** The account id, else the distinct id, as it stands in the JSON; undefined: the record has neither. */
  get key(): TextRange | undefined {
    if (this.#account.to > 0) return this.#account;
    return this.#distinct.to > 0 ? this.#distinct : undefined;
  }

  /** The uuid; undefined: the record has none. */
  get uuid(): TextRange | undefined {
    return this.#uuid.to > 0 ? this.#uuid : undefined;
  }

  /** A number that spreads users over partitions: FNV-1a of the id's bytes in the JSON. Not negative; 0 without an id. */
  get keyHash(): number {
    const range = this.key;
    if (range === undefined) return 0;
    let hash = FNV_OFFSET;
    for (let index = range.from; index < range.to; index += 1) {
      hash = Math.imul(hash ^ (this.#bytes[index] ?? 0), FNV_PRIME);
    }
    // FNV leaves the low bits of short texts alike; a last mix spreads them.
    hash ^= hash >>> 15;
    return hash >>> 0;
  }

  #entry(): void {
    const bytes = this.#bytes;
    if (bytes[this.#at] !== QUOTE) {
      this.#at += 1;
      return;
    }
    const from = this.#at + 1;
    const to = this.#endOfText(from);
    this.#at = to + 1;
    while (this.#at < this.#end && !isValueStart(bytes[this.#at] ?? 0)) this.#at += 1;
    const slot = this.#slotOf(from, to);
    if (bytes[this.#at] === QUOTE) this.#text(slot);
    else if (slot === undefined && this.#isName(PROPERTIES, from, to) && this.#hasAll) {
      // What comes behind the properties is of no interest any more.
      this.#at = this.#end;
    } else this.#skipValue();
  }

  get #hasAll(): boolean {
    return this.#uuid.to > 0 && this.#account.to > 0;
  }

  #slotOf(from: number, to: number): { from: number; to: number } | undefined {
    if (this.#isName(ACCOUNT, from, to)) return this.#account;
    if (this.#isName(DISTINCT, from, to)) return this.#distinct;
    return this.#isName(UUID, from, to) ? this.#uuid : undefined;
  }

  #isName(name: Uint8Array, from: number, to: number): boolean {
    if (to - from !== name.length) return false;
    for (let index = 0; index < name.length; index += 1) {
      if (this.#bytes[from + index] !== name[index]) return false;
    }
    return true;
  }

  #text(slot: { from: number; to: number } | undefined): void {
    const from = this.#at + 1;
    const to = this.#endOfText(from);
    this.#at = to + 1;
    if (slot === undefined || to === from) return;
    slot.from = from;
    slot.to = to;
  }

  /** Place of the quote that ends the text begun before `from`. */
  #endOfText(from: number): number {
    const bytes = this.#bytes;
    let at = from;
    while (at < this.#end && bytes[at] !== QUOTE) at += bytes[at] === BACKSLASH ? 2 : 1;
    return at;
  }

  /** Steps over a number, a word, a list or an object. */
  #skipValue(): void {
    const bytes = this.#bytes;
    let depth = 0;
    while (this.#at < this.#end) {
      const byte = bytes[this.#at] ?? 0;
      if (depth === 0 && (byte === COMMA || byte === BRACE_CLOSE)) return;
      if (byte === QUOTE) this.#at = this.#endOfText(this.#at + 1);
      else if (byte === BRACE_OPEN || byte === BRACKET_OPEN) depth += 1;
      else if (byte === BRACE_CLOSE || byte === BRACKET_CLOSE) depth -= 1;
      this.#at += 1;
    }
  }
}

/** What may stand between a name and its value: a colon and blanks. */
function isValueStart(byte: number): boolean {
  return byte > 0x20 && byte !== 0x3a;
}
