import { randomUUID } from 'node:crypto';
import { types } from 'node:util';
import type { Analytics, Consumer } from './analytics.ts';
import { AsyncBatchConsumer } from './consumers/async-batch.ts';
import { DebugConsumer } from './consumers/debug.ts';
import { LoggingConsumer } from './consumers/logging.ts';
import type { Properties } from './record/types.ts';
import { EngineConsumer, VERSION } from './thinkingdata/engine-consumer.ts';
import { enableLog, isLogEnabled, log } from './thinkingdata/log.ts';
import type {
  Fields,
  Params,
  RecordType,
  TDAsyncBatchConsumerConfig,
  TDBatchConsumerConfig,
  TDCallback,
  TDConsumer,
  TDDebugConsumerConfig,
  TDLogConsumerConfig,
  TDTrackEvent,
  TDTrackFirstEvent,
  TDTrackOverwriteEvent,
  TDTrackUpdateEvent,
  TDUserProfileEvent,
  TDUserUnsetEvent,
} from './thinkingdata/types.ts';
import {
  isName,
  isObject,
  takeProperties,
  takeUnchecked,
  timeText,
  withTexts,
} from './thinkingdata/values.ts';

export type {
  TDAsyncBatchConsumerConfig,
  TDBatchConsumerConfig,
  TDCallback,
  TDConsumer,
  TDDebugConsumerConfig,
  TDLogConsumerConfig,
  TDTrackEvent,
  TDTrackFirstEvent,
  TDTrackOverwriteEvent,
  TDTrackUpdateEvent,
  TDUserProfileEvent,
  TDUserUnsetEvent,
};

/**
 * The public surface of `thinkingdata-node` 1.5, on millrace's engine: an existing server changes one line. Records, error texts
 * and the order of checks are those of that package; what differs is in docs/migration.md.
 */

const INTERVAL_MS = 3000;
const BATCH_SIZE = 20;
const BATCH_SIZE_MAX = 2000;

/** One client, as `thinkingdata-node` has it: wrong calls are told to the call's own callback, and never throw. */
export class TDAnalytics {
  /** Where records go; may be replaced. */
  consumer: TDConsumer;
  /** What {@link setSuperProperties} was given so far. */
  superProperties: Fields = {};
  getDynamicProperties: (() => Fields) | undefined = undefined;

  constructor(consumer: TDConsumer) {
    this.consumer = consumer;
  }

  /** The client underneath: its `register`, `stats()` and everything else. Undefined with a consumer of your own. */
  get millrace(): Analytics | undefined {
    return this.consumer instanceof EngineConsumer ? this.consumer.analytics : undefined;
  }

  /** An event. `skipLocalCheck` leaves out the check of property names. */
  track(params: TDTrackEvent, skipLocalCheck = false): void {
    this.#event('track', params, { skipLocalCheck });
  }

  /** Changes properties of the event `eventId`. */
  trackUpdate(params: TDTrackUpdateEvent, skipLocalCheck = false): void {
    this.#event('track_update', params, { skipLocalCheck, needs: 'eventId' });
  }

  /** Replaces the event `eventId`. */
  trackOverWrite(params: TDTrackOverwriteEvent, skipLocalCheck = false): void {
    this.#event('track_overwrite', params, { skipLocalCheck, needs: 'eventId' });
  }

  /** As {@link trackOverWrite}, spelled as in the other SDKs. */
  trackOverwrite(params: TDTrackOverwriteEvent, skipLocalCheck = false): void {
    this.trackOverWrite(params, skipLocalCheck);
  }

  /** An event of which the receiver keeps only the first with this `firstCheckId`. */
  trackFirst(params: TDTrackFirstEvent, skipLocalCheck = false): void {
    this.#event('track', params, { skipLocalCheck, needs: 'firstCheckId' });
  }

  userSet(params: TDUserProfileEvent): void {
    this.#profile('user_set', params);
  }

  userSetOnce(params: TDUserProfileEvent): void {
    this.#profile('user_setOnce', params);
  }

  userAdd(params: TDUserProfileEvent): void {
    this.#profile('user_add', params);
  }

  userAppend(params: TDUserProfileEvent): void {
    this.#profile('user_append', params);
  }

  userUniqAppend(params: TDUserProfileEvent): void {
    this.#profile('user_uniq_append', params);
  }

  /** Removes one property. `time` and `uuid` are not looked at, as in that package. */
  userUnset(params: TDUserUnsetEvent): void {
    if (!isGoodUser(params)) return;
    const { property, accountId, distinctId, appId, callback } = params as Params;
    if (isName(property)) {
      const bare = { accountId, distinctId, appId, callback } as Params;
      this.#send('user_unset', bare, { [property]: 0 });
    } else callback?.(new Error(`invalid property name: ${property}`));
  }

  userDel(params: TDUserProfileEvent): void {
    if (isGoodUser(params))
      this.#send('user_del', params, takeUnchecked(params.properties).properties);
  }

  /** Properties of all events from now on; those set before stay. */
  setSuperProperties(superProperties: object, callback?: TDCallback): void {
    const taken = takeProperties(superProperties);
    if (taken === undefined) {
      callback?.(new Error('Invalid superProperties'));
      return;
    }
    // What has no value leaves an earlier one as it is.
    const given = defined(taken.properties);
    Object.assign(this.superProperties, given);
    this.millrace?.setSuperProperties(given as Properties);
  }

  clearSuperProperties(): void {
    this.superProperties = {};
    this.millrace?.clearSuperProperties();
  }

  /** A function asked for properties at each event. */
  setDynamicSuperProperties(getDynamicProperties: () => object, callback?: TDCallback): void {
    if (typeof getDynamicProperties !== 'function') {
      callback?.(new Error('getDynamicProperties must be a function'));
      return;
    }
    if (takeProperties(getDynamicProperties()) === undefined) {
      callback?.(new Error('Invalid return type of getDynamicProperties'));
      return;
    }
    const dynamic = () => takeUnchecked(getDynamicProperties()).properties;
    this.getDynamicProperties = dynamic;
    this.millrace?.setDynamicSuperProperties(dynamic as () => Properties);
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

  #event(
    type: RecordType,
    params: Params,
    {
      skipLocalCheck,
      needs,
    }: { readonly skipLocalCheck: boolean; readonly needs?: 'eventId' | 'firstCheckId' },
  ): void {
    if (!isGoodUser(params)) return;
    const { event, callback } = params;
    const taken = skipLocalCheck
      ? takeUnchecked(params.properties)
      : takeProperties(params.properties);
    if (!isName(event)) callback?.(new Error('invalid event name'));
    else if (taken === undefined) callback?.(new Error('invalid properties'));
    else if (needs !== undefined && !params[needs])
      callback?.(new Error(`${needs} cannot be empty`));
    else this.#send(type, params, taken.properties);
  }

  #profile(type: RecordType, params: TDUserProfileEvent): void {
    if (!isGoodUser(params)) return;
    const taken = takeProperties(params.properties);
    if (taken === undefined || taken.count === 0) {
      params.callback?.(new Error('invalid properties'));
    } else this.#send(type, params, taken.properties);
  }

  #send(type: RecordType, params: Params, properties: Fields): void {
    const { consumer } = this;
    const isEngine = consumer instanceof EngineConsumer;
    const record = isEngine && !isLogEnabled() ? {} : this.#record(type, params, properties);
    if (isLogEnabled()) log('Enqueue event:', JSON.stringify(record, withoutBigInts));
    const { callback } = params;
    if (isEngine) {
      // What was printed and what is sent have to have the same uuid.
      const uuid = (record['#uuid'] ?? params.uuid) as string;
      const sent = uuid === params.uuid ? params : { ...params, uuid };
      consumer.send(type, sent, { properties: properties as Properties, callback });
    } else consumer.add(record, callback ?? ignore);
  }

  /** The finished record: for a consumer of the caller's own, and for the log. */
  #record(type: RecordType, params: Params, properties: Fields): Fields {
    const isEvent = type.startsWith('track');
    const time = types.isDate(params.time) ? params.time : new Date();
    const record: Fields = { '#type': type, '#time': timeText(time) };
    for (const [field, name] of RECORD_FIELDS) if (params[field]) record[name] = params[field];
    record['#uuid'] = params.uuid || randomUUID();
    if (params.appId) record['#app_id'] = params.appId;
    record.properties = withTexts({
      ...(isEvent ? { '#lib': 'node', '#lib_version': VERSION } : {}),
      ...(isEvent ? this.superProperties : {}),
      ...(isEvent ? this.getDynamicProperties?.() : {}),
      ...defined(properties),
    });
    return record;
  }
}

function withoutBigInts(_name: string, value: unknown): unknown {
  return typeof value === 'bigint' ? Number(value) : value;
}

function ignore(): void {
  // Nobody asked.
}

const RECORD_FIELDS = [
  ['distinctId', '#distinct_id'],
  ['accountId', '#account_id'],
  ['ip', '#ip'],
  ['event', '#event_name'],
  ['eventId', '#event_id'],
  ['firstCheckId', '#first_check_id'],
] as const;

function isGoodUser(params: Params | TDUserUnsetEvent): boolean {
  if (!isObject(params)) {
    (params as Params | undefined)?.callback?.(new Error('params for track must be an object'));
    return false;
  }
  if (isUserId(params.accountId) || isUserId(params.distinctId)) return true;
  (params as Params).callback?.(
    new Error('account ID and distinct ID cannot be empty at the same time'),
  );
  return false;
}

function isUserId(id: unknown): boolean {
  return (typeof id === 'string' || id instanceof String) && /^.+$/.test(String(id));
}

/** The properties that have a value. */
function defined(properties: Fields): Fields {
  return Object.fromEntries(
    Object.entries(properties).filter(([, value]) => value !== null && value !== undefined),
  );
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
    url: originOf(serverUrl),
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
  const consumer = batchConsumer(appId, serverUrl, config);
  log(`consumer: batch consumer. AppId: ${appId}, receiverUrl: ${serverUrl}`);
  return client(consumer);
}

/** Batches by HTTP, at the latest after `interval`. */
export function initWithAsyncBatchMode(
  appId: string,
  serverUrl: string,
  config: TDAsyncBatchConsumerConfig = {},
): TDAnalytics {
  const consumer = batchConsumer(appId, serverUrl, config);
  log(`consumer: async batch consumer. AppId: ${appId}, receiverUrl: ${serverUrl}`);
  return client(consumer);
}

function batchConsumer(
  appId: string,
  serverUrl: string,
  { batchSize, compress, interval, millrace }: TDAsyncBatchConsumerConfig,
): Consumer {
  return new AsyncBatchConsumer({
    url: originOf(serverUrl),
    appId,
    batchSize: Math.max(1, Math.min(BATCH_SIZE_MAX, Math.round(Number(batchSize)) || BATCH_SIZE)),
    compress: compress !== false,
    lingerMs: Number(interval) || INTERVAL_MS,
    ...millrace,
  });
}

/** Scheme, host and port: what else there is in the address is not looked at, as in that package. */
function originOf(serverUrl: string): string {
  const { protocol, origin } = new URL(serverUrl);
  if (protocol === 'http:' || protocol === 'https:') return origin;
  throw new Error(`Unsupported url protocol: ${protocol}`);
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

export { enableLog };

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

// Compilers that take CommonJS for an ES module look for it there.
Object.defineProperty(surface, 'default', { value: surface });

// What `require` gives: the object itself, which callers may change, as with that package.
export { surface as 'module.exports' };
