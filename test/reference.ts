/**
 * A slow model of the wire contract's section 1: plain objects and JSON.stringify, nothing shared with src/.
 */
export interface ModelOptions {
  readonly timeZone?: string;
}

export interface ModelState {
  readonly supers: Readonly<Record<string, unknown>>;
  readonly dynamic: Readonly<Record<string, unknown>>;
}

export interface ModelCall {
  readonly method: string;
  readonly argument: Readonly<Record<string, unknown>>;
}

const TYPES: Readonly<Record<string, string>> = {
  track: 'track',
  trackFirst: 'track',
  trackUpdate: 'track_update',
  trackOverwrite: 'track_overwrite',
  userSet: 'user_set',
  userSetOnce: 'user_setOnce',
  userAdd: 'user_add',
  userUnset: 'user_unset',
  userAppend: 'user_append',
  userUniqAppend: 'user_uniq_append',
  userDel: 'user_del',
};

const LIFTS: readonly (readonly [string, string])[] = [
  ['#event_id', 'eventId'],
  ['#first_check_id', 'firstCheckId'],
  ['#ip', 'ip'],
  ['#uuid', 'uuid'],
  ['#app_id', 'appId'],
  ['#transaction_property', ''],
  ['#import_tool_id', ''],
];

const LONE_SURROGATE = /[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]/g;

/** The JSON text a valid call must become; `now` is the moment of the call. */
export function modelText(
  call: ModelCall,
  { options, state, now }: { options: ModelOptions; state: ModelState; now: Date },
): string {
  const type = TYPES[call.method] ?? '';
  const isTrack = type.startsWith('track');
  const { argument } = call;
  const own = ownOf(call);
  const sources = isTrack ? [own, present(state.dynamic), present(state.supers)] : [own];
  const lifted = (name: string) => sources.find((source) => Object.hasOwn(source, name))?.[name];
  const time = (argument.time ?? lifted('#time') ?? now) as Date;
  const wall = (date: Date) => wallTime(date, options.timeZone);
  const record: Record<string, unknown> = { '#type': type, '#time': wall(time) };
  if (isTrack) record['#event_name'] = argument.event;
  if (isId(argument.distinctId)) record['#distinct_id'] = argument.distinctId;
  if (isId(argument.accountId)) record['#account_id'] = argument.accountId;
  for (const [name, field] of LIFTS) {
    const value = (field === '' ? undefined : argument[field]) ?? lifted(name);
    if (typeof value === 'string') record[name] = name === '#uuid' ? value.toLowerCase() : value;
  }
  record.properties = propertiesOf(sources, { isTrack, time, wall, options });
  return JSON.stringify(record);
}

function propertiesOf(
  sources: readonly Readonly<Record<string, unknown>>[],
  {
    isTrack,
    time,
    wall,
    options,
  }: { isTrack: boolean; time: Date; wall: (date: Date) => string; options: ModelOptions },
): Record<string, unknown> {
  const properties: Record<string, unknown> = {};
  const add = (source: Readonly<Record<string, unknown>>) => {
    for (const [name, value] of Object.entries(source)) {
      const isLifted = name === '#time' || LIFTS.some(([lift]) => lift === name);
      if (!isLifted && !Object.hasOwn(properties, name)) properties[name] = plain(value, wall);
    }
  };
  const [own = {}, ...others] = sources;
  add(own);
  if (!isTrack) return properties;
  const isZoneSet = sources.some((source) => Object.hasOwn(source, '#zone_offset'));
  if (options.timeZone !== undefined && !isZoneSet) {
    properties['#zone_offset'] = offsetMinutes(time, options.timeZone) / 60;
  }
  for (const source of others) add(source);
  add({ '#lib': 'millrace', '#lib_version': '*' });
  return properties;
}

function ownOf({ method, argument }: ModelCall): Record<string, unknown> {
  if (method === 'userDel') return {};
  if (method !== 'userUnset') return present((argument.properties ?? {}) as object);
  const names = argument.properties as readonly string[];
  return Object.fromEntries(names.map((name) => [name, 0]));
}

function present(source: object): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(source).filter(([, value]) => value !== undefined && value !== null),
  );
}

/** A value as JSON has it. */
function plain(value: unknown, wall: (date: Date) => string): unknown {
  if (value instanceof Date) return wall(value);
  if (typeof value === 'bigint') return Number(value);
  if (typeof value === 'string') return value.replace(LONE_SURROGATE, '\ufffd');
  if (Object.is(value, -0)) return 0;
  if (Array.isArray(value)) return value.map((element) => plain(element, wall));
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(
    Object.entries(present(value)).map(([name, inner]) => [name, plain(inner, wall)]),
  );
}

function isId(value: unknown): boolean {
  return typeof value === 'string' && value !== '';
}

/** `yyyy-MM-dd HH:mm:ss.SSS` in a zone; without one, in the process's. */
export function wallTime(date: Date, timeZone: string | undefined): string {
  const shifted = new Date(date.getTime() + offsetMs(date, timeZone));
  return shifted.toISOString().replace('T', ' ').replace('Z', '');
}

function offsetMinutes(date: Date, timeZone: string): number {
  return offsetMs(date, timeZone) / 60_000;
}

function offsetMs(date: Date, timeZone: string | undefined): number {
  const fixed = /^([+-])(\d\d):(\d\d)$/.exec(timeZone ?? '');
  if (fixed !== null) {
    return (fixed[1] === '-' ? -1 : 1) * (Number(fixed[2]) * 60 + Number(fixed[3])) * 60_000;
  }
  const text = date.toLocaleString('sv-SE', {
    ...(timeZone === undefined ? {} : { timeZone }),
    year: 'numeric',
    month: '2-digit',
    day: '2-digit',
    hour: '2-digit',
    minute: '2-digit',
    second: '2-digit',
  });
  const seconds = Math.floor(date.getTime() / 1000) * 1000;
  return Date.parse(`${text.padStart(19, '0').replace(' ', 'T')}Z`) - seconds;
}
