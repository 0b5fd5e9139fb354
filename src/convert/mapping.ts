import { parse } from 'yaml';
import { MillraceError, show, textOfError } from '../base/errors.ts';
import { resolveZone, type Zone } from '../codec/time-text.ts';
import { OptionReader } from '../engine/option-reader.ts';
import { TYPE_NAMES } from '../record/types.ts';

/** Where a field's text comes from: a column, its values translated or not; or the same text for all rows. */
export interface ColumnSource {
  readonly kind: 'column';
  readonly column: string;
  /** By the column's value; a value that is not listed makes a bad row. */
  readonly values: Readonly<Record<string, string>> | undefined;
}

export type FieldSource = ColumnSource | { readonly kind: 'constant'; readonly value: unknown };

/** How texts become times. */
export interface TimeRule {
  /** 'iso', 'unix' (seconds), 'unixMs', or a pattern such as `dd/MM/yyyy HH:mm:ss`. */
  readonly format: string;
  /** Zone of times that do not say theirs. */
  readonly zone: string;
}

export type PropertyType = 'text' | 'number' | 'boolean' | 'time' | 'list' | 'json';

export interface PropertyRule {
  readonly name: string;
  readonly source: FieldSource;
  /** undefined: as it comes. */
  readonly type: PropertyType | undefined;
  readonly time: TimeRule;
  /** Between the elements of a list. */
  readonly separator: string;
}

export type UuidRule =
  | { readonly kind: 'none' }
  /** From the file's name, the row's number and its content. */
  | { readonly kind: 'row' }
  | { readonly kind: 'column'; readonly column: string }
  /** From the values of these columns alone. */
  | { readonly kind: 'from'; readonly columns: readonly string[] };

/** How rows become records; complete and checked. */
export interface Mapping {
  readonly format: 'csv' | 'jsonl' | undefined;
  readonly delimiter: string;
  /** Names of the columns; undefined: the first row has them. */
  readonly columns: readonly string[] | undefined;
  readonly type: FieldSource;
  readonly fields: readonly { readonly name: string; readonly source: FieldSource }[];
  readonly time: { readonly source: FieldSource; readonly rule: TimeRule };
  readonly zone: Zone;
  readonly uuid: UuidRule;
  readonly properties: readonly PropertyRule[];
  /** Columns that nothing names: left out, or properties of their name. */
  readonly others: 'drop' | 'keep';
}

/** Options of a mapping, and the top-level fields they fill. */
const FIELDS: Readonly<Record<string, string>> = {
  event: '#event_name',
  accountId: '#account_id',
  distinctId: '#distinct_id',
  ip: '#ip',
  eventId: '#event_id',
  firstCheckId: '#first_check_id',
  appId: '#app_id',
};
const PROPERTY_TYPES = ['text', 'number', 'boolean', 'time', 'list', 'json'] as const;
const TYPES: readonly string[] = TYPE_NAMES.filter((name) => name !== '');

/** @throws MillraceError MILLRACE_OPTIONS: the text is neither YAML nor JSON, or with everything that is wrong in it */
export function parseMapping(text: string): Mapping {
  let value: unknown;
  try {
    value = parse(text);
  } catch (error) {
    const words = textOfError(error);
    throw new MillraceError('MILLRACE_OPTIONS', `mapping: ${words}`, error);
  }
  return readMapping(value);
}

/** @throws MillraceError MILLRACE_OPTIONS with everything that is wrong */
export function readMapping(value: unknown): Mapping {
  const reader = new OptionReader('mapping', value ?? {});
  const timeZone = reader.text('timeZone');
  const zone = reader.check(() => resolveZone(timeZone)) ?? { kind: 'process' };
  const inputZone = timeZone ?? 'local';
  const fields = Object.entries(FIELDS).flatMap(([option, name]) => {
    const source = readSource(reader, option);
    return source === undefined ? [] : [{ name, source }];
  });
  const type = readSource(reader, 'type') ?? { kind: 'constant', value: 'track' };
  checkTypes(reader, type);
  const time = readTime(reader, inputZone);
  const mapping: Mapping = {
    format: reader.oneOf('format', ['csv', 'jsonl'] as const),
    delimiter: reader.text('delimiter') ?? ',',
    columns: readNames(reader, 'columns'),
    type,
    fields,
    time,
    zone,
    uuid: readUuid(reader),
    properties: readProperties(reader, inputZone),
    others: reader.oneOf('others', ['drop', 'keep'] as const, 'drop'),
  };
  reader.finish();
  return mapping;
}

function readSource(reader: OptionReader, option: string): FieldSource | undefined {
  const raw = reader.raw(option);
  if (raw === undefined) return undefined;
  if (typeof raw === 'string') return { kind: 'constant', value: raw };
  return reader.check(() => {
    const inner = new OptionReader(`mapping.${option}`, raw);
    const source = sourceOf(inner);
    inner.finish();
    return source;
  });
}

/** `column` with or without `values`, or `value`. */
function sourceOf(reader: OptionReader): FieldSource {
  const value = reader.raw('value');
  const column = reader.text('column');
  const values = reader.texts('values');
  if ((value === undefined) === (column === undefined)) {
    reader.fail('it must have a column, or else a value');
  }
  if (column === undefined) return { kind: 'constant', value };
  return { kind: 'column', column, values };
}

function checkTypes(reader: OptionReader, source: FieldSource): void {
  const values = source.kind === 'constant' ? [source.value] : Object.values(source.values ?? {});
  for (const value of values) {
    if (TYPES.includes(String(value))) continue;
    reader.fail(`type is ${show(value)}; it must be one of ${TYPES.join(', ')}`);
  }
}

function readTime(reader: OptionReader, zone: string): { source: FieldSource; rule: TimeRule } {
  const none = { source: { kind: 'constant', value: '' } as const, rule: { format: 'iso', zone } };
  const raw = reader.raw('time');
  if (raw === undefined) {
    reader.fail('time is missing; it says which column has it, and in what format');
    return none;
  }
  const read = reader.check(() => {
    const inner = new OptionReader('mapping.time', raw);
    const rule = timeRuleOf(inner, zone);
    const source = sourceOf(inner);
    inner.finish();
    return { source, rule };
  });
  return read ?? none;
}

function timeRuleOf(reader: OptionReader, fallback: string): TimeRule {
  const format = reader.text('format') ?? 'iso';
  const zone = reader.text('zone');
  if (zone !== undefined) reader.check(() => resolveZone(zone));
  return { format, zone: zone ?? fallback };
}

function readUuid(reader: OptionReader): UuidRule {
  const raw = reader.raw('uuid') ?? 'row';
  if (raw === 'row' || raw === 'none') return { kind: raw };
  const read = reader.check((): UuidRule => {
    const inner = new OptionReader('mapping.uuid', raw);
    const column = inner.text('column');
    const columns = readNames(inner, 'from');
    if ((column === undefined) === (columns === undefined)) {
      inner.fail("it must be 'row', 'none', or have a column, or else from: a list of columns");
    }
    inner.finish();
    return column === undefined
      ? { kind: 'from', columns: columns ?? [] }
      : { kind: 'column', column };
  });
  return read ?? { kind: 'row' };
}

function readNames(reader: OptionReader, option: string): readonly string[] | undefined {
  const raw = reader.raw(option);
  if (raw === undefined) return undefined;
  if (Array.isArray(raw) && raw.length > 0 && raw.every((name) => typeof name === 'string')) {
    return raw;
  }
  reader.fail(`${option} is ${show(raw)}; it must be a list of names`);
  return undefined;
}

function readProperties(reader: OptionReader, zone: string): PropertyRule[] {
  const raw = reader.raw('properties') ?? {};
  if (typeof raw !== 'object' || Array.isArray(raw)) {
    reader.fail(`properties is ${show(raw)}; it must be an object, by property name`);
    return [];
  }
  return Object.entries(raw as object).flatMap(([name, rule]) => {
    const read = reader.check(() => readProperty(name, rule, zone));
    return read === undefined ? [] : [read];
  });
}

function readProperty(name: string, raw: unknown, zone: string): PropertyRule {
  const shape = typeof raw === 'string' ? { column: raw } : raw;
  const reader = new OptionReader(`mapping.properties.${name}`, shape);
  const rule: PropertyRule = {
    name,
    source: sourceOf(reader),
    type: reader.oneOf('type', PROPERTY_TYPES),
    time: timeRuleOf(reader, zone),
    separator: reader.text('separator') ?? ',',
  };
  reader.finish();
  return rule;
}
