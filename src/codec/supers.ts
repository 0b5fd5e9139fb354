import { types } from 'node:util';
import { MillraceError, show } from '../base/errors.ts';
import { ShapeTable } from '../record/shapes.ts';
import { LIFT_CODES, LIFT_NAMES, type Properties } from '../record/types.ts';
import { unpack } from './msgpack.ts';
import { ValueWriter, writeTarget } from './value-writer.ts';

const MAP_BYTES_MIN = 1024;
const MAP_BYTES_MAX: number = 16 * 1024 * 1024;
const MAP_HEADER_BYTES = 3;

/** Super properties as one client keeps them: checked, copied, in the form frames and slots carry. */
export interface EncodedProperties {
  /** msgpack map, without the lifted fields; undefined: it would be empty. */
  readonly map: Uint8Array | undefined;
  /** The same as an object of its own. */
  readonly copy: Properties;
  /** Lifted fields (`#ip`, `#app_id` …) by LIFT_ number; undefined: none. */
  readonly lifted: readonly (string | undefined)[] | undefined;
}

/**
 * Copies properties into the form super properties are published in.
 *
 * @throws MillraceError MILLRACE_INVALID_NAME or MILLRACE_INVALID_VALUE under strict checks
 */
export function encodeProperties(
  properties: Properties,
  checks: 'strict' | 'none',
): EncodedProperties {
  for (let bytes = MAP_BYTES_MIN; bytes <= MAP_BYTES_MAX; bytes *= 4) {
    const encoded = tryEncode(properties, { checks, bytes });
    if (encoded !== undefined) return encoded;
  }
  throw new MillraceError(
    'MILLRACE_RECORD_TOO_LARGE',
    `super properties take more than ${MAP_BYTES_MAX} bytes`,
  );
}

/** Undefined: they need more than `bytes`. */
function tryEncode(
  properties: Properties,
  { checks, bytes }: { checks: 'strict' | 'none'; bytes: number },
): EncodedProperties | undefined {
  const shapes = new ShapeTable(checks);
  const writer = new ValueWriter(checks, new ShapeTable(checks));
  const target = writeTarget(new ArrayBuffer(bytes));
  const lifted: (string | undefined)[] = new Array(LIFT_CODES).fill(undefined);
  writer.start(target, 0, bytes);
  writer.skip(MAP_HEADER_BYTES);
  let shape = shapes.base;
  let count = 0;
  for (const key of Object.keys(properties)) {
    const value: unknown = properties[key];
    if (value === undefined || value === null) continue;
    const next = shapes.step(shape, key);
    if (next.lift !== 0) {
      lifted[next.lift] = liftedText(next.lift, { value, checks });
      continue;
    }
    shape = next;
    const at = writer.at;
    writer.string(key);
    if (writer.value(value, key)) count += 1;
    else writer.at = at;
  }
  if (writer.isOverflowed) return undefined;
  writer.mapHeader(0, count);
  const map = target.bytes.slice(0, writer.at);
  return {
    map: count === 0 ? undefined : map,
    copy: unpack(map) as Properties,
    lifted: lifted.some((text) => text !== undefined) ? lifted : undefined,
  };
}

function liftedText(
  code: number,
  { value, checks }: { value: unknown; checks: 'strict' | 'none' },
): string | undefined {
  if (typeof value === 'string' && value !== '') return value;
  // The time of a record can't be the same for all records to come.
  if (checks === 'none') return undefined;
  const rule =
    types.isDate(value) && LIFT_NAMES[code] === '#time'
      ? 'it belongs to one record, not to all'
      : 'it must be a text that is not empty';
  throw new MillraceError(
    'MILLRACE_INVALID_VALUE',
    `super properties: ${LIFT_NAMES[code]} is ${show(value)}; ${rule}`,
  );
}
