import { randomUUID } from 'node:crypto';
import { Analytics, type Consumer } from './analytics.ts';
import { AsyncBatchConsumer, type AsyncBatchConsumerOptions } from './consumers/async-batch.ts';
import { DebugConsumer, type DebugConsumerOptions } from './consumers/debug.ts';
import { LoggingConsumer, type LoggingConsumerOptions } from './consumers/logging.ts';
import type { SettledOutcome } from './record/types.ts';

/**
 * The public surface of `thinkingdata-node` 1.5, on millrace's engine: an existing server changes one line. Records, error texts
 * and the order of checks are those of that package; what differs is in docs/migration.md.
 */

/** Version of the package whose surface this is; also `#lib_version` of the records. */
const VERSION = '1.5.0';
const NAME = /^[a-zA-Z#][a-zA-Z0-9_]+$/;
const INTERVAL_MS = 3000;
const BATCH_SIZE = 20;

/** Called once a record: without an error when the record is delivered or safe on disk. */
export type TDCallback = (error?: Error) => void;
type Properties = Record<string, unknown>;

interface Identified {
  /** Either this or `distinctId` must be there. */
  readonly accountId?: string;
  readonly distinctId?: string;
  readonly callback?: TDCallback;
  readonly appId?: string;
  readonly uuid?: string;
  /** Default: now. */
  readonly time?: Date;
}

export interface TDTrackEvent extends Identified {
  readonly event: string;
  readonly ip?: string;
  readonly properties?: object;
}

export interface TDTrackFirstEvent extends TDTrackEvent {
  readonly firstCheckId: string;
}

export interface TDTrackUpdateEvent extends TDTrackEvent {
  readonly eventId: string;
}

export type TDTrackOverwriteEvent = TDTrackUpdateEvent;

export interface TDUserProfileEvent extends Identified {
  readonly properties?: object;
}

export interface TDUserUnsetEvent extends Identified {
  readonly property: string;
}

/** Where records go. The ones made here run on the engine; anything with these methods may be put in their place. */
export interface TDConsumer {
  add(record: Properties, callback: TDCallback): void;
  flush(callback?: TDCallback): void;
  close(callback?: TDCallback): void;
}

/** Beyond `thinkingdata-node`: options of the engine underneath, for instance `spool` or `workers`. */
interface EngineConfig<Options> {
  readonly millrace?: Partial<Options>;
}

export interface TDBatchConsumerConfig extends EngineConfig<AsyncBatchConsumerOptions> {
  /** Records of one request; default 20. */
  readonly batchSize?: number;
  /** gzip; default true. */
  readonly compress?: boolean;
}

export interface TDAsyncBatchConsumerConfig extends TDBatchConsumerConfig {
  /** Longest wait of a record in ms; default 3000. */
  readonly interval?: number;
}

export interface TDDebugConsumerConfig extends EngineConfig<DebugConsumerOptions> {
  /** Checks only; the receiver stores nothing. */
  readonly dryRun?: boolean;
  readonly deviceId?: string;
}

export interface TDLogConsumerConfig extends EngineConfig<LoggingConsumerOptions> {
  /** A file an hour instead of a day. */
  readonly rotateHourly?: boolean;
  readonly filePrefix?: string;
}

/** The verbs, by the `#type` of their records. */
type RecordType =
  | 'track'
  | 'track_update'
  | 'track_overwrite'
  | 'user_set'
  | 'user_setOnce'
  | 'user_unset'
  | 'user_add'
  | 'user_append'
  | 'user_uniq_append'
  | 'user_del';

/** All that a call may carry, whatever its kind. */
interface Params extends Identified {
  readonly event?: string;
  readonly ip?: string;
  readonly eventId?: string;
  readonly firstCheckId?: string;
  readonly properties?: object;
  readonly property?: string;
}

let isLogging = false;

/** Says on standard output what is done, while it is enabled. */
export function enableLog(enable: boolean): void {
  isLogging = enable === true;
}

function log(message: string): void {
  if (isLogging) process.stdout.write(`[ThinkingData][Info] ${message}\n`);
}

/** The engine as a consumer; started with the first record. */
class EngineConsumer implements TDConsumer {
  readonly #consumer: Consumer;
  #analytics: Analytics | undefined;
  #isClosed = false;

  constructor(consumer: Consumer) {
    this.#consumer = consumer;
  }

  /** The client underneath, for its metrics and accounts. */
  get analytics(): Analytics {
    this.#analytics ??= new Analytics(this.#consumer, {
      validation: 'off',
      uuid: true,
      library: { name: 'node', version: VERSION },
    });
    return this.#analytics;
  }

  /** A finished record, as other consumers get it: for callers that use the consumer directly. */
  add(record: Properties, callback: TDCallback): void {
    const { properties, ...top } = record;
    const lifted: Properties = { ...(properties as Properties | undefined) };
    for (const [name, value] of Object.entries(top)) {
      if (!KNOWN_FIELDS.has(name)) lifted[name] = value;
    }
    this.send(
      record['#type'] as RecordType,
      {
        accountId: record['#account_id'],
        distinctId: record['#distinct_id'],
        event: record['#event_name'],
        properties: lifted,
      } as Params,
      callback,
    );
  }

  send(type: RecordType, params: Params, callback: TDCallback | undefined): void {
    try {
      const fields = fieldsOf(type, params);
      const heard = callback === undefined ? {} : { onSettled: listener(callback) };
      call(this.analytics, type, { ...fields, ...heard } as Parameters<Analytics['track']>[0]);
    } catch (error) {
      callback?.(toError(error));
    }
  }

  flush(callback?: TDCallback): void {
    if (this.#analytics === undefined) {
      callback?.();
      return;
    }
    this.#analytics.flush().then(
      () => callback?.(),
      (error: unknown) => callback?.(toError(error)),
    );
  }

  close(callback?: TDCallback): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.analytics.close().then(
      () => callback?.(),
      (error: unknown) => callback?.(toError(error)),
    );
  }
}

/** Fields of a record that are no properties. */
const KNOWN_FIELDS: ReadonlySet<string> = new Set([
  '#type',
  '#account_id',
  '#distinct_id',
  '#event_name',
]);

function toError(error: unknown): Error {
  return error instanceof Error ? error : new Error(String(error));
}

function listener(callback: TDCallback): (outcome: SettledOutcome) => void {
  return ({ state, reason = state }) => {
    if (state === 'delivered' || state === 'spooled') callback();
    else callback(new Error(reason.replace(/^status (\d+).*/s, 'Unexpected status code: $1')));
  };
}

/** What the engine takes, from what the caller gave; nothing of the caller's is changed. */
function fieldsOf(type: RecordType, params: Params): Properties {
  const { accountId, distinctId, event, ip, time, uuid, appId, eventId, firstCheckId } = params;
  const fields: Properties = {};
  if (accountId) fields.accountId = accountId;
  if (distinctId) fields.distinctId = distinctId;
  if (event) fields.event = event;
  if (ip) fields.ip = ip;
  if (time instanceof Date) fields.time = time;
  if (uuid) fields.uuid = uuid;
  if (appId) fields.appId = appId;
  if (eventId) fields.eventId = eventId;
  if (firstCheckId) fields.firstCheckId = firstCheckId;
  if (type === 'user_unset') fields.properties = [params.property];
  else if (params.properties) fields.properties = params.properties;
  return fields;
}

function call(
  analytics: Analytics,
  type: RecordType,
  fields: Parameters<Analytics['track']>[0],
): void {
  const any = fields as never;
  switch (type) {
    case 'track':
      if ('firstCheckId' in fields) analytics.trackFirst(any);
      else analytics.track(any);
      return;
    case 'track_update':
      analytics.trackUpdate(any);
      return;
    case 'track_overwrite':
      analytics.trackOverwrite(any);
      return;
    case 'user_set':
      analytics.userSet(any);
      return;
    case 'user_setOnce':
      analytics.userSetOnce(any);
      return;
    case 'user_unset':
      analytics.userUnset(any);
      return;
    case 'user_add':
      analytics.userAdd(any);
      return;
    case 'user_append':
      analytics.userAppend(any);
      return;
    case 'user_uniq_append':
      analytics.userUniqAppend(any);
      return;
    case 'user_del':
      analytics.userDel(any);
  }
}

/** One client, as `thinkingdata-node` has it: wrong calls are told to the call's own callback, and never throw. */
export class TDAnalytics {
  /** Where records go; may be replaced. */
  consumer: TDConsumer;
  superProperties: Properties = {};
  getDynamicProperties: (() => Properties) | undefined = undefined;

  constructor(consumer: TDConsumer) {
    this.consumer = consumer;
  }

  /** The client underneath: its `register`, `stats()` and everything else. Undefined with a consumer of your own. */
  get millrace(): Analytics | undefined {
    return this.consumer instanceof EngineConsumer ? this.consumer.analytics : undefined;
  }

  /** An event. `skipLocalCheck` leaves out the check of property names. */
  track(params: TDTrackEvent, skipLocalCheck = false): void {
    if (this.#isGoodEvent(params, skipLocalCheck)) this.#send('track', params);
  }

  /** Changes properties of the event `eventId`. */
  trackUpdate(params: TDTrackUpdateEvent, skipLocalCheck = false): void {
    if (!this.#isGoodEvent(params, skipLocalCheck)) return;
    if (params.eventId) this.#send('track_update', params);
    else params.callback?.(new Error('eventId cannot be empty'));
  }

  /** Replaces the event `eventId`. */
  trackOverWrite(params: TDTrackOverwriteEvent, skipLocalCheck = false): void {
    if (!this.#isGoodEvent(params, skipLocalCheck)) return;
    if (params.eventId) this.#send('track_overwrite', params);
    else params.callback?.(new Error('eventId cannot be empty'));
  }

  /** As {@link trackOverWrite}, spelled as in the other SDKs. */
  trackOverwrite(params: TDTrackOverwriteEvent, skipLocalCheck = false): void {
    this.trackOverWrite(params, skipLocalCheck);
  }

  /** An event of which the receiver keeps only the first with this `firstCheckId`. */
  trackFirst(params: TDTrackFirstEvent, skipLocalCheck = false): void {
    if (!this.#isGoodEvent(params, skipLocalCheck)) return;
    if (params.firstCheckId) this.#send('track', params);
    else params.callback?.(new Error('firstCheckId cannot be empty'));
  }

  userSet(params: TDUserProfileEvent): void {
    this.#sendProfile('user_set', params);
  }

  userSetOnce(params: TDUserProfileEvent): void {
    this.#sendProfile('user_setOnce', params);
  }

  userAdd(params: TDUserProfileEvent): void {
    this.#sendProfile('user_add', params);
  }

  userAppend(params: TDUserProfileEvent): void {
    this.#sendProfile('user_append', params);
  }

  userUniqAppend(params: TDUserProfileEvent): void {
    this.#sendProfile('user_uniq_append', params);
  }

  userUnset(params: TDUserUnsetEvent): void {
    if (!isGoodUser(params)) return;
    if (isName(params.property)) this.#send('user_unset', params);
    else params.callback?.(new Error(`invalid property name: ${params.property}`));
  }

  userDel(params: TDUserProfileEvent): void {
    if (isGoodUser(params)) this.#send('user_del', params);
  }

  /** Properties of all events from now on; those set before stay. */
  setSuperProperties(superProperties: object, callback?: TDCallback): void {
    if (!areProperties(superProperties)) {
      callback?.(new Error('Invalid superProperties'));
      return;
    }
    Object.assign(this.superProperties, defined(superProperties));
    if (this.consumer instanceof EngineConsumer) {
      this.consumer.analytics.setSuperProperties(defined(superProperties) as never);
    }
  }

  clearSuperProperties(): void {
    this.superProperties = {};
    if (this.consumer instanceof EngineConsumer) this.consumer.analytics.clearSuperProperties();
  }

  /** A function asked for properties at each event. */
  setDynamicSuperProperties(getDynamicProperties: () => object, callback?: TDCallback): void {
    if (typeof getDynamicProperties !== 'function') {
      callback?.(new Error('getDynamicProperties must be a function'));
      return;
    }
    if (!areProperties(getDynamicProperties())) {
      callback?.(new Error('Invalid return type of getDynamicProperties'));
      return;
    }
    this.getDynamicProperties = getDynamicProperties as () => Properties;
    if (this.consumer instanceof EngineConsumer) {
      this.consumer.analytics.setDynamicSuperProperties(getDynamicProperties as never);
    }
  }

  /** Sends what waits; the callback hears when it is settled. */
  flush(callback?: TDCallback): void {
    log('flush by manual');
    this.consumer.flush(callback);
  }

  /** Delivers what waits and ends the workers; the process stays until that is done. */
  close(callback?: TDCallback): void {
    log('SDK close');
    this.consumer.close(callback);
  }

  #isGoodEvent(params: TDTrackEvent, skipLocalCheck: boolean): boolean {
    if (!isGoodUser(params)) return false;
    if (!isName(params.event)) {
      params.callback?.(new Error('invalid event name'));
      return false;
    }
    if (skipLocalCheck || areProperties(params.properties)) return true;
    params.callback?.(new Error('invalid properties'));
    return false;
  }

  #sendProfile(type: RecordType, params: TDUserProfileEvent): void {
    if (!isGoodUser(params)) return;
    const { properties } = params;
    const isThere = isObject(properties) && Object.keys(defined(properties)).length > 0;
    if (isThere && areProperties(properties)) this.#send(type, params);
    else params.callback?.(new Error('invalid properties'));
  }

  #send(type: RecordType, params: Params): void {
    if (isLogging) log(`Enqueue event: ${type} ${params.event ?? ''}`);
    if (this.consumer instanceof EngineConsumer) {
      this.consumer.send(type, params, params.callback);
      return;
    }
    const ignore = () => {
      // Nobody asked.
    };
    this.consumer.add(this.#record(type, params), params.callback ?? ignore);
  }

  /** The finished record, for a consumer of the caller's own. */
  #record(type: RecordType, params: Params): Properties {
    const isEvent = type.startsWith('track');
    const time = params.time instanceof Date ? params.time : new Date();
    const record: Properties = { '#type': type, '#time': timeText(time) };
    for (const [field, name] of RECORD_FIELDS) if (params[field]) record[name] = params[field];
    record['#uuid'] = params.uuid ?? randomUUID();
    if (params.appId) record['#app_id'] = params.appId;
    const own = type === 'user_unset' ? { [params.property ?? '']: 0 } : params.properties;
    record.properties = withTexts({
      ...(isEvent ? { '#lib': 'node', '#lib_version': VERSION } : {}),
      ...(isEvent ? this.superProperties : {}),
      ...(isEvent ? this.getDynamicProperties?.() : {}),
      ...(isObject(own) ? defined(own) : {}),
    });
    return record;
  }
}

const RECORD_FIELDS = [
  ['distinctId', '#distinct_id'],
  ['accountId', '#account_id'],
  ['ip', '#ip'],
  ['event', '#event_name'],
  ['eventId', '#event_id'],
  ['firstCheckId', '#first_check_id'],
] as const;

function isGoodUser(params: Identified): boolean {
  if (!isObject(params)) {
    (params as Identified | undefined)?.callback?.(new Error('params for track must be an object'));
    return false;
  }
  if (isUserId(params.accountId) || isUserId(params.distinctId)) return true;
  params.callback?.(new Error('account ID and distinct ID cannot be empty at the same time'));
  return false;
}

function isUserId(id: unknown): boolean {
  return typeof id === 'string' && /^.+$/.test(id);
}

function isName(name: unknown): boolean {
  return typeof name === 'string' && NAME.test(name);
}

function isObject(value: unknown): value is object {
  return Object.prototype.toString.call(value) === '[object Object]';
}

/** Whether something may be the properties of an event: nothing at all, or an object with good names. */
function areProperties(properties: unknown): boolean {
  if (!properties) return true;
  return isObject(properties) && Object.keys(defined(properties)).every((name) => NAME.test(name));
}

/** The properties that have a value; functions, symbols and null are none. */
function defined(properties: object): Properties {
  const isValue = ([, value]: [string, unknown]) =>
    value !== null &&
    value !== undefined &&
    typeof value !== 'function' &&
    typeof value !== 'symbol';
  return Object.fromEntries(Object.entries(properties).filter(isValue));
}

/** A copy in which Dates are texts. */
function withTexts<T>(value: T): T {
  if (value instanceof Date) return timeText(value) as T;
  if (Array.isArray(value)) return value.map(withTexts) as T;
  if (!isObject(value)) return value;
  return Object.fromEntries(
    Object.entries(value).map(([name, item]) => [name, withTexts(item)]),
  ) as T;
}

function timeText(date: Date): string {
  const two = (value: number) => String(value).padStart(2, '0');
  const day = `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())}`;
  const clock = [date.getHours(), date.getMinutes(), date.getSeconds()].map(two).join(':');
  return `${day} ${clock}.${String(date.getMilliseconds()).padStart(3, '0')}`;
}

/** Each record is sent alone to the receiver's debug endpoint. */
export function initWithDebugMode(
  appId: string,
  serverUrl: string,
  config: TDDebugConsumerConfig = {},
): TDAnalytics {
  const { dryRun, deviceId, millrace } = config;
  log(
    `consumer: debug consumer. AppId: ${appId}, receiverUrl: ${serverUrl}, deviceId: ${deviceId}`,
  );
  const { plan } = new DebugConsumer({
    url: serverUrl,
    appId,
    ...(dryRun ? { dryRun: true } : {}),
    ...(deviceId ? { deviceId } : {}),
    ...millrace,
  });
  // Our own debug consumer waits for each answer; callers of this surface expect a callback instead.
  const batch = { ...plan.batch, lingerMs: 0 };
  return client({ plan: { ...plan, batch, pace: 'stream', roundRecords: 0, flush: 'settled' } });
}

/** Batches by HTTP, one after the other. */
export function initWithBatchMode(
  appId: string,
  serverUrl: string,
  config: TDBatchConsumerConfig = {},
): TDAnalytics {
  log(`consumer: batch consumer. AppId: ${appId}, receiverUrl: ${serverUrl}`);
  return client(batchConsumer(appId, serverUrl, config));
}

/** Batches by HTTP, at the latest after `interval`. */
export function initWithAsyncBatchMode(
  appId: string,
  serverUrl: string,
  config: TDAsyncBatchConsumerConfig = {},
): TDAnalytics {
  log(`consumer: async batch consumer. AppId: ${appId}, receiverUrl: ${serverUrl}`);
  return client(batchConsumer(appId, serverUrl, config));
}

function batchConsumer(
  appId: string,
  url: string,
  { batchSize, compress, interval, millrace }: TDAsyncBatchConsumerConfig,
): Consumer {
  return new AsyncBatchConsumer({
    url,
    appId,
    batchSize: batchSize || BATCH_SIZE,
    compress: compress !== false,
    lingerMs: interval || INTERVAL_MS,
    ...millrace,
  });
}

/** Log files for LogBus. */
export function initWithLoggingMode(path: string, config: TDLogConsumerConfig = {}): TDAnalytics {
  log(`consumer: log consumer. Log path: ${path}`);
  const { rotateHourly, filePrefix, millrace } = config;
  return client(
    new LoggingConsumer({
      directory: path,
      rotate: rotateHourly === true ? 'hour' : 'day',
      ...(filePrefix ? { prefix: filePrefix } : {}),
      ...millrace,
    }),
  );
}

function client(consumer: Consumer): TDAnalytics {
  return new TDAnalytics(new EngineConsumer(consumer));
}

const surface: {
  readonly initWithDebugMode: typeof initWithDebugMode;
  readonly initWithBatchMode: typeof initWithBatchMode;
  readonly initWithAsyncBatchMode: typeof initWithAsyncBatchMode;
  readonly initWithLoggingMode: typeof initWithLoggingMode;
  readonly enableLog: typeof enableLog;
} = {
  initWithDebugMode,
  initWithBatchMode,
  initWithAsyncBatchMode,
  initWithLoggingMode,
  enableLog,
};

// biome-ignore lint/style/noDefaultExport: `import TA from 'thinkingdata-node'` is how its callers write it.
export default surface;
