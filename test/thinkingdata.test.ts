import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { after, before, beforeEach, test } from 'node:test';
import { runInNewContext } from 'node:vm';
import fc from 'fast-check';
import type { FaultAction } from '../src/receiver/index.ts';
import TA, { type TDAnalytics, type TDCallback } from '../src/thinkingdata.ts';
import { CaptureReceiver } from './capture.ts';
import { assertBalanced, newDirectory, readRecords, TestReceiver, until } from './support.ts';

const require = createRequire(import.meta.url);
const official: typeof TA = require('thinkingdata-node');
let receiver: TestReceiver;

before(async () => {
  receiver = await TestReceiver.start(['--appid', 'A']);
});
beforeEach(async () => {
  await receiver.setFaults([]);
  await receiver.reset();
});
after(() => receiver.stop());

type JsonRecord = Readonly<Record<string, unknown>>;

const TIME = new Date(2026, 10, 24, 8, 5, 3, 7);
/** Calls as servers make them; each with an uuid and a time, so that records can be compared. */
const CALLS: readonly ((te: TDAnalytics, uuid: string) => void)[] = [
  (te, uuid) =>
    te.track({
      accountId: 'a',
      distinctId: 'd',
      event: 'login',
      ip: '1.2.3.4',
      time: TIME,
      uuid,
      properties: {
        n1: 1.5,
        s1: 'text "quoted" é',
        b1: true,
        d1: TIME,
        l1: ['a', 'b'],
        o1: { x: 1, d: TIME },
      },
    }),
  (te, uuid) => te.track({ distinctId: 'd', event: 'plain', time: TIME, uuid }),
  (te, uuid) =>
    te.trackFirst({ accountId: 'a', event: 'once', firstCheckId: 'f1', time: TIME, uuid }),
  (te, uuid) =>
    te.trackUpdate({
      accountId: 'a',
      event: 'up',
      eventId: 'e1',
      time: TIME,
      uuid,
      properties: { v1: 1 },
    }),
  (te, uuid) =>
    te.trackOverWrite({
      accountId: 'a',
      event: 'over',
      eventId: 'e2',
      time: TIME,
      uuid,
      properties: { v1: 2 },
    }),
  (te, uuid) => te.userSet({ accountId: 'a', time: TIME, uuid, properties: { level: 3 } }),
  (te, uuid) => te.userSetOnce({ accountId: 'a', time: TIME, uuid, properties: { born: TIME } }),
  (te, uuid) => te.userAdd({ accountId: 'a', time: TIME, uuid, properties: { coins: -2 } }),
  (te, uuid) => te.userAppend({ accountId: 'a', time: TIME, uuid, properties: { items: ['x'] } }),
  (te, uuid) =>
    te.userUniqAppend({ accountId: 'a', time: TIME, uuid, properties: { items: ['y'] } }),
  (te, uuid) =>
    te.userUnset({ accountId: 'a', distinctId: 'd', property: 'items', time: TIME, uuid } as never),
  (te, uuid) => te.userDel({ accountId: 'a', time: TIME, uuid }),
  (te, uuid) => te.track({ accountId: 'a', event: 'other_project', appId: 'B', time: TIME, uuid }),
  (te, uuid) =>
    te.track(
      { accountId: 'a', event: 'unchecked', time: TIME, uuid, properties: { '1 x': 1 } },
      true,
    ),
  (te, uuid) =>
    te.track({ accountId: 'a', event: 'unchecked', time: TIME, uuid, properties: [1] }, true),
  (te, uuid) =>
    te.userSet({ accountId: 'a', ip: '1.2.3.4', time: TIME, uuid, properties: { x1: 1 } } as never),
  (te, uuid) =>
    te.track({
      accountId: 'a',
      event: '#hash',
      eventId: 'e',
      firstCheckId: 'f',
      time: TIME,
      uuid,
    } as never),
  (te, uuid) => {
    te.setSuperProperties({ server: 's1', nn: 0 });
    te.setDynamicSuperProperties(() => ({ online: 7 }));
    te.track({ accountId: 'a', event: 'with_super', time: TIME, uuid, properties: { nn: 1 } });
    te.clearSuperProperties();
  },
  (te, uuid) => {
    te.setSuperProperties({ '#lib': 'game', since: TIME });
    te.track({ accountId: 'a', event: 'with_lib', time: TIME, uuid });
    te.clearSuperProperties();
  },
];

function uuidOf(index: number): string {
  return `00000000-0000-4000-8000-${String(index).padStart(12, '0')}`;
}

type Library = typeof TA;

/** Each mode, as a server starts it; `place` is a receiver's address or a folder. */
const MODES = {
  debug: (library: Library, place: string) =>
    library.initWithDebugMode('A', place, { deviceId: 'dev', dryRun: true }),
  batch: (library: Library, place: string) =>
    library.initWithBatchMode('A', place, { batchSize: 500, compress: false }),
  'async batch': (library: Library, place: string) =>
    library.initWithAsyncBatchMode('A', place, { batchSize: 500, interval: 60_000 }),
  logging: (library: Library, place: string) =>
    library.initWithLoggingMode(place, { filePrefix: 'p', rotateHourly: true }),
} as const;

/** What a user_unset has of its own differs from one call to the next; texts of a record without them. */
function comparable(records: readonly JsonRecord[]): JsonRecord[] {
  const texts = records.map((record) =>
    record['#type'] === 'user_unset' ? { ...record, '#time': '', '#uuid': '' } : record,
  );
  const keyOf = (record: JsonRecord) => `${record['#uuid']}${JSON.stringify(record.properties)}`;
  return texts.sort((a, b) => keyOf(a).localeCompare(keyOf(b)));
}

type Calls = readonly ((te: TDAnalytics, uuid: string) => void)[];

/** Makes the calls, and gives what arrives by HTTP, request by request. */
async function sentBy(library: Library, mode: keyof typeof MODES, calls: Calls) {
  const capture = await CaptureReceiver.start();
  const te = MODES[mode](library, capture.url);
  for (const [index, make] of calls.entries()) make(te, uuidOf(index));
  te.flush();
  await until(() => capture.records().length >= calls.length, 'all records arrive');
  if (te.millrace !== undefined) await closed(te);
  else te.close();
  await capture.stop();
  return { records: comparable(capture.records()), requests: capture.requests };
}

/** Closes, and looks whether the account adds up. */
async function closed(te: TDAnalytics): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    te.close((error) => (error === undefined ? resolve() : reject(error)));
  });
  assert.ok(te.millrace !== undefined);
  assertBalanced(te.millrace.stats());
}

/** Makes the calls in logging mode, and gives the files. */
async function writtenBy(library: Library, calls: Calls): Promise<Map<string, JsonRecord[]>> {
  const directory = newDirectory();
  const te = MODES.logging(library, directory);
  for (const [index, make] of calls.entries()) make(te, uuidOf(index));
  if (te.millrace !== undefined) await closed(te);
  const names = () => readdirSync(directory).filter((name) => !name.startsWith('.'));
  const lines = () =>
    names().flatMap((name) => readFileSync(join(directory, name), 'utf8').split('\n'));
  await until(
    () => lines().filter((line) => line !== '').length >= calls.length,
    'all lines are there',
  );
  te.close();
  return new Map(names().map((name) => [name, comparable(readRecords(directory, [name]))]));
}

const HTTP_MODES = ['debug', 'batch', 'async batch'] as const;

for (const mode of HTTP_MODES) {
  test(`records in ${mode} mode are those of thinkingdata-node, field by field`, async () => {
    const own = await sentBy(TA, mode, CALLS);
    const theirs = await sentBy(official, mode, CALLS);
    assert.deepEqual(own.records, theirs.records);
    const [request, reference] = [own.requests[0], theirs.requests[0]];
    assert.equal(request?.path, reference?.path);
    const names = mode === 'debug' ? ['content-type'] : ['appid', 'compress', 'content-type'];
    for (const name of names) {
      assert.equal(request?.headers[name], reference?.headers[name], name);
    }
    const formOf = (body: string | undefined) => {
      const form = new URLSearchParams(body);
      form.delete('data');
      return [...form].sort();
    };
    if (mode === 'debug') assert.deepEqual(formOf(request?.body), formOf(reference?.body));
  });
}

test('records and file names in logging mode are those of thinkingdata-node', async () => {
  const theirs = await writtenBy(official, CALLS);
  const own = await writtenBy(TA, CALLS);
  assert.deepEqual(own, theirs);
});

class Money {
  readonly #cents: number;
  readonly currency = 'EUR';
  constructor(cents: number) {
    this.#cents = cents;
  }
  toJSON(): string {
    return (this.#cents / 100).toFixed(2);
  }
}

/** Values whose text is the same on both ways: what differs is in docs/migration.md. */
const scalar: fc.Arbitrary<unknown> = fc.oneof(
  fc.string({ unit: 'grapheme' }),
  fc.string({ minLength: 200, maxLength: 3000 }),
  fc.integer(),
  fc.double({ noNaN: true, noDefaultInfinity: true }),
  fc.boolean(),
  fc.date({ min: new Date(0), max: new Date('2100-01-01'), noInvalidDate: true }),
  fc.integer().map((cents) => new Money(cents)),
  fc.integer().map((value) => Object(value) as unknown),
);
const name = fc.stringMatching(/^[a-z#][a-zA-Z0-9_]{1,20}$/).filter((text) => text[0] !== '#');
const { value: anyValue } = fc.letrec((tie) => ({
  list: fc.array(fc.oneof(scalar, tie('object')), { maxLength: 4 }),
  object: fc.dictionary(name, tie('value'), { maxKeys: 3 }),
  value: fc.oneof({ depthSize: 'small' }, scalar, tie('list'), tie('object')),
}));
const unsent = fc.constantFrom<unknown>(
  undefined,
  null,
  () => 1,
  Symbol('s'),
  new Map(),
  new Error('e'),
);
const properties = fc.dictionary(
  name,
  fc.oneof({ weight: 9, arbitrary: anyValue }, { weight: 1, arbitrary: unsent }),
  { maxKeys: 6 },
);

/** A copy all through: thinkingdata-node changes what it is given. */
function copyOf<T>(value: T): T {
  if (Array.isArray(value)) return value.map(copyOf) as T;
  if (Object.prototype.toString.call(value) !== '[object Object]' || value instanceof Money)
    return value;
  return Object.fromEntries(
    Object.entries(value as object).map(([key, item]) => [key, copyOf(item)]),
  ) as T;
}

test('any properties, super and dynamic ones too, become the records of thinkingdata-node', async () => {
  const seed = Date.now() % 100_000;
  // Of dynamic properties that package strips only those it sees first.
  const dynamics = fc.dictionary(name, anyValue, { maxKeys: 3 });
  const sets = fc.sample(fc.tuple(properties, properties, dynamics), { seed, numRuns: 150 });
  const calls: Calls = sets.flatMap(([own, supers, dynamic]) => [
    (te: TDAnalytics, uuid: string) => {
      te.setSuperProperties(copyOf(supers));
      te.setDynamicSuperProperties(() => copyOf(dynamic));
      te.track({ accountId: 'a', event: 'any_event', time: TIME, uuid, properties: copyOf(own) });
      te.clearSuperProperties();
    },
    (te: TDAnalytics, uuid: string) =>
      te.userSet({ distinctId: 'd', time: TIME, uuid, properties: { kept: 1, ...copyOf(own) } }),
  ]);
  const own = await sentBy(TA, 'batch', calls);
  const theirs = await sentBy(official, 'batch', calls);
  assert.equal(own.records.length, theirs.records.length);
  for (const [index, record] of own.records.entries()) {
    assert.deepEqual(record, theirs.records[index], `seed ${seed}`);
  }
});

test('a consumer of the caller gets the records that thinkingdata-node gives it, and may hand them on', async () => {
  const capture = await CaptureReceiver.start();
  const recordsOf = (te: TDAnalytics, handOn: boolean) => {
    const { consumer } = te;
    const records: JsonRecord[] = [];
    te.consumer = {
      add: (record, callback) => {
        records.push(JSON.parse(JSON.stringify(record)) as JsonRecord);
        if (handOn) consumer.add(record, callback);
      },
      flush: (callback) => consumer.flush(callback),
      close: (callback) => consumer.close(callback),
    };
    for (const [index, make] of CALLS.entries()) make(te, uuidOf(index));
    return comparable(records);
  };
  const te = MODES.batch(TA, capture.url);
  const { millrace } = te;
  const own = recordsOf(te, true);
  assert.deepEqual(own, recordsOf(MODES.batch(official, capture.url), false));
  await new Promise<void>((resolve) => te.close(() => resolve()));
  assert.ok(millrace !== undefined);
  assertBalanced(millrace.stats());
  assert.equal(millrace.stats().delivered, CALLS.length);
  assert.deepEqual(comparable(capture.records()), own);
  await capture.stop();
});

test('each callback is called once, with the outcome of its record', async () => {
  const te = TA.initWithAsyncBatchMode('A', receiver.url, { batchSize: 7, interval: 10 });
  const heard: (Error | undefined)[] = [];
  const callback: TDCallback = (error) => {
    heard.push(error);
  };
  const lastMessage = () => heard.at(-1)?.message;
  for (let index = 0; index < 100; index += 1) te.track({ accountId: 'a', event: 'e_1', callback });
  await until(() => heard.length === 100, 'all are heard');
  assert.ok(heard.every((error) => error === undefined));
  te.track({ event: 'nobody', callback } as never);
  assert.equal(lastMessage(), 'account ID and distinct ID cannot be empty at the same time');
  const { millrace } = te;
  te.close();
  await until(() => millrace?.stats().workers.alive === 0, 'it is closed');
  te.track({ accountId: 'a', event: 'e_1', callback });
  await until(() => heard.length > 101, 'the late call is heard');
  assert.match(String(heard.at(-1)), /closed/);
  assert.equal(heard.length, 102);
  assert.ok(millrace !== undefined);
  assertBalanced(millrace.stats());
  assert.equal((await receiver.snapshot()).unique, 100);
});

/** Tracks records whose callbacks note what they hear, and waits for all of them. */
async function outcomes(
  te: TDAnalytics,
  events: readonly string[],
): Promise<(string | undefined)[][]> {
  const heard: (string | undefined)[][] = events.map(() => []);
  for (const [index, event] of events.entries()) {
    const callback = (error?: Error) => heard[index]?.push(error?.message);
    te.track({ accountId: `player_${index}`, event, callback });
  }
  te.flush();
  await until(() => heard.every((messages) => messages.length > 0), 'all are heard');
  await closed(te);
  return heard;
}

test("each callback hears its own record's outcome in the words of thinkingdata-node", async () => {
  const capture = await CaptureReceiver.start();
  capture.reply = ({ body }) => ({
    body: body.includes('poison') ? '{"code":-1,"msg":"no poison"}' : '{"code":0}',
  });
  const events = Array.from({ length: 60 }, (_, index) => (index % 20 === 7 ? 'poison' : 'ev'));
  assert.deepEqual(
    await outcomes(MODES.batch(TA, capture.url), events),
    events.map((event) =>
      event === 'poison' ? ['Unexpected result code: -1, msg: no poison'] : [undefined],
    ),
  );
  const once = { millrace: { retries: 0 } };
  capture.reply = () => ({ status: 503, body: '' });
  assert.deepEqual(await outcomes(TA.initWithBatchMode('A', capture.url, once), ['ev']), [
    ['Unexpected status code: 503'],
  ]);
  assert.deepEqual(await outcomes(MODES.debug(TA, capture.url), ['ev']), [
    ['Unexpected status code: 503'],
  ]);
  capture.reply = () => ({ body: '<html>' });
  assert.deepEqual(await outcomes(MODES.debug(TA, capture.url), ['ev']), [
    ['Could not parse response from ThinkingAnalytics'],
  ]);
  capture.reply = () => ({ body: '{"errorLevel":2,"errorReasons":["odd"]}' });
  assert.deepEqual(await outcomes(MODES.debug(TA, capture.url), ['ev']), [
    ['Unexpected result code: 2, msg: odd'],
  ]);
  await capture.stop();
});

test('a receiver that fails for a while costs no record and no callback', async () => {
  const action: FaultAction = { kind: 'status', status: 503 };
  await receiver.setFaults([{ action, requests: 3 }]);
  const te = TA.initWithBatchMode('A', receiver.url, { batchSize: 10 });
  const events = Array.from({ length: 50 }, () => 'e_1');
  assert.deepEqual(
    await outcomes(te, events),
    events.map(() => [undefined]),
  );
  assert.equal((await receiver.snapshot()).unique, 50);
});

test("debug mode tells the receiver's answer to the callback, and does not block", async () => {
  const te = TA.initWithDebugMode('A', receiver.url, { dryRun: true, deviceId: 'x' });
  const heard: (Error | undefined)[] = [];
  te.track({ accountId: 'a', event: 'good', callback: (error) => heard.push(error) });
  assert.equal(heard.length, 0);
  await until(() => heard.length === 1, 'the answer is there');
  assert.equal(heard[0], undefined);
  await closed(te);
});

/** What is printed on the console meanwhile, without times and uuids. */
async function printed(body: () => void | Promise<void>): Promise<string[]> {
  const lines: string[] = [];
  const { log } = console;
  console.log = (...parts: unknown[]) => {
    const [first] = parts;
    assert.match(String(first), /^\[.+ .+\.\d+\]\[ThinkingData\]\[Info\]$/);
    lines.push(parts.slice(1).map(String).join(' '));
  };
  try {
    await body();
  } finally {
    console.log = log;
  }
  return lines;
}

test('enableLog prints the lines of thinkingdata-node: what is opened, tracked, flushed and closed', async () => {
  const capture = await CaptureReceiver.start();
  const linesOf = async (library: Library) => {
    library.enableLog(true);
    const clients: TDAnalytics[] = [];
    const { length } = capture.requests;
    const lines = await printed(() => {
      for (const mode of HTTP_MODES) {
        const te = MODES[mode](library, capture.url);
        clients.push(te);
        te.track({
          accountId: 'a',
          event: 'ev',
          time: TIME,
          uuid: uuidOf(1),
          properties: { at: TIME },
        });
        te.flush();
      }
      library.enableLog(false);
      for (const te of clients) te.close();
    });
    await until(() => capture.requests.length === length + HTTP_MODES.length, 'all arrive');
    return lines
      .filter((line) => !line.startsWith('flush buffer event'))
      .map((line) =>
        line.replace(/^(Enqueue event: )(.*)$/s, (_, lead, text) => lead + sortedText(text)),
      );
  };
  assert.deepEqual(await linesOf(TA), await linesOf(official));
  await capture.stop();
});

function sortedText(text: string): string {
  const record = JSON.parse(text) as { properties: object };
  const sorted = { ...record, properties: Object.entries(record.properties).sort() };
  return JSON.stringify(Object.entries(sorted).sort());
}

test('values that thinkingdata-node throws on cost at most themselves, with the log on and off', async () => {
  const capture = await CaptureReceiver.start();
  const te = MODES.batch(TA, capture.url);
  const cycle: Record<string, unknown> = { kept: 1 };
  for (const name of ['one', 'two', 'three']) cycle[name] = cycle;
  const lists: unknown[] = [];
  lists.push(lists, { lists });
  const send = () =>
    te.track({ accountId: 'a', event: 'odd', properties: { cycle, lists, big: 5n, ok: true } });
  send();
  TA.enableLog(true);
  const lines = await printed(send);
  TA.enableLog(false);
  assert.match(lines.join(), /Enqueue event: .*"ok":true/);
  await closed(te);
  for (const { properties } of capture.records()) {
    const { big, ok, cycle: sent } = properties as { big: number; ok: boolean; cycle: object };
    assert.deepEqual([big, ok, sent], [5, true, { kept: 1 }]);
  }
  assert.equal(capture.records().length, 2);
  await capture.stop();
});

test('wrong calls have the texts of thinkingdata-node, in its order', () => {
  const wrong: readonly ((te: TDAnalytics, callback: TDCallback) => void)[] = [
    (te, callback) => te.track({ callback } as never),
    (te, callback) => te.track({ accountId: '', distinctId: 'a', callback } as never),
    (te, callback) => te.track({ accountId: 'a', event: 'x', callback }),
    (te, callback) => te.track({ accountId: 'a', event: '1abc', callback }),
    (te, callback) => te.track({ accountId: 'a', event: 'ab', properties: { '1a': 1 }, callback }),
    (te, callback) => te.track({ accountId: 'a', event: 'ab', properties: [] as never, callback }),
    (te, callback) => te.trackUpdate({ accountId: 'a', event: 'ab', callback } as never),
    (te, callback) => te.trackOverWrite({ accountId: 'a', event: 'ab', callback } as never),
    (te, callback) => te.trackFirst({ accountId: 'a', event: 'ab', callback } as never),
    (te, callback) => te.userSet({ accountId: 'a', callback }),
    (te, callback) => te.userAdd({ accountId: 'a', properties: {}, callback }),
    (te, callback) => te.userAppend({ accountId: 'a', properties: { none: undefined }, callback }),
    (te, callback) => te.userUnset({ accountId: 'a', property: '', callback }),
    (te, callback) => te.userDel({ callback }),
    (te, callback) => te.setSuperProperties({ '#': 1 }, callback),
    (te, callback) => te.setDynamicSuperProperties('x' as never, callback),
    (te, callback) => te.setDynamicSuperProperties(() => ({ 'a b': 1 }), callback),
  ];
  const messagesOf = (library: typeof TA) => {
    const te = library.initWithDebugMode('A', receiver.url, { deviceId: '' });
    te.consumer = { add: () => undefined, flush: () => undefined, close: () => undefined };
    return wrong.map((make) => {
      const messages: (string | undefined)[] = [];
      make(te, (error) => messages.push(error?.message));
      return messages;
    });
  };
  assert.deepEqual(messagesOf(TA), messagesOf(official));
});

test('addresses are read as thinkingdata-node reads them', async () => {
  const capture = await CaptureReceiver.start();
  const { requests } = await (async () => {
    const te = TA.initWithBatchMode('A', `${capture.url}/some/path?x=1`, { batchSize: 1e6 });
    assert.deepEqual(await outcomes(te, ['ev']), [[undefined]]);
    return capture;
  })();
  assert.equal(requests[0]?.path, '/sync_server');
  for (const address of ['ftp://host', 'nonsense']) {
    const messageOf = (library: Library) => {
      try {
        library.initWithBatchMode('A', address, {});
      } catch (error) {
        return String(error);
      }
      return 'nothing was thrown';
    };
    assert.equal(messageOf(TA), messageOf(official));
  }
  await capture.stop();
});

test('the suite of thinkingdata-node itself passes', async () => {
  const folder = join(dirname(require.resolve('thinkingdata-node')), '..', 'test', 'functionTest');
  const source = readFileSync(join(folder, 'functionTest.js'), 'utf8');
  const ran: string[] = [];
  const expect = (actual: unknown) => ({
    to: { equal: (expected: unknown) => assert.equal(actual, expected) },
  });
  const load = (id: string): unknown => {
    if (id === 'chai') return { expect };
    if (id.endsWith('/lib/thinkingdata-node')) return TA;
    return require(join(folder, id));
  };
  const names: string[] = [];
  runInNewContext(source, {
    require: load,
    console: { log: () => undefined },
    describe: (name: string, body: () => void) => {
      names.push(name);
      body();
      names.pop();
    },
    it: (name: string, body: () => void) => {
      body();
      ran.push([...names, name].join(' '));
    },
  });
  assert.ok(ran.length > 25, `${ran.length} tests`);
});
