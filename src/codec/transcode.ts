import {
  EPOCH_AT,
  FLAG_DYNAMIC,
  FLAG_EXTRAS,
  FLAG_UUID,
  FLAGS_AT,
  FRAME_HEADER_BYTES,
  INLINE_FROM,
  KIND_AT,
  LENGTH_AT,
  SHAPE_AT,
  TIME_AT,
  UUID_AT,
  UUID_BYTES,
} from '../lane/layout.ts';
import type { Region } from '../lane/region.ts';
import {
  isTrackKind,
  LIFT_APP_ID,
  LIFT_CODES,
  LIFT_EVENT_ID,
  LIFT_FIRST_CHECK_ID,
  LIFT_IMPORT_TOOL_ID,
  LIFT_IP,
  LIFT_NAMES,
  LIFT_TRANSACTION_PROPERTY,
  LIFT_UUID,
  TYPE_NAMES,
} from '../record/types.ts';
import { type Definition, DefinitionReader, readSuper } from './definitions.ts';
import { GROWTH_MAX, JsonText, utf8 } from './json-text.ts';
import { TimeText, type Zone } from './time-text.ts';

/** What every `track*` record carries besides its own and the super properties. */
export interface Presets {
  readonly lib: string;
  readonly libVersion: string;
}

export interface TranscoderOptions {
  readonly presets: Presets;
  readonly zone: Zone;
  /** Whether `#zone_offset` is added to `track*` records. */
  readonly addsZoneOffset: boolean;
}

/** Text buffer that grows: records are written one after the other. */
export class TextBuffer {
  bytes: Uint8Array;
  at = 0;

  constructor(bytes: number) {
    this.bytes = new Uint8Array(bytes);
  }

  /** Makes room for `more` bytes after {@link at}; what is written stays. */
  ensure(more: number): void {
    const needed = this.at + more;
    if (needed <= this.bytes.length) return;
    const grown = new Uint8Array(Math.max(needed, 2 * this.bytes.length));
    grown.set(this.bytes.subarray(0, this.at));
    this.bytes = grown;
  }
}

/** A shape with everything of its JSON text that is the same for each record. */
export interface ShapeText {
  /** `,"#event_name":"…"`, or nothing for user records. */
  readonly event: Uint8Array;
  /** In lower case: to the receiver a name in another spelling is the same. */
  readonly keys: ReadonlySet<string>;
  /** `,"key":` for each key. */
  readonly runs: readonly Uint8Array[];
  /** Bytes of `event` and `runs` together. */
  readonly runBytes: number;
  /** What super and preset properties add to the shape's own, for one epoch. */
  tail: Tail;
}

/** The part of `properties` that follows from the epoch alone. */
export interface Tail {
  /** -1: not made yet. */
  readonly epoch: number;
  /** `,"key":value` for each key. */
  readonly text: Uint8Array;
  /** Whether `#zone_offset` is set by the record's or the super properties. */
  readonly hasZoneOffset: boolean;
}

interface Entry {
  readonly key: string;
  /** `,"key":value` */
  readonly text: Uint8Array;
}

const ZONE_OFFSET = '#zone_offset';
const SLACK_BYTES = 512;
const INLINE_SHAPES_MAX = 256;
/** The same in characters of their names, which may be many and long. */
const INLINE_SHAPES_CHARACTERS_MAX = 2 ** 20;
const TYPE_RUNS: readonly Uint8Array[] = TYPE_NAMES.map((name) =>
  utf8(`{"#type":"${name}","#time":`),
);
const DISTINCT_RUN: Uint8Array = utf8(',"#distinct_id":');
const ACCOUNT_RUN: Uint8Array = utf8(',"#account_id":');
const UUID_RUN: Uint8Array = utf8(',"#uuid":"');
const PROPERTIES_RUN: Uint8Array = utf8(',"properties":');
const ZONE_RUN: Uint8Array = utf8(`,"${ZONE_OFFSET}":`);
const LIFT_RUNS: readonly Uint8Array[] = LIFT_NAMES.map((name) => utf8(`,"${name}":`));
/** Order of the lifted fields in the record; the uuid, wherever it comes from, goes between the two lists. */
const LIFTS_BEFORE_UUID: readonly number[] = [LIFT_EVENT_ID, LIFT_FIRST_CHECK_ID, LIFT_IP];
const LIFTS_AFTER_UUID: readonly number[] = [
  LIFT_APP_ID,
  LIFT_TRANSACTION_PROPERTY,
  LIFT_IMPORT_TOOL_ID,
];
const HEX: Uint8Array = utf8('0123456789abcdef');
const BRACE_CLOSE = 0x7d;
const COMMA = 0x2c;
const COLON = 0x3a;
const BRACE_OPEN = 0x7b;
const QUOTE = 0x22;
const DASH = 0x2d;
/** Bytes of a uuid before which its text has a dash. */
const DASH_BEFORE: readonly number[] = [4, 6, 8, 10];
const NO_TEXT = new Uint8Array(0);
const NO_TAIL: Tail = { epoch: -1, text: NO_TEXT, hasZoneOffset: false };

/** Turns the frames of one region into JSON text: the reference, and what the machine leaves to it. One a worker thread and region. */
export class Transcoder {
  readonly #region: Region;
  readonly #options: TranscoderOptions;
  readonly #time: TimeText;
  readonly #json: JsonText;
  readonly #definitions: DefinitionReader;
  readonly #shapes: ShapeText[] = [];
  readonly #inlineShapes = new Map<string, ShapeText>();
  #inlineCharacters = 0;
  readonly #presets: readonly Entry[];
  /** Super properties of an epoch, then presets. */
  #supers: readonly Entry[];
  #supersText: Uint8Array;
  #supersEpoch = 0;
  /** Where the text of each lifted field starts in the source; 0: there is none. */
  readonly #liftAt: Int32Array = new Int32Array(LIFT_CODES);
  /** Where the map of dynamic properties starts in the source; 0: there is none. */
  #dynamicAt = 0;

  constructor(region: Region, options: TranscoderOptions) {
    this.#region = region;
    this.#options = options;
    this.#time = new TimeText(options.zone);
    this.#json = new JsonText(region.bytes, region.view, this.#time);
    this.#definitions = new DefinitionReader(region);
    this.#presets = [
      entryOf('#lib', JSON.stringify(options.presets.lib)),
      entryOf('#lib_version', JSON.stringify(options.presets.libVersion)),
    ];
    this.#supers = this.#presets;
    this.#supersText = textOf(this.#supers);
  }

  /** Appends the record of the frame at `frameAt` (a region offset) to `out`, without a separator. */
  append(frameAt: number, out: TextBuffer): void {
    const { bytes, view } = this.#region;
    const json = this.#json;
    const flags = bytes[frameAt + FLAGS_AT] ?? 0;
    const kind = bytes[frameAt + KIND_AT] ?? 0;
    const hasUuid = (flags & FLAG_UUID) !== 0;
    const idsAt = frameAt + FRAME_HEADER_BYTES + (hasUuid ? UUID_BYTES : 0);
    json.from = idsAt;
    json.skip(2);
    const valuesAt = json.from;
    const shape = this.#shapeOf(view.getUint32(frameAt + SHAPE_AT, true));
    this.#takeMaps(flags, shape, valuesAt);
    const epoch = view.getUint32(frameAt + EPOCH_AT, true);
    const tail = isTrackKind(kind) ? this.tail(shape, epoch) : NO_TAIL;
    const length = view.getInt32(frameAt + LENGTH_AT, true);
    out.ensure(GROWTH_MAX * length + shape.runBytes + tail.text.length + SLACK_BYTES);
    json.target = out.bytes;
    json.to = out.at;
    const timeMs = view.getFloat64(frameAt + TIME_AT, true);
    json.run(TYPE_RUNS[kind] ?? HEX);
    json.time(timeMs);
    json.run(shape.event);
    json.from = idsAt;
    this.#id(DISTINCT_RUN);
    this.#id(ACCOUNT_RUN);
    if ((flags & FLAG_EXTRAS) !== 0) this.#lifts(LIFTS_BEFORE_UUID);
    if (this.#liftAt[LIFT_UUID] !== 0) this.#lift(LIFT_UUID);
    else if (hasUuid) this.#uuid(frameAt + UUID_AT);
    if ((flags & FLAG_EXTRAS) !== 0) this.#lifts(LIFTS_AFTER_UUID);
    json.run(PROPERTIES_RUN);
    json.from = valuesAt;
    this.#properties(shape, tail, isTrackKind(kind) ? timeMs : Number.NaN);
    json.byte(BRACE_CLOSE);
    out.at = json.to;
  }

  /** The shape of a number that is not `INLINE_FROM` or more. */
  shape(id: number): ShapeText {
    return this.#shapeOf(id);
  }

  /** Offset of the zone at an instant, in hours. */
  offsetHours(ms: number): number {
    return this.#time.offsetHours(ms);
  }

  /** Writes the id that comes next in the source, if there is one. */
  #id(run: Uint8Array): void {
    const json = this.#json;
    if (json.takeNil()) return;
    json.run(run);
    json.value();
  }

  #lifts(codes: readonly number[]): void {
    for (const code of codes) if (this.#liftAt[code] !== 0) this.#lift(code);
  }

  #lift(code: number): void {
    const json = this.#json;
    json.run(LIFT_RUNS[code] ?? HEX);
    json.from = this.#liftAt[code] ?? 0;
    json.value();
  }

  #uuid(at: number): void {
    const json = this.#json;
    const source = this.#region.bytes;
    json.run(UUID_RUN);
    const target = json.target;
    let to = json.to;
    for (let index = 0; index < UUID_BYTES; index += 1) {
      if (DASH_BEFORE.includes(index)) target[to++] = DASH;
      const byte = source[at + index] ?? 0;
      target[to++] = HEX[byte >> 4] ?? 0;
      target[to++] = HEX[byte & 15] ?? 0;
    }
    target[to++] = QUOTE;
    json.to = to;
  }

  /** Writes the object; `json.from` stands at the first value. `timeMs` is NaN for user records. */
  #properties(shape: ShapeText, tail: Tail, timeMs: number): void {
    const json = this.#json;
    // Each entry starts with a comma; the first one's is turned into the brace.
    const braceAt = json.to;
    const runs = shape.runs;
    for (let index = 0; index < runs.length; index += 1) {
      json.run(runs[index] ?? HEX);
      json.value();
    }
    if (this.#dynamicAt !== 0) this.#dynamicAndTail(shape, tail.epoch, timeMs);
    else {
      if (this.#options.addsZoneOffset && !tail.hasZoneOffset) this.#zoneOffset(timeMs);
      json.run(tail.text);
    }
    if (json.to === braceAt) json.byte(BRACE_OPEN);
    else json.target[braceAt] = BRACE_OPEN;
    json.byte(BRACE_CLOSE);
  }

  #zoneOffset(timeMs: number): void {
    if (Number.isNaN(timeMs)) return;
    this.#json.run(ZONE_RUN);
    this.#json.number(this.#time.offsetHours(timeMs));
  }

  /** The dynamic properties and what else is not among them: made anew for each record. */
  #dynamicAndTail(shape: ShapeText, epoch: number, timeMs: number): void {
    const json = this.#json;
    json.from = this.#dynamicAt;
    const names: string[] = [];
    for (let count = json.takeMapCount(); count > 0; count -= 1) {
      names.push(json.takeString());
      json.skip(1);
    }
    const tail = this.dynamicTail(shape, epoch, names);
    if (this.#options.addsZoneOffset && !tail.hasZoneOffset) this.#zoneOffset(timeMs);
    json.from = this.#dynamicAt;
    for (let count = json.takeMapCount(); count > 0; count -= 1) {
      json.byte(COMMA);
      json.value();
      json.byte(COLON);
      json.value();
    }
    json.run(tail.text);
  }

  /** Finds the maps that follow the values (and the keys, of a frame that brings its own). */
  #takeMaps(flags: number, shape: ShapeText, valuesAt: number): void {
    this.#dynamicAt = 0;
    this.#liftAt.fill(0);
    if ((flags & (FLAG_DYNAMIC | FLAG_EXTRAS)) === 0) return;
    const json = this.#json;
    // A frame with keys of its own was read up to behind them by #shapeOf.
    if (json.from === valuesAt) json.skip(shape.runs.length);
    if ((flags & FLAG_DYNAMIC) !== 0) {
      this.#dynamicAt = json.from;
      json.skip(1);
    }
    if ((flags & FLAG_EXTRAS) === 0) return;
    for (let count = json.takeMapCount(); count > 0; count -= 1) {
      const code = json.takeInteger();
      this.#liftAt[code] = json.from;
      json.skip(1);
    }
  }

  /** The shape of a frame; `json.from` stands at its first value. */
  #shapeOf(id: number): ShapeText {
    if (id >= INLINE_FROM) return this.#inlineShape(id - INLINE_FROM);
    const known = this.#shapes[id];
    if (known !== undefined) return known;
    const definition = this.#definitions.shape(id);
    const made = shapeText(definition);
    this.#shapes[id] = made;
    return made;
  }

  /** The shape of a frame that brings its own: event name and `count` keys follow the values. */
  #inlineShape(count: number): ShapeText {
    const json = this.#json;
    json.skip(count);
    const event = json.takeString();
    const keys: string[] = [];
    for (let left = count; left > 0; left -= 1) keys.push(json.takeString());
    const name = JSON.stringify([event, keys]);
    const known = this.#inlineShapes.get(name);
    if (known !== undefined) return known;
    this.#inlineCharacters += name.length;
    if (
      this.#inlineShapes.size >= INLINE_SHAPES_MAX ||
      this.#inlineCharacters > INLINE_SHAPES_CHARACTERS_MAX
    ) {
      this.#inlineShapes.clear();
      this.#inlineCharacters = name.length;
    }
    const made = shapeText({ event, keys });
    this.#inlineShapes.set(name, made);
    return made;
  }

  /** What super and preset properties of an epoch add to a shape's own. */
  tail(shape: ShapeText, epoch: number): Tail {
    if (shape.tail.epoch !== epoch) shape.tail = this.#tailBeside(epoch, [shape.keys]);
    return shape.tail;
  }

  /** What they add to a shape's own and dynamic properties of these names. */
  dynamicTail(shape: ShapeText, epoch: number, names: readonly string[]): Tail {
    return this.#tailBeside(epoch, [shape.keys, new Set(names.map((name) => name.toLowerCase()))]);
  }

  /** @param taken names in lower case */
  #tailBeside(epoch: number, taken: readonly ReadonlySet<string>[]): Tail {
    if (epoch !== this.#supersEpoch) this.#readSupers(epoch);
    const isTaken = (key: string) => taken.some((keys) => keys.has(key));
    const entries = this.#supers.filter(({ key }) => !isTaken(key.toLowerCase()));
    return {
      epoch,
      text: entries.length === this.#supers.length ? this.#supersText : textOf(entries),
      hasZoneOffset: isTaken(ZONE_OFFSET) || entries.some(({ key }) => key === ZONE_OFFSET),
    };
  }

  /** Reads super properties and turns each into text; the presets follow where they are not among them. */
  #readSupers(epoch: number): void {
    const supers = epoch === 0 ? [] : this.#entriesOf(readSuper(this.#region, epoch));
    const keys = new Set(supers.map(({ key }) => key.toLowerCase()));
    this.#supers = [...supers, ...this.#presets.filter(({ key }) => !keys.has(key))];
    this.#supersText = textOf(this.#supers);
    this.#supersEpoch = epoch;
  }

  #entriesOf(map: Uint8Array): Entry[] {
    const target = new Uint8Array(GROWTH_MAX * map.length + SLACK_BYTES);
    const view = new DataView(map.buffer, map.byteOffset, map.length);
    const json = new JsonText(map, view, this.#time);
    json.target = target;
    const entries: Entry[] = [];
    for (let count = json.takeMapCount(); count > 0; count -= 1) {
      const key = json.takeString();
      json.to = 0;
      json.value();
      entries.push(entryOf(key, Buffer.from(target.subarray(0, json.to)).toString('utf8')));
    }
    return entries;
  }
}

function shapeText({ event, keys }: Definition): ShapeText {
  const eventRun = event === '' ? '' : `,"#event_name":${JSON.stringify(event)}`;
  const texts = [eventRun, ...keys.map((key) => `,${JSON.stringify(key)}:`)];
  // Parts of one memory: one for each would be work for the garbage collector, where every record brings a shape.
  const bytes = utf8(texts.join(''));
  let at = 0;
  const [eventText = NO_TEXT, ...runs] = texts.map((text) => {
    const from = at;
    at += Buffer.byteLength(text);
    return bytes.subarray(from, at);
  });
  return {
    event: eventText,
    keys: new Set(keys.map((key) => key.toLowerCase())),
    runs,
    runBytes: bytes.length,
    tail: NO_TAIL,
  };
}

function textOf(entries: readonly Entry[]): Uint8Array {
  return Uint8Array.from(Buffer.concat(entries.map(({ text }) => text)));
}

/** @param value its JSON text */
function entryOf(key: string, value: string): Entry {
  return { key, text: utf8(`,${JSON.stringify(key)}:${value}`) };
}
