import assert from 'node:assert/strict';
import { fork } from 'node:child_process';
import { once } from 'node:events';
import {
  readdirSync,
  readFileSync,
  renameSync,
  statSync,
  unlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import fc from 'fast-check';
import { Analytics, LoggingConsumer } from '../src/index.ts';
import { FileSink, type FileSinkConfig, prepareDirectory } from '../src/sink/file.ts';
import { type FileSystem, nodeFileSystem } from '../src/sink/file-system.ts';
import { indexToWrite, nameOf, parseName, periodOf } from '../src/sink/rotation.ts';
import type { Batch, Outcome } from '../src/sink/sink.ts';
import { assertBalanced, newDirectory, readRecords, runProgram } from './support.ts';

function batchOf(lines: readonly string[]): Batch {
  const text = Buffer.from(` ${lines.map((line) => `${line}\n`).join('')}`);
  const starts = new Uint32Array(lines.length);
  const ends = new Uint32Array(lines.length);
  let at = 1;
  lines.forEach((line, index) => {
    starts[index] = at;
    at += Buffer.byteLength(line);
    ends[index] = at;
    at += 1;
  });
  return { count: lines.length, text, starts, ends };
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
function limitedDisk(): FileSystem & { bytesLeft: number; canTruncate: boolean } {
  const disk = {
    ...nodeFileSystem,
    bytesLeft: Number.POSITIVE_INFINITY,
    canTruncate: true,
    append: (fd: number, bytes: Uint8Array): number => {
      if (disk.bytesLeft <= 0) {
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
      async (sizes, rooms, canTruncate) => {
        const directory = newDirectory();
        const disk = limitedDisk();
        disk.canTruncate = canTruncate;
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

test('a file moved or removed from outside is opened anew within a second', async () => {
  const directory = newDirectory();
  const clock = new TestClock();
  const sink = FileSink.open(config(directory), { clock });
  const path = join(directory, 'log.2026-03-08');
  await sink.deliver(batchOf(['{"n":1}']), never);
  renameSync(path, `${path}.moved`);
  clock.runMs += 1000;
  await sink.deliver(batchOf(['{"n":2}']), never);
  assert.equal(readFileSync(path, 'utf8'), '{"n":2}\n');
  unlinkSync(path);
  clock.runMs += 1000;
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

test('four processes write into one file without tearing or losing a line', async () => {
  const directory = newDirectory();
  const runs = Array.from({ length: 4 }, () => runProgram('exit', ['file', directory, '5000']));
  for (const run of await Promise.all(runs)) assert.equal(run.code, 0, run.stderr);
  assert.equal(readRecords(directory, readdirSync(directory)).length, 20_000);
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
