import { FLAG_NOTIFY } from '../lane/layout.ts';
import type { Region } from '../lane/region.ts';
import { SHAPES_MAX } from '../record/shapes.ts';
import type { Machine, MachineHost } from './machine.ts';
import {
  ENDS_AT,
  FRAMES_AT,
  FRAMES_BYTES,
  NAMES_AT,
  POSITIONS_AT,
  RECORDS_MAX,
  RESULT_AT,
  RESULT_FLAGS,
  RESULT_NEXT_IN,
  RESULT_NEXT_TEXT,
  STAMPS_AT,
  STARTS_AT,
  TEXT_AT,
  TEXT_BYTES,
} from './machine-places.ts';
import { unpackSequence } from './msgpack.ts';
import {
  type ShapeText,
  type Tail,
  type TextBuffer,
  Transcoder,
  type TranscoderOptions,
} from './transcode.ts';

/** Frames that follow each other without a gap, from the position of the first. */
export interface FrameSpan {
  /** Region offsets of the first byte and of the one after the last. */
  readonly from: number;
  readonly to: number;
  readonly position: number;
  /** Number of the first record. */
  readonly seq: number;
}

/** What is known of each record of a batch, by index. */
export interface RecordTable {
  count: number;
  /** Offsets in the text. */
  readonly starts: Uint32Array;
  readonly ends: Uint32Array;
  /** Position after the frame. */
  readonly positions: Int32Array;
  /** When the record was accepted, in ms since the region's base. */
  readonly stamps: Uint32Array;
  /** Whether somebody wants to hear of any of the records. */
  hasNotices: boolean;
}

export interface FillLimits {
  readonly recordsMax: number;
  /** Text that reaches further than this ends the filling. */
  readonly bytesMax: number;
  /** The byte behind each record. */
  readonly separator: number;
}

const SHAPE_HEADER_BYTES = 20;
const TAIL_BYTES = 20;
const SHAPE_TAILS_WORD = 2;
const SHAPE_DYNAMIC_TAILS_WORD = 4;
/** Most tails of one shape that are looked through for the names of dynamic properties. */
const DYNAMIC_TAILS_MAX = 32;
const TABLE_WORDS: number = SHAPES_MAX + 1;
const HOUR_MS = 3_600_000;
const OFFSET_MAX = 0x7fff_0000;
interface PlacedShape {
  readonly text: ShapeText;
  dynamicTails: number;
}

/** Frames are copied in for as many records as are wanted, by their size so far and this share more. */
const SPARE_SHARE = 1.25;

/**
 * Turns the frames of one region into JSON text, many at a time where the machine can. One a worker thread and region;
 * the machine is the thread's.
 */
export class RegionTranscoder implements MachineHost {
  readonly reference: Transcoder;
  readonly #region: Region;
  readonly #machine: Machine | undefined;
  readonly #addsZoneOffset: boolean;
  /** By their place. */
  readonly #shapes = new Map<number, PlacedShape>();
  #generation = 0;
  #tableAt = 0;
  #isFull = false;
  #frameBytes = 256;
  /** The text of the latest tail: most shapes have the same. */
  #tailText: Uint8Array = new Uint8Array(0);
  #tailTextAt = 0;

  constructor(region: Region, options: TranscoderOptions, machine: Machine | undefined) {
    this.#region = region;
    this.#machine = machine;
    this.#addsZoneOffset = options.addsZoneOffset;
    this.reference = new Transcoder(region, options);
  }

  /** Appends the record of the frame at `frameAt` (a region offset) to `out`, without a separator. */
  append(frameAt: number, out: TextBuffer): void {
    this.reference.append(frameAt, out);
  }

  /**
   * Appends records of the span, a separator behind each, and notes them in the table, until a limit is reached or
   * a frame comes that only {@link append} can judge. Returns how many there were.
   */
  appendSpan(span: FrameSpan, text: TextBuffer, table: RecordTable, limits: FillLimits): number {
    const machine = this.#machine;
    if (machine === undefined || !this.#prepare(machine)) return 0;
    const wanted = Math.min(RECORDS_MAX, limits.recordsMax - table.count);
    const wantedBytes = Math.ceil(wanted * this.#frameBytes * SPARE_SHARE) + 4096;
    const bytes = Math.min(span.to - span.from, FRAMES_BYTES, wantedBytes);
    machine.bytes.set(this.#region.bytes.subarray(span.from, span.from + bytes), FRAMES_AT);
    const count = machine.calls.transcode(
      FRAMES_AT,
      FRAMES_AT + bytes,
      TEXT_AT,
      TEXT_AT + TEXT_BYTES,
      Math.min(TEXT_AT + limits.bytesMax - text.at, OFFSET_MAX),
      text.at - TEXT_AT,
      wanted,
      span.seq,
      span.position,
      limits.separator,
    );
    if (count > 0) this.#take(machine, count, text, table);
    return count;
  }

  #take(machine: Machine, count: number, text: TextBuffer, table: RecordTable): void {
    const { bytes, words } = machine;
    const result = RESULT_AT / 4;
    const end = words[result + RESULT_NEXT_TEXT] ?? TEXT_AT;
    this.#frameBytes = ((words[result + RESULT_NEXT_IN] ?? 0) - FRAMES_AT) / count;
    text.ensure(end - TEXT_AT);
    text.bytes.set(bytes.subarray(TEXT_AT, end), text.at);
    text.at += end - TEXT_AT;
    const from = table.count;
    for (const [into, at] of [
      [table.starts, STARTS_AT],
      [table.ends, ENDS_AT],
      [table.positions, POSITIONS_AT],
      [table.stamps, STAMPS_AT],
    ] as const) {
      into.set(words.subarray(at / 4, at / 4 + count), from);
    }
    table.count = from + count;
    if (((words[result + RESULT_FLAGS] ?? 0) & FLAG_NOTIFY) !== 0) table.hasNotices = true;
  }

  /** Makes the machine ours for one call. False: it has no room for our definitions. */
  #prepare(machine: Machine): boolean {
    if (this.#isFull) {
      machine.forgetDefinitions();
      this.#isFull = false;
    }
    if (this.#generation !== machine.generation && !this.#startTable(machine)) return false;
    if (machine.host !== this) {
      machine.host = this;
      machine.calls.forgetTime();
    }
    machine.calls.useShapes(this.#tableAt, TABLE_WORDS, this.#addsZoneOffset ? 1 : 0);
    return true;
  }

  #startTable(machine: Machine): boolean {
    this.#shapes.clear();
    this.#tailTextAt = 0;
    this.#tableAt = this.#allocate(machine, TABLE_WORDS * 4);
    if (this.#tableAt === 0) return false;
    machine.words.fill(0, this.#tableAt / 4, this.#tableAt / 4 + TABLE_WORDS);
    this.#generation = machine.generation;
    return true;
  }

  offsetMs(ms: number): number {
    return Math.round(this.reference.offsetHours(ms) * HOUR_MS);
  }

  shapeAt(id: number): number {
    const machine = this.#machine;
    return machine === undefined ? 0 : attempt(() => this.#putShape(machine, id));
  }

  tailAt(shapeAt: number, epoch: number): number {
    const machine = this.#machine;
    const shape = this.#shapes.get(shapeAt)?.text;
    return machine === undefined || shape === undefined
      ? 0
      : attempt(() => this.#putTail(machine, shapeAt, { shape, epoch }));
  }

  dynamicTailAt(shapeAt: number, epoch: number, namesBytes: number): number {
    const machine = this.#machine;
    const shape = this.#shapes.get(shapeAt);
    return machine === undefined || shape === undefined
      ? 0
      : attempt(() => this.#putDynamicTail(machine, shapeAt, { shape, epoch, namesBytes }));
  }

  #putShape(machine: Machine, id: number): number {
    const shape = this.reference.shape(id);
    // The quote that ends the time goes with the event.
    const event = Buffer.concat([Buffer.from('"'), shape.event]);
    const runsBytes = shape.runs.reduce((sum, run) => sum + 4 + padded(run.length), 0);
    const runsFrom = SHAPE_HEADER_BYTES + padded(event.length);
    const at = this.#allocate(machine, runsFrom + runsBytes);
    if (at === 0) return 0;
    machine.words.set([shape.runs.length, shape.runBytes + 1, 0, event.length, 0], at / 4);
    machine.bytes.set(event, at + SHAPE_HEADER_BYTES);
    let runAt = at + runsFrom;
    for (const run of shape.runs) {
      machine.words[runAt / 4] = run.length;
      machine.bytes.set(run, runAt + 4);
      runAt += 4 + padded(run.length);
    }
    machine.words[this.#tableAt / 4 + id] = at;
    this.#shapes.set(at, { text: shape, dynamicTails: 0 });
    return at;
  }

  #putTail(
    machine: Machine,
    shapeAt: number,
    { shape, epoch }: { shape: ShapeText; epoch: number },
  ): number {
    const at = this.#allocate(machine, TAIL_BYTES);
    if (at === 0) return 0;
    return this.#linkTail(machine, this.reference.tail(shape, epoch), {
      at,
      listWord: shapeAt / 4 + SHAPE_TAILS_WORD,
    });
  }

  #putDynamicTail(
    machine: Machine,
    shapeAt: number,
    { shape, epoch, namesBytes }: { shape: PlacedShape; epoch: number; namesBytes: number },
  ): number {
    const names = machine.bytes.slice(NAMES_AT, NAMES_AT + namesBytes);
    const tail = this.reference.dynamicTail(shape.text, epoch, unpackSequence(names).map(String));
    const at = this.#allocate(machine, TAIL_BYTES + 8 + namesBytes);
    if (at === 0) return 0;
    const namesAt = at + TAIL_BYTES + 8;
    machine.words.set([namesBytes, namesAt], (at + TAIL_BYTES) / 4);
    machine.bytes.set(names, namesAt);
    const listWord = shapeAt / 4 + SHAPE_DYNAMIC_TAILS_WORD;
    shape.dynamicTails += 1;
    // A list that has grown long is begun anew: names that differ from record to record would make each search longer.
    if (shape.dynamicTails % DYNAMIC_TAILS_MAX === 0) machine.words[listWord] = 0;
    return this.#linkTail(machine, tail, { at, listWord });
  }

  /** Puts a tail in front of the list that starts in `listWord`. */
  #linkTail(
    machine: Machine,
    { epoch, text, hasZoneOffset }: Tail,
    { at, listWord }: { at: number; listWord: number },
  ): number {
    const textAt = this.#tailTextOf(machine, text);
    if (textAt === 0) return 0;
    const next = machine.words[listWord] ?? 0;
    machine.words.set([epoch, next, hasZoneOffset ? 1 : 0, text.length, textAt], at / 4);
    machine.words[listWord] = at;
    return at;
  }

  #tailTextOf(machine: Machine, text: Uint8Array): number {
    if (this.#tailTextAt !== 0 && Buffer.compare(text, this.#tailText) === 0) {
      return this.#tailTextAt;
    }
    const at = this.#allocate(machine, text.length);
    if (at === 0) return 0;
    machine.bytes.set(text, at);
    this.#tailText = text;
    this.#tailTextAt = at;
    return at;
  }

  #allocate(machine: Machine, bytes: number): number {
    const at = machine.allocate(bytes);
    if (at === 0) this.#isFull = true;
    return at;
  }
}

/** 0 for a definition that can't be read: the reference then says what is wrong with the frame. */
function attempt(put: () => number): number {
  try {
    return put();
  } catch {
    // Thrown through the machine, it would take the records before this one with it.
    return 0;
  }
}

function padded(bytes: number): number {
  return (bytes + 3) & -4;
}
