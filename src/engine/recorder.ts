import { MillraceError, type MillraceErrorCode, show } from '../base/errors.ts';
import { DefinitionLog, SuperSlots } from '../codec/definitions.ts';
import { type FrameContext, FrameEncoder, NO_SUPER, OVERFLOW } from '../codec/encode.ts';
import { type EncodedProperties, encodeProperties } from '../codec/supers.ts';
import { type WriteTarget, writeTarget } from '../codec/value-writer.ts';
import { INVALID_REASONS, type InvalidReason } from '../lane/layout.ts';
import { LaneProducer } from '../lane/producer.ts';
import { ProducerCounts } from '../lane/producer-counts.ts';
import type { Region } from '../lane/region.ts';
import { checkIsObject, spellingsOf } from '../record/shapes.ts';
import {
  LIFT_NAMES,
  type Priority,
  type Properties,
  type RecordFields,
  type SettledOutcome,
  type UnsetFields,
  USER_DEL,
  USER_UNSET,
} from '../record/types.ts';
import { laneOfId } from './hash.ts';
import { isPriority, isShed, priorityOf } from './priority.ts';

export type Validation = 'throw' | 'drop' | 'off';

/** A field that a kind of record can't do without. */
export type RequiredField = 'eventId' | 'firstCheckId' | 'properties';

/** What a recorder needs of the engine behind it. */
export interface RecorderHost {
  /** Nobody attends the lane: somebody must. */
  post(lane: number): void;
  /**
   * Makes or waits for room. 'retry': there may be room now; 'drop': the record has to go.
   * `isQueueFull`: the bound on records of all lanes is reached, not the lane's bytes.
   */
  makeRoom(lane: LaneProducer, need: RoomNeed): 'retry' | 'drop';
  addListener(lane: number, seq: number, listener: (outcome: SettledOutcome) => void): void;
  tellListener(listener: (outcome: SettledOutcome) => void, outcome: SettledOutcome): void;
  /** Called after each call that was no mistake, for consumers that wait for delivery. */
  readonly afterRecord: (() => void) | undefined;
  onError(error: MillraceError): void;
}

export interface RoomNeed {
  /** Bytes of the frame. */
  readonly frameBytes: number;
  readonly isQueueFull: boolean;
  /** Tries so far for this record. */
  readonly tries: number;
}

export interface RecorderOptions {
  readonly validation: Validation;
  readonly uuid: boolean;
  readonly queueRecordsMax: number;
  /** Priorities of events by name. */
  readonly priorities?: Readonly<Record<string, Priority>> | undefined;
  /** Whether less important records are kept out while there is room for others. */
  readonly sheds: boolean;
}

/** A record whose call came while another call was being written (a getter that tracks). */
interface Deferred {
  readonly lane: LaneProducer;
  readonly frame: Uint8Array;
  readonly listener: ((outcome: SettledOutcome) => void) | undefined;
}

interface MutableContext {
  kind: number;
  supers: FrameContext['supers'];
  dynamic: Properties | undefined;
  nowMs: number;
  stampMs: number;
}

const SAMPLE_EVERY = 64;
const SCRATCH_BYTES: number = 64 * 1024;

/**
 * The caller's side of an engine: turns calls into frames of one region's lanes. Everything in here runs on
 * the thread that calls `track()`, and a call that goes well allocates nothing.
 */
export class Recorder {
  readonly region: Region;
  readonly lanes: readonly LaneProducer[];
  readonly counts: ProducerCounts;
  readonly #host: RecorderHost;
  readonly #validation: Validation;
  readonly #encoder: FrameEncoder;
  readonly #encoderOptions: ConstructorParameters<typeof FrameEncoder>[0];
  readonly #target: WriteTarget;
  readonly #superSlots: SuperSlots;
  readonly #queueRecordsMax: number;
  readonly #priorities: Readonly<Record<string, Priority>> | undefined;
  readonly #sheds: boolean;
  /** Whether any record ever had a priority: until then nobody looks how full the ring is. */
  #hasPriorities: boolean;
  readonly #context: MutableContext = {
    kind: 0,
    supers: NO_SUPER,
    dynamic: undefined,
    nowMs: 0,
    stampMs: 0,
  };
  readonly #span = { at: 0, limit: 0 };
  readonly #told = new Set<string>();
  readonly #deferred: Deferred[] = [];
  #scratch: WriteTarget = writeTarget(new ArrayBuffer(SCRATCH_BYTES));
  #supers: EncodedProperties | undefined;
  #dynamic: (() => Properties | null | undefined) | undefined;
  #isBusy = false;
  #calls = 0;
  #acceptedCount = 0;
  /** Records known to be settled: never more than truly are. */
  #settledCount = 0;

  constructor(region: Region, options: RecorderOptions, host: RecorderHost) {
    this.region = region;
    this.counts = ProducerCounts.of(region);
    this.#host = host;
    this.#validation = options.validation;
    this.#queueRecordsMax = options.queueRecordsMax;
    this.#priorities = options.priorities;
    this.#sheds = options.sheds;
    this.#hasPriorities = options.priorities !== undefined;
    this.#target = writeTarget(region.memory);
    this.#superSlots = new SuperSlots(region);
    this.lanes = Array.from({ length: region.lanes }, (_, lane) => new LaneProducer(region, lane));
    this.#encoderOptions = {
      checks: options.validation === 'off' ? 'none' : 'strict',
      uuid: options.uuid,
      definitions: new DefinitionLog(region),
      onDynamicError: (error) => this.#reportDynamic(error),
      onWarning: () => this.counts.countWarning(),
    };
    this.#encoder = new FrameEncoder(this.#encoderOptions);
  }

  /**
   * Puts one record into its lane.
   *
   * @returns false when the overflow policy, or validation 'drop', kept it out
   * @throws MillraceError under validation 'throw' for a wrong call; nothing was accepted
   */
  record(kind: number, fields: RecordFields | UnsetFields, required?: RequiredField): boolean {
    this.#calls += 1;
    if (this.#calls % SAMPLE_EVERY !== 0) return this.#record(kind, fields, required);
    const startMs = performance.now();
    const isIn = this.#record(kind, fields, required);
    this.counts.countCall((performance.now() - startMs) / 1000);
    return isIn;
  }

  #record(
    kind: number,
    given: RecordFields | UnsetFields,
    required: RequiredField | undefined,
  ): boolean {
    if (this.#isBusy) return this.#recordNested(kind, { given, required });
    let isIn = false;
    try {
      const fields = this.#fieldsOf(kind, given, required);
      const lane = this.#laneOf(fields);
      const context = this.#prepare(kind);
      this.#isBusy = true;
      isIn = this.#write(lane, fields, context);
    } catch (error) {
      this.#isBusy = false;
      // Calls from inside this one stand for themselves.
      if (this.#deferred.length > 0) this.#offerDeferred();
      return this.#refuse(error, given);
    }
    this.#isBusy = false;
    if (this.#deferred.length > 0) this.#offerDeferred();
    // Outside of what is caught: a consumer that waits for delivery throws what the receiver said.
    if (this.#host.afterRecord !== undefined) this.#host.afterRecord();
    return isIn;
  }

  /** The fields as the encoder takes them; what is required is there. */
  #fieldsOf(
    kind: number,
    given: RecordFields | UnsetFields,
    required: RequiredField | undefined,
  ): RecordFields {
    const fields = kind === USER_UNSET || kind === USER_DEL ? reshape(kind, given) : given;
    if (required !== undefined && this.#validation !== 'off') checkRequired(required, fields);
    return fields as RecordFields;
  }

  #prepare(kind: number): FrameContext {
    // The function may track, and what it tracks uses the same context.
    const dynamic = this.#dynamic === undefined ? undefined : this.#callDynamic();
    const context = this.#context;
    context.kind = kind;
    context.nowMs = Date.now();
    context.stampMs = context.nowMs - this.region.baseMs;
    context.dynamic = dynamic;
    return context;
  }

  /** Encodes into the lane itself; only a frame that would wrap or finds no room takes the way over a copy. */
  #write(lane: LaneProducer, fields: RecordFields, context: FrameContext): boolean {
    if ((this.#hasPriorities || fields.priority !== undefined) && this.#shed(lane, fields)) {
      return this.#keepOut(lane, fields, context);
    }
    if (this.#acceptedCount - this.#settledCount >= this.#queueRecordsMax) {
      if (!this.#waitForQueue(lane)) return this.#keepOut(lane, fields, context);
    }
    const span = this.#span;
    span.at = lane.writeAt;
    span.limit = lane.writeLimit;
    const length = this.#encoder.encode(this.#target, span, fields, context);
    if (length === OVERFLOW) return this.#writeByCopy(lane, fields, context);
    lane.publish(length);
    this.#afterPublish(lane, fields.onSettled);
    return true;
  }

  #keepOut(lane: LaneProducer, fields: RecordFields, context: FrameContext): boolean {
    // A wrong call is a wrong call, whether there is room or not.
    this.#encodeCopy(this.#encoder, fields, { context, lane });
    return this.#drop(lane, fields);
  }

  /** Whether the record has to stay out for more important ones; if so, that is counted. */
  #shed(lane: LaneProducer, fields: RecordFields): boolean {
    this.#hasPriorities = true;
    const isTrusted = this.#validation === 'off' && !isPriority(fields.priority);
    const priority = isTrusted ? 'normal' : priorityOf(fields, this.#priorities);
    if (!this.#sheds) return false;
    const recordsMax = this.#queueRecordsMax;
    let records = this.#acceptedCount - this.#settledCount;
    if (records >= recordsMax / 2) {
      this.#settledCount = this.#acceptedCount - this.queued();
      records = this.#acceptedCount - this.#settledCount;
    }
    if (!isShed(priority, lane, { records, recordsMax })) return false;
    this.counts.countShed(priority === 'low' ? 'low' : 'normal');
    return true;
  }

  #writeByCopy(lane: LaneProducer, fields: RecordFields, context: FrameContext): boolean {
    const frame = this.#encodeCopy(this.#encoder, fields, { context, lane });
    if (!this.#offer(lane, frame)) return this.#drop(lane, fields);
    this.#afterPublish(lane, fields.onSettled);
    return true;
  }

  #offer(lane: LaneProducer, frame: Uint8Array): boolean {
    for (let tries = 0; !lane.offer(frame); tries += 1) {
      const need = { frameBytes: frame.length, isQueueFull: false, tries };
      if (this.#host.makeRoom(lane, need) === 'drop') return false;
    }
    return true;
  }

  #afterPublish(
    lane: LaneProducer,
    listener: ((outcome: SettledOutcome) => void) | undefined,
  ): void {
    this.#acceptedCount += 1;
    if (listener !== undefined) this.#host.addListener(lane.lane, (lane.seq - 1) | 0, listener);
    if (lane.needsTurn()) this.#host.post(lane.lane);
  }

  /** Writes a frame into memory of our own, which grows as it must. */
  #encodeCopy(
    encoder: FrameEncoder,
    fields: RecordFields,
    { context, lane }: { context: FrameContext; lane: LaneProducer },
  ): Uint8Array {
    for (;;) {
      const bytes = this.#scratch.bytes;
      const limit = Math.min(bytes.length, lane.frameBytesMax);
      const length = encoder.encode(this.#scratch, { at: 0, limit }, fields, context);
      if (length !== OVERFLOW) return bytes.subarray(0, length);
      if (limit === lane.frameBytesMax) throw tooLarge(lane.frameBytesMax);
      this.#scratch = writeTarget(new ArrayBuffer(Math.min(4 * bytes.length, lane.frameBytesMax)));
    }
  }

  /** A call from inside another one: written aside, and put into its lane after the outer record. */
  #recordNested(
    kind: number,
    { given, required }: { given: RecordFields | UnsetFields; required: RequiredField | undefined },
  ): boolean {
    const outer = { ...this.#context };
    const scratch = this.#scratch;
    try {
      const fields = this.#fieldsOf(kind, given, required);
      const lane = this.#laneOf(fields);
      this.#scratch = writeTarget(new ArrayBuffer(SCRATCH_BYTES));
      Object.assign(this.#context, { kind, nowMs: Date.now(), dynamic: undefined });
      const frame = this.#encodeCopy(new FrameEncoder(this.#encoderOptions), fields, {
        context: this.#context,
        lane,
      });
      this.#deferred.push({ lane, frame, listener: fields.onSettled });
      return true;
    } catch (error) {
      return this.#refuse(error, given);
    } finally {
      Object.assign(this.#context, outer);
      this.#scratch = scratch;
    }
  }

  #offerDeferred(): void {
    for (const { lane, frame, listener } of this.#deferred.splice(0)) {
      if (this.#offer(lane, frame)) this.#afterPublish(lane, listener);
      else {
        lane.countOverflow();
        if (listener !== undefined) this.#tellDropped(listener);
      }
    }
  }

  #drop(lane: LaneProducer, fields: RecordFields): false {
    lane.countOverflow();
    if (fields.onSettled !== undefined) this.#tellDropped(fields.onSettled);
    return false;
  }

  #tellDropped(listener: (outcome: SettledOutcome) => void): void {
    queueMicrotask(() =>
      this.#host.tellListener(listener, { state: 'dropped', reason: 'overflow' }),
    );
  }

  #waitForQueue(lane: LaneProducer): boolean {
    for (let tries = 0; ; tries += 1) {
      this.#settledCount = this.#acceptedCount - this.queued();
      if (this.#acceptedCount - this.#settledCount < this.#queueRecordsMax) return true;
      const need = { frameBytes: 0, isQueueFull: true, tries };
      if (this.#host.makeRoom(lane, need) === 'drop') return false;
    }
  }

  /** Records in all lanes. */
  queued(): number {
    let queued = 0;
    for (const lane of this.lanes) queued += lane.queued();
    return queued;
  }

  #laneOf(fields: RecordFields): LaneProducer {
    const { accountId, distinctId } = fields;
    const id = isId(accountId) ? accountId : isId(distinctId) ? distinctId : undefined;
    if (id === undefined && this.#validation !== 'off') {
      throw new MillraceError(
        'MILLRACE_MISSING_ID',
        'accountId and distinctId are both missing or empty; a record needs at least one of them, a text that is not empty',
      );
    }
    const lanes = this.lanes;
    const lane = lanes.length === 1 ? lanes[0] : lanes[laneOfId(id ?? '', lanes.length)];
    if (lane === undefined) throw new Error('millrace: a region without lanes');
    return lane;
  }

  /** Counts a wrong call, and throws or tells as the validation mode says. */
  #refuse(error: unknown, fields: unknown): false {
    const refusal = refusalOf(error, fields);
    if (this.#validation !== 'throw') return this.refuseQuietly(refusal, fields);
    this.counts.countInvalid(invalidReason(refusal.code));
    throw refusal;
  }

  /** Counts a call that is not taken, and tells whoever wants to know; `onError` hears of each code once. */
  refuseQuietly(refusal: MillraceError, fields: unknown): false {
    this.counts.countInvalid(invalidReason(refusal.code));
    if (!this.#told.has(refusal.code)) {
      this.#told.add(refusal.code);
      this.#host.onError(refusal);
    }
    const listener = listenerOf(fields);
    if (listener !== undefined) {
      const reason = refusal.message;
      queueMicrotask(() => this.#host.tellListener(listener, { state: 'dropped', reason }));
    }
    return false;
  }

  setSuperProperties(properties: Properties): void {
    const checks = this.#validation === 'off' ? 'none' : 'strict';
    let encoded: EncodedProperties;
    try {
      if (checks === 'strict') checkIsObject(properties);
      encoded = encodeProperties({ ...this.getSuperProperties(), ...properties }, checks);
    } catch (error) {
      this.#refuse(error, {});
      return;
    }
    this.#publishSupers(encoded);
  }

  unsetSuperProperty(name: string): void {
    const { [name]: _, ...rest } = this.getSuperProperties();
    this.clearSuperProperties();
    if (Object.keys(rest).length > 0) this.setSuperProperties(rest);
  }

  clearSuperProperties(): void {
    this.#publishSupers(undefined);
  }

  /** A copy. */
  getSuperProperties(): Properties {
    if (this.#supers === undefined) return {};
    const { copy, lifted } = this.#supers;
    return { ...structuredClone(copy), ...namedLifts(lifted) };
  }

  setDynamicSuperProperties(dynamic: (() => Properties | null | undefined) | undefined): void {
    this.#dynamic = dynamic;
  }

  getDynamicSuperProperties(): Properties {
    return this.#callDynamic() ?? {};
  }

  #publishSupers(encoded: EncodedProperties | undefined): void {
    const { epoch } = this.#context.supers;
    if (epoch !== 0) {
      // Frames already written name the old epoch: its slot is free again when they are settled.
      const tails = this.lanes.map((lane) => lane.tail);
      this.#superSlots.retire(epoch, () =>
        this.lanes.every(
          (lane, index) => ((lane.settlement.readHead() - (tails[index] ?? 0)) | 0) >= 0,
        ),
      );
    }
    this.#supers = encoded;
    if (encoded === undefined) {
      this.#context.supers = NO_SUPER;
      return;
    }
    const published = encoded.map === undefined ? 0 : this.#superSlots.publish(encoded.map);
    const isInline = encoded.map !== undefined && published === 0;
    this.#context.supers = {
      epoch: published,
      inline: isInline ? encoded.copy : undefined,
      lifted: encoded.lifted,
      spellings: spellingsOf(Object.keys(encoded.copy)),
    };
  }

  #callDynamic(): Properties | undefined {
    const dynamic = this.#dynamic;
    // The function may track; its own records go without dynamic properties.
    this.#dynamic = undefined;
    try {
      const properties = dynamic?.();
      return typeof properties === 'object' && properties !== null ? properties : undefined;
    } catch (error) {
      this.#reportDynamic(error);
      return undefined;
    } finally {
      this.#dynamic = dynamic;
    }
  }

  #reportDynamic(error: unknown): void {
    this.#host.onError(
      new MillraceError(
        'MILLRACE_INVALID_VALUE',
        `dynamic super properties were left out: ${textOf(error)}`,
        error,
      ),
    );
  }
}

const REQUIRED_LIFTS = { eventId: '#event_id', firstCheckId: '#first_check_id' } as const;

/** @throws MillraceError MILLRACE_MISSING_FIELD */
function checkRequired(required: RequiredField, fields: unknown): void {
  const { properties, [required]: value } = (fields ?? {}) as RecordFields;
  if (required === 'properties') {
    if (typeof properties === 'object' && properties !== null) return;
    throw missing(`properties is ${show(properties)}; this kind of record needs them`);
  }
  const lifted: unknown = properties?.[REQUIRED_LIFTS[required]];
  if ((value ?? lifted ?? '') !== '') return;
  throw missing(
    `${required} is ${show(value)}; this kind of record needs it, a text that is not empty`,
  );
}

function refusalOf(error: unknown, fields: unknown): MillraceError {
  const code = error instanceof MillraceError ? error.code : 'MILLRACE_INVALID_VALUE';
  if (typeof fields !== 'object' || fields === null) {
    const message = `the argument is ${show(fields)}; it must be one object such as { accountId, event, properties }`;
    return new MillraceError(code, message, error);
  }
  if (error instanceof MillraceError) return error;
  return new MillraceError(code, `the record could not be read: ${textOf(error)}`, error);
}

function invalidReason(code: MillraceErrorCode): InvalidReason {
  if (code === 'MILLRACE_RECORD_TOO_LARGE') return 'too_large';
  const name = code.slice('MILLRACE_'.length).toLowerCase();
  return INVALID_REASONS.find((reason) => reason === name) ?? 'invalid_value';
}

function missing(message: string): MillraceError {
  return new MillraceError('MILLRACE_MISSING_FIELD', message);
}

/** userUnset: the names as properties with the value 0, as the wire has it. userDel: no properties. */
function reshape(kind: number, fields: RecordFields | UnsetFields): RecordFields {
  const names = kind === USER_UNSET ? namesOf(fields.properties) : [];
  const properties =
    names.length === 0 ? undefined : Object.fromEntries(names.map((name) => [name, 0]));
  return { ...fields, properties };
}

function namesOf(names: unknown): string[] {
  if (typeof names === 'string') return [names];
  if (Array.isArray(names)) return Array.from(names, nameOf);
  return typeof names === 'object' && names !== null ? Object.keys(names) : [];
}

/** What is no text is no name, either: in brackets it passes no check. */
function nameOf(name: unknown): string {
  return typeof name === 'string' ? name : `(${show(name)})`;
}

function isId(id: unknown): id is string {
  return typeof id === 'string' && id !== '';
}

function tooLarge(frameBytesMax: number): MillraceError {
  return new MillraceError(
    'MILLRACE_RECORD_TOO_LARGE',
    `the record takes more than ${frameBytesMax} bytes, a quarter of a lane; ringBytes and lanes set that limit`,
  );
}

function namedLifts(lifted: EncodedProperties['lifted']): Properties {
  const named: Record<string, string> = {};
  lifted?.forEach((text, code) => {
    if (text !== undefined) named[LIFT_NAMES[code] ?? ''] = text;
  });
  return named;
}

function listenerOf(fields: unknown): ((outcome: SettledOutcome) => void) | undefined {
  try {
    const listener = (fields as RecordFields | undefined)?.onSettled;
    return typeof listener === 'function' ? listener : undefined;
  } catch {
    // What could not be read for the record can't be read for its listener either.
    return undefined;
  }
}

function textOf(error: unknown): string {
  try {
    return error instanceof Error ? error.message : String(error);
  } catch {
    // An object that throws when it is turned into text.
    return 'an error that has no text';
  }
}
