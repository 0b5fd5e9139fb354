import { isEventName, isPropertyName } from './names.ts';
import { LIFT_NAMES, TYPE_NAMES } from './types.ts';

/** What is wrong with a record, as a receiver sees it. */
export interface RecordProblem {
  /** Where: `properties.level`, `#time`, or '' for the record as a whole. */
  readonly path: string;
  readonly reason: string;
  /** 'property': one property is wrong; 'record': the record can't be used. */
  readonly kind: 'property' | 'record';
}

const DEPTH_MAX = 3;
const LIST_MAX = 500;
const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;
const TIME = /^(\d{4})-(\d{2})-(\d{2}) (\d{2}):(\d{2}):(\d{2})\.(\d{3})$/;
const DAYS: readonly number[] = [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
const TYPES: ReadonlySet<string> = new Set(TYPE_NAMES.filter((name) => name !== ''));
const TOP_LEVEL: ReadonlySet<string> = new Set([
  '#type',
  '#event_name',
  '#distinct_id',
  '#account_id',
  'properties',
  ...LIFT_NAMES.filter((name) => name !== ''),
]);
/** Fields whose place is the top level. */
const NOT_IN_PROPERTIES: ReadonlySet<string> = new Set([
  '#type',
  '#event_name',
  '#distinct_id',
  '#account_id',
  ...LIFT_NAMES.filter((name) => name !== ''),
]);
const OPTIONAL_TEXTS: readonly string[] = [
  '#ip',
  '#app_id',
  '#transaction_property',
  '#import_tool_id',
];

type Fields = Readonly<Record<string, unknown>>;

/** Everything in which one parsed record breaks the wire contract; none: it is fine. */
export function checkRecord(record: unknown): readonly RecordProblem[] {
  if (!isObject(record)) return [wrong('', 'is not a JSON object')];
  const problems: RecordProblem[] = [];
  checkHead(record, problems);
  checkTexts(record, problems);
  const properties = record.properties;
  if (isObject(properties)) checkProperties(String(record['#type']), properties, problems);
  else problems.push(wrong('properties', 'must be an object'));
  return problems;
}

function checkHead(record: Fields, problems: RecordProblem[]): void {
  const type = record['#type'];
  if (typeof type !== 'string' || !TYPES.has(type)) {
    problems.push(wrong('#type', `must be one of ${[...TYPES].join(', ')}`));
  } else if (type.startsWith('track')) checkEvent(type, record, problems);
  else checkUser(record, problems);
  if (typeof record['#time'] !== 'string' || !isTime(record['#time'])) {
    problems.push(wrong('#time', 'must be yyyy-MM-dd HH:mm:ss.SSS'));
  }
  checkIds(record, problems);
  for (const name in record) {
    if (!TOP_LEVEL.has(name)) problems.push(wrong(name, 'is not a field of a record'));
  }
}

function checkIds(record: Fields, problems: RecordProblem[]): void {
  const hasId = isText(record['#account_id']) || isText(record['#distinct_id']);
  if (!hasId) problems.push(wrong('#account_id', 'or #distinct_id must be there, not empty'));
  for (const name of ['#account_id', '#distinct_id']) {
    const id = record[name];
    if (id !== undefined && typeof id !== 'string') problems.push(wrong(name, 'must be a text'));
    else if (id === '') problems.push(wrong(name, 'must not be empty'));
  }
}

function checkEvent(type: string, record: Fields, problems: RecordProblem[]): void {
  const event = record['#event_name'];
  if (typeof event !== 'string' || !isEventName(event)) {
    problems.push(wrong('#event_name', 'must be a name: a letter, then letters, digits and _'));
  }
  const isChange = type !== 'track';
  if (isChange && !isText(record['#event_id'])) {
    problems.push(wrong('#event_id', `must be there for ${type}`));
  }
  if (isChange && record['#first_check_id'] !== undefined) {
    problems.push(wrong('#first_check_id', 'belongs to track only'));
  }
}

function checkUser(record: Fields, problems: RecordProblem[]): void {
  for (const name of ['#event_name', '#event_id', '#first_check_id']) {
    if (record[name] !== undefined) problems.push(wrong(name, 'belongs to events only'));
  }
}

function checkTexts(record: Fields, problems: RecordProblem[]): void {
  for (const name of OPTIONAL_TEXTS) {
    if (record[name] !== undefined && !isText(record[name])) {
      problems.push(wrong(name, 'must be a text that is not empty'));
    }
  }
  for (const name of ['#event_id', '#first_check_id']) {
    if (record[name] !== undefined && !isText(record[name])) {
      problems.push(wrong(name, 'must be a text that is not empty'));
    }
  }
  const uuid = record['#uuid'];
  if (uuid !== undefined && (typeof uuid !== 'string' || !UUID.test(uuid))) {
    problems.push(wrong('#uuid', 'must be a UUID in lower case'));
  }
}

function checkProperties(type: string, properties: Fields, problems: RecordProblem[]): void {
  checkNames(properties, { path: 'properties', problems });
  for (const name in properties) {
    const path = `properties.${name}`;
    const value = properties[name];
    if (NOT_IN_PROPERTIES.has(name)) {
      problems.push({ path, reason: 'has its place at the top level', kind: 'property' });
    }
    const reason = checkOperand(type, value) ?? checkValue(value, 0);
    if (reason !== undefined) problems.push({ path, reason, kind: 'property' });
  }
  if (type === 'user_del' && Object.keys(properties).length > 0) {
    problems.push(wrong('properties', 'must be empty for user_del'));
  }
}

function checkNames(
  object: Fields,
  { path, problems }: { path: string; problems: RecordProblem[] },
): void {
  const seen = new Set<string>();
  for (const name in object) {
    if (!isPropertyName(name)) {
      const reason = 'is not a name: a letter (or #), then letters, digits and _, at most 50';
      problems.push({ path: `${path}.${name}`, reason, kind: 'property' });
    }
    const lower = name.toLowerCase();
    if (seen.has(lower)) {
      const reason = 'differs from another name only in case';
      problems.push({ path: `${path}.${name}`, reason, kind: 'property' });
    }
    seen.add(lower);
  }
}

/** What the operation asks of the value, before the rules for all values. */
function checkOperand(type: string, value: unknown): string | undefined {
  if (type === 'user_add' && typeof value !== 'number') return 'must be a number for user_add';
  if (type === 'user_unset' && value !== 0) return 'must be 0 for user_unset';
  if ((type === 'user_append' || type === 'user_uniq_append') && !Array.isArray(value)) {
    return `must be a list for ${type}`;
  }
  return undefined;
}

/** The rule a value breaks; undefined: none. `depth` counts the objects around it. */
function checkValue(value: unknown, depth: number): string | undefined {
  if (typeof value === 'number')
    return Number.isFinite(value) ? undefined : 'must be a finite number';
  if (typeof value !== 'object') return undefined;
  if (value === null) return 'must not be null';
  if (Array.isArray(value)) return checkList(value, depth);
  if (depth >= DEPTH_MAX) return `is nested deeper than ${DEPTH_MAX} objects`;
  const problems: RecordProblem[] = [];
  checkNames(value as Fields, { path: '', problems });
  if (problems[0] !== undefined) return `${problems[0].path.slice(1)} ${problems[0].reason}`;
  for (const [name, inner] of Object.entries(value)) {
    const reason = checkValue(inner, depth + 1);
    if (reason !== undefined) return `${name}: ${reason}`;
  }
  return undefined;
}

function checkList(list: readonly unknown[], depth: number): string | undefined {
  if (list.length > LIST_MAX) return `has more than ${LIST_MAX} elements`;
  for (const element of list) {
    if (Array.isArray(element)) return 'holds a list inside a list';
    const reason = checkValue(element, depth);
    if (reason !== undefined) return reason;
  }
  return undefined;
}

/** Whether a text is a moment that exists, as the contract writes it. */
export function isTime(text: string): boolean {
  const match = TIME.exec(text);
  if (match === null) return false;
  const [year = 0, month = 0, day = 0, hour = 0, minute = 0, second = 0] = match
    .slice(1)
    .map(Number);
  const isLeap = (year % 4 === 0 && year % 100 !== 0) || year % 400 === 0;
  const days = month === 2 && isLeap ? 29 : (DAYS[month - 1] ?? 0);
  return year > 0 && day >= 1 && day <= days && hour < 24 && minute < 60 && second < 60;
}

function wrong(path: string, reason: string): RecordProblem {
  return { path, reason, kind: 'record' };
}

function isText(value: unknown): value is string {
  return typeof value === 'string' && value !== '';
}

function isObject(value: unknown): value is Fields {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
