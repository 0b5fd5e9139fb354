import assert from 'node:assert/strict';
import { test } from 'node:test';
import { gzipSync } from 'node:zlib';
import { checkRecord, type Fault, Receiver } from '../src/receiver/index.ts';

const TIME = '2026-03-08 12:05:06.007';
const EVENT = {
  '#type': 'track',
  '#time': TIME,
  '#event_name': 'e',
  '#account_id': 'u',
  properties: {},
};
const USER = { '#type': 'user_set', '#time': TIME, '#account_id': 'u', properties: { a: 1 } };

function without(record: object, name: string): object {
  return Object.fromEntries(Object.entries(record).filter(([key]) => key !== name));
}

function nested(depth: number): object {
  return depth === 0 ? { n: 1 } : { n: nested(depth - 1) };
}

function withProperty(name: string, value: unknown): object {
  return { ...EVENT, properties: { [name]: value } };
}

// [what is wrong, the record, the path that must be named]
const BAD_RECORDS: readonly (readonly [string, unknown, string])[] = [
  ['a number', 7, ''],
  ['null', null, ''],
  ['a list', [], ''],
  ['a text', 'x', ''],
  ['an empty object', {}, '#type'],
  ['no type', without(EVENT, '#type'), '#type'],
  ['an unknown type', { ...EVENT, '#type': 'trak' }, '#type'],
  ['a type that is no text', { ...EVENT, '#type': 1 }, '#type'],
  ['no time', without(EVENT, '#time'), '#time'],
  ['a time that is a number', { ...EVENT, '#time': 1_700_000_000 }, '#time'],
  ['a time without ms', { ...EVENT, '#time': '2026-03-08 12:05:06' }, '#time'],
  ['an ISO time', { ...EVENT, '#time': '2026-03-08T12:05:06.007Z' }, '#time'],
  ['a 13th month', { ...EVENT, '#time': '2026-13-08 12:05:06.007' }, '#time'],
  ['a 30th of February', { ...EVENT, '#time': '2026-02-30 12:05:06.007' }, '#time'],
  [
    'a 29th of February in a common year',
    { ...EVENT, '#time': '2025-02-29 12:05:06.007' },
    '#time',
  ],
  ['hour 24', { ...EVENT, '#time': '2026-03-08 24:05:06.007' }, '#time'],
  ['minute 60', { ...EVENT, '#time': '2026-03-08 12:60:06.007' }, '#time'],
  ['second 60', { ...EVENT, '#time': '2026-03-08 12:05:60.007' }, '#time'],
  ['no event name', without(EVENT, '#event_name'), '#event_name'],
  ['an empty event name', { ...EVENT, '#event_name': '' }, '#event_name'],
  ['an event name that starts with a digit', { ...EVENT, '#event_name': '1a' }, '#event_name'],
  ['an event name of 51 characters', { ...EVENT, '#event_name': 'a'.repeat(51) }, '#event_name'],
  ['an event name with a dash', { ...EVENT, '#event_name': 'a-b' }, '#event_name'],
  ['an event name with #', { ...EVENT, '#event_name': '#e' }, '#event_name'],
  ['no id', without(EVENT, '#account_id'), '#account_id'],
  ['an empty id', { ...EVENT, '#account_id': '' }, '#account_id'],
  ['an id that is a number', { ...EVENT, '#account_id': 7 }, '#account_id'],
  ['a distinct id that is null', { ...EVENT, '#distinct_id': null }, '#distinct_id'],
  ['an empty distinct id beside an account id', { ...EVENT, '#distinct_id': '' }, '#distinct_id'],
  ['no properties', without(EVENT, 'properties'), 'properties'],
  ['properties that are a list', { ...EVENT, properties: [] }, 'properties'],
  ['properties that are null', { ...EVENT, properties: null }, 'properties'],
  ['an unknown field', { ...EVENT, extra: 1 }, 'extra'],
  ['an upper-case uuid', { ...EVENT, '#uuid': '3F2B8C1E-9A47-4D6E-8B15-7C0D9E2F1A34' }, '#uuid'],
  ['a uuid that is none', { ...EVENT, '#uuid': 'x' }, '#uuid'],
  ['an ip that is a number', { ...EVENT, '#ip': 7 }, '#ip'],
  ['an empty app id', { ...EVENT, '#app_id': '' }, '#app_id'],
  ['an update without event id', { ...EVENT, '#type': 'track_update' }, '#event_id'],
  [
    'an overwrite with an empty event id',
    { ...EVENT, '#type': 'track_overwrite', '#event_id': '' },
    '#event_id',
  ],
  [
    'an update with a first check id',
    { ...EVENT, '#type': 'track_update', '#event_id': '1', '#first_check_id': '2' },
    '#first_check_id',
  ],
  ['an empty first check id', { ...EVENT, '#first_check_id': '' }, '#first_check_id'],
  ['a user record with an event name', { ...USER, '#event_name': 'e' }, '#event_name'],
  ['a user record with an event id', { ...USER, '#event_id': 'e' }, '#event_id'],
  ['a user record with a first check id', { ...USER, '#first_check_id': 'e' }, '#first_check_id'],
  ['a property name with a space', withProperty('a b', 1), 'properties.a b'],
  ['an empty property name', withProperty('', 1), 'properties.'],
  [
    'a property name of 51 characters',
    withProperty('a'.repeat(51), 1),
    `properties.${'a'.repeat(51)}`,
  ],
  ['a property name that starts with _', withProperty('_a', 1), 'properties._a'],
  [
    'names that differ only in case',
    { ...EVENT, properties: { Level: 1, level: 2 } },
    'properties.level',
  ],
  ['a type inside properties', withProperty('#type', 'x'), 'properties.#type'],
  ['an account id inside properties', withProperty('#account_id', 'x'), 'properties.#account_id'],
  ['a time inside properties', withProperty('#time', TIME), 'properties.#time'],
  ['a null value', withProperty('a', null), 'properties.a'],
  ['a list inside a list', withProperty('a', [[1]]), 'properties.a'],
  ['null inside a list', withProperty('a', [1, null]), 'properties.a'],
  ['a list of 501', withProperty('a', new Array(501).fill(1)), 'properties.a'],
  ['objects four deep', withProperty('a', nested(3)), 'properties.a'],
  ['a bad name inside an object', withProperty('a', { 'b c': 1 }), 'properties.a'],
  ['null inside an object', withProperty('a', { b: null }), 'properties.a'],
  ['case clash inside an object', withProperty('a', { B: 1, b: 2 }), 'properties.a'],
  ['user_add of a text', { ...USER, '#type': 'user_add', properties: { a: '1' } }, 'properties.a'],
  ['user_append of a number', { ...USER, '#type': 'user_append' }, 'properties.a'],
  [
    'user_uniq_append of an object',
    { ...USER, '#type': 'user_uniq_append', properties: { a: {} } },
    'properties.a',
  ],
  ['user_unset with a value', { ...USER, '#type': 'user_unset' }, 'properties.a'],
  ['user_del with properties', { ...USER, '#type': 'user_del' }, 'properties'],
];

for (const [what, record, path] of BAD_RECORDS) {
  test(`a record is refused: ${what}`, () => {
    const problems = checkRecord(record);
    const paths = problems.map((problem) => problem.path);
    assert.ok(paths.includes(path), `${path} among ${paths}`);
  });
}

test('records the contract allows pass', () => {
  const fine = [
    EVENT,
    USER,
    withProperty('a', nested(2)),
    withProperty('#country', 'CN'),
    withProperty('l', [{ a: 1 }, 'x', 1, true]),
    { ...EVENT, '#first_check_id': 'x', '#ip': '1.1.1.1', '#app_id': 'B' },
    { ...EVENT, '#type': 'track_update', '#event_id': '1' },
    { ...EVENT, '#time': '2024-02-29 23:59:59.999' },
    { ...USER, '#type': 'user_del', properties: {} },
    { ...USER, '#type': 'user_unset', properties: { a: 0 } },
  ];
  for (const record of fine) assert.deepEqual(checkRecord(record), [], JSON.stringify(record));
});

interface Answer {
  readonly status: number;
  readonly code: number;
  readonly msg: string;
}

async function post(
  receiver: Receiver,
  body: Buffer | string,
  headers: Record<string, string> = {},
): Promise<Answer> {
  const reply = await fetch(`${receiver.url}/sync_server`, {
    method: 'POST',
    body,
    headers: { appid: 'A', compress: 'none', ...headers },
  });
  const answer = (await reply.json()) as { code: number; msg?: string };
  return { status: reply.status, code: answer.code, msg: answer.msg ?? '' };
}

// [what is wrong, body, headers, expected status, code, word in the message]
type BadBody = readonly [string, Buffer | string, Record<string, string>, number, number, string];
const JSON_BODY = JSON.stringify([EVENT]);
const BAD_BODIES: readonly BadBody[] = [
  ['not JSON', 'hello', {}, 200, -1, 'not JSON'],
  ['an object', JSON.stringify(EVENT), {}, 200, -1, 'array'],
  ['an empty list', '[]', {}, 200, -1, 'no record'],
  ['half a list', JSON_BODY.slice(0, -5), {}, 200, -1, 'not JSON'],
  ['nothing', '', {}, 200, -1, 'not JSON'],
  ['plain text announced as gzip', JSON_BODY, { compress: 'gzip' }, 200, -1, 'not gzip'],
  ['half a gzip', gzipSync(JSON_BODY).subarray(0, 30), { compress: 'gzip' }, 200, -1, 'not gzip'],
  ['gzip announced as plain', gzipSync(JSON_BODY), { compress: 'none' }, 200, -1, 'not JSON'],
  ['an unknown compression', JSON_BODY, { compress: 'lzo' }, 200, -1, 'lzo'],
  ['a wrong count', JSON_BODY, { 'TA-Integration-Count': '2' }, 200, -1, '2 announced, 1 found'],
  ['an unknown app id', JSON_BODY, { appid: 'B' }, 200, -2, 'B'],
  ['no app id', JSON_BODY, { appid: '' }, 200, -2, 'appid'],
  [
    'a bad record among good ones',
    JSON.stringify([EVENT, { ...EVENT, '#type': 'x' }]),
    {},
    200,
    -1,
    'record 1: #type',
  ],
  [
    'a gzip bomb',
    gzipSync(Buffer.alloc(3_000_000, 0x20)),
    { compress: 'gzip' },
    413,
    -1,
    'unpacks to more',
  ],
  ['a body that is too large', Buffer.alloc(1_100_000, 0x20), {}, 413, -1, 'more than'],
];

test('bodies that break the contract are refused with the reason, and good ones taken afterwards', async () => {
  const receiver = await Receiver.open({
    appIds: ['A'],
    bodyBytesMax: 1_000_000,
    rawBytesMax: 2_000_000,
  });
  for (const [what, body, headers, status, code, word] of BAD_BODIES) {
    const answer = await post(receiver, body, headers);
    assert.deepEqual([answer.status, answer.code], [status, code], `${what}: ${answer.msg}`);
    assert.ok(answer.msg.includes(word), `${what}: ${answer.msg}`);
  }
  assert.equal(receiver.snapshot().records, 0);
  assert.deepEqual(await post(receiver, JSON_BODY), { status: 200, code: 0, msg: '' });
  assert.equal(receiver.snapshot().records, 1);
  await receiver.close();
});

test('operations change users and events as they say', async () => {
  const receiver = await Receiver.open();
  const user = (type: string, properties: object) => ({ ...USER, '#type': type, properties });
  const event = (type: string, more: object) => ({ ...EVENT, '#type': type, ...more });
  const uuid = '3f2b8c1e-9a47-4d6e-8b15-7c0d9e2f1a34';
  const records = [
    user('user_set', { name: 'Ann', gold: 5, tags: ['a'] }),
    user('user_setOnce', { name: 'Bob', first: 'eu-1' }),
    user('user_add', { gold: 7, battles: 1 }),
    user('user_append', { tags: ['b', 'a'] }),
    user('user_uniq_append', { tags: ['c', 'a'], badges: [{ id: 1 }] }),
    user('user_unset', { first: 0 }),
    event('track_update', { '#event_id': '1', properties: { a: 1, b: 1 } }),
    event('track_update', { '#event_id': '1', properties: { b: 2 } }),
    event('track_overwrite', { '#event_id': '2', properties: { a: 1 } }),
    event('track_overwrite', { '#event_id': '2', properties: { b: 2 } }),
    event('track', { '#first_check_id': 'd', properties: { n: 1 } }),
    event('track', { '#first_check_id': 'd', properties: { n: 2 } }),
    event('track', { '#uuid': uuid }),
    event('track', { '#uuid': uuid }),
  ];
  assert.equal((await post(receiver, JSON.stringify(records))).code, 0);
  assert.deepEqual(receiver.user('u'), {
    name: 'Ann',
    gold: 12,
    tags: ['a', 'b', 'c'],
    battles: 1,
    badges: [{ id: 1 }],
  });
  const properties = receiver.events('e').map((found) => found.properties);
  assert.deepEqual(properties, [{ a: 1, b: 2 }, { b: 2 }, { n: 1 }, {}]);
  const { records: taken, unique, duplicates } = receiver.snapshot();
  assert.deepEqual([taken, unique, duplicates], [14, 13, 1]);
  const reply = await fetch(`${receiver.url}/users/u`);
  assert.equal(((await reply.json()) as { accountId: string }).accountId, 'u');
  await post(receiver, JSON.stringify([user('user_del', {})]));
  assert.equal(receiver.user('u'), undefined);
  assert.equal((await fetch(`${receiver.url}/users/u`)).status, 404);
  await receiver.close();
});

test('the debug endpoint names what is wrong, and stores nothing on a dry run', async () => {
  const receiver = await Receiver.open({ appIds: ['A'] });
  const send = async (fields: Record<string, string>) => {
    const body = new URLSearchParams({ source: 'server', appid: 'A', dryRun: '0', ...fields });
    const reply = await fetch(`${receiver.url}/data_debug`, { method: 'POST', body });
    return (await reply.json()) as {
      errorLevel: number;
      errorReasons?: string[];
      errorProperties?: { propertyName: string }[];
    };
  };
  const data = JSON.stringify(EVENT);
  assert.equal((await send({ data, dryRun: '1' })).errorLevel, 0);
  assert.equal(receiver.events().length, 0);
  assert.equal((await send({ data })).errorLevel, 0);
  assert.equal(receiver.events().length, 1);
  const wrong = await send({ data: JSON.stringify(withProperty('a b', 1)) });
  assert.equal(wrong.errorLevel, 1);
  assert.equal(wrong.errorProperties?.[0]?.propertyName, 'a b');
  const worse = await send({ data: JSON.stringify(without(EVENT, '#time')) });
  assert.equal(worse.errorLevel, 2);
  assert.match(worse.errorReasons?.[0] ?? '', /#time/);
  assert.equal((await send({ data, appid: 'B' })).errorLevel, -1);
  assert.equal((await send({ data: '{' })).errorLevel, 2);
  await receiver.close();
});

test('faults hit as many requests as they say', async () => {
  const receiver = await Receiver.open();
  const faults: readonly Fault[] = [
    { action: { kind: 'status', status: 503, headers: { 'retry-after': '1' } }, requests: 2 },
    { action: { kind: 'code', code: -2 }, requests: 1 },
  ];
  receiver.setFaults(faults);
  const send = () =>
    fetch(`${receiver.url}/sync_server`, {
      method: 'POST',
      body: JSON_BODY,
      headers: { appid: 'A' },
    });
  const statuses = [];
  for (let count = 0; count < 4; count += 1) {
    const reply = await send();
    statuses.push([
      reply.status,
      reply.status === 200 ? ((await reply.json()) as { code: number }).code : 0,
    ]);
  }
  assert.deepEqual(statuses, [
    [503, 0],
    [503, 0],
    [200, -2],
    [200, 0],
  ]);
  assert.equal(receiver.snapshot().faulted, 3);
  const bad = await fetch(`${receiver.url}/control`, {
    method: 'POST',
    body: '[{"action":{"kind":"x"}}]',
  });
  assert.equal(bad.status, 400);
  await receiver.close();
});
