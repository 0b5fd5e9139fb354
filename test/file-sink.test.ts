import assert from 'node:assert/strict';
import { fork } from 'node:child_process';
import { once } from 'node:events';
import {
  appendFileSync,
  chmodSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  unlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { gunzipSync } from 'node:zlib';
import fc from 'fast-check';
import { Analytics, LoggingConsumer, type MillraceError, type Stats } from '../src/index.ts';
import { Control, fileShare } from '../src/lane/control.ts';
import { MARKS_NAME, MarkBook, notePlaceOfMarks, STATE_FOLDER } from '../src/lines/marks.ts';
import { FileSink, type FileSinkConfig, prepareDirectory } from '../src/sink/file.ts';
import { type FileSystem, nodeFileSystem } from '../src/sink/file-system.ts';
import { indexToWrite, nameOf, parseName, periodOf } from '../src/sink/rotation.ts';
import type { Batch, Outcome } from '../src/sink/sink.ts';
import { openFileSink } from '../src/sink/spill.ts';
import { Upkeep } from '../src/sink/upkeep.ts';

import {
  assertBalanced,
  isSlowLoading,
  layOut,
  newDirectory,
  readRecords,
  runProgram,
  until,
} from './support.ts';

function batchOf(lines: readonly string[]): Batch {
  return layOut(lines, '\n');
}

const never = new AbortController().signal;

/** A clock that a test sets. */
class TestClock {
  wallMs = new Date(2026, 2, 8, 23, 59, 59).getTime();
  runMs = 0;
  nowMs(): number {
    return this.wallMs;
  }
  monotonicMs(): number {
    return this.runMs;
  }
  pass(ms: number): void {
    this.wallMs += ms;
    this.runMs += ms;
  }
}

function config(directory: string, more: Partial<FileSinkConfig> = {}): FileSinkConfig {
  return { kind: 'file', directory, rotate: 'day', fsync: 'never', mode: 0o644, ...more };
}

/** A file system whose writes fail as a test says: the number of bytes left on the disk. */
function limitedDisk(): FileSystem & { bytesLeft: number; canTruncate: boolean; canFail: boolean } {
  const disk = {
    ...nodeFileSystem,
    bytesLeft: Number.POSITIVE_INFINITY,
    canTruncate: true,
    /** Whether a full disk says so; else it takes nothing and says nothing. */
    canFail: true,
    append: (fd: number, bytes: Uint8Array): number => {
      if (disk.bytesLeft <= 0 && disk.canFail) {
        throw Object.assign(new Error('ENOSPC: no space left on device'), { code: 'ENOSPC' });
      }
      const part = bytes.subarray(0, disk.bytesLeft);
      disk.bytesLeft -= part.length;
      return nodeFileSystem.append(fd, part);
    },
    truncate: (fd: number, bytes: number): void => {
      if (!disk.canTruncate) throw Object.assign(new Error('EIO'), { code: 'EIO' });
      nodeFileSystem.truncate(fd, bytes);
    },
  };
  return disk;
}

test('names follow day and hour, prefix, instance and number', async () => {
  const cases: readonly (readonly [Partial<FileSinkConfig>, string])[] = [
    [{}, 'log.2026-03-08'],
    [{ rotate: 'hour' }, 'log.2026-03-08-23'],
    [{ maxBytes: 100 }, 'log.2026-03-08_0'],
    [{ rotate: 'hour', maxBytes: 100, prefix: 'game' }, 'game.log.2026-03-08-23_0'],
    [{ prefix: 'game', instance: '2' }, 'game-2.log.2026-03-08'],
    [{ instance: '2' }, '2.log.2026-03-08'],
  ];
  for (const [more, name] of cases) {
    const directory = newDirectory();
    const sink = FileSink.open(config(directory, more), { clock: new TestClock() });
    await sink.deliver(batchOf(['{"a":1}']), never);
    await sink.close();
    assert.deepEqual(readdirSync(directory), [name]);
    assert.equal(nameOf(parseName(name) ?? { head: '', period: '', index: 0 }), name);
  }
});

test('a new day and a new hour begin a new file, also by a flush alone', async () => {
  const directory = newDirectory();
  const clock = new TestClock();
  const sink = FileSink.open(config(directory), { clock });
  await sink.deliver(batchOf(['{"day":8}']), never);
  clock.pass(2000);
  await sink.flush();
  assert.deepEqual(readdirSync(directory).sort(), ['log.2026-03-08', 'log.2026-03-09']);
  await sink.deliver(batchOf(['{"day":9}']), never);
  assert.equal(readFileSync(join(directory, 'log.2026-03-09'), 'utf8'), '{"day":9}\n');
  // A clock set back does not go back to a file that readers may have done with.
  clock.pass(-3_600_000);
  await sink.deliver(batchOf(['{"day":"back"}']), never);
  assert.equal(readFileSync(join(directory, 'log.2026-03-08'), 'utf8'), '{"day":8}\n');
  await sink.close();
});

test('a file that has reached its size is followed by the next, records stay whole and in order', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.array(fc.integer({ min: 0, max: 120 }), { minLength: 1, maxLength: 20 }), {
        maxLength: 20,
      }),
      fc.integer({ min: 50, max: 500 }),
      async (batches, maxBytes) => {
        const directory = newDirectory();
        const open = () =>
          FileSink.open(config(directory, { maxBytes }), { clock: new TestClock() });
        let sink = open();
        const lines: string[] = [];
        for (const sizes of batches) {
          const made = sizes.map((size) => `{"n":${lines.length},"x":"${'x'.repeat(size)}"}`);
          lines.push(...made);
          const outcome = await sink.deliver(batchOf(made), never);
          assert.equal(outcome.kind, 'delivered');
          // A restart goes on in the last file that is not full.
          await sink.close();
          sink = open();
        }
        await sink.close();
        const names = readdirSync(directory).sort(
          (a, b) => (parseName(a)?.index ?? 0) - (parseName(b)?.index ?? 0),
        );
        const texts = names.map((name) => readFileSync(join(directory, name), 'utf8'));
        assert.equal(texts.join(''), lines.map((line) => `${line}\n`).join(''));
        names.forEach((name, index) => {
          assert.equal(parseName(name)?.index, index);
          const isLast = index === names.length - 1;
          assert.ok(isLast || statSync(join(directory, name)).size >= maxBytes, `${name} is full`);
          const text = texts[index] ?? '';
          const lastLine = text.trimEnd().lastIndexOf('\n') + 1;
          assert.ok(lastLine < maxBytes, 'only the record that filled it passes the limit');
        });
      },
    ),
    { numRuns: 60, endOnFailure: true },
  );
});

test('a restart goes on at the highest number that is not full', () => {
  const rules = { head: '', period: '2026-03-08', maxBytes: 100 };
  const file = (name: string, bytes: number) => ({ name, bytes });
  assert.equal(indexToWrite([], rules), 0);
  assert.equal(indexToWrite([file('log.2026-03-08_0', 50)], rules), 0);
  assert.equal(
    indexToWrite([file('log.2026-03-08_9', 100), file('log.2026-03-08_10', 99)], rules),
    10,
  );
  assert.equal(indexToWrite([file('log.2026-03-08_10', 100)], rules), 11);
  assert.equal(
    indexToWrite([file('other.log.2026-03-08_5', 1), file('log.2026-03-07_7', 1)], rules),
    0,
  );
  assert.equal(periodOf(new Date(2026, 0, 2, 3).getTime(), 'hour'), '2026-01-02-03');
});

test('a disk that fills up takes whole records only, and the rest when there is room again', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.integer({ min: 0, max: 60 }), { minLength: 1, maxLength: 30 }),
      fc.array(fc.integer({ min: 0, max: 400 }), { minLength: 1, maxLength: 10 }),
      fc.boolean(),
      fc.boolean(),
      async (sizes, rooms, canTruncate, canFail) => {
        const directory = newDirectory();
        const disk = limitedDisk();
        Object.assign(disk, { canTruncate, canFail });
        const sink = FileSink.open(config(directory), { clock: new TestClock(), fileSystem: disk });
        let lines = sizes.map((size, index) => `{"n":${index},"x":"${'y'.repeat(size)}"}`);
        const all = [...lines];
        for (const room of [...rooms, Number.POSITIVE_INFINITY]) {
          disk.bytesLeft = room;
          if (lines.length === 0) break;
          const outcome = await sink.deliver(batchOf(lines), never);
          lines = lines.slice(countOf(outcome, lines.length));
        }
        assert.equal(lines.length, 0);
        disk.bytesLeft = Number.POSITIVE_INFINITY;
        // A line that could not be taken back is finished by the next write, or by the flush.
        await sink.deliver(batchOf(['{"last":1}']), never);
        await sink.close();
        const text = readFileSync(join(directory, 'log.2026-03-08'), 'utf8');
        assert.equal(text, [...all, '{"last":1}'].map((line) => `${line}\n`).join(''));
      },
    ),
    { numRuns: 100, endOnFailure: true },
  );
});

function countOf(outcome: Outcome, all: number): number {
  if (outcome.kind === 'delivered') return all;
  if (outcome.kind === 'partial') {
    assert.equal(outcome.rest.kind, 'retry');
    return outcome.count;
  }
  assert.equal(outcome.kind, 'retry');
  assert.equal(outcome.kind === 'retry' && outcome.reason, 'disk_full');
  return 0;
}

test('a file moved or removed from outside is opened anew with the next write', async () => {
  const directory = newDirectory();
  const clock = new TestClock();
  const sink = FileSink.open(config(directory), { clock });
  const path = join(directory, 'log.2026-03-08');
  await sink.deliver(batchOf(['{"n":1}']), never);
  renameSync(path, `${path}.moved`);
  await sink.deliver(batchOf(['{"n":2}']), never);
  assert.equal(readFileSync(path, 'utf8'), '{"n":2}\n');
  unlinkSync(path);
  await sink.deliver(batchOf(['{"n":3}']), never);
  assert.equal(readFileSync(path, 'utf8'), '{"n":3}\n');
  await sink.close();
});

test('a folder that can not be made is an error that names it', () => {
  const file = join(newDirectory(), 'file');
  writeFileSync(file, '');
  assert.throws(() => prepareDirectory({ directory: join(file, 'logs') }), {
    code: 'MILLRACE_OPTIONS',
    message: /file\/logs/,
  });
});

test('the workers of one engine share one rotated file without tearing or losing a line', async () => {
  const directory = newDirectory();
  const ta = new Analytics(
    new LoggingConsumer({
      directory,
      workers: 3,
      lanes: 6,
      maxSizeMb: 0.05,
      bufferRecords: 50,
      overflow: 'block',
    }),
  );
  for (let index = 0; index < 30_000; index += 1) {
    ta.track({ accountId: `u${index % 97}`, event: 'e', properties: { index } });
  }
  const stats = await ta.close();
  assertBalanced(stats);
  const names = readdirSync(directory);
  assert.ok(names.length > 20, `${names.length} files`);
  const records = readRecords(directory, names);
  const indices = new Set(records.map((record) => (record.properties as { index: number }).index));
  assert.equal(indices.size, 30_000);
  assert.equal(records.length, 30_000);
  for (const name of names) {
    assert.ok(statSync(join(directory, name)).size < 0.05 * 1024 * 1024 + 300, name);
  }
});

test('a flush ends though records come all the time', async () => {
  const directory = newDirectory();
  const ta = new Analytics(
    new LoggingConsumer({ directory, workers: 1, lanes: 1, lingerMs: 3_600_000 }),
  );
  let isFlushed = false;
  const flushed = ta.flush({ timeoutMs: 30_000 }).finally(() => {
    isFlushed = true;
  });
  while (!isFlushed) {
    ta.track({ accountId: 'u', event: 'e' });
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
  await flushed;
  assertBalanced(await ta.close());
});

test('four processes write into one file without tearing or losing a line', async () => {
  const directory = newDirectory();
  const runs = Array.from({ length: 4 }, () => runProgram('exit', ['file', directory, '5000']));
  const ends = await Promise.all(runs);
  for (const run of ends) assert.equal(run.code, 0, run.stderr);
  const { length } = readRecords(directory, readdirSync(directory));
  assert.equal(length, 20_000, ends.map(({ stderr }) => stderr).join(''));
});

test('a line torn by a writer that was killed is taken out, whole lines stay', async () => {
  for (const left of ['{"n":1}\n{"n":2,"x', '{"torn', '{"n":1}\n']) {
    const directory = newDirectory();
    const path = join(directory, 'log.2026-03-08');
    writeFileSync(path, left);
    utimesSync(path, 1000, 1000);
    const sink = FileSink.open(config(directory), { clock: new TestClock() });
    await sink.deliver(batchOf(['{"n":3}']), never);
    await sink.close();
    const whole = left.slice(0, left.lastIndexOf('\n') + 1);
    assert.equal(readFileSync(path, 'utf8'), `${whole}{"n":3}\n`);
  }
});

/** A sink whose looks at the end of its file are counted. */
function watchedSink(
  directory: string,
  clock: TestClock,
): { readonly sink: FileSink; readonly looks: () => number } {
  let looks = 0;
  const fileSystem: FileSystem = {
    ...nodeFileSystem,
    read: (fd, span) => {
      looks += 1;
      return nodeFileSystem.read(fd, span);
    },
  };
  return { sink: FileSink.open(config(directory), { clock, fileSystem }), looks: () => looks };
}

test('nothing is written behind half a line: a live writer ends it, a dead one’s is taken out', async () => {
  for (const isAlive of [true, false]) {
    const directory = newDirectory();
    const path = join(directory, 'log.2026-03-08');
    const clock = new TestClock();
    const { sink, looks } = watchedSink(directory, clock);
    await sink.deliver(batchOf(['{"n":1}']), never);
    appendFileSync(path, '{"n":2}\n{"other"');
    const delivery = sink.deliver(batchOf(['{"n":3}']), never);
    const before = looks();
    await until(() => looks() > before + 3, 'it looks again and again, and blocks nobody');
    assert.equal(readFileSync(path, 'utf8'), '{"n":1}\n{"n":2}\n{"other"');
    if (isAlive) appendFileSync(path, ':1}\n');
    else clock.runMs += 2000;
    assert.equal((await delivery).kind, 'delivered');
    await sink.close();
    const others = isAlive ? '{"other":1}\n' : '';
    assert.equal(readFileSync(path, 'utf8'), `{"n":1}\n{"n":2}\n${others}{"n":3}\n`);
    assert.deepEqual(readdirSync(directory), ['log.2026-03-08']);
  }
});

test('while one process mends a file, no other does; what a dead one began is done by the next', async () => {
  const directory = newDirectory();
  const path = join(directory, 'log.2026-03-08');
  const claim = join(directory, '.log.2026-03-08.mend');
  writeFileSync(path, '{"n":1}\n{"torn');
  utimesSync(path, 1000, 1000);
  writeFileSync(claim, '');
  const { sink, looks } = watchedSink(directory, new TestClock());
  const delivery = sink.deliver(batchOf(['{"n":2}']), never);
  await until(() => looks() > 3, 'it waits for the other');
  assert.equal(readFileSync(path, 'utf8'), '{"n":1}\n{"torn');
  utimesSync(claim, 1000, 1000);
  assert.equal((await delivery).kind, 'delivered');
  await sink.close();
  assert.equal(readFileSync(path, 'utf8'), '{"n":1}\n{"n":2}\n');
  assert.deepEqual(readdirSync(directory), ['log.2026-03-08']);
});

test('a thread that waits for its turn at the files is not blocked, and a dead one’s turn is over', async () => {
  const directory = newDirectory();
  const control = Control.create();
  const [here, other] = [control.claimSlot(1), control.claimSlot(99)];
  const { words } = fileShare(control.memory, 1);
  control.words[words.wordAt] = 99;
  const sink = FileSink.open(config(directory, { maxBytes: 1000 }), { words });
  const delivery = sink.deliver(batchOf(['{"n":1}']), never);
  for (let turn = 0; turn < 10; turn += 1) await new Promise((resolve) => setImmediate(resolve));
  assert.deepEqual(readdirSync(directory), []);
  control.freeSlot(here);
  assert.equal(control.words[words.wordAt], 99, 'only the owner’s end ends its turn');
  control.freeSlot(other);
  assert.equal((await delivery).kind, 'delivered');
  await sink.close();
  assert.equal(readdirSync(directory).length, 1);
});

// Goal: nobody is given up while the disk is slow, or its batch would be in the files twice. Method: one write takes longer than a hung thread may.
test('a worker that waits for a slow disk is not taken for hung', async () => {
  const directory = newDirectory();
  const workerFile = new URL('./slow-disk-worker.js', import.meta.url);
  const ta = new Analytics(new LoggingConsumer({ directory, workerFile }));
  for (let index = 0; index < 100; index += 1) {
    ta.track({ accountId: `u${index}`, event: 'e', properties: { index } });
  }
  const stats = await ta.close();
  assertBalanced(stats);
  assert.equal(stats.workers.restarts, 0);
  assert.equal(readRecords(directory, readdirSync(directory)).length, 100);
});

test('a writer killed at any moment leaves whole lines, once the next one has begun', async () => {
  const directory = newDirectory();
  const program = fileURLToPath(new URL('./programs.js', import.meta.url));
  for (let round = 0; round < 5; round += 1) {
    const child = fork(program, ['write-forever', directory], { stdio: 'ignore', execArgv: [] });
    while (readdirSync(directory).length === 0 || sizeOf(directory) < (round + 1) * 200_000) {
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    child.kill('SIGKILL');
    await once(child, 'exit');
  }
  const next = new Analytics(new LoggingConsumer(directory));
  next.track({ accountId: 'u', event: 'last' });
  assertBalanced(await next.close());
  assert.ok(readRecords(directory, readdirSync(directory)).length > 1000);
});

function sizeOf(directory: string): number {
  return readdirSync(directory).reduce(
    (sum, name) => sum + statSync(join(directory, name)).size,
    0,
  );
}

const NEW_YORK: readonly { name: string; times: readonly string[]; files: readonly string[] }[] = [
  {
    name: 'the hour that comes twice goes on in one file',
    times: [
      '2026-11-01T05:59:59.999Z',
      '2026-11-01T06:00:00Z',
      '2026-11-01T06:59Z',
      '2026-11-01T07:00Z',
    ],
    files: ['log.2026-11-01-01', 'log.2026-11-01-01', 'log.2026-11-01-01', 'log.2026-11-01-02'],
  },
  {
    name: 'the hour that is left out has no file',
    times: ['2026-03-08T06:59:59.999Z', '2026-03-08T07:00:00Z'],
    files: ['log.2026-03-08-01', 'log.2026-03-08-03'],
  },
  {
    name: 'midnight is local',
    times: ['2026-11-25T04:59:59.999Z', '2026-11-25T05:00:00Z'],
    files: ['log.2026-11-24-23', 'log.2026-11-25-00'],
  },
  {
    name: 'a clock that is set back goes back to no file, one set forward leaves none out',
    times: ['2026-11-25T15:30Z', '2026-11-25T14:30Z', '2026-11-25T16:30Z', '2026-11-25T15:30Z'],
    files: ['log.2026-11-25-10', 'log.2026-11-25-10', 'log.2026-11-25-11', 'log.2026-11-25-11'],
  },
];

test('in the workers, hours and days are those of the clock and the zone', async () => {
  await Promise.all(
    NEW_YORK.map(async ({ name, times, files }) => {
      const directory = newDirectory();
      const clockFile = join(newDirectory(), 'clock');
      const env = { TZ: 'America/New_York', MILLRACE_TEST_CLOCK: clockFile };
      const run = await runProgram('write-clocked', [directory, '{"rotate":"hour"}', ...times], {
        env,
      });
      assert.equal(run.code, 0, run.stderr);
      assertBalanced(run.messages.at(-1) as Stats);
      for (const [step, file] of files.entries()) {
        const records = readRecords(directory, [file]);
        const ofStep = records.filter(
          ({ properties }) => (properties as { step: number }).step === step,
        );
        assert.equal(ofStep.length, 10, `${name}: step ${step} is in ${file}`);
      }
      assert.deepEqual(readdirSync(directory).sort(), [...new Set(files)].sort(), name);
    }),
  );
});

// Goal: F28. Method: eight processes, each two threads, one folder; half of them share files, the others have their own.
test('eight processes on one folder tear and lose no line', async () => {
  const directory = newDirectory();
  const shared = { workers: 2, maxSizeMb: 0.1 };
  const own = { ...shared, prefix: 'own', instance: 'auto' };
  const runs = await Promise.all(
    Array.from({ length: 8 }, (_, writer) => {
      const options = JSON.stringify(writer % 2 === 0 ? shared : own);
      return runProgram('write-files', [directory, options, String(writer), '1500']);
    }),
  );
  for (const { code, stderr, messages } of runs) {
    assert.equal(code, 0, stderr);
    assertBalanced(messages.at(-1) as Stats);
  }
  const names = readdirSync(directory);
  const records = readRecords(directory, names);
  assert.equal(new Set(records.map((record) => record['#uuid'])).size, 12_000);
  assert.equal(records.length, 12_000);
  for (const name of names.filter((name) => name.startsWith('own'))) {
    const bytes = statSync(join(directory, name)).size;
    assert.ok(bytes < 0.1 * 1024 * 1024 + 300, `${name} is at most one record above its size`);
  }
});

test('while a folder can not be written, records go to the other one, whole and each once, and then back', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.nat({ max: 300 }), { minLength: 1, maxLength: 8 }),
      fc.array(fc.nat({ max: 60 }), { minLength: 1, maxLength: 20 }),
      async (rooms, sizes) => {
        const directory = newDirectory();
        const spillDirectory = newDirectory();
        const clock = new TestClock();
        const disk = limitedDisk();
        // Only the first folder is on the disk that fills up.
        const handles = new Map<number, string>();
        const fileSystem: FileSystem = {
          ...disk,
          openAppend: (path, mode) => {
            const fd = nodeFileSystem.openAppend(path, mode);
            handles.set(fd, path);
            return fd;
          },
          append: (fd, bytes) =>
            handles.get(fd)?.startsWith(directory) === true
              ? disk.append(fd, bytes)
              : nodeFileSystem.append(fd, bytes),
        };
        const sink = openFileSink(config(directory, { spillDirectory }), { clock, fileSystem });
        let number = 0;
        for (const room of [...rooms, Number.POSITIVE_INFINITY]) {
          disk.bytesLeft = room;
          const lines = sizes.map((size) => {
            number += 1;
            return `{"n":${number},"x":"${'y'.repeat(size)}"}`;
          });
          assert.equal((await sink.deliver(batchOf(lines), never)).kind, 'delivered');
          clock.runMs += 1500;
        }
        clock.runMs += 5000;
        disk.bytesLeft = Number.POSITIVE_INFINITY;
        assert.equal((await sink.deliver(batchOf(['{"n":0}']), never)).kind, 'delivered');
        await sink.close();
        const own = readFileSync(join(directory, 'log.2026-03-08'), 'utf8');
        const spilled = join(spillDirectory, 'log.2026-03-08');
        const all = own + (existsSync(spilled) ? readFileSync(spilled, 'utf8') : '');
        assert.ok(own.endsWith('{"n":0}\n'), 'the folder is in use again');
        const numbers = all
          .trimEnd()
          .split('\n')
          .map((line) => (JSON.parse(line) as { n: number }).n);
        assert.deepEqual(
          numbers.sort((a, b) => a - b),
          Array.from({ length: number + 1 }, (_, index) => index),
        );
      },
    ),
    { numRuns: 60, endOnFailure: true },
  );
});

test('a folder that a file system has no room for is an error of the consumer, not an endless search', () => {
  if (!existsSync('/proc/self')) return;
  for (const directory of ['/proc/nope', '/proc/nope/logs']) {
    assert.throws(() => new Analytics(new LoggingConsumer(directory)), {
      code: 'MILLRACE_OPTIONS',
      message: /directory .* can't be written: ENOENT.* mkdir '\/proc\/nope'/,
    });
  }
});

test('a consumer whose folder loses its permission writes to the other folder and counts all as delivered', async (context) => {
  const directory = newDirectory();
  const spillDirectory = newDirectory();
  const ta = new Analytics(new LoggingConsumer({ directory, spillDirectory, rotate: 'hour' }));
  ta.track({ accountId: 'u', event: 'before' });
  await ta.flush();
  for (const name of readdirSync(directory)) unlinkSync(join(directory, name));
  if (process.getuid?.() === 0) {
    // Root may write anywhere: a file takes the folder's place instead.
    renameSync(directory, `${directory}-away`);
    writeFileSync(directory, '');
    context.diagnostic('as root: a file instead of the folder');
  } else chmodSync(directory, 0o500);
  ta.track({ accountId: 'u', event: 'after' });
  await ta.flush();
  const stats = await ta.close();
  assertBalanced(stats);
  assert.equal(stats.delivered, 2);
  assert.equal(readRecords(spillDirectory, readdirSync(spillDirectory)).length, 1);
});

test('a sync that fails is no success: the records are written anew, and are in the file once', async () => {
  const directory = newDirectory();
  let isBroken = false;
  const fileSystem: FileSystem = {
    ...nodeFileSystem,
    sync: (fd) => {
      if (isBroken) throw Object.assign(new Error('EIO: i/o error'), { code: 'EIO' });
      nodeFileSystem.sync(fd);
    },
  };
  const sink = FileSink.open(config(directory, { fsync: 'batch' }), {
    clock: new TestClock(),
    fileSystem,
  });
  assert.equal((await sink.deliver(batchOf(['{"n":1}']), never)).kind, 'delivered');
  isBroken = true;
  for (let attempt = 0; attempt < 3; attempt += 1) {
    const outcome = await sink.deliver(batchOf(['{"n":2}', '{"n":3}']), never);
    assert.deepEqual([outcome.kind, outcome.kind === 'retry' && outcome.reason], ['retry', 'disk']);
  }
  isBroken = false;
  assert.equal((await sink.deliver(batchOf(['{"n":2}', '{"n":3}']), never)).kind, 'delivered');
  await sink.close();
  const text = readFileSync(join(directory, 'log.2026-03-08'), 'utf8');
  assert.equal(text, '{"n":1}\n{"n":2}\n{"n":3}\n');
});

test('a batch that can not be written expires after its retries, and is counted', async () => {
  const directory = join(newDirectory(), 'logs');
  const errors: string[] = [];
  const ta = new Analytics(new LoggingConsumer({ directory, retries: 2 }), {
    onError: ({ code }) => errors.push(code),
  });
  renameSync(directory, `${directory}-away`);
  writeFileSync(directory, '');
  ta.track({ accountId: 'u', event: 'lost' });
  await until(() => ta.stats().dropped.expired === 1, 'the record expired');
  const stats = await ta.close();
  assertBalanced(stats);
  assert.ok(errors.includes('MILLRACE_UNAVAILABLE'));
});

/** A folder of finished files, an hour old each, oldest first. */
function finishedFiles(names: readonly string[]): {
  directory: string;
  inodeOf: (name: string) => string;
} {
  const directory = newDirectory();
  for (const [index, name] of names.entries()) {
    const path = join(directory, name);
    writeFileSync(path, `{"n":${index}}\n`.repeat(100));
    const seconds = Date.now() / 1000 - 3600 * (names.length - index);
    utimesSync(path, seconds, seconds);
  }
  const inodeOf = (name: string) => {
    const { dev, ino } = statSync(join(directory, name), { bigint: true });
    return `${dev}:${ino}`;
  };
  return { directory, inodeOf };
}

function logNames(directory: string): string[] {
  return readdirSync(directory)
    .filter((name) => !name.startsWith('.'))
    .sort();
}

test('finished files are packed when their time has come, the present ones stay, and names are not used again', async () => {
  const names = ['log.2026-03-07_0', 'log.2026-03-08_0', 'log.2026-03-08_1', 'log.2026-03-08_2'];
  const { directory } = finishedFiles(names);
  const texts = names.map((name) => readFileSync(join(directory, name), 'utf8'));
  const rules = { packAfterMs: 2.5 * 3_600_000 };
  await new Upkeep(directory, rules).run({ nowMs: Date.now(), period: '2026-03-08' });
  const packed = ['log.2026-03-07_0.gz', 'log.2026-03-08_0.gz'];
  assert.deepEqual(logNames(directory), [...packed, 'log.2026-03-08_1', 'log.2026-03-08_2']);
  for (const [index, name] of packed.entries()) {
    assert.equal(gunzipSync(readFileSync(join(directory, name))).toString(), texts[index]);
  }
  const files = packed.map((name) => ({ name, bytes: 1 }));
  const place = { head: '', period: '2026-03-08', maxBytes: 1000 };
  assert.equal(indexToWrite(files, place), 1);
  assert.equal(
    indexToWrite([{ name: 'log.2026-03-08.gz', bytes: 1 }], { ...place, maxBytes: undefined }),
    0,
  );
});

test('old files go by age and by size, but none that the shipper has not finished', async () => {
  const names = ['log.2026-03-05', 'log.2026-03-06', 'log.2026-03-07', 'log.2026-03-08'];
  const { directory, inodeOf } = finishedFiles(names);
  const bytes = statSync(join(directory, 'log.2026-03-05')).size;
  const state = join(directory, STATE_FOLDER);
  mkdirSync(state);
  const book = MarkBook.open(join(state, MARKS_NAME));
  const mark = { lines: 1, headBytes: 0, head: '', crc: 0, packedBytes: 0 };
  const [first = '', second = ''] = names;
  book.set({ ...mark, id: 1, name: first, inode: inodeOf(first), offset: bytes - 1 });
  book.set({ ...mark, id: 2, name: second, inode: inodeOf(second), offset: bytes });
  const run = (rules: object) =>
    new Upkeep(directory, rules).run({ nowMs: Date.now(), period: '2026-03-08' });
  await run({ keepMs: 1000 });
  assert.deepEqual(logNames(directory), [first, 'log.2026-03-07', 'log.2026-03-08']);
  book.set({ ...mark, id: 1, name: first, inode: inodeOf(first), offset: bytes });
  book.set({
    ...mark,
    id: 3,
    name: 'log.2026-03-07',
    inode: inodeOf('log.2026-03-07'),
    offset: bytes,
  });
  book.close();
  await run({ keepBytes: 2 * bytes });
  assert.deepEqual(logNames(directory), ['log.2026-03-07', 'log.2026-03-08']);
  await run({ keepBytes: 0 });
  assert.deepEqual(logNames(directory), ['log.2026-03-08'], 'the present one is never removed');
});

test('a file that can not be packed keeps no other from it, and is packed when it can be', async () => {
  const names = ['log.2026-03-05', 'log.2026-03-06', 'log.2026-03-07', 'log.2026-03-08'];
  const { directory } = finishedFiles(names);
  // A folder has the name that the packed file is to get; rename refuses it, whoever asks.
  const obstacle = join(directory, 'log.2026-03-05.gz');
  mkdirSync(obstacle);
  const upkeep = new Upkeep(directory, { packAfterMs: 1000 });
  const now = { nowMs: Date.now(), period: '2026-03-08' };
  const first = await upkeep.run(now);
  assert.equal(first.isAllDone, false);
  assert.deepEqual(
    first.failures.map(({ work }) => work),
    ['pack'],
  );
  assert.match(first.failures[0]?.message ?? '', /log\.2026-03-05: E/);
  assert.deepEqual(logNames(directory), [
    'log.2026-03-05',
    'log.2026-03-05.gz',
    'log.2026-03-06.gz',
    'log.2026-03-07.gz',
    'log.2026-03-08',
  ]);
  rmSync(obstacle, { recursive: true });
  assert.deepEqual(await upkeep.run(now), { failures: [], isAllDone: true });
  assert.deepEqual(
    readdirSync(join(directory, '.millrace-pack')),
    [],
    'nothing half packed is left',
  );
});

test('where a shipper keeps its checkpoint elsewhere, nothing is removed that it has not finished, and all is kept while it can not be read', async () => {
  const names = ['log.2026-03-06', 'log.2026-03-07', 'log.2026-03-08'];
  const { directory, inodeOf } = finishedFiles(names);
  const [first = ''] = names;
  const bytes = statSync(join(directory, first)).size;
  const state = join(newDirectory(), 'state');
  notePlaceOfMarks(directory, state);
  notePlaceOfMarks(directory, state);
  const run = () =>
    new Upkeep(directory, { keepMs: 1000 }).run({ nowMs: Date.now(), period: '2026-03-08' });
  const { failures } = await run();
  assert.deepEqual(
    failures.map(({ work }) => work),
    ['remove'],
  );
  assert.ok(failures[0]?.message.includes(state), failures[0]?.message);
  assert.deepEqual(logNames(directory), names);
  mkdirSync(state);
  const book = MarkBook.open(join(state, MARKS_NAME));
  const mark = { lines: 1, headBytes: 0, head: '', crc: 0, packedBytes: 0 };
  book.set({ ...mark, id: 1, name: first, inode: inodeOf(first), offset: bytes });
  book.close();
  assert.deepEqual(await run(), { failures: [], isAllDone: true });
  assert.deepEqual(logNames(directory), ['log.2026-03-07', 'log.2026-03-08']);
});

test('finished files that can not be packed are told of once and counted each time', async () => {
  const { directory } = finishedFiles(['log.2020-01-01_0']);
  mkdirSync(join(directory, 'log.2020-01-01_0.gz'));
  const errors: MillraceError[] = [];
  const ta = new Analytics(
    new LoggingConsumer({ directory, gzipAfterMs: 1000, maxSizeMb: 0.0001 }),
    {
      onError: (error) => {
        if (!isSlowLoading(error)) errors.push(error);
      },
    },
  );
  const failures = async () => {
    const text = await ta.register.metrics();
    return Number(/file_upkeep_failures_total\{.*work="pack"\} (\d+)/.exec(text)?.[1]);
  };
  // Each rotation is an occasion to try again.
  await until(async () => {
    ta.track({ accountId: 'u', event: 'e' });
    await ta.flush();
    return (await failures()) >= 3;
  }, 'it has failed three times');
  assert.deepEqual(
    errors.map(({ code }) => code),
    ['MILLRACE_UNAVAILABLE'],
  );
  assert.match(errors[0]?.message ?? '', /can't be packed.*log\.2020-01-01_0/);
  assertBalanced(await ta.close());
});

test('a consumer packs what it has finished, beside the writing', async () => {
  const { directory } = finishedFiles(['log.2020-01-01', 'log.2020-01-02']);
  const ta = new Analytics(
    new LoggingConsumer({ directory, gzipAfterMs: 1000, keepDays: 100_000 }),
  );
  ta.track({ accountId: 'u', event: 'e' });
  await ta.flush();
  await until(
    () => logNames(directory).filter((name) => name.endsWith('.gz')).length === 2,
    'packed',
  );
  assertBalanced(await ta.close());
});
