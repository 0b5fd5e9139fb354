import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import { test } from 'node:test';
import type { Stats } from '../src/index.ts';
import {
  assertBalanced,
  assertMatches,
  type GoldenCase,
  loadGolden,
  newDirectory,
  readRecords,
  runProgram,
  TestReceiver,
} from './support.ts';

// Goal: every worked example of the wire contract holds on the real path: ring, worker, sink. Method: a process per zone and
// consumer runs the calls; what arrives is compared as parsed JSON.
interface CaseResult {
  readonly name: string;
  readonly error?: { readonly code: string; readonly message: string };
  readonly stats: Stats;
}

const golden = loadGolden();
/** The examples are written for one zone; in the others only the wall time of their one moment differs. */
const zones = ['Asia/Shanghai', 'UTC', 'America/New_York', 'Asia/Kolkata', 'Australia/Lord_Howe'];
const MOMENT = new Date('2026-03-08T04:05:06.007Z');
const WRITTEN_AS = '2026-03-08 12:05:06.007';

/** Wall time of the examples' moment, by a way that shares nothing with ours. */
function momentIn(timeZone: string): string {
  return MOMENT.toLocaleString('sv-SE', {
    timeZone,
    year: 'numeric',
    month: '2-digit',
    day: '2-digit',
    hour: '2-digit',
    minute: '2-digit',
    second: '2-digit',
    fractionalSecondDigits: 3,
  }).replace(',', '.');
}

function casesIn(tz: string): GoldenCase[] {
  return golden.map((one) => {
    if (one.options !== undefined) return one;
    return JSON.parse(JSON.stringify(one).replaceAll(WRITTEN_AS, momentIn(tz)));
  });
}
function checkErrors(results: readonly CaseResult[], cases: readonly GoldenCase[]): void {
  for (const { name, error } of cases) {
    const found = results.find((result) => result.name === name);
    assert.ok(found, `${name} was run`);
    assertBalanced(found.stats);
    assert.equal(found.error?.code, error?.code, `${name}: ${found.error?.message}`);
    for (const mention of error?.mentions ?? []) {
      assert.ok(found.error?.message.includes(mention), `${name}: ${found.error?.message}`);
    }
  }
}

function checkRecords(records: readonly object[], cases: readonly GoldenCase[]): void {
  const good = cases.filter(({ expect }) => expect !== undefined);
  assert.equal(records.length, good.length);
  for (const [index, { name, expect }] of good.entries()) {
    assertMatches(records[index], expect, name);
  }
}

for (const tz of zones) {
  const cases = casesIn(tz);
  for (const validation of ['throw', 'off']) {
    test(`golden examples through files, TZ ${tz}, validation ${validation}`, async () => {
      const directory = newDirectory();
      // Threads take long to start: where only the zone, the checks or the sink is another, the cases share their clients.
      const clients = tz === 'Asia/Shanghai' && validation === 'throw' ? 'fresh' : 'shared';
      const flags = ['file', directory, validation, clients];
      const run = await runProgram('golden', flags, { env: { TZ: tz } });
      assert.equal(run.code, 0, run.stderr);
      const results = run.messages.filter((message) => 'name' in (message as object));
      const wanted = validation === 'off' ? cases.filter(({ error }) => !error) : cases;
      checkErrors(results as CaseResult[], wanted);
      checkRecords(readRecords(directory, readdirSync(directory).sort()), wanted);
    });
  }
  for (const kind of tz === 'Asia/Shanghai' ? ['async', 'batch', 'debug'] : ['async']) {
    test(`golden examples through the ${kind} consumer, TZ ${tz}`, async () => {
      const save = newDirectory();
      const saving = await TestReceiver.start(['--save', save]);
      const flags = [kind, saving.url, 'throw', 'shared'];
      const run = await runProgram('golden', flags, { env: { TZ: tz } });
      await saving.stop();
      assert.equal(run.code, 0, run.stderr);
      const results = run.messages.filter((message) => 'name' in (message as object));
      checkErrors(results as CaseResult[], cases);
      checkRecords(readRecords(save, ['received.jsonl']), cases);
    });
  }
}
