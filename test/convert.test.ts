import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Writable } from 'node:stream';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import fc from 'fast-check';
import { type ConvertReport, check, convert, type RowProblem, ship } from '../src/index.ts';
import { LINE_BYTES_MAX } from '../src/lines/line-check.ts';
import { newDirectory, TestReceiver } from './support.ts';

const main = fileURLToPath(new URL('../src/cli/main.js', import.meta.url));

type Json = Record<string, unknown>;

interface Converted {
  readonly report: ConvertReport;
  readonly records: readonly Json[];
  readonly problems: readonly RowProblem[];
}

async function convertText(
  text: string | Buffer,
  mapping: object | string,
  name = 'history.csv',
): Promise<Converted> {
  const file = join(newDirectory(), name);
  writeFileSync(file, text);
  let lines = '';
  const output = new Writable({
    write: (chunk, _encoding, done) => {
      lines += String(chunk);
      done();
    },
  });
  const problems: RowProblem[] = [];
  const onProblem = (problem: RowProblem) => problems.push(problem);
  const report = await convert({ files: [file], mapping, output, onProblem });
  const records = lines.split('\n').filter((line) => line !== '');
  assert.equal(report.rows, report.records + report.bad);
  assert.equal(report.records, records.length);
  return { report, records: records.map((line) => JSON.parse(line) as Json), problems };
}

const MAPPING = `
timeZone: Asia/Shanghai
type: { column: kind, values: { event: track, profile: user_set } }
event: { column: action }
time: { column: at, format: "dd/MM/yyyy HH:mm:ss", zone: Europe/Berlin }
accountId: { column: uid }
properties:
  level: { column: lvl, type: number }
  won: { column: won, type: boolean }
  items: { column: items, type: list, separator: "|" }
  extra: { column: extra, type: json }
  seen: { column: seen, type: time, format: unix }
  source: { value: import }
others: keep
`;

test('rows become records: kinds, zones, types, constants, translated and left-over columns', async () => {
  const mapping = join(newDirectory(), 'mapping.yaml');
  writeFileSync(mapping, MAPPING);
  const csv = [
    'kind,action,at,uid,lvl,won,items,extra,seen,hero',
    'event,level_up,24/11/2026 08:30:00,p1,12,yes,a|b,"{""k"":[1]}",1767225600,"Ann, the ""great"""',
    'profile,,29/03/2026 03:30:00,p2,,,,,,',
  ].join('\r\n');
  const { records, report } = await convertText(csv, mapping);
  assert.deepEqual([report.records, report.bad], [2, 0]);
  const [first, second] = records;
  assert.deepEqual(first, {
    '#type': 'track',
    '#time': '2026-11-24 15:30:00.000',
    '#event_name': 'level_up',
    '#account_id': 'p1',
    '#uuid': first?.['#uuid'],
    properties: {
      level: 12,
      won: true,
      items: ['a', 'b'],
      extra: { k: [1] },
      seen: '2026-01-01 08:00:00.000',
      source: 'import',
      hero: 'Ann, the "great"',
      '#zone_offset': 8,
    },
  });
  // Berlin is on summer time since half an hour.
  assert.equal(second?.['#time'], '2026-03-29 09:30:00.000');
  assert.deepEqual(second?.properties, { source: 'import' });
});

test('JSON lines keep their types, inner values have paths, and .gz is read', async () => {
  const rows = [
    { t: 1767225600123, user: { id: 'u1', name: 'x' }, gold: 5, tags: ['a'] },
    { t: 1767225600456, user: { id: 'u2' }, gold: 7.5, tags: null },
  ];
  const text = `${rows.map((row) => JSON.stringify(row)).join('\n')}\n\nnot json\n`;
  const { records, problems } = await convertText(
    gzipSync(text),
    {
      timeZone: 'UTC',
      event: 'bought',
      time: { column: 't', format: 'unixMs' },
      distinctId: { column: 'user.id' },
      uuid: { from: ['t', 'user.id'] },
      properties: { gold: 'gold', tags: 'tags' },
    },
    'history.jsonl.gz',
  );
  assert.deepEqual(
    records.map(({ properties }) => properties),
    [
      { gold: 5, tags: ['a'], '#zone_offset': 0 },
      { gold: 7.5, '#zone_offset': 0 },
    ],
  );
  assert.equal(records[0]?.['#time'], '2026-01-01 00:00:00.123');
  assert.deepEqual(
    problems.map(({ line, reason }) => ({ line, reason })),
    [{ line: 4, reason: 'is not a JSON object' }],
  );
});

test('bad rows are told with file, line and reason, and their neighbours go on', async () => {
  const csv = [
    'action,at,uid,lvl',
    'ok,2026-11-24T00:00:00Z,u,1',
    'ok,yesterday,u,1',
    'ok,2026-11-24T00:00:00Z,u,many',
    'ok,2026-11-24T00:00:00Z,,1',
    'ok,2026-11-24T00:00:00Z,u',
    '1st,2026-11-24T00:00:00Z,u,1',
    'ok,0001-01-01T00:00:00Z,u,1',
    'ok,2026-11-24T00:00:00Z,u,2',
    `ok,2026-11-24T00:00:00Z,${'u'.repeat(LINE_BYTES_MAX)},2`,
  ].join('\n');
  const { records, problems } = await convertText(csv, {
    event: { column: 'action' },
    time: { column: 'at' },
    accountId: { column: 'uid' },
    properties: { level: { column: 'lvl', type: 'number' } },
  });
  assert.equal(records.length, 2);
  const told = problems.map(({ line, reason }) => `${line} ${reason}`);
  const expected = [
    /^3 time is "yesterday"/,
    /^4 level is "many"/,
    /^5 #account_id/,
    /^6 .*length/,
  ];
  for (const [index, pattern] of [
    ...expected,
    /^7 #event_name/,
    /^8 time/,
    /^10 record is longer than/,
  ].entries()) {
    assert.match(told[index] ?? '', pattern);
  }
});

test('the same content has the same uuids in every run, other content has others', async () => {
  const mapping = {
    event: 'e',
    time: { column: 'at', format: 'unix' },
    accountId: { column: 'uid' },
    others: 'keep',
  };
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.stringMatching(/^[a-z0-9 ]{1,8}$/), { minLength: 1, maxLength: 20 }),
      async (values) => {
        const csv = `at,uid,v\n${values.map((value) => `1767225600,u,x${value}\n`).join('')}`;
        const uuids = async () =>
          (await convertText(csv, mapping)).records.map((record) => record['#uuid']);
        const first = await uuids();
        assert.deepEqual(await uuids(), first);
        assert.equal(new Set(first).size, values.length, 'equal rows are different rows');
      },
    ),
    { numRuns: 30, endOnFailure: true },
  );
});

test('everything that is wrong with a mapping is told at once, with its place', async () => {
  const wrong = {
    type: 'tracked',
    time: { format: 'iso' },
    uuid: 7,
    properties: { level: { column: 'a', type: 'int' } },
    bogus: 1,
  };
  const good = { event: 'e', time: { column: 'a' }, accountId: 'u' };
  const file = join(newDirectory(), 'x.csv');
  writeFileSync(file, 'a\n1\n');
  await assert.rejects(convert({ files: [file], mapping: wrong, output: newDirectory() }), {
    code: 'MILLRACE_OPTIONS',
    message: /type is "tracked".*mapping\.time.*mapping\.uuid.*properties\.level.*bogus/s,
  });
  await assert.rejects(convert({ files: ['/no/such'], mapping: good, output: newDirectory() }), {
    code: 'MILLRACE_UNAVAILABLE',
    message: /\/no\/such/,
  });
});

test('converted history is checked good and shipped, and a second run of all of it changes nothing', async () => {
  const receiver = await TestReceiver.start(['--appid', 'A']);
  const folder = newDirectory();
  const mapping = join(folder, 'mapping.json');
  writeFileSync(
    mapping,
    JSON.stringify({
      event: 'login',
      time: { column: 'at', format: 'yyyy-MM-dd HH:mm:ss' },
      accountId: { column: 'uid' },
    }),
  );
  const source = join(folder, 'logins.csv');
  const rows = Array.from({ length: 3000 }, (_, index) => `2026-11-24 08:00:00,u${index}`);
  writeFileSync(source, `at,uid\n${rows.join('\n')}\nbroken,u\n`);
  for (let run = 0; run < 2; run += 1) {
    const directory = newDirectory();
    const { code, stdout } = await new Promise<{ code: unknown; stdout: string }>((resolve) => {
      const args = [main, 'convert', source, '--mapping', mapping, '--out', directory, '--json'];
      execFile(process.execPath, args, (error, out) => {
        resolve({ code: error === null ? 0 : error.code, stdout: out });
      });
    });
    assert.equal(code, 1, 'there is a bad row');
    assert.equal((JSON.parse(stdout) as ConvertReport).records, 3000);
    const names = readdirSync(directory).map((name) => join(directory, name));
    assert.match(names[0] ?? '', /log\.\d{4}-\d\d-\d\d_0$/);
    const report = await check(names);
    assert.deepEqual([report.lines, report.bad], [3000, 0]);
    const account = await ship({ directory, url: receiver.url, appId: 'A', once: true });
    assert.deepEqual([account.delivered, account.imbalance], [3000, 0]);
  }
  const { unique, duplicates } = await receiver.snapshot();
  await receiver.stop();
  assert.deepEqual({ unique, duplicates }, { unique: 3000, duplicates: 3000 });
});

test('the command writes lines to standard output, and wrong usage ends with 2', async () => {
  const folder = newDirectory();
  writeFileSync(join(folder, 'a.csv'), 'at,uid\n1767225600,u\n');
  writeFileSync(
    join(folder, 'm.yaml'),
    'event: e\ntime: { column: at, format: unix }\naccountId: { column: uid }\n',
  );
  const run = (...args: string[]) =>
    new Promise<{ code: unknown; stdout: string; stderr: string }>((resolve) => {
      execFile(
        process.execPath,
        [main, 'convert', ...args],
        { cwd: folder },
        (error, stdout, stderr) => {
          resolve({ code: error === null ? 0 : error.code, stdout, stderr });
        },
      );
    });
  const good = await run('a.csv', '--mapping', 'm.yaml');
  assert.equal(good.code, 0, good.stderr);
  assert.equal((JSON.parse(good.stdout) as Json)['#event_name'], 'e');
  assert.match(good.stderr, /1 rows: 1 records, 0 bad/);
  assert.equal((await run('a.csv')).code, 2);
  assert.equal((await run('a.csv', '--mapping', 'none.yaml')).code, 2);
  assert.ok(readFileSync(join(folder, 'm.yaml')).length > 0);
});
