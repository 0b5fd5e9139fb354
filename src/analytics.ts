import { MillraceError, show } from './base/errors.ts';
import { resolveZone } from './codec/time-text.ts';
import { type Deadline, Engine } from './engine/engine.ts';
import { OptionReader } from './engine/option-reader.ts';
import type { EnginePlan } from './engine/plan.ts';
import type { Validation } from './engine/recorder.ts';
import type { Stats } from './engine/stats.ts';
import { LIBRARY_NAME, LIBRARY_VERSION } from './engine/version.ts';
import { MetricsCollector, type MetricsRegistry } from './metrics/collector.ts';
import type {
  DeleteFields,
  EventFields,
  FirstEventFields,
  ListUserProperties,
  NumericUserProperties,
  TrackingPlan,
  UnsetUserFields,
  UpdatableEventFields,
  UserFields,
  UserProperties,
  UserPropertyName,
} from './plan.ts';
import {
  type Properties,
  type RecordFields,
  TRACK,
  TRACK_OVERWRITE,
  TRACK_UPDATE,
  type UnsetFields,
  USER_ADD,
  USER_APPEND,
  USER_DEL,
  USER_SET,
  USER_SET_ONCE,
  USER_UNIQ_APPEND,
  USER_UNSET,
} from './record/types.ts';

/** Any of the four consumers. */
export interface Consumer {
  readonly plan: EnginePlan;
}

export interface AnalyticsOptions {
  /** Gives each record a `#uuid`, so that a repeated one is dropped; default: true for HTTP, false for files. */
  readonly uuid?: boolean;
  /** 'throw' (default): a wrong call throws. 'drop': it is counted, and told once per kind. 'off': for trusted input. */
  readonly validation?: Validation;
  /** Zone of `#time` and of Dates: 'UTC', '±HH:mm' or an IANA name; default: the process's, without `#zone_offset`. */
  readonly timeZone?: string;
  /** A prom-client Registry to add the metrics to; default: one of its own. */
  readonly register?: MetricsRegistry;
  /** Name of this client in metrics; default: 'default', then 'client2' … within one registry. */
  readonly name?: string;
  /** Hears of asynchronous trouble: refused batches, worker crashes. Never throws into the engine. */
  readonly onError?: (error: MillraceError) => void;
}

const OPTION_VALIDATIONS = ['throw', 'drop', 'off'] as const;

/**
 * One client: takes records on the caller's thread and has them delivered by its consumer's workers.
 * Tracking calls never do I/O and never wait (but under `overflow: 'block'`, and with a consumer that says so).
 * They return whether the record was accepted.
 */
export class Analytics<Plan extends TrackingPlan = TrackingPlan> {
  /** The prom-client Registry that has this client's metrics. */
  readonly register: MetricsRegistry;
  readonly #engine: Engine;
  readonly #leaveMetrics: () => void;

  /** @throws MillraceError MILLRACE_OPTIONS with everything that is wrong */
  constructor(consumer: Consumer, options: AnalyticsOptions = {}) {
    const plan = planOf(consumer);
    const reader = new OptionReader('Analytics', options);
    const uuid = reader.flag('uuid', plan.uuid ? 'on' : 'off');
    const validation = reader.oneOf('validation', OPTION_VALIDATIONS, 'throw');
    const timeZone = reader.text('timeZone');
    const zone = reader.check(() => resolveZone(timeZone)) ?? resolveZone(undefined);
    const registry = reader.raw('register');
    if (registry !== undefined && !isRegistry(registry)) {
      reader.fail(`register is ${show(registry)}; it must be a Registry of prom-client`);
    }
    const name = reader.text('name');
    const onError = reader.callback<(error: MillraceError) => void>('onError') ?? warn;
    reader.finish();
    this.#engine = new Engine(plan, {
      uuid,
      validation,
      text: {
        presets: { lib: LIBRARY_NAME, libVersion: LIBRARY_VERSION },
        zone,
        addsZoneOffset: timeZone !== undefined,
      },
      onError,
    });
    const collector = MetricsCollector.of(options.register);
    this.register = collector.registry;
    this.#leaveMetrics = collector.add({
      ...(name === undefined ? {} : { client: name }),
      consumer: plan.consumer,
      readings: () => this.#engine.accounts.readings(),
    });
    if (plan.consumer === 'debug') warn(DEBUG_NOTICE);
  }

  /** An event. */
  track(fields: EventFields<Plan>): boolean {
    return this.#engine.record(TRACK, fields as RecordFields);
  }

  /** An event of which the receiver keeps only the first with this `firstCheckId`. */
  trackFirst(fields: FirstEventFields<Plan>): boolean {
    return this.#engine.record(TRACK, fields as RecordFields, 'firstCheckId');
  }

  /** Changes properties of the event `eventId`. */
  trackUpdate(fields: UpdatableEventFields<Plan>): boolean {
    return this.#engine.record(TRACK_UPDATE, fields as RecordFields, 'eventId');
  }

  /** Replaces the event `eventId`. */
  trackOverwrite(fields: UpdatableEventFields<Plan>): boolean {
    return this.#engine.record(TRACK_OVERWRITE, fields as RecordFields, 'eventId');
  }

  /** Sets user properties. */
  userSet(fields: UserFields<UserProperties<Plan>>): boolean {
    return this.#engine.record(USER_SET, fields as RecordFields, 'properties');
  }

  /** Sets user properties that are not set yet. */
  userSetOnce(fields: UserFields<UserProperties<Plan>>): boolean {
    return this.#engine.record(USER_SET_ONCE, fields as RecordFields, 'properties');
  }

  /** Adds to numeric user properties. */
  userAdd(fields: UserFields<NumericUserProperties<Plan>>): boolean {
    return this.#engine.record(USER_ADD, fields as RecordFields, 'properties');
  }

  /** Appends to user properties that are lists. */
  userAppend(fields: UserFields<ListUserProperties<Plan>>): boolean {
    return this.#engine.record(USER_APPEND, fields as RecordFields, 'properties');
  }

  /** Appends to lists what they do not hold yet. */
  userUniqAppend(fields: UserFields<ListUserProperties<Plan>>): boolean {
    return this.#engine.record(USER_UNIQ_APPEND, fields as RecordFields, 'properties');
  }

  /** Removes user properties. */
  userUnset(fields: UnsetUserFields<UserPropertyName<Plan>>): boolean {
    return this.#engine.record(USER_UNSET, fields as UnsetFields, 'properties');
  }

  /** Removes a user. */
  userDel(fields: DeleteFields): boolean {
    return this.#engine.record(USER_DEL, fields);
  }

  /** Adds properties to every later `track*` record; of two values the later wins. They are copied. */
  setSuperProperties(properties: Properties): void {
    this.#engine.recorder.setSuperProperties(properties);
  }

  unsetSuperProperty(name: string): void {
    this.#engine.recorder.unsetSuperProperty(name);
  }

  /** A copy. */
  getSuperProperties(): Properties {
    return this.#engine.recorder.getSuperProperties();
  }

  clearSuperProperties(): void {
    this.#engine.recorder.clearSuperProperties();
  }

  /**
   * Asks `dynamic` for more properties at every `track*` call; they win over super properties. If it throws, the record goes
   * without them and `onError` hears of it. `undefined` ends it.
   */
  setDynamicSuperProperties(dynamic: (() => Properties | null | undefined) | undefined): void {
    this.#engine.recorder.setDynamicSuperProperties(dynamic);
  }

  /**
   * Resolves when all records accepted before the call are delivered, rejected or dropped by policy.
   *
   * @throws MillraceError MILLRACE_TIMEOUT; a BatchConsumer and a LoggingConsumer also throw what went wrong
   */
  flush(deadline: Deadline = {}): Promise<void> {
    return this.#engine.flush(deadline);
  }

  /** As {@link flush}, blocking this thread. True: all were settled in time. */
  flushSync(deadline: Deadline = {}): boolean {
    return this.#engine.flushSync(deadline);
  }

  /** Flushes, ends the workers, and refuses later calls (MILLRACE_CLOSED). Idempotent; resolves to the final account. */
  async close(deadline: Deadline = {}): Promise<Stats> {
    const stats = await this.#engine.close(deadline);
    this.#leaveMetrics();
    return stats;
  }

  /** As {@link close}, blocking this thread. */
  closeSync(deadline: Deadline = {}): Stats {
    const stats = this.#engine.closeSync(deadline);
    this.#leaveMetrics();
    return stats;
  }

  /** An exact account, at any time, also after close. */
  stats(): Stats {
    return this.#engine.stats();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}

const DEBUG_NOTICE = new MillraceError(
  'MILLRACE_OPTIONS',
  'DebugConsumer sends every record alone and blocks the caller: not for production',
);

function warn(error: MillraceError): void {
  process.emitWarning(error.message, { type: 'MillraceWarning', code: error.code });
}

function planOf(consumer: unknown): EnginePlan {
  if (typeof consumer === 'object' && consumer !== null && 'plan' in consumer) {
    return (consumer as Consumer).plan;
  }
  throw new MillraceError(
    'MILLRACE_OPTIONS',
    `Analytics: consumer is ${show(consumer)}; it must be a LoggingConsumer, BatchConsumer, AsyncBatchConsumer or DebugConsumer`,
  );
}

function isRegistry(value: unknown): value is MetricsRegistry {
  return typeof value === 'object' && value !== null && 'registerMetric' in value;
}
