import { types } from 'node:util';
import { Analytics, type Consumer } from '../analytics.ts';
import type { Properties, RecordFields, SettledOutcome } from '../record/types.ts';
import { isLogEnabled, log } from './log.ts';
import type { Fields, Params, RecordType, TDCallback, TDConsumer } from './types.ts';

/** Version of the package whose surface this is; also `#lib_version` of the records. */
export const VERSION = '1.5.0';

/** Fields of a finished record that are no properties, and the argument each came from. */
const ARGUMENTS = [
  ['#account_id', 'accountId'],
  ['#distinct_id', 'distinctId'],
  ['#event_name', 'event'],
  ['#ip', 'ip'],
  ['#uuid', 'uuid'],
  ['#app_id', 'appId'],
  ['#event_id', 'eventId'],
  ['#first_check_id', 'firstCheckId'],
] as const;

/** The engine as a consumer; started with the first record. */
export class EngineConsumer implements TDConsumer {
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
  add(record: Fields, callback?: TDCallback): void {
    const { '#type': type, '#time': time, properties, ...rest } = record;
    const params: Fields = { time: new Date(String(time).replace(' ', 'T')) };
    for (const [field, argument] of ARGUMENTS) {
      params[argument] = rest[field];
      delete rest[field];
    }
    // Fields that are left the engine takes out of the properties again.
    const all = { ...(properties as Fields | undefined), ...rest } as Properties;
    this.send(type as RecordType, params as Params, { properties: all, callback });
  }

  /** One record: `properties` take the place of those among `params`. */
  send(
    type: RecordType,
    params: Params,
    {
      properties,
      callback,
    }: { readonly properties: Properties; readonly callback: TDCallback | undefined },
  ): void {
    try {
      const fields = fieldsOf(params, properties, listener(callback));
      VERBS[type](this.analytics, fields as never);
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
    if (this.#isClosed) {
      callback?.();
      return;
    }
    this.#isClosed = true;
    this.analytics.close().then(
      () => callback?.(),
      (error: unknown) => callback?.(toError(error)),
    );
  }
}

function toError(error: unknown): Error {
  return error instanceof Error ? error : new Error(String(error));
}

function listener(
  callback: TDCallback | undefined,
): ((outcome: SettledOutcome) => void) | undefined {
  if (typeof callback !== 'function') return isLogEnabled() ? logOutcome : undefined;
  return (outcome) => {
    logOutcome(outcome);
    const { state, reason = state } = outcome;
    if (state === 'delivered' || state === 'spooled') callback();
    else callback(new Error(errorText(reason)));
  };
}

function logOutcome({ state, reason }: SettledOutcome): void {
  log('Send event, outcome =', state, ...(reason === undefined ? [] : [reason]));
}

/** The reasons of the engine in the words of `thinkingdata-node`; those it has no words for stay. */
function errorText(reason: string): string {
  const [, status] = /^status (\d+)/.exec(reason) ?? [];
  if (status !== undefined) return `Unexpected status code: ${status}`;
  const [, code, words] =
    /^(?:code|errorLevel) (-?\d+): (.*?)(?:; the record: .*)?$/s.exec(reason) ?? [];
  if (code !== undefined) return `Unexpected result code: ${code}, msg: ${words}`;
  return reason.startsWith('the reply is not the receiver')
    ? 'Could not parse response from ThinkingAnalytics'
    : reason;
}

/** What the engine takes, from what the caller gave; nothing of the caller's is changed. */
function fieldsOf(
  params: Params,
  properties: Properties,
  onSettled: RecordFields['onSettled'],
): RecordFields {
  return {
    accountId: textOf(params.accountId),
    distinctId: textOf(params.distinctId),
    event: textOf(params.event),
    ip: textOf(params.ip),
    time: types.isDate(params.time) ? params.time : undefined,
    uuid: textOf(params.uuid),
    appId: textOf(params.appId),
    eventId: textOf(params.eventId),
    firstCheckId: textOf(params.firstCheckId),
    properties,
    onSettled,
  };
}

/** Ids are texts to the receiver, whatever the caller has. */
function textOf(value: unknown): string | undefined {
  if (typeof value === 'string') return value === '' ? undefined : value;
  return value ? String(value) : undefined;
}

type Verb = (analytics: Analytics, fields: never) => boolean;

/** The engine's verbs by `#type`; a first event is a `track` with its `firstCheckId`. */
const VERBS: Readonly<Record<RecordType, Verb>> = {
  track: (analytics, fields) => analytics.track(fields),
  track_update: (analytics, fields) => analytics.trackUpdate(fields),
  track_overwrite: (analytics, fields) => analytics.trackOverwrite(fields),
  user_set: (analytics, fields) => analytics.userSet(fields),
  user_setOnce: (analytics, fields) => analytics.userSetOnce(fields),
  user_unset: (analytics, fields) => analytics.userUnset(fields),
  user_add: (analytics, fields) => analytics.userAdd(fields),
  user_append: (analytics, fields) => analytics.userAppend(fields),
  user_uniq_append: (analytics, fields) => analytics.userUniqAppend(fields),
  user_del: (analytics, fields) => analytics.userDel(fields),
};
