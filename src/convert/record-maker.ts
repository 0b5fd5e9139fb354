import { createHash } from 'node:crypto';
import { show } from '../base/errors.ts';
import { TIME_TEXT_BYTES, TimeText } from '../codec/time-text.ts';
import { LINE_BYTES_MAX, TOO_LONG } from '../lines/line-check.ts';
import { checkRecord } from '../record/check.ts';
import type { FieldSource, Mapping, PropertyRule } from './mapping.ts';
import { momentOf } from './moments.ts';

/** Cells by the names of their columns; JSON rows have values of any kind. */
export type Row = Readonly<Record<string, unknown>>;

/** Where a row stands. */
export interface RowPlace {
  /** Name of the file, without folders: it goes into derived uuids. */
  readonly file: string;
  /** From 1 on. */
  readonly number: number;
}

/** What is wrong with a row; its message is told with the place. */
export class RowError extends Error {
  override readonly name = 'RowError';
}

const BOOLEANS: Readonly<Record<string, boolean>> = {
  true: true,
  yes: true,
  1: true,
  false: false,
  no: false,
  0: false,
};

/** Makes records of rows. */
export class RecordMaker {
  readonly #mapping: Mapping;
  readonly #timeText: TimeText;
  readonly #timeBytes: Buffer = Buffer.alloc(TIME_TEXT_BYTES);
  /** Columns that have their place already. */
  readonly #taken: ReadonlySet<string>;

  constructor(mapping: Mapping) {
    this.#mapping = mapping;
    this.#timeText = new TimeText(mapping.zone);
    this.#taken = takenColumns(mapping);
  }

  /** The record of a row as JSON. @throws RowError that says what is wrong */
  make(row: Row, place: RowPlace): string {
    const { type, fields, time } = this.#mapping;
    const record: Record<string, unknown> = { '#type': fieldOf(row, type) };
    const moment = fieldOf(row, time.source);
    const ms = momentOf(moment, time.rule);
    if (ms === undefined) throw new RowError(`time is ${show(moment)}, not ${time.rule.format}`);
    record['#time'] = this.#textOf(ms);
    for (const { name, source } of fields) {
      const value = fieldOf(row, source);
      if (value !== undefined) record[name] = String(value);
    }
    const uuid = this.#uuidOf(row, place);
    if (uuid !== undefined) record['#uuid'] = uuid;
    record.properties = { ...this.#properties(row), ...this.#offsetOf(record, ms) };
    const [problem] = checkRecord(record);
    if (problem !== undefined) throw new RowError(`${problem.path} ${problem.reason}`.trim());
    const line = JSON.stringify(record);
    if (Buffer.byteLength(line) > LINE_BYTES_MAX) throw new RowError(`record ${TOO_LONG.reason}`);
    return line;
  }

  /** As a client with `timeZone` does it: events say how far their time is from UTC. */
  #offsetOf(record: Readonly<Record<string, unknown>>, ms: number): Record<string, number> {
    const isTold = this.#mapping.zone.kind !== 'process' && /^track/.test(String(record['#type']));
    return isTold ? { '#zone_offset': this.#timeText.offsetHours(ms) } : {};
  }

  #properties(row: Row): Record<string, unknown> {
    const properties: Record<string, unknown> = {};
    for (const rule of this.#mapping.properties) {
      const value = fieldOf(row, rule.source);
      if (value !== undefined) properties[rule.name] = this.#typed(value, rule);
    }
    if (this.#mapping.others === 'drop') return properties;
    for (const [column, value] of Object.entries(row)) {
      if (this.#taken.has(column) || isMissing(value)) continue;
      properties[column] = value;
    }
    return properties;
  }

  #typed(value: unknown, rule: PropertyRule): unknown {
    const { name, type, separator } = rule;
    const wrong = () => new RowError(`${name} is ${show(value)}, not a ${type}`);
    switch (type) {
      case 'text':
        return String(value);
      case 'number': {
        const number = typeof value === 'number' ? value : Number(String(value).trim());
        if (!Number.isFinite(number)) throw wrong();
        return number;
      }
      case 'boolean': {
        const flag = BOOLEANS[String(value).trim().toLowerCase()];
        if (flag === undefined) throw wrong();
        return flag;
      }
      case 'time': {
        const ms = momentOf(value, rule.time);
        if (ms === undefined) throw wrong();
        return this.#textOf(ms);
      }
      case 'list':
        return Array.isArray(value) ? value : String(value).split(separator);
      case 'json':
        return typeof value === 'string' ? parsed(value, wrong) : value;
      default:
        return value;
    }
  }

  #textOf(ms: number): string {
    this.#timeText.write(this.#timeBytes, 0, ms);
    return this.#timeBytes.toString('latin1');
  }

  #uuidOf(row: Row, { file, number }: RowPlace): string | undefined {
    const rule = this.#mapping.uuid;
    switch (rule.kind) {
      case 'none':
        return undefined;
      case 'column':
        return String(cellOf(row, rule.column) ?? '').toLowerCase();
      case 'from':
        return derivedUuid(rule.columns.map((column) => cellOf(row, column)));
      case 'row':
        return derivedUuid([file, number, row]);
    }
  }
}

/** The same for the same content, in any run: a name-based UUID (version 5). */
function derivedUuid(content: unknown): string {
  const bytes = createHash('sha1').update(JSON.stringify(content)).digest();
  bytes[6] = ((bytes[6] ?? 0) & 0x0f) | 0x50;
  bytes[8] = ((bytes[8] ?? 0) & 0x3f) | 0x80;
  const hex = bytes.toString('hex');
  return [
    hex.slice(0, 8),
    hex.slice(8, 12),
    hex.slice(12, 16),
    hex.slice(16, 20),
    hex.slice(20, 32),
  ].join('-');
}

/** Undefined: the cell is empty. @throws RowError for a value that the mapping does not translate */
function fieldOf(row: Row, source: FieldSource): unknown {
  if (source.kind === 'constant') return source.value;
  const cell = cellOf(row, source.column);
  if (cell === undefined || source.values === undefined) return cell;
  const value = Object.hasOwn(source.values, String(cell))
    ? source.values[String(cell)]
    : undefined;
  if (value === undefined) {
    throw new RowError(`${source.column} is ${show(cell)}, which the mapping has no value for`);
  }
  return value;
}

/** A cell; of a JSON row also an inner one, `user.id`. Undefined: it is empty. */
function cellOf(row: Row, column: string): unknown {
  const own = Object.hasOwn(row, column) ? row[column] : innerCell(row, column);
  return isMissing(own) ? undefined : own;
}

function innerCell(row: Row, path: string): unknown {
  let value: unknown = row;
  for (const name of path.split('.')) {
    if (typeof value !== 'object' || value === null || !Object.hasOwn(value, name)) {
      return undefined;
    }
    value = (value as Row)[name];
  }
  return value;
}

function isMissing(value: unknown): boolean {
  return value === undefined || value === null || value === '';
}

function parsed(text: string, wrong: () => Error): unknown {
  try {
    return JSON.parse(text);
  } catch {
    // The row is told with its place; what the parser says adds nothing.
    throw wrong();
  }
}

function takenColumns({ type, time, fields, properties, uuid }: Mapping): ReadonlySet<string> {
  const sources = [
    type,
    time.source,
    ...fields.map(({ source }) => source),
    ...properties.map(({ source }) => source),
  ];
  const taken = sources.flatMap((source) => (source.kind === 'column' ? [source.column] : []));
  return new Set(uuid.kind === 'column' ? [...taken, uuid.column] : taken);
}
