import { types } from 'node:util';
import type { Fields } from './types.ts';

/**
 * What `thinkingdata-node` makes of the properties it is given: which names and values it takes, and what becomes of values
 * that are no plain data (it prints records with `JSON.stringify`). Nothing of the caller's is changed here.
 */

const NAME = /^[a-zA-Z#][a-zA-Z0-9_]+$/;
/** Deeper values are left out; so are cycles. */
const DEPTH_MAX = 32;

/** Properties as the engine takes them. */
export interface TakenProperties {
  readonly properties: Fields;
  /** How many have a value. */
  readonly count: number;
}

const NONE: TakenProperties = Object.freeze({ properties: Object.freeze({}), count: 0 });

/** Whether something may be the name of an event or property. */
export function isName(name: unknown): name is string {
  return (typeof name === 'string' || name instanceof String) && NAME.test(String(name));
}

/** Whether something is an object and nothing more special. */
export function isObject(value: unknown): value is Fields {
  return Object.prototype.toString.call(value) === '[object Object]';
}

/**
 * Properties of a call, ready for the engine: the caller's own object when it holds plain data only, else a copy.
 *
 * @returns undefined when they are neither nothing nor an object, or when a name is wrong
 */
export function takeProperties(given: unknown): TakenProperties | undefined {
  if (!given) return NONE;
  if (!isObject(given)) return undefined;
  let isTaken = true;
  let count = 0;
  for (const name of Object.keys(given)) {
    const value = given[name];
    if (isKept(value)) {
      if (!NAME.test(name)) return undefined;
      count += 1;
    }
    if (isTaken) isTaken = isPlain(value, 0);
  }
  return { properties: isTaken ? given : copyObject(given, []), count };
}

/** As {@link takeProperties}, without a look at the names; what is no object counts as nothing. */
export function takeUnchecked(given: unknown): TakenProperties {
  if (!isObject(given)) return NONE;
  const isTaken = Object.values(given).every((value) => isPlain(value, 0));
  return { properties: isTaken ? given : copyObject(given, []), count: Object.keys(given).length };
}

/** Whether a property has a value that is sent: no function, Map, Error and the like. */
function isKept(value: unknown): boolean {
  switch (typeof value) {
    case 'string':
    case 'number':
    case 'boolean':
    case 'bigint':
      return true;
    case 'object':
      return KEPT_TAGS.has(Object.prototype.toString.call(value));
    default:
      return false;
  }
}

const KEPT_TAGS: ReadonlySet<string> = new Set(
  ['Object', 'Array', 'Date', 'String', 'Number', 'Boolean'].map((name) => `[object ${name}]`),
);

/** Whether the engine writes a value exactly as `JSON.stringify` would, or leaves it out. */
function isPlain(value: unknown, depth: number): boolean {
  if (typeof value !== 'object' || value === null || types.isDate(value)) return true;
  if (depth >= DEPTH_MAX) return false;
  if (Array.isArray(value)) return value.every((item) => isPlain(item, depth + 1));
  const prototype: unknown = Object.getPrototypeOf(value);
  if (prototype !== Object.prototype && prototype !== null) return false;
  if ('toJSON' in value) return false;
  return Object.values(value).every((item) => isPlain(item, depth + 1));
}

/** The value as `JSON.stringify` would print it, Dates excepted: they stay. `above` are the objects it is in. */
function copyValue(value: unknown, above: readonly object[]): unknown {
  if (typeof value !== 'object' || value === null || types.isDate(value)) return value;
  if (above.length >= DEPTH_MAX || above.includes(value)) return undefined;
  const within = [...above, value];
  if ('toJSON' in value && typeof value.toJSON === 'function') {
    return copyValue(value.toJSON(), within);
  }
  if (Array.isArray(value)) return value.map((item) => copyValue(item, within));
  if (value instanceof String || value instanceof Number || value instanceof Boolean) {
    return value.valueOf();
  }
  return copyObject(value as Fields, above);
}

function copyObject(value: Fields, above: readonly object[]): Fields {
  const copy: Fields = {};
  const within = [...above, value];
  for (const [name, item] of Object.entries(value)) {
    if (above.length > 0 || isKept(item)) copy[name] = copyValue(item, within);
  }
  return copy;
}

/** A copy in which Dates are texts, and nothing without a value is left. */
export function withTexts(value: Fields): Fields {
  return textsOf(value) as Fields;
}

function textsOf(value: unknown): unknown {
  if (types.isDate(value)) return timeText(value);
  if (Array.isArray(value)) return value.map(textsOf);
  if (!isObject(value)) return value;
  const entries = Object.entries(value).filter(([, item]) => item !== null && item !== undefined);
  return Object.fromEntries(entries.map(([name, item]) => [name, textsOf(item)]));
}

/** Local wall time as records have it. */
export function timeText(date: Date): string {
  const two = (value: number) => String(value).padStart(2, '0');
  const day = `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())}`;
  const clock = [date.getHours(), date.getMinutes(), date.getSeconds()].map(two).join(':');
  return `${day} ${clock}.${String(date.getMilliseconds()).padStart(3, '0')}`;
}
