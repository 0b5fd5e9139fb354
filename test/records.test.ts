import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import { test } from 'node:test';
import fc from 'fast-check';
import { Analytics, LoggingConsumer, MillraceError, type Properties } from '../src/index.ts';
import { checkRecord } from '../src/receiver/index.ts';
import {
  callArbitrary,
  HOSTILE,
  hostileArbitrary,
  nameArbitrary,
  propertiesArbitrary,
  superArbitrary,
} from './record-arbitrary.ts';
import { type ModelCall, modelText } from './reference.ts';
import { assertBalanced, metricIn, newDirectory, packageVersion, readRecords } from './support.ts';

// A client starts a thread, which takes longer than its calls: few clients, many calls.
const RUNS = 24;
const CALLS = 100;
const ZONES = [
  undefined,
  'UTC',
  'Asia/Kolkata',
  'America/New_York',
  '-03:30',
  'Australia/Lord_Howe',
];

function invoke(ta: Analytics, { method, argument }: ModelCall): unknown {
  return Reflect.apply(Reflect.get(ta, method), ta, [argument]);
}

/** The line, with the version taken out: the model does not know it. */
function normalized(line: object): string {
  return JSON.stringify(line).replace(/"#lib_version":"[^"]*"/, '"#lib_version":"*"');
}

// Goal: what arrives is what the contract says, byte for byte in order of keys. Method: thousands of arbitrary calls with
// arbitrary super and dynamic properties through ring, worker and file, against a slow model.
test('any record a user can build arrives as the model says', async () => {
  const scenario = fc.record({
    calls: fc.array(callArbitrary, { minLength: CALLS, maxLength: CALLS }),
    supers: superArbitrary,
    dynamic: fc.oneof(
      { weight: 2, arbitrary: fc.constant({}) },
      { weight: 1, arbitrary: superArbitrary },
    ),
    timeZone: fc.constantFrom(...ZONES),
  });
  await fc.assert(
    fc.asyncProperty(scenario, async ({ calls, supers, dynamic, timeZone }) => {
      const directory = newDirectory();
      const ta = new Analytics(new LoggingConsumer({ directory, workers: 1, lanes: 1 }), {
        ...(timeZone === undefined ? {} : { timeZone }),
      });
      ta.setSuperProperties(supers as Properties);
      if (Object.keys(dynamic).length > 0)
        ta.setDynamicSuperProperties(() => dynamic as Properties);
      const expected: string[] = [];
      const state = { supers, dynamic };
      for (const call of calls) {
        // A moment of its own for each call, so that the model knows the time.
        const now = new Date();
        const timed = { ...call, argument: { time: now, ...call.argument } };
        const wantsOwn = timed.argument.time === now && '#time' in propertiesOf(call);
        const sent = wantsOwn ? call : timed;
        const options = timeZone === undefined ? {} : { timeZone };
        expected.push(modelText(sent, { options, state, now }));
        assert.equal(invoke(ta, sent), true);
      }
      const stats = await ta.close();
      assertBalanced(stats);
      assert.equal(stats.delivered, calls.length);
      const lines = readRecords(directory, readdirSync(directory));
      assert.deepEqual(lines.map(normalized), expected);
      for (const line of lines) assert.deepEqual(checkRecord(line), []);
    }),
    { numRuns: RUNS, endOnFailure: true },
  );
});

function propertiesOf(call: ModelCall): object {
  const { properties } = call.argument;
  return typeof properties === 'object' && properties !== null ? properties : {};
}

test('with validation off no value, whatever it is, harms the process, a line, or the account', async () => {
  const calls = fc.array(
    fc.record({
      method: fc.constantFrom(
        'track',
        'userSet',
        'userAdd',
        'userAppend',
        'trackUpdate',
        'userUnset',
        'userDel',
      ),
      argument: fc.oneof(
        hostileArbitrary,
        fc.record(
          {
            accountId: fc.oneof(fc.constant('u'), hostileArbitrary),
            distinctId: hostileArbitrary,
            event: fc.oneof(nameArbitrary, hostileArbitrary),
            properties: fc.oneof(
              hostileArbitrary,
              fc.dictionary(
                fc.oneof(fc.string(), fc.constantFrom('#time', '#uuid', '#ip', '__proto__')),
                hostileArbitrary,
              ),
            ),
            time: hostileArbitrary,
            uuid: hostileArbitrary,
            ip: hostileArbitrary,
          },
          { requiredKeys: [] },
        ),
      ),
    }),
    { minLength: CALLS, maxLength: CALLS },
  );
  await fc.assert(
    fc.asyncProperty(calls, hostileArbitrary, async (made, dynamic) => {
      const directory = newDirectory();
      const ta = new Analytics(new LoggingConsumer({ directory, workers: 1, lanes: 1 }), {
        validation: 'off',
        uuid: true,
        onError: () => {},
      });
      ta.setDynamicSuperProperties(() => dynamic as Properties);
      let accepted = 0;
      for (const { method, argument } of made) {
        const isIn = Reflect.apply(Reflect.get(ta, method), ta, [argument]);
        assert.equal(typeof isIn, 'boolean');
        if (isIn === true) accepted += 1;
        ta.track({ accountId: 'neighbour', event: 'fine' });
      }
      const stats = await ta.close();
      assertBalanced(stats);
      assert.equal(stats.accepted, accepted + made.length);
      assert.equal(stats.delivered, stats.accepted);
      const lines = readRecords(directory, readdirSync(directory));
      assert.equal(lines.length, stats.delivered);
      const neighbours = lines.filter((line) => line['#account_id'] === 'neighbour');
      assert.equal(neighbours.length, made.length);
    }),
    { numRuns: RUNS, endOnFailure: true },
  );
});

test('with validation off hostile objects cost at most their own record', async () => {
  const directory = newDirectory();
  const ta = new Analytics(new LoggingConsumer({ directory, workers: 1, lanes: 1 }), {
    validation: 'off',
    onError: () => {},
  });
  let accepted = 0;
  const send = (fields: unknown) => {
    if (Reflect.apply(ta.track, ta, [fields])) accepted += 1;
  };
  for (const make of HOSTILE) {
    send(make());
    send({ accountId: 'u', event: 'e', properties: make() });
    send({ accountId: 'u', event: 'e', properties: { a: make(), b: [make()], c: { d: make() } } });
    send({ accountId: make(), event: make(), time: make(), uuid: make(), ip: make() });
    send({ accountId: 'u', event: 'e', properties: { fine: 1 } });
  }
  const stats = await ta.close();
  assertBalanced(stats);
  assert.equal(stats.delivered, accepted);
  const lines = readRecords(directory, readdirSync(directory));
  assert.equal(lines.length, accepted);
  const fine = lines.filter((line) => (line.properties as { fine?: number }).fine === 1);
  assert.equal(fine.length, HOSTILE.length);
});

test('a property that differs only in case from a super property is an error', async () => {
  const ta = new Analytics(new LoggingConsumer(newDirectory()));
  const track = () => ta.track({ accountId: 'u', event: 'e', properties: { Level: 1 } });
  assert.equal(track(), true);
  ta.setSuperProperties({ level: 2 });
  assert.throws(track, /Level.*level/);
  ta.clearSuperProperties();
  assert.equal(track(), true);
  const stats = await ta.close();
  assertBalanced(stats);
  assert.equal(stats.delivered, 2);
});

test('dynamic properties that differ only in case from the own ones are left out, and told', async () => {
  const errors: string[] = [];
  const ta = new Analytics(new LoggingConsumer(newDirectory()), {
    onError: ({ message }) => errors.push(message),
  });
  ta.setDynamicSuperProperties(() => ({ LEVEL: 3 }));
  assert.equal(ta.track({ accountId: 'u', event: 'e', properties: { Level: 1 } }), true);
  await ta.close();
  assert.match(errors[0] ?? '', /Level.*LEVEL/);
});

// Goal: what was compared before is remembered for the same names only. Method: each step changes one of the three name lists.
test('dynamic names are compared anew when own names, super names or they themselves change', async () => {
  const directory = newDirectory();
  const errors: string[] = [];
  const ta = new Analytics(new LoggingConsumer({ directory, workers: 1, lanes: 1 }), {
    onError: ({ message }) => errors.push(message),
  });
  let dynamic: Properties = { online: 1 };
  ta.setDynamicSuperProperties(() => dynamic);
  const toldBy = (own: Properties): number => {
    const before = errors.length;
    assert.equal(ta.track({ accountId: 'u', event: 'e', properties: own }), true);
    assert.equal(ta.track({ accountId: 'u', event: 'e', properties: own }), true);
    return errors.length - before;
  };
  assert.equal(toldBy({ level: 1 }), 0);
  assert.equal(toldBy({ Online: 1 }), 2);
  assert.equal(toldBy({ level: 1 }), 0);
  dynamic = { online: 1, LEVEL: 2 };
  assert.equal(toldBy({ level: 1 }), 2);
  dynamic = { online: 1 };
  ta.setSuperProperties({ ONLINE: 5 });
  assert.equal(toldBy({ level: 1 }), 2);
  ta.clearSuperProperties();
  assert.equal(toldBy({ level: 1 }), 0);
  const stats = await ta.close();
  assertBalanced(stats);
  const found = readRecords(directory, readdirSync(directory)).map((line) =>
    Object.hasOwn(line.properties as object, 'online'),
  );
  assert.equal(found.length, 12);
  assert.equal(found.filter(Boolean).length, 6);
});

const uuidSeed = Date.now() | 0;
test(`a uuid given in any case arrives in lower case (seed ${uuidSeed})`, async () => {
  const directory = newDirectory();
  const ta = new Analytics(new LoggingConsumer({ directory, workers: 1, lanes: 1 }), {
    uuid: true,
  });
  const uuids = fc.sample(fc.tuple(fc.uuid(), fc.boolean()), { numRuns: 200, seed: uuidSeed });
  for (const [uuid, isUpper] of uuids) {
    ta.track({ accountId: 'u', event: 'e', uuid: isUpper ? uuid.toUpperCase() : uuid });
  }
  const stats = await ta.close();
  assertBalanced(stats);
  const lines = readRecords(directory, readdirSync(directory));
  assert.deepEqual(
    lines.map((line) => line['#uuid']),
    uuids.map(([uuid]) => uuid),
  );
});

test('the caller may reuse and change its objects right after the call', async () => {
  const directory = newDirectory();
  const ta = new Analytics(new LoggingConsumer({ directory, workers: 1, lanes: 1 }));
  const properties = { list: ['a'], at: new Date(0), inner: { n: 1 } };
  const fields = { accountId: 'u', event: 'e', properties };
  const before = structuredClone(fields);
  ta.track(fields);
  assert.deepEqual(fields, before);
  properties.list.push('b');
  properties.at.setTime(1e12);
  properties.inner.n = 2;
  await ta.close();
  const [line] = readRecords(directory, readdirSync(directory));
  const sent = (line?.properties ?? {}) as typeof properties;
  assert.deepEqual(sent.list, ['a']);
  assert.deepEqual(sent.inner, { n: 1 });
});

// Goal: the memory of names that were met does not take an inherited name for an own one. Method: the same names, own first.
test('inherited properties are left out, whatever records came before', async () => {
  const directory = newDirectory();
  const ta = new Analytics(new LoggingConsumer({ directory, workers: 1, lanes: 1 }));
  const prototypes = [
    { b: 5 },
    Object.create({ b: 5 }),
    Object.assign(Object.create(null), { b: 5 }),
  ];
  ta.track({ accountId: 'u', event: 'e', properties: { a: 1, b: 2 } });
  for (const prototype of prototypes) {
    const properties = Object.assign(Object.create(prototype), { a: 1 });
    ta.track({ accountId: 'u', event: 'e', properties });
    ta.userSet({ accountId: 'u', properties });
  }
  const stats = await ta.close();
  assertBalanced(stats);
  const [first, ...others] = readRecords(directory, readdirSync(directory)).map(
    ({ properties }) => properties as { a?: number; b?: number },
  );
  assert.equal(first?.b, 2);
  assert.equal(others.length, 6);
  for (const { a, b } of others) assert.deepEqual([a, b], [1, undefined]);
});

test('a call from within a call (a getter that tracks) keeps both records', async () => {
  const directory = newDirectory();
  const ta = new Analytics(new LoggingConsumer({ directory, workers: 1, lanes: 1 }));
  const properties = {
    get nested(): number {
      ta.track({ accountId: 'inner', event: 'inner', properties: { depth: 2 } });
      return 1;
    },
  };
  assert.equal(ta.track({ accountId: 'outer', event: 'outer', properties }), true);
  const stats = await ta.close();
  assertBalanced(stats);
  const ids = readRecords(directory, readdirSync(directory)).map((line) => line['#account_id']);
  assert.deepEqual(ids.sort(), ['inner', 'outer']);
});

test('a call from within a call that is refused keeps its record', async () => {
  const ta = new Analytics(new LoggingConsumer(newDirectory()));
  let isIn = false;
  const properties = {
    get level() {
      isIn = ta.track({ accountId: 'u', event: 'inner' });
      return 1;
    },
    wrong: Symbol('no value of a record'),
  };
  assert.throws(() =>
    ta.track({ accountId: 'u', event: 'outer', properties: properties as never }),
  );
  assert.ok(isIn);
  const stats = await ta.close();
  assertBalanced(stats);
  assert.deepEqual([stats.accepted, stats.delivered, stats.dropped.invalid], [1, 1, 1]);
});

test('a dynamic super property function that tracks changes nothing of the record it is called for', async () => {
  const directory = newDirectory();
  const ta = new Analytics(new LoggingConsumer({ directory, workers: 1, lanes: 1 }));
  ta.setDynamicSuperProperties(() => {
    ta.userSet({ accountId: 'u', properties: { seen: 1 } });
    return { dynamic: 1 };
  });
  ta.track({ accountId: 'u', event: 'login', properties: { level: 3 } });
  assertBalanced(await ta.close());
  const records = readRecords(directory, readdirSync(directory));
  const found = records.map((record) => [record['#type'], record['#event_name']]);
  assert.deepEqual(found, [
    ['user_set', undefined],
    ['track', 'login'],
  ]);
  assert.deepEqual(
    Object.entries(records[1]?.properties as object).filter(([name]) => !name.startsWith('#')),
    [
      ['level', 3],
      ['dynamic', 1],
    ],
  );
});

test('a dynamic super property function that throws costs only its properties', async () => {
  const directory = newDirectory();
  const errors: MillraceError[] = [];
  const ta = new Analytics(new LoggingConsumer({ directory, workers: 1, lanes: 1 }), {
    onError: (error) => errors.push(error),
  });
  ta.setDynamicSuperProperties(() => {
    throw new Error('no luck');
  });
  assert.equal(ta.track({ accountId: 'u', event: 'e', properties: { a: 1 } }), true);
  await ta.close();
  const [line] = readRecords(directory, readdirSync(directory));
  assert.equal(((line?.properties ?? {}) as { a?: number }).a, 1);
  assert.match(errors[0]?.message ?? '', /no luck/);
});

test('super properties: later wins, one can be unset, the copy given out is free', async () => {
  const directory = newDirectory();
  const ta = new Analytics(new LoggingConsumer({ directory, workers: 1, lanes: 1 }));
  ta.setSuperProperties({ a: 1, b: { c: 1 } });
  ta.setSuperProperties({ a: 2 });
  const copy = ta.getSuperProperties() as { a: number; b: { c: number } };
  copy.b.c = 99;
  assert.deepEqual(ta.getSuperProperties(), { a: 2, b: { c: 1 } });
  ta.unsetSuperProperty('a');
  assert.deepEqual(ta.getSuperProperties(), { b: { c: 1 } });
  ta.track({ accountId: 'u', event: 'e' });
  ta.clearSuperProperties();
  ta.track({ accountId: 'u', event: 'e' });
  assert.throws(() => ta.setSuperProperties({ 'not a name': 1 }), {
    code: 'MILLRACE_INVALID_NAME',
  });
  await ta.close();
  const lines = readRecords(directory, readdirSync(directory));
  assert.deepEqual((lines[0]?.properties ?? {}) as object, {
    b: { c: 1 },
    '#lib': 'millrace',
    '#lib_version': packageVersion(),
  });
  assert.deepEqual(Object.keys((lines[1]?.properties ?? {}) as object), ['#lib', '#lib_version']);
});

test('super properties of the moment join dynamic ones, whatever their shape had before, and win over presets', async () => {
  const directory = newDirectory();
  const ta = new Analytics(new LoggingConsumer({ directory, workers: 1, lanes: 1 }));
  ta.setDynamicSuperProperties(() => ({ online: 7 }));
  const turns = [
    { event: 'x' },
    { event: 'y', supers: { '#lib': 'game', zone: 1 } },
    { event: 'x' },
  ];
  for (const { event, supers } of turns) {
    ta.clearSuperProperties();
    if (supers !== undefined) ta.setSuperProperties(supers);
    ta.track({ accountId: 'u', event });
  }
  ta.setDynamicSuperProperties(undefined);
  ta.setSuperProperties({ '#lib': 'game' });
  ta.track({ accountId: 'u', event: 'x' });
  assertBalanced(await ta.close());
  const version = packageVersion();
  assert.deepEqual(
    readRecords(directory, readdirSync(directory)).map(({ properties }) => properties),
    [
      { online: 7, '#lib': 'millrace', '#lib_version': version },
      { online: 7, '#lib': 'game', zone: 1, '#lib_version': version },
      { online: 7, '#lib': 'millrace', '#lib_version': version },
      { '#lib': 'game', '#lib_version': version },
    ],
  );
});

test('dynamic super properties can be asked for: what the function gives now, and nothing if it fails', async () => {
  const told: string[] = [];
  const ta = new Analytics(new LoggingConsumer({ directory: newDirectory(), workers: 1 }), {
    onError: ({ message }) => told.push(message),
  });
  assert.deepEqual(ta.getDynamicSuperProperties(), {});
  let online = 0;
  ta.setDynamicSuperProperties(() => {
    online += 1;
    if (online === 2) throw new Error('nobody there');
    return { online };
  });
  assert.deepEqual(ta.getDynamicSuperProperties(), { online: 1 });
  assert.deepEqual(ta.getDynamicSuperProperties(), {});
  assert.deepEqual(told, ['dynamic super properties were left out: nobody there']);
  ta.track({ accountId: 'u', event: 'e' });
  assert.equal(online, 3);
  const stats = await ta.close();
  assertBalanced(stats);
  assert.equal(stats.delivered, 1);
});

test('super properties changed thousands of times reach each record as they were at its call', async () => {
  const directory = newDirectory();
  const ta = new Analytics(new LoggingConsumer({ directory, workers: 1, lanes: 1 }));
  await fc.assert(
    fc.asyncProperty(propertiesArbitrary, async (properties) => {
      ta.setSuperProperties({ ...properties, turn: 1 } as Properties);
      ta.clearSuperProperties();
    }),
    { numRuns: 50 },
  );
  for (let turn = 0; turn < 5000; turn += 1) {
    ta.setSuperProperties({ turn, big: 'x'.repeat(turn % 10_000) });
    ta.track({ accountId: 'u', event: 'e', properties: { turn_own: turn } });
  }
  const stats = await ta.close();
  assertBalanced(stats);
  for (const line of readRecords(directory, readdirSync(directory))) {
    const {
      turn,
      turn_own: own,
      big,
    } = line.properties as { turn: number; turn_own: number; big: string };
    assert.equal(turn, own);
    assert.equal(big.length, own % 10_000);
  }
  assert.equal(stats.delivered, 5000);
});

// Wrong calls beyond those of golden.jsonl: [method, argument, code, what the message must name].
const WRONG: readonly (readonly [string, unknown, string, string])[] = [
  ['track', { accountId: 7, event: 'e' }, 'MILLRACE_MISSING_ID', 'accountId'],
  ['track', { accountId: null, distinctId: '', event: 'e' }, 'MILLRACE_MISSING_ID', 'distinctId'],
  ['track', { accountId: 'u', distinctId: 5, event: 'e' }, 'MILLRACE_MISSING_ID', 'distinctId'],
  ['track', { accountId: 'u', event: 7 }, 'MILLRACE_INVALID_NAME', '7'],
  ['track', { accountId: 'u', event: '#e' }, 'MILLRACE_INVALID_NAME', '#e'],
  ['track', { accountId: 'u', event: '' }, 'MILLRACE_INVALID_NAME', 'event'],
  ['track', { accountId: 'u', event: 'e', time: 'now' }, 'MILLRACE_INVALID_TIME', 'now'],
  [
    'track',
    { accountId: 'u', event: 'e', time: 1_700_000_000_000 },
    'MILLRACE_INVALID_TIME',
    'time',
  ],
  [
    'track',
    { accountId: 'u', event: 'e', properties: { '#time': 'x' } },
    'MILLRACE_INVALID_TIME',
    '#time',
  ],
  ['track', { accountId: 'u', event: 'e', uuid: 'x' }, 'MILLRACE_INVALID_VALUE', '#uuid'],
  ['track', { accountId: 'u', event: 'e', ip: 7 }, 'MILLRACE_INVALID_VALUE', '#ip'],
  ['track', { accountId: 'u', event: 'e', appId: '' }, 'MILLRACE_INVALID_VALUE', '#app_id'],
  [
    'track',
    { accountId: 'u', event: 'e', properties: { '#account_id': 'v' } },
    'MILLRACE_INVALID_NAME',
    '#account_id',
  ],
  [
    'track',
    { accountId: 'u', event: 'e', properties: { '#type': 'v' } },
    'MILLRACE_INVALID_NAME',
    '#type',
  ],
  ['track', { accountId: 'u', event: 'e', properties: { '1a': 1 } }, 'MILLRACE_INVALID_NAME', '1a'],
  ['track', { accountId: 'u', event: 'e', properties: { '': 1 } }, 'MILLRACE_INVALID_NAME', '""'],
  [
    'track',
    { accountId: 'u', event: 'e', properties: { 'bad-null': null } },
    'MILLRACE_INVALID_NAME',
    'bad-null',
  ],
  [
    'track',
    { accountId: 'u', event: 'e', properties: { a: Number.POSITIVE_INFINITY } },
    'MILLRACE_INVALID_VALUE',
    'Infinity',
  ],
  [
    'track',
    { accountId: 'u', event: 'e', properties: { a: () => 1 } },
    'MILLRACE_INVALID_VALUE',
    'a function',
  ],
  [
    'track',
    { accountId: 'u', event: 'e', properties: { a: Symbol('s') } },
    'MILLRACE_INVALID_VALUE',
    'a symbol',
  ],
  [
    'track',
    { accountId: 'u', event: 'e', properties: { a: 2n ** 60n } },
    'MILLRACE_INVALID_VALUE',
    'a is',
  ],
  [
    'track',
    { accountId: 'u', event: 'e', properties: { a: new Map() } },
    'MILLRACE_INVALID_VALUE',
    'Map',
  ],
  [
    'track',
    { accountId: 'u', event: 'e', properties: { a: new Date(Number.NaN) } },
    'MILLRACE_INVALID_VALUE',
    'invalid Date',
  ],
  [
    'track',
    { accountId: 'u', event: 'e', properties: { a: [null] } },
    'MILLRACE_INVALID_VALUE',
    'a[0]',
  ],
  [
    'track',
    { accountId: 'u', event: 'e', properties: { a: [1, Number.NaN] } },
    'MILLRACE_INVALID_VALUE',
    'a[1]',
  ],
  [
    'track',
    { accountId: 'u', event: 'e', properties: { a: new Array(501).fill(1) } },
    'MILLRACE_INVALID_VALUE',
    '500',
  ],
  [
    'track',
    { accountId: 'u', event: 'e', properties: { a: { b: { c: { d: { e: 1 } } } } } },
    'MILLRACE_INVALID_VALUE',
    'a.b.c.d',
  ],
  [
    'track',
    { accountId: 'u', event: 'e', properties: { a: { 'b c': 1 } } },
    'MILLRACE_INVALID_NAME',
    'b c',
  ],
  [
    'track',
    { accountId: 'u', event: 'e', properties: { a: { B: 1, b: 2 } } },
    'MILLRACE_INVALID_NAME',
    'case',
  ],
  ['userAdd', { accountId: 'u', properties: { a: true } }, 'MILLRACE_INVALID_VALUE', 'user_add'],
  ['userAdd', { accountId: 'u', properties: { a: Number.NaN } }, 'MILLRACE_INVALID_VALUE', 'NaN'],
  ['userAppend', { accountId: 'u', properties: { a: 1 } }, 'MILLRACE_INVALID_VALUE', 'list'],
  ['userUniqAppend', { accountId: 'u', properties: { a: {} } }, 'MILLRACE_INVALID_VALUE', 'list'],
  ['userSetOnce', { accountId: 'u' }, 'MILLRACE_MISSING_FIELD', 'properties'],
  ['userSet', { accountId: 'u', properties: 'x' }, 'MILLRACE_MISSING_FIELD', 'properties'],
  [
    'userUnset',
    { accountId: 'u', properties: ['not a name'] },
    'MILLRACE_INVALID_NAME',
    'not a name',
  ],
  ['trackFirst', { accountId: 'u', event: 'e' }, 'MILLRACE_MISSING_FIELD', 'firstCheckId'],
  [
    'trackFirst',
    { accountId: 'u', event: 'e', firstCheckId: '' },
    'MILLRACE_MISSING_FIELD',
    'firstCheckId',
  ],
  ['trackOverwrite', { accountId: 'u', event: 'e' }, 'MILLRACE_MISSING_FIELD', 'eventId'],
  [
    'trackUpdate',
    { accountId: 'u', event: 'e', eventId: 5 },
    'MILLRACE_INVALID_VALUE',
    '#event_id',
  ],
  ...[[], ['a'], 'text', 5, new Map([['a', 1]]), new Date()].map(
    (properties) =>
      [
        'track',
        { accountId: 'u', event: 'e', properties },
        'MILLRACE_INVALID_VALUE',
        'it must be an object',
      ] as const,
  ),
  ['userSet', { accountId: 'u', properties: ['a'] }, 'MILLRACE_INVALID_VALUE', 'a list of 1'],
  ['track', undefined, 'MILLRACE_INVALID_VALUE', 'the argument is undefined'],
  ['userDel', null, 'MILLRACE_MISSING_ID', 'accountId'],
  [
    'track',
    { accountId: 'u', event: 'e', properties: { '#ACCOUNT_ID': 'v' } },
    'MILLRACE_INVALID_NAME',
    '#ACCOUNT_ID',
  ],
];

test('a wrong call throws before anything happens, names the field, and is counted', async () => {
  const directory = newDirectory();
  const ta = new Analytics(new LoggingConsumer({ directory, workers: 1, lanes: 1 }));
  for (const [method, argument, code, mention] of WRONG) {
    const call = () => Reflect.apply(Reflect.get(ta, method), ta, [argument]);
    assert.throws(
      call,
      (error) => {
        assert.ok(error instanceof MillraceError);
        assert.equal(error.code, code, `${method} ${error.message}`);
        assert.ok(error.message.includes(mention), `${mention} in: ${error.message}`);
        return true;
      },
      `${method} ${mention}`,
    );
  }
  const stats = await ta.close();
  assertBalanced(stats);
  assert.equal(stats.dropped.invalid, WRONG.length);
  assert.equal(stats.accepted, 0);
});

test('super properties that are no object are refused, and nothing changes', async () => {
  const ta = new Analytics(new LoggingConsumer(newDirectory()));
  ta.setSuperProperties({ kept: 1 });
  for (const wrong of [null, undefined, [], ['a'], 'text']) {
    assert.throws(() => ta.setSuperProperties(wrong as unknown as Properties), {
      code: 'MILLRACE_INVALID_VALUE',
      message: /it must be an object/,
    });
  }
  assert.deepEqual(ta.getSuperProperties(), { kept: 1 });
  await ta.close();
});

test('a date that means for ever, the last second of the year 9999, is written as such in every zone', async () => {
  const hours = { UTC: 0, '+08:00': 8, '+14:00': 14, '-12:00': -12 };
  for (const [timeZone, offset] of Object.entries(hours)) {
    const directory = newDirectory();
    const ta = new Analytics(new LoggingConsumer(directory), { timeZone });
    const until = new Date(Date.UTC(9999, 11, 31, 23, 59, 59) - offset * 3_600_000);
    ta.userSet({ accountId: 'u', time: until, properties: { until, all: [until] } });
    await ta.close();
    const [record] = readRecords(directory, readdirSync(directory));
    const text = '9999-12-31 23:59:59.000';
    assert.deepEqual([record?.['#time'], record?.properties], [text, { until: text, all: [text] }]);
  }
  const ta = new Analytics(new LoggingConsumer(newDirectory()));
  const until = new Date(Date.UTC(10_000, 0, 2));
  assert.throws(() => ta.userSet({ accountId: 'u', properties: { until } }), /years 1 to 9999/);
  await ta.close();
});

test('arguments that are null are left out, as null among properties is', async () => {
  const directory = newDirectory();
  const ta = new Analytics(new LoggingConsumer(directory));
  const nothing = { distinctId: null, time: null, uuid: null, ip: null, appId: null };
  Reflect.apply(ta.track, ta, [{ accountId: 'u', event: 'e', properties: null, ...nothing }]);
  await ta.close();
  const [{ '#time': time, ...record } = {}] = readRecords(directory, readdirSync(directory));
  assert.match(String(time), /^\d{4}-/);
  assert.deepEqual(Object.keys(record), ['#type', '#event_name', '#account_id', 'properties']);
});

test("validation 'drop' counts wrong calls, tells each kind once, and never throws", async () => {
  const errors: string[] = [];
  const ta = new Analytics(new LoggingConsumer(newDirectory()), {
    validation: 'drop',
    onError: ({ code }) => errors.push(code),
  });
  for (let round = 0; round < 3; round += 1) {
    for (const [method, argument] of WRONG) {
      assert.equal(
        Reflect.apply(Reflect.get(ta, method), ta, [argument]),
        false,
        JSON.stringify(argument, (_, value) => (typeof value === 'bigint' ? `${value}n` : value)),
      );
    }
  }
  const stats = await ta.close();
  assertBalanced(stats);
  assert.equal(stats.dropped.invalid, 3 * WRONG.length);
  assert.deepEqual(errors.toSorted(), [...new Set(WRONG.map(([, , code]) => code))].sort());
});

test('ids and texts in lists that the receiver may cut are counted as warnings', async () => {
  const ta = new Analytics(new LoggingConsumer(newDirectory()));
  const warned = async () => metricIn(await ta.register.metrics(), 'millrace_records_warned_total');
  ta.track({ accountId: 'i'.repeat(128), event: 'e', properties: { list: ['x'.repeat(255)] } });
  // Pairs of units, 128 characters of them.
  ta.track({ accountId: '😀'.repeat(128), event: 'e' });
  assert.equal(await warned(), 0);
  ta.track({ accountId: 'i'.repeat(129), event: 'e', properties: { list: ['x'.repeat(256)] } });
  ta.track({ accountId: '😀'.repeat(129), event: 'e' });
  assert.equal(await warned(), 3);
  assertBalanced(await ta.close());
});

test("validation 'drop' throws nothing for super properties either, and the old ones stay", async () => {
  const errors: MillraceError[] = [];
  const ta = new Analytics(new LoggingConsumer(newDirectory()), {
    validation: 'drop',
    onError: (error) => errors.push(error),
  });
  ta.setSuperProperties({ kept: 1 });
  for (const wrong of [{ 'a b': 1 }, { a: Number.NaN }, null])
    ta.setSuperProperties(wrong as never);
  assert.deepEqual(ta.getSuperProperties(), { kept: 1 });
  assert.equal(ta.stats().dropped.invalid, 3);
  assert.ok(errors.length > 0);
  assertBalanced(await ta.close());
});

test('fields with a place of their own are spelled one way, and named as the caller named them', async () => {
  const ta = new Analytics(new LoggingConsumer(newDirectory()));
  const event = { accountId: 'u', event: 'e' };
  assert.throws(() => ta.track({ ...event, properties: { '#IP': 'x', '#ip': 'y' } }), {
    code: 'MILLRACE_INVALID_NAME',
  });
  assert.throws(() => ta.track({ ...event, appId: 5 as never }), { message: /appId/ });
  for (const properties of [[null], ['#time'], ['#ip']]) {
    assert.throws(() => ta.userUnset({ accountId: 'u', properties: properties as never }), {
      code: 'MILLRACE_INVALID_NAME',
    });
  }
  assertBalanced(await ta.close());
});

test('a dynamic super property function whose properties are refused leaves none of them', async () => {
  const directory = newDirectory();
  const ta = new Analytics(new LoggingConsumer({ directory, workers: 1, lanes: 1 }), {
    onError: () => {},
  });
  ta.setDynamicSuperProperties(() => ({ '#ip': '5.5.5.5', bad: Number.NaN }));
  ta.track({ accountId: 'u', event: 'e', ip: undefined as never });
  assertBalanced(await ta.close());
  const [record] = readRecords(directory, readdirSync(directory));
  assert.equal(record?.['#ip'], undefined);
});
