import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { resolveZone, TIME_TEXT_BYTES, TimeText } from '../src/codec/time-text.ts';
import { wallTime } from './reference.ts';
import { runProgram } from './support.ts';

const ZONES = [
  'UTC',
  'Asia/Shanghai',
  'Asia/Kolkata',
  'Asia/Kathmandu',
  'America/New_York',
  'America/St_Johns',
  'Australia/Lord_Howe',
  'Pacific/Apia',
  'Africa/Monrovia',
  'Europe/Dublin',
  '+08:00',
  '-03:30',
  '+05:45',
  '+14:00',
];

function textOf(time: TimeText, ms: number): string {
  const target = new Uint8Array(TIME_TEXT_BYTES + 2);
  assert.equal(time.write(target, 1, ms), TIME_TEXT_BYTES + 1);
  return Buffer.from(target.subarray(1, TIME_TEXT_BYTES + 1)).toString('latin1');
}

const instants = fc.array(
  fc.oneof(
    fc.date({ min: new Date('1900-01-01'), max: new Date('2199-01-01'), noInvalidDate: true }),
    fc.date({ min: new Date('2026-01-01'), max: new Date('2026-12-31'), noInvalidDate: true }),
  ),
  { minLength: 1, maxLength: 20 },
);

for (const name of ZONES) {
  test(`instants are written as ${name} has them`, () => {
    const time = new TimeText(resolveZone(name));
    fc.assert(
      fc.property(instants, (dates) => {
        for (const date of dates) assert.equal(textOf(time, date.getTime()), wallTime(date, name));
      }),
      { numRuns: 150, endOnFailure: true },
    );
  });
}

test('the minutes around a change of offset are right, forth and back', () => {
  // [zone, the instant of the change]
  const changes = [
    ['America/New_York', '2026-03-08T07:00:00Z'],
    ['America/New_York', '2026-11-01T06:00:00Z'],
    ['Australia/Lord_Howe', '2026-04-04T15:00:00Z'],
    ['Australia/Lord_Howe', '2026-10-03T15:30:00Z'],
    ['Pacific/Apia', '2011-12-30T10:00:00Z'],
    ['Europe/Dublin', '2026-10-25T01:00:00Z'],
  ] as const;
  for (const [name, change] of changes) {
    const time = new TimeText(resolveZone(name));
    for (const offsetMs of [-1000, -1, 0, 1, 999, 1000, 60_000, -60_000, 3_600_000, -3_600_000]) {
      const date = new Date(Date.parse(change) + offsetMs);
      assert.equal(textOf(time, date.getTime()), wallTime(date, name), `${name} ${offsetMs}`);
    }
  }
});

test('offsets are in hours', () => {
  const at = Date.parse('2026-07-01T00:00:00Z');
  const hours = (zone: string) => new TimeText(resolveZone(zone)).offsetHours(at);
  assert.deepEqual(
    [
      'UTC',
      'Asia/Kolkata',
      'America/New_York',
      '-03:30',
      'Asia/Kathmandu',
      'Australia/Lord_Howe',
    ].map(hours),
    [0, 5.5, -4, -3.5, 5.75, 10.5],
  );
});

test('the first and the last years are written with four digits', () => {
  const time = new TimeText(resolveZone('UTC'));
  assert.equal(textOf(time, Date.parse('9999-12-29T01:02:03.004Z')), '9999-12-29 01:02:03.004');
  for (const [zone, last] of [
    ['UTC', '9999-12-31T23:59:59.999Z'],
    ['Asia/Shanghai', '9999-12-31T15:59:59.999Z'],
    ['America/New_York', '+010000-01-01T04:59:59.999Z'],
    ['-12:00', '+010000-01-01T11:59:59.999Z'],
  ] as const) {
    const there = new TimeText(resolveZone(zone));
    for (const moreMs of [0, 1000, 3_600_000]) {
      assert.equal(textOf(there, Date.parse(last) + moreMs), '9999-12-31 23:59:59.999', zone);
    }
    assert.equal(textOf(there, Date.parse(last) - 1000), '9999-12-31 23:59:58.999', zone);
  }
  const early = new Date(0);
  early.setUTCFullYear(7, 1, 28);
  assert.equal(textOf(time, early.getTime()), '0007-02-28 00:00:00.000');
  assert.equal(textOf(time, -0.5), '1969-12-31 23:59:59.999');
});

test('zones that are none are refused by name', () => {
  for (const zone of ['', 'Mars/Base', '+8', '+19:00', '+08:60', 'GMT+8:00x', '8']) {
    assert.throws(() => resolveZone(zone), { code: 'MILLRACE_OPTIONS', message: /timeZone/ });
  }
});

for (const tz of ['Asia/Kolkata', 'America/New_York', 'Australia/Lord_Howe', 'Africa/Monrovia']) {
  test(`the process's own zone is followed: TZ ${tz}`, async () => {
    const run = await runProgram('zone', [], { env: { TZ: tz } });
    assert.equal(run.code, 0, run.stderr);
    const pairs = run.messages[0] as [string, string][];
    assert.ok(pairs.length > 500);
    for (const [ours, theirs] of pairs) assert.equal(ours, theirs);
  });
}
