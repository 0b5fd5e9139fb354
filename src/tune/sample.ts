import { readFileSync } from 'node:fs';
import { MillraceError, textOfError } from '../base/errors.ts';
import type { Tracker } from '../tracker.ts';
import { makeEvents } from './game-events.ts';

/** One call that tracks a record of the sample. */
export type SampleCall = (to: Tracker, onSettled?: () => void) => boolean;

type Fields = Readonly<Record<string, unknown>>;
type Method = 'track' | 'userSet' | 'userSetOnce' | 'userAdd' | 'userAppend' | 'userUniqAppend';

const METHODS: Readonly<Record<string, Method>> = {
  track: 'track',
  user_set: 'userSet',
  user_setOnce: 'userSetOnce',
  user_add: 'userAdd',
  user_append: 'userAppend',
  user_uniq_append: 'userUniqAppend',
};
/** What the client adds by itself. */
const PRESETS: ReadonlySet<string> = new Set(['#lib', '#lib_version', '#zone_offset']);
const RECORDS_MAX = 20_000;
/** So many that in a lane an event comes again only when it is out of the window of the compression. */
const GAME_EVENTS = 16_000;

/** Calls for events of a game, for who has no sample. */
export function gameSample(): SampleCall[] {
  return makeEvents(GAME_EVENTS).map((event) => callOf('track', event as unknown as Fields));
}

/**
 * Reads a sample: records as log files have them, one a line, or the fields of `track()` calls.
 *
 * @throws MillraceError MILLRACE_OPTIONS naming the line and what is wrong with it
 */
export function readSample(path: string): SampleCall[] {
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (error) {
    throw new MillraceError(
      'MILLRACE_OPTIONS',
      `sample ${path} can't be read: ${textOfError(error)}`,
      error,
    );
  }
  const calls: SampleCall[] = [];
  for (const [index, line] of text.split('\n').entries()) {
    if (line.trim() === '') continue;
    if (calls.length === RECORDS_MAX) break;
    calls.push(callOfLine(line, `sample ${path}, line ${index + 1}`));
  }
  if (calls.length > 0) return calls;
  throw new MillraceError('MILLRACE_OPTIONS', `sample ${path} has no records`);
}

function callOfLine(line: string, where: string): SampleCall {
  let parsed: unknown;
  try {
    parsed = JSON.parse(line);
  } catch (error) {
    throw new MillraceError('MILLRACE_OPTIONS', `${where}: ${(error as Error).message}`);
  }
  if (typeof parsed !== 'object' || parsed === null || Array.isArray(parsed)) {
    throw new MillraceError('MILLRACE_OPTIONS', `${where}: it must be a JSON object`);
  }
  const record = parsed as Fields;
  const type = record['#type'];
  if (type === undefined) return callOf('track', record);
  // Updates of events are as large as events.
  const method = METHODS[String(type).replace(/^track_.*/, 'track')];
  if (method === undefined) {
    const known = Object.keys(METHODS).join(', ');
    throw new MillraceError('MILLRACE_OPTIONS', `${where}: #type is ${type}; known are ${known}`);
  }
  return callOf(method, fieldsOf(record));
}

function fieldsOf(record: Fields): Fields {
  const properties = Object(record.properties) as Fields;
  const own = Object.entries(properties).filter(([name]) => !PRESETS.has(name));
  return {
    accountId: record['#account_id'],
    distinctId: record['#distinct_id'],
    event: record['#event_name'],
    ip: record['#ip'],
    properties: Object.fromEntries(own),
  };
}

function callOf(method: Method, { ...fields }: Fields): SampleCall {
  return (to, onSettled) => {
    // The checks of the call itself say what is wrong with the fields.
    const call = to[method] as (fields: unknown) => boolean;
    return call.call(to, onSettled === undefined ? fields : { ...fields, onSettled });
  };
}
