import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { after, before, beforeEach, test } from 'node:test';
import { runInNewContext } from 'node:vm';
import type { FaultAction } from '../src/receiver/index.ts';
import TA, { type TDAnalytics, type TDCallback } from '../src/thinkingdata.ts';
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
        n: 1.5,
        s: 'text "quoted" é',
        b: true,
        d: TIME,
        l: ['a', 'b'],
        o: { x: 1, d: TIME },
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
      properties: { v: 1 },
    }),
  (te, uuid) =>
    te.trackOverWrite({
      accountId: 'a',
      event: 'over',
      eventId: 'e2',
      time: TIME,
      uuid,
      properties: { v: 2 },
    }),
  (te, uuid) => te.userSet({ accountId: 'a', time: TIME, uuid, properties: { level: 3 } }),
  (te, uuid) => te.userSetOnce({ accountId: 'a', time: TIME, uuid, properties: { born: TIME } }),
  (te, uuid) => te.userAdd({ accountId: 'a', time: TIME, uuid, properties: { coins: -2 } }),
  (te, uuid) => te.userAppend({ accountId: 'a', time: TIME, uuid, properties: { items: ['x'] } }),
  (te, uuid) =>
    te.userUniqAppend({ accountId: 'a', time: TIME, uuid, properties: { items: ['y'] } }),
  (te, uuid) => te.userDel({ accountId: 'a', time: TIME, uuid }),
  (te, uuid) => {
    te.setSuperProperties({ server: 's1', n: 0 });
    te.setDynamicSuperProperties(() => ({ online: 7 }));
    te.track({ accountId: 'a', event: 'with_super', time: TIME, uuid, properties: { n: 1 } });
    te.clearSuperProperties();
  },
];

function uuidOf(index: number): string {
  return `00000000-0000-4000-8000-${String(index).padStart(12, '0')}`;
}

/** What a client hands to a consumer put in the place of its own. */
function recordsOf(te: TDAnalytics): JsonRecord[] {
  const records: JsonRecord[] = [];
  te.consumer = {
    add: (record) => records.push(JSON.parse(JSON.stringify(record)) as JsonRecord),
    flush: () => undefined,
    close: () => undefined,
  };
  for (const [index, make] of CALLS.entries()) make(te, uuidOf(index));
  return records;
}

test('records are those of thinkingdata-node, field by field: in a consumer of the caller and in log files', async () => {
  const theirs = recordsOf(official.initWithDebugMode('A', receiver.url, { deviceId: '' }));
  const own = recordsOf(TA.initWithDebugMode('A', receiver.url));
  assert.deepEqual(own, theirs);
  const directory = newDirectory();
  const te = TA.initWithLoggingMode(directory, { filePrefix: 'p' });
  for (const [index, make] of CALLS.entries()) make(te, uuidOf(index));
  await new Promise<void>((resolve, reject) => {
    te.flush((error) => (error === undefined ? resolve() : reject(error)));
  });
  const day = new Date();
  const two = (value: number) => String(value).padStart(2, '0');
  const name = `p.log.${day.getFullYear()}-${two(day.getMonth() + 1)}-${two(day.getDate())}`;
  const lines = readRecords(directory, [name]);
  const byUuid = (a: JsonRecord, b: JsonRecord) =>
    String(a['#uuid']).localeCompare(String(b['#uuid']));
  assert.deepEqual(lines.sort(byUuid), theirs);
  te.close();
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
  assert.match(String(heard.at(-1)), /closed/);
  assert.equal(heard.length, 102);
  assert.ok(millrace !== undefined);
  assertBalanced(millrace.stats());
  assert.equal((await receiver.snapshot()).unique, 100);
});

test('a receiver that fails for a while costs no record and no callback', async () => {
  const action: FaultAction = { kind: 'status', status: 503 };
  await receiver.setFaults([{ action, requests: 3 }]);
  const te = TA.initWithBatchMode('A', receiver.url, { batchSize: 10 });
  let heard = 0;
  for (let index = 0; index < 50; index += 1) {
    te.track({ accountId: 'a', event: 'e_1', callback: (error) => (heard += error ? 0 : 1) });
  }
  te.flush();
  await until(() => heard === 50, 'all are heard');
  assert.equal((await receiver.snapshot()).unique, 50);
  te.close();
});

test("debug mode tells the receiver's answer to the callback, and does not block", async () => {
  const te = TA.initWithDebugMode('A', receiver.url, { dryRun: true, deviceId: 'x' });
  const heard: (Error | undefined)[] = [];
  te.track({ accountId: 'a', event: 'good', callback: (error) => heard.push(error) });
  assert.equal(heard.length, 0);
  await until(() => heard.length === 1, 'the answer is there');
  assert.equal(heard[0], undefined);
  te.close();
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
