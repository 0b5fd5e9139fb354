import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import fc from 'fast-check';
import { type CheckOptions, check, type LineProblem } from '../src/index.ts';
import { faultOf } from '../src/lines/line-check.ts';
import { LineScanner } from '../src/lines/line-scanner.ts';
import { parseLogFileName } from '../src/lines/log-name.ts';
import { RecordScanner } from '../src/lines/record-scanner.ts';
import { UNSURE } from '../src/lines/scanner-places.ts';
import { survey } from '../src/lines/survey.ts';
import { javaLines, linesOf, pythonLines } from './log-lines.ts';
import { newDirectory } from './support.ts';

const main = fileURLToPath(new URL('../src/cli/main.js', import.meta.url));
const scanner = new RecordScanner();

/** The scanner's verdict on a line in the middle of other bytes. */
function isFine(line: string): boolean {
  const bytes = Buffer.from(`}${line}\n0`);
  return scanner.isFine(bytes, 1, bytes.length - 2);
}

const names = fc.oneof(
  fc.constantFrom('level', 'Level', '#vip', 'a_b', 'x1', '#time', '#uuid', 'properties', '1a', ''),
  fc.string({ maxLength: 4 }),
  fc.string({ minLength: 48, maxLength: 52, unit: fc.constantFrom('a', 'B') }),
);
const scalars = fc.oneof(
  fc.string({ unit: 'binary', maxLength: 8 }),
  fc.double({ noNaN: true, noDefaultInfinity: true }),
  fc.integer(),
  fc.boolean(),
  fc.constantFrom(null, 0, -0, 1e300, 1e30, 'a\\"b', '\u0000', '\u{1f600}'),
);
const { value: values } = fc.letrec((tie) => ({
  value: fc.oneof(
    { maxDepth: 5 },
    scalars,
    fc.array(tie('value'), { maxLength: 3 }),
    fc.dictionary(names, tie('value'), { maxKeys: 3 }),
  ),
}));
const types = fc.constantFrom(
  'track',
  'track_update',
  'track_overwrite',
  'user_set',
  'user_add',
  'user_unset',
  'user_append',
  'user_del',
  'wrong',
);
const times = fc.oneof(
  fc.constantFrom('2026-11-24 08:00:00.000', '2024-02-29 23:59:59.999', '2026-02-29 00:00:00.000'),
  fc.constantFrom('2026-04-31 00:00:00.000', '0000-01-01 00:00:00.000', '2026-01-01 24:00:00.000'),
  fc.stringMatching(/^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}$/),
  fc.string({ maxLength: 25 }),
);
const texts = fc.oneof(fc.constantFrom('', 'x', 'login', '1x'), fc.string({ maxLength: 6 }));
const records = fc.record(
  {
    '#type': types,
    '#time': times,
    '#account_id': texts,
    '#distinct_id': texts,
    '#event_name': texts,
    '#event_id': texts,
    '#first_check_id': texts,
    '#ip': texts,
    '#uuid': fc.oneof(fc.uuid(), texts),
    '#nonsense': texts,
    properties: fc.oneof(
      fc.dictionary(names, values, { maxKeys: 6 }),
      fc.dictionary(fc.constantFrom('gold', 'xp'), fc.integer({ min: 0, max: 1 })),
      scalars,
    ),
  },
  { requiredKeys: [] },
);

test('what the scanner calls fine is a record by the reference, whatever stands in the line', () => {
  fc.assert(
    fc.property(
      records,
      fc.constantFrom(0, 1),
      fc.nat(),
      fc.string(),
      (record, indent, cut, junk) => {
        const line = JSON.stringify(record, null, indent === 0 ? 0 : ' ').replaceAll('\n', '\r');
        const at = cut % (line.length + 1);
        for (const text of [
          line,
          line.slice(0, at),
          line.slice(0, at) + junk + line.slice(at + 1),
        ]) {
          if (text.includes('\n') || !isFine(text)) continue;
          assert.equal(faultOf(Buffer.from(text)), undefined, text);
        }
      },
    ),
    { numRuns: 3000, endOnFailure: true },
  );
});

/** What the line scanner says of each line: whether it is sure. */
function sureOf(scanner: LineScanner, lines: readonly string[]): boolean[] {
  const text = Buffer.from(` ${lines.join('\n')}\n`);
  const ends = new Uint32Array(lines.length);
  const count = scanner.scan(text, { from: 1, end: text.length }, ends);
  assert.equal(count, lines.length);
  let at = 1;
  return lines.map((line, index) => {
    const end = at + Buffer.byteLength(line);
    const word = ends[index] ?? 0;
    assert.equal(word & ~UNSURE, end, 'the line ends there');
    at = end + 1;
    return word < UNSURE;
  });
}

// Goal: wire.md, section 1: a number is finite. JSON has no word for infinity, but numbers that are read as such.
test('a number that is infinite when it is read is bad, wherever it stands, and no scanner calls it fine', () => {
  const scanner = LineScanner.open();
  assert.ok(scanner);
  const record = (type: string, value: string) =>
    `{"#type":"${type}","#time":"2026-11-24 08:00:00.000","#account_id":"u","properties":{"x":${value}}}`;
  const linesWith = (number: string) => [
    record('user_set', number),
    record('user_add', number),
    record('user_append', `[1,${number}]`),
    record('user_set', `{"y":${number}}`),
  ];
  const long = '9'.repeat(309);
  const bad = ['1e400', '-1e400', '1E+309', '1.8e308', long, `${long}.5`, `${long}e0`].flatMap(
    linesWith,
  );
  for (const line of bad) {
    assert.match(faultOf(Buffer.from(line))?.reason ?? '', /must be a finite number/, line);
    assert.equal(isFine(line), false, line);
  }
  assert.ok(!sureOf(scanner, bad).includes(true));
  const sure = ['1e99', '-1.5E-10', '5e-324', '9'.repeat(200), `${'9'.repeat(197)}e99`].flatMap(
    linesWith,
  );
  for (const line of sure) assert.equal(isFine(line), true, line);
  assert.ok(!sureOf(scanner, sure).includes(false));
  const rare = ['1e308', '1e-400', '9'.repeat(308)].flatMap(linesWith);
  for (const line of [...sure, ...rare]) assert.equal(faultOf(Buffer.from(line)), undefined, line);
});

test('the line scanner says of every line what the record scanner says', () => {
  const scanner = LineScanner.open();
  assert.ok(scanner);
  fc.assert(
    fc.property(
      fc.array(fc.tuple(records, fc.constantFrom(0, 1), fc.nat(), fc.string({ unit: 'binary' })), {
        minLength: 1,
        maxLength: 8,
      }),
      (drawn) => {
        const lines = drawn.flatMap(([record, indent, cut, junk]) => {
          const line = JSON.stringify(record, null, indent === 0 ? 0 : ' ').replaceAll('\n', '\r');
          const at = cut % (line.length + 1);
          const broken = line.slice(0, at) + junk.replaceAll('\n', ' ') + line.slice(at + 1);
          return [line, line.slice(0, at), broken, ''];
        });
        assert.deepEqual(sureOf(scanner, lines), lines.map(isFine));
      },
    ),
    { numRuns: 1000, endOnFailure: true },
  );
  const good = (linesOf(0, 5) + pythonLines(0, 5) + javaLines(0, 5)).trimEnd().split('\n');
  assert.deepEqual(
    sureOf(scanner, good),
    good.map(() => true),
  );
  // Every byte of good lines, replaced: the places where a record may break.
  for (const line of good.slice(3, 9)) {
    const broken = Array.from({ length: line.length }, (_, at) =>
      ['"', '}', ' ', '0', '\\', ','].map((mark) => line.slice(0, at) + mark + line.slice(at + 1)),
    ).flat();
    assert.deepEqual(sureOf(scanner, broken), broken.map(isFine));
  }
});

test('lines beyond the memory of the line scanner, and more than it has room for, are told apart', () => {
  const scanner = LineScanner.open();
  assert.ok(scanner);
  const [good = ''] = linesOf(0, 1).split('\n');
  const long = good.replace('"u"', `"${'u'.repeat(2 * 1024 * 1024)}"`);
  const half = good.replace('"u"', `"${'u'.repeat(600 * 1024)}"`);
  assert.deepEqual(sureOf(scanner, [good, long, good, half, half, half]), [
    true,
    false,
    true,
    true,
    true,
    true,
  ]);
  const many = Array.from({ length: 20_000 }, (_, index) => (index % 2 === 0 ? '' : good));
  assert.deepEqual(
    sureOf(scanner, many),
    many.map((line) => line !== ''),
  );
  const ends = new Uint32Array(3);
  const text = Buffer.from(`${good}\n`.repeat(5));
  assert.equal(scanner.scan(text, { from: 0, end: text.length }, ends), 3);
});

test('ordinary records are fine at first sight, without being parsed', () => {
  const good = fc.record(
    {
      '#type': fc.constant('track'),
      '#time': fc.constant('2026-11-24 08:00:00.000'),
      '#account_id': fc.string({ minLength: 1, unit: 'binary' }),
      '#event_name': fc.stringMatching(/^[a-z][a-z0-9_]{0,20}$/),
      '#uuid': fc.uuid({ version: 4 }),
      properties: fc.dictionary(
        fc.stringMatching(/^#?[a-z]{2}[0-9]{1,6}$/),
        fc.oneof(
          fc.string({ unit: 'binary' }),
          fc.double({ noNaN: true, min: -1e99, max: 1e99 }),
          fc.array(fc.integer()),
          fc.dictionary(fc.stringMatching(/^[a-z]{1,9}$/), fc.boolean()),
        ),
        { maxKeys: 20 },
      ),
    },
    { noNullPrototype: true },
  );
  fc.assert(
    fc.property(good, (record) => {
      const line = JSON.stringify(record);
      assert.equal(faultOf(Buffer.from(line)), undefined, line);
      assert.ok(isFine(line), line);
    }),
    { numRuns: 500, endOnFailure: true },
  );
  const lines = linesOf(0, 5) + pythonLines(0, 5) + javaLines(0, 5);
  for (const line of lines.trimEnd().split('\n')) assert.ok(isFine(line), line);
});

test('a file cut into parts anywhere is looked through as a whole', async () => {
  const directory = newDirectory();
  const path = join(directory, 'log.2026-11-24');
  const text = `${linesOf(0, 20)}broken\n\n${pythonLines(20, 40)}{"a":1}\n${linesOf(40, 41).trimEnd()}`;
  writeFileSync(path, text);
  const whole = await survey({ kind: 'range', path, from: 0, to: text.length });
  assert.deepEqual([whole.lines, whole.bad], [44, 2]);
  await fc.assert(
    fc.asyncProperty(fc.array(fc.nat(text.length), { maxLength: 8 }), async (cuts) => {
      const edges = [0, ...cuts, text.length].sort((a, b) => a - b);
      let lines = 0;
      const bad: number[] = [];
      for (const [index, from] of edges.slice(0, -1).entries()) {
        const part = await survey({ kind: 'range', path, from, to: edges[index + 1] ?? from });
        bad.push(...part.problems.map(({ line }) => lines + line));
        lines += part.lines;
      }
      assert.deepEqual({ lines, bad }, { lines: 44, bad: [21, 43] });
    }),
    { numRuns: 200, endOnFailure: true },
  );
});

async function problemsOf(
  paths: readonly string[],
  more: CheckOptions = {},
): Promise<LineProblem[]> {
  const problems: LineProblem[] = [];
  await check(paths, { ...more, onProblem: (problem) => problems.push(problem) });
  return problems;
}

test('check finds the same in plain and packed files and in a stream, with threads and without, in order', async () => {
  const directory = newDirectory();
  const plain = join(directory, 'log.2026-11-24');
  const bad = [17, 30_000, 59_999];
  const lines = linesOf(0, 60_000).trimEnd().split('\n');
  for (const line of bad) lines[line] = (lines[line] ?? '').replace('"u"', '""');
  const text = `${lines.join('\n')}\n`;
  writeFileSync(plain, text);
  writeFileSync(`${plain}.gz`, gzipSync(text));
  assert.ok(text.length > 4 * 1024 * 1024, 'enough for threads');
  const expected = bad.map((line) => ({
    line: line + 1,
    column: text.indexOf('"#account_id"') + 1,
  }));
  for (const threads of [0, 2]) {
    const found = await problemsOf([plain, `${plain}.gz`, plain], { threads });
    const places = found.map(({ line, column }) => ({ line, column }));
    assert.deepEqual(places, [...expected, ...expected, ...expected]);
    assert.match(found[0]?.reason ?? '', /^#account_id/);
    const pieces = Array.from({ length: Math.ceil(text.length / 10_007) }, (_, index) =>
      Buffer.from(text.slice(index * 10_007, (index + 1) * 10_007)),
    );
    const streamed = await problemsOf(['-'], { threads, input: Readable.from(pieces) });
    assert.deepEqual(
      streamed.map(({ line, column }) => ({ line, column })),
      expected,
    );
  }
});

test('the command reads standard input, counts by reason, and ends with 0, 1 or 2', async () => {
  const run = (args: readonly string[], input: string) =>
    new Promise<{ code: unknown; stdout: string }>((resolve) => {
      const child = execFile(process.execPath, [main, 'check', ...args], (error, stdout) => {
        resolve({ code: error === null ? 0 : error.code, stdout });
      });
      child.stdin?.end(input);
    });
  const good = await run(['-', '--json'], linesOf(0, 10));
  assert.equal(good.code, 0);
  assert.equal((JSON.parse(good.stdout) as { lines: number }).lines, 10);
  const bad = await run(['-'], `${linesOf(0, 1)}x\ny\n`);
  assert.equal(bad.code, 1);
  assert.match(bad.stdout, /^-:2:1 is not JSON$/m);
  assert.match(bad.stdout, /^2 × is not JSON$/m);
  assert.equal((await run(['/no/such/file'], '')).code, 1);
  assert.equal((await run(['--bogus'], '')).code, 2);
});

test('a file that can not be read, or is not what its name says, is named', async () => {
  const path = join(newDirectory(), 'log.2026-11-24.gz');
  writeFileSync(path, 'not packed');
  for (const file of ['/no/such/file', path]) {
    await assert.rejects(check([file]), {
      code: 'MILLRACE_UNAVAILABLE',
      message: new RegExp(file),
    });
  }
});

test('whoever wants to hear of files that can not be read gets the others checked', async () => {
  const directory = newDirectory();
  const good = join(directory, 'log.2026-11-24');
  const torn = join(directory, 'log.2026-11-25.gz');
  const missing = join(directory, 'missing');
  writeFileSync(good, `\ufeff${linesOf(0, 10)}`);
  writeFileSync(torn, gzipSync(linesOf(10, 20)).subarray(0, -5));
  for (const threads of [0, 2]) {
    const told: string[] = [];
    const report = await check([missing, torn, directory, good], {
      threads,
      onUnreadable: ({ message }) => told.push(message),
    });
    assert.deepEqual([report.unreadable, report.lines, report.bad], [3, 10, 1]);
    assert.deepEqual(report.byReason, { 'begins with a byte order mark': 1 });
    for (const [index, path] of [missing, torn, directory].entries()) {
      assert.ok(told[index]?.startsWith(`${path} can't be read`), told[index]);
    }
  }
  const run = await new Promise<{ code: unknown; stdout: string; stderr: string }>((resolve) => {
    execFile(process.execPath, [main, 'check', missing, good], (error, stdout, stderr) => {
      resolve({ code: error === null ? 0 : error.code, stdout, stderr });
    });
  });
  assert.equal(run.code, 1);
  assert.match(run.stdout, /^10 lines in 2 files, 1 bad, 1 files can't be read$/m);
  assert.match(run.stderr, /^MILLRACE_UNAVAILABLE: .*missing can't be read/m);
});

test('names of all SDKs are log files, others are not', () => {
  const good = [
    'log.2026-11-24',
    'a.b.log.2026-11-24-13_7',
    'game.2026-11-24_0',
    'log.2026-11-24.1.gz',
  ];
  for (const name of good) assert.ok(parseLogFileName(name), name);
  for (const name of [
    'log.txt',
    '.log.2026-11-24',
    'report.2026-11-24.pdf',
    '2026-11-24',
    'log.2026',
  ]) {
    assert.equal(parseLogFileName(name), undefined, name);
  }
});
