import type { Fault } from '../receiver/index.ts';

/**
 * What any SDK of the protocol should do, as plain data: `millrace conform --print` gives it as JSON. `{"$date": ISO}` in
 * an argument stands for a date, `{"$num": "NaN"}` for that number; `"*"` in what is expected for any value.
 */

export type ConformJson = Readonly<Record<string, unknown>>;

/** One request to the adapter: `do` is init, track (and the other verbs), flush, close or exit. */
export interface ConformStep extends ConformJson {
  readonly do: string;
  /** The adapter has to answer with an error. */
  readonly refused?: boolean;
  /** How often the step is made, `{n}` in its texts being the number; default 1. */
  readonly times?: number;
}

export interface ConformCase {
  readonly name: string;
  readonly area: 'records' | 'delivery' | 'shutdown' | 'files' | 'debug';
  readonly mode: 'async' | 'file' | 'debug';
  /** For init: batchSize, compress, rotate, prefix. */
  readonly options?: ConformJson;
  /** What goes wrong at the receiver from the start. */
  readonly faults?: readonly Fault[];
  readonly steps: readonly ConformStep[];
  /** Longest wait for what is expected, in ms; default 5000. */
  readonly waitMs?: number;
  readonly expect: {
    /** All records, in any order; without `#uuid`, `#lib` and `#lib_version` unless they are named here. */
    readonly records?: readonly ConformJson[];
    /** How many different records arrive. */
    readonly distinct?: number;
    /** Property by which the records of one user have to be in order. */
    readonly ordered?: string;
    /** Records of a repeated batch have the `#uuid` they had before. */
    readonly repeatsMarked?: boolean;
    /** No request for so long after the first answer, in ms. */
    readonly quietMs?: number;
    /** Names of all files, as a pattern. */
    readonly files?: string;
    /** Records the receiver took for debugging. */
    readonly debugRecords?: number;
  };
}

const TIME = '2026-03-08 12:05:06.007';
const AT: ConformJson = { $date: '2026-03-08T04:05:06.007Z' };
const WHO: ConformJson = { accountId: 'u1', distinctId: 'd1', time: AT };
const SENT: ConformJson = { '#time': TIME, '#account_id': 'u1', '#distinct_id': 'd1' };

/** A case of one verb: what is called, and the record it makes. */
function recordCase(name: string, call: ConformStep, record: ConformJson): ConformCase {
  return {
    name,
    area: 'records',
    mode: 'async',
    steps: [{ ...WHO, ...call }, { do: 'flush' }],
    expect: { records: [{ ...SENT, properties: {}, ...record }] },
  };
}

function valueCase(name: string, given: unknown, sent: unknown): ConformCase {
  return recordCase(
    name,
    { do: 'track', event: 'values', properties: { value: given, other: 1 } },
    {
      '#type': 'track',
      '#event_name': 'values',
      properties: sent === undefined ? { other: 1 } : { value: sent, other: 1 },
    },
  );
}

function refusedCase(name: string, call: ConformStep): ConformCase {
  return {
    name,
    area: 'records',
    mode: 'async',
    steps: [{ time: AT, ...call, refused: true }, { do: 'flush' }],
    waitMs: 300,
    expect: { records: [] },
  };
}

const EVENT: ConformJson = { '#type': 'track', '#event_name': 'login' };

const RECORDS: readonly ConformCase[] = [
  recordCase(
    'an event',
    { do: 'track', event: 'login', properties: { level: 3 } },
    { ...EVENT, properties: { level: 3 } },
  ),
  recordCase('an event without properties', { do: 'track', event: 'login' }, EVENT),
  recordCase(
    'the address of the user',
    { do: 'track', event: 'login', ip: '10.0.0.1' },
    { ...EVENT, '#ip': '10.0.0.1' },
  ),
  recordCase(
    'an address among the properties is lifted',
    { do: 'track', event: 'login', properties: { '#ip': '10.0.0.1' } },
    { ...EVENT, '#ip': '10.0.0.1' },
  ),
  recordCase(
    'a uuid of the caller',
    { do: 'track', event: 'login', uuid: '3f2b8c1e-9a47-4d6e-8b15-7c0d9e2f1a34' },
    { ...EVENT, '#uuid': '3f2b8c1e-9a47-4d6e-8b15-7c0d9e2f1a34' },
  ),
  recordCase(
    'another project',
    { do: 'track', event: 'login', appId: 'B' },
    { ...EVENT, '#app_id': 'B' },
  ),
  recordCase(
    'a first event',
    { do: 'trackFirst', event: 'login', firstCheckId: 'f1' },
    { ...EVENT, '#first_check_id': 'f1' },
  ),
  recordCase(
    'an updatable event',
    { do: 'trackUpdate', event: 'login', eventId: 'e1' },
    { ...EVENT, '#type': 'track_update', '#event_id': 'e1' },
  ),
  recordCase(
    'an overwritable event',
    { do: 'trackOverwrite', event: 'login', eventId: 'e1' },
    { ...EVENT, '#type': 'track_overwrite', '#event_id': 'e1' },
  ),
  recordCase(
    'user_set',
    { do: 'userSet', properties: { level: 3 } },
    { '#type': 'user_set', properties: { level: 3 } },
  ),
  recordCase(
    'user_setOnce',
    { do: 'userSetOnce', properties: { born: AT } },
    { '#type': 'user_setOnce', properties: { born: TIME } },
  ),
  recordCase(
    'user_add',
    { do: 'userAdd', properties: { gold: -2 } },
    { '#type': 'user_add', properties: { gold: -2 } },
  ),
  recordCase(
    'user_append',
    { do: 'userAppend', properties: { items: ['a'] } },
    { '#type': 'user_append', properties: { items: ['a'] } },
  ),
  recordCase(
    'user_uniq_append',
    { do: 'userUniqAppend', properties: { items: ['a'] } },
    { '#type': 'user_uniq_append', properties: { items: ['a'] } },
  ),
  recordCase(
    'user_unset',
    { do: 'userUnset', property: 'level' },
    { '#type': 'user_unset', '#time': '*', properties: { level: 0 } },
  ),
  recordCase('user_del', { do: 'userDel' }, { '#type': 'user_del' }),
  valueCase(
    'text with quotes, breaks, control characters and emoji',
    'a"b\\c\n\t\u0001公会😀',
    'a"b\\c\n\t\u0001公会😀',
  ),
  valueCase('the largest exact integer', 9007199254740991, 9007199254740991),
  valueCase('a small fraction', 0.1, 0.1),
  valueCase('a number with an exponent', 1e21, 1e21),
  valueCase('false', false, false),
  valueCase('a date', AT, TIME),
  valueCase('a list of dates', [AT, AT], [TIME, TIME]),
  valueCase('an object with a date', { inner: { at: AT } }, { inner: { at: TIME } }),
  valueCase('a list of objects', [{ id: 1, at: AT }], [{ id: 1, at: TIME }]),
  valueCase('no value', null, undefined),
  {
    name: 'super properties join events and give way to their own',
    area: 'records',
    mode: 'async',
    steps: [
      { do: 'setSuperProperties', properties: { server: 's1', zone: 1 } },
      { do: 'setSuperProperties', properties: { zone: 2 } },
      { ...WHO, do: 'track', event: 'login', properties: { server: 'own' } },
      { ...WHO, do: 'userSet', properties: { level: 1 } },
      { do: 'clearSuperProperties' },
      { ...WHO, do: 'track', event: 'logout' },
      { do: 'flush' },
    ],
    expect: {
      records: [
        { ...SENT, ...EVENT, properties: { server: 'own', zone: 2 } },
        { ...SENT, '#type': 'user_set', properties: { level: 1 } },
        { ...SENT, '#type': 'track', '#event_name': 'logout', properties: {} },
      ],
    },
  },
  refusedCase('nobody is refused', { do: 'track', event: 'login' }),
  refusedCase('an event without a name is refused', { do: 'track', accountId: 'u1' }),
  refusedCase('a wrong event name is refused', { do: 'track', accountId: 'u1', event: '1st' }),
  refusedCase('a wrong property name is refused', {
    do: 'track',
    accountId: 'u1',
    event: 'login',
    properties: { '1st': 1 },
  }),
  refusedCase('NaN is refused', {
    do: 'track',
    accountId: 'u1',
    event: 'login',
    properties: { value: { $num: 'NaN' } },
  }),
  refusedCase('a first event without its check id is refused', {
    do: 'trackFirst',
    accountId: 'u1',
    event: 'login',
  }),
  refusedCase('an update without an event id is refused', {
    do: 'trackUpdate',
    accountId: 'u1',
    event: 'login',
  }),
  refusedCase('user_add of a text is refused', {
    do: 'userAdd',
    accountId: 'u1',
    properties: { gold: 'x' },
  }),
  refusedCase('user_append of no list is refused', {
    do: 'userAppend',
    accountId: 'u1',
    properties: { items: 'x' },
  }),
];

const MANY: ConformStep = {
  ...WHO,
  do: 'track',
  event: 'login',
  properties: { turn: '{n}' },
  times: 40,
};

/** Forty records of one user in small batches, while something goes wrong. */
function deliveryCase(
  name: string,
  faults: readonly Fault[],
  expect: ConformCase['expect'] = { distinct: 40 },
): ConformCase {
  return {
    name,
    area: 'delivery',
    mode: 'async',
    options: { batchSize: 10 },
    faults,
    steps: [MANY, { do: 'flush' }],
    waitMs: 15_000,
    expect,
  };
}

const DELIVERY: readonly ConformCase[] = [
  deliveryCase('batches arrive', [], { distinct: 40, ordered: 'turn' }),
  {
    ...deliveryCase('batches arrive without compression', []),
    options: { batchSize: 10, compress: false },
  },
  deliveryCase(
    '503 three times: all arrive, in order',
    [{ action: { kind: 'status', status: 503 }, requests: 3 }],
    {
      distinct: 40,
      ordered: 'turn',
    },
  ),
  deliveryCase('503 for a second: all arrive', [
    { action: { kind: 'status', status: 503 }, forMs: 1000 },
  ]),
  deliveryCase(
    '429 with Retry-After: all arrive, and nobody asks before',
    [{ action: { kind: 'status', status: 429, headers: { 'Retry-After': '2' } }, requests: 1 }],
    { distinct: 40, quietMs: 1500 },
  ),
  deliveryCase('413 above 1500 bytes: all arrive', [
    { action: { kind: 'too-large', bytes: 1500 } },
  ]),
  deliveryCase('a connection cut before the body: all arrive', [
    { action: { kind: 'reset', when: 'start' }, requests: 2 },
  ]),
  deliveryCase(
    'a connection cut after the records were taken: all arrive, repeats have their uuid',
    [{ action: { kind: 'reset', when: 'after' }, requests: 2 }],
    { distinct: 40, repeatsMarked: true },
  ),
  deliveryCase('an answer that is not JSON: all arrive', [
    { action: { kind: 'wrong-json' }, requests: 1 },
  ]),
  deliveryCase('an empty answer: all arrive', [{ action: { kind: 'empty' }, requests: 1 }]),
  deliveryCase('half an answer: all arrive', [{ action: { kind: 'half' }, requests: 1 }]),
  deliveryCase(
    'one record is refused: the others arrive',
    [{ action: { kind: 'poison', text: '"turn":"17"' } }],
    {
      distinct: 39,
    },
  ),
];

/** Records of which the last ones do not fill a batch, and an end. */
function shutdownCase(
  name: string,
  ends: readonly ConformStep[],
  faults: readonly Fault[] = [],
): ConformCase {
  return {
    ...deliveryCase(name, faults, { distinct: 43 }),
    area: 'shutdown',
    steps: [{ ...MANY, times: 43 }, ...ends],
  };
}

const SHUTDOWN: readonly ConformCase[] = [
  shutdownCase('close delivers what waits', [{ do: 'close' }]),
  shutdownCase(
    'close delivers what waits after a failure',
    [{ do: 'close' }],
    [{ action: { kind: 'status', status: 503 }, requests: 2 }],
  ),
  shutdownCase('the end of the program delivers what waits', [{ do: 'exit' }]),
  shutdownCase('a call after close is refused', [
    { do: 'close' },
    { ...WHO, do: 'track', event: 'late', refused: true },
  ]),
  shutdownCase('close twice', [{ do: 'close' }, { do: 'close' }]),
];

const LINES: ConformStep = {
  ...WHO,
  do: 'track',
  event: 'login',
  properties: { turn: '{n}', text: '公会\n"x"' },
  times: 40,
};

function fileCase(name: string, options: ConformJson, files: string): ConformCase {
  return {
    name,
    area: 'files',
    mode: 'file',
    options,
    steps: [LINES, { do: 'flush' }],
    expect: { distinct: 40, ordered: 'turn', files },
  };
}

const FILES: readonly ConformCase[] = [
  fileCase('a record a line, in a file a day', {}, '^log\\.\\d{4}-\\d\\d-\\d\\d(_\\d+)?$'),
  fileCase('a file an hour', { rotate: 'hour' }, '^log\\.\\d{4}-\\d\\d-\\d\\d-\\d\\d(_\\d+)?$'),
  fileCase('a prefix', { prefix: 'game' }, '^game\\.log\\.\\d{4}-\\d\\d-\\d\\d(_\\d+)?$'),
  { ...fileCase('close writes what waits', {}, '^log\\.'), steps: [LINES, { do: 'close' }] },
  {
    ...fileCase('the end of the program writes what waits', {}, '^log\\.'),
    steps: [LINES, { do: 'exit' }],
  },
];

const DEBUG: readonly ConformCase[] = [
  {
    name: 'a good record is taken',
    area: 'debug',
    mode: 'debug',
    steps: [{ ...WHO, do: 'track', event: 'login' }, { do: 'flush' }],
    expect: { debugRecords: 1 },
  },
  {
    name: "the receiver's refusal reaches the caller",
    area: 'debug',
    mode: 'debug',
    faults: [
      {
        action: { kind: 'status', status: 200, body: '{"errorLevel":2,"errorReasons":["odd"]}' },
        target: 'debug',
      },
    ],
    steps: [{ ...WHO, do: 'track', event: 'login', refused: true }],
    waitMs: 300,
    expect: { debugRecords: 0 },
  },
];

export const CASES: readonly ConformCase[] = [
  ...RECORDS,
  ...DELIVERY,
  ...SHUTDOWN,
  ...FILES,
  ...DEBUG,
];
