import fc from 'fast-check';
import type { ModelCall } from './reference.ts';

const LETTERS = 'abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ'.split('');
const INNER = [...LETTERS, ...'0123456789_'.split('')];

/** A name the contract allows. */
export const nameArbitrary: fc.Arbitrary<string> = fc
  .tuple(fc.constantFrom(...LETTERS), fc.string({ unit: fc.constantFrom(...INNER), maxLength: 49 }))
  .map(([first, rest]) => first + rest)
  .filter((name) => !['server', 'zone', 'level', 'a', 'channel'].includes(name.toLowerCase()));

const propertyName = fc.oneof(
  { weight: 8, arbitrary: nameArbitrary },
  // Names that super properties have, too; in the same spelling, because another one is an error.
  { weight: 2, arbitrary: fc.constantFrom('server', 'zone', 'level') },
  { weight: 1, arbitrary: nameArbitrary.map((name) => `#${name.slice(0, 40)}_x`) },
);

/** Texts of all kinds: escapes, control characters, emoji, lone surrogates, long ones. */
export const textArbitrary: fc.Arbitrary<string> = fc.oneof(
  fc.string(),
  fc.string({ unit: 'binary' }),
  fc.string({ unit: 'grapheme' }),
  fc.string({
    unit: fc.constantFrom('"', '\\', '\n', '\u0000', '\u001f', '\u2028', '\ud800', '公', '😀', '/'),
  }),
  fc.string({ minLength: 40, maxLength: 300 }),
  fc.constantFrom('', 'x'.repeat(5000), '公'.repeat(700), 'ü'.repeat(100)),
);

const dateArbitrary = fc.date({
  min: new Date('1972-02-01T00:00:00Z'),
  max: new Date('2105-01-01T00:00:00Z'),
  noInvalidDate: true,
});

const numberArbitrary: fc.Arbitrary<number> = fc.oneof(
  fc.integer(),
  fc.double({ noNaN: true, noDefaultInfinity: true }),
  fc.constantFrom(
    0,
    -0,
    127,
    128,
    -1,
    2 ** 31 - 1,
    2 ** 31,
    -(2 ** 31),
    2 ** 53,
    1e21,
    5e-324,
    0.1,
    1e-7,
    -1.5e300,
  ),
);

const scalar = fc.oneof(
  textArbitrary,
  numberArbitrary,
  fc.boolean(),
  dateArbitrary,
  fc.bigInt({ min: -9007199254740991n, max: 9007199254740991n }),
);

function uniqueNames<T>(names: fc.Arbitrary<string>, values: fc.Arbitrary<T>, maxLength: number) {
  return fc
    .uniqueArray(fc.tuple(names, values), {
      selector: ([name]) => name.toLowerCase(),
      maxLength,
    })
    .map((entries) => Object.fromEntries(entries) as Record<string, T>);
}

/** An object of at most `depth` levels. */
function objectArbitrary(depth: number): fc.Arbitrary<Record<string, unknown>> {
  return uniqueNames(propertyName, depth <= 1 ? scalar : valueArbitrary(depth - 1), 4);
}

function valueArbitrary(depth: number): fc.Arbitrary<unknown> {
  return fc.oneof(
    { weight: 6, arbitrary: scalar },
    { weight: 1, arbitrary: fc.array(scalar, { maxLength: 6 }) },
    { weight: 1, arbitrary: objectArbitrary(depth) },
    { weight: 1, arbitrary: fc.array(objectArbitrary(depth), { maxLength: 3 }) },
    { weight: 1, arbitrary: fc.constantFrom(null, undefined) },
  );
}

export const propertiesArbitrary: fc.Arbitrary<Record<string, unknown>> = uniqueNames(
  propertyName,
  valueArbitrary(3),
  10,
);

const id = fc.string({ minLength: 1, maxLength: 40, unit: 'grapheme' });
const uuid = fc.oneof(
  fc.uuid(),
  fc.uuid().map((text) => text.toUpperCase()),
);

const lifts = fc.record(
  {
    '#ip': fc.ipV4(),
    '#uuid': uuid,
    '#app_id': nameArbitrary,
    '#time': dateArbitrary,
    '#transaction_property': nameArbitrary,
    '#import_tool_id': nameArbitrary,
  },
  { requiredKeys: [] },
);

const common = fc.record(
  { distinctId: id, time: dateArbitrary, uuid, appId: nameArbitrary },
  { requiredKeys: [] },
);

const ids = fc.tuple(common, id).map(([fields, accountId]) => ({ ...fields, accountId }));

const eventProperties = fc
  .tuple(
    propertiesArbitrary,
    fc.oneof({ weight: 3, arbitrary: fc.constant({}) }, { weight: 1, arbitrary: lifts }),
  )
  .map(([own, lifted]) => ({ ...own, ...lifted }));

function event(method: string, more: fc.Arbitrary<object>): fc.Arbitrary<ModelCall> {
  return fc
    .tuple(ids, nameArbitrary, fc.option(eventProperties, { nil: undefined }), more)
    .map(([fields, name, properties, extra]) => ({
      method,
      argument: { ...fields, event: name, properties, ...extra },
    }));
}

function user(method: string, properties: fc.Arbitrary<unknown>): fc.Arbitrary<ModelCall> {
  return fc
    .tuple(ids, properties)
    .map(([fields, own]) => ({ method, argument: { ...fields, properties: own } }));
}

const list = fc.array(scalar, { maxLength: 5 });
const ip = fc.record({ ip: fc.ipV4() }, { requiredKeys: [] });

/** Any call a user can make that the contract allows. */
export const callArbitrary: fc.Arbitrary<ModelCall> = fc.oneof(
  { weight: 8, arbitrary: event('track', ip) },
  event('trackFirst', fc.record({ firstCheckId: id })),
  event('trackUpdate', fc.record({ eventId: id })),
  event('trackOverwrite', fc.record({ eventId: id })),
  user('userSet', propertiesArbitrary),
  user('userSetOnce', propertiesArbitrary),
  user('userAdd', uniqueNames(nameArbitrary, numberArbitrary, 5)),
  user(
    'userUnset',
    fc.uniqueArray(nameArbitrary, {
      minLength: 1,
      maxLength: 5,
      selector: (name) => name.toLowerCase(),
    }),
  ),
  user('userAppend', uniqueNames(nameArbitrary, list, 4)),
  user('userUniqAppend', uniqueNames(nameArbitrary, list, 4)),
  user('userDel', fc.constant(undefined)),
);

/** Super or dynamic properties. */
export const superArbitrary: fc.Arbitrary<Record<string, unknown>> = fc
  .tuple(
    uniqueNames(
      fc.constantFrom('server', 'zone', 'level', 'a', 'channel', '#zone_offset'),
      valueArbitrary(3),
      4,
    ),
    fc.oneof(
      { weight: 3, arbitrary: fc.constant({}) },
      {
        weight: 1,
        arbitrary: fc.record({ '#ip': fc.ipV4(), '#app_id': nameArbitrary }, { requiredKeys: [] }),
      },
    ),
  )
  .map(([own, lifted]) => ({ ...own, ...lifted }));

/** Objects that fight back; made anew for each use. */
export const HOSTILE: readonly (() => unknown)[] = [
  () => {
    const cycle: Record<string, unknown> = {};
    cycle.self = cycle;
    return cycle;
  },
  () => ({
    get trap(): never {
      throw new Error('a getter that throws');
    },
  }),
  () =>
    new Proxy(
      {},
      {
        ownKeys: () => {
          throw new Error('a trap');
        },
      },
    ),
  () =>
    new Proxy(
      {},
      {
        get: () => {
          throw new Error('a trap');
        },
        ownKeys: () => ['a'],
        getOwnPropertyDescriptor: () => ({ enumerable: true, configurable: true }),
      },
    ),
  () => {
    const { proxy, revoke } = Proxy.revocable({}, {});
    revoke();
    return proxy;
  },
  () => 'x'.repeat(300_000),
  () => Symbol('s'),
  () => () => 1,
  () => class Thing {},
  () =>
    new (class Thing {
      x = 1;
    })(),
  () => JSON.parse('{"__proto__":{"polluted":true},"constructor":1}'),
  () => {
    const sparse: unknown[] = [];
    sparse[1000] = 1;
    return sparse;
  },
  () => Array.from({ length: 100 }).reduce((inner) => ({ inner }), {} as unknown),
  () => Array.from({ length: 100 }).reduce((inner) => [inner], [] as unknown),
  () => new Date(Number.NaN),
  () => ({
    toJSON: () => {
      throw new Error('no');
    },
  }),
  () => Number.NaN,
  () => 10n ** 40n,
  () => ({ ['k'.repeat(70_000)]: 1, '': 2, 'with "quotes"\n': 3 }),
  () => Object.fromEntries(Array.from({ length: 3000 }, (_, index) => [`k${index}`, index])),
];

/** What no sane caller passes, and `validation: 'off'` has to live with. */
export const hostileArbitrary: fc.Arbitrary<unknown> = fc.anything({
  withBigInt: true,
  withBoxedValues: true,
  withDate: true,
  withMap: true,
  withNullPrototype: true,
  withObjectString: true,
  withSet: true,
  withSparseArray: true,
  withTypedArray: true,
  withUnicodeString: true,
});
