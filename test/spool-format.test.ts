import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { test } from 'node:test';
import fc from 'fast-check';
import { type Checkpoint, CheckpointFile } from '../src/spool/checkpoint.ts';
import { crc32c } from '../src/spool/crc32c.ts';
import { nodeFileSystem, type SpoolFileSystem } from '../src/spool/file-system.ts';
import type { SpoolLane } from '../src/spool/lane.ts';
import { parseSegmentName } from '../src/spool/segment.ts';
import { verifySpool } from '../src/spool/verify.ts';
import { enumerateCrashPoints } from './crash-points.ts';
import { MemoryDisk } from './memory-disk.ts';
import { randomFrom } from './random.ts';
import { drain, openLane, recordsOf, segmentPaths } from './spool-lane.ts';
import { newDirectory } from './support.ts';

/** Draws from [0, 1), all alike likely: those of `fc.double` are nearly all close to 0. */
const EVEN_DRAWS = fc.infiniteStream(fc.noBias(fc.nat(2 ** 30 - 1)).map((draw) => draw / 2 ** 30));

function slowCrc(bytes: Uint8Array): number {
  let crc = -1;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit += 1) crc = crc & 1 ? (crc >>> 1) ^ 0x82f63b78 : crc >>> 1;
  }
  return ~crc >>> 0;
}

function viewOf({ buffer, byteOffset, byteLength }: Uint8Array): DataView {
  return new DataView(buffer, byteOffset, byteLength);
}

test('CRC-32C is what its definition says, bit by bit', () => {
  assert.equal(crc32c(viewOf(new TextEncoder().encode('123456789')), 0, 9), 0xe3069283);
  fc.assert(
    fc.property(
      fc.uint8Array({ maxLength: 100 }),
      fc.nat(20),
      fc.nat(20),
      (bytes, skipped, less) => {
        const from = Math.min(skipped, bytes.length);
        const to = Math.max(from, bytes.length - less);
        assert.equal(crc32c(viewOf(bytes), from, to), slowCrc(bytes.subarray(from, to)));
      },
    ),
  );
});

// Goal: no damaged byte, wherever it is, changes a record, costs a neighbour or stops the reading. Method: each byte of a segment
// in turn, one flipped bit.
test('a flipped bit in any byte of a segment costs at most the frame it hits', () => {
  const count = 12;
  const directory = newDirectory();
  const texts = Array.from(
    { length: count },
    (_, index) => `{"n":${index},"t":"${'é'.repeat(index)}"}`,
  );
  const lane = openLane(directory, { segmentBytes: 1 << 20 });
  assert.deepEqual(lane.append(recordsOf(texts)), { written: count });
  lane.save();
  lane.leave();
  const [path = ''] = segmentPaths(directory);
  const good = readFileSync(path);
  const checkpoint = readFileSync(join(directory, 'lane-000', 'checkpoint'));
  const known = new Set(texts);
  for (let at = 0; at < good.length; at += 1) {
    const bad = Buffer.from(good);
    bad[at] = (bad[at] ?? 0) ^ (1 << (at % 8));
    writeFileSync(path, bad);
    writeFileSync(join(directory, 'lane-000', 'checkpoint'), checkpoint);
    const reader = openLane(directory, { segmentBytes: 1 << 20 });
    const found = drain(reader);
    reader.leave();
    for (const text of found.texts) assert.ok(known.has(text), `byte ${at} made ${text}`);
    const lost = count - found.texts.length;
    assert.ok(lost <= 1, `byte ${at} cost ${lost} records`);
    assert.equal(found.lost, lost, `byte ${at}`);
    // Reading to the end settles the lane, but the only segment stays until the lane is closed.
    writeFileSync(path, good);
  }
});

test('a segment cut at any place gives the whole frames before it, and goes on after it', () => {
  const directory = newDirectory();
  const texts = Array.from({ length: 20 }, (_, index) => `{"n":${index}}`);
  const lane = openLane(directory, { segmentBytes: 1 << 20 });
  lane.append(recordsOf(texts));
  lane.leave();
  const [path = ''] = segmentPaths(directory);
  const good = readFileSync(path);
  for (let length = 0; length <= good.length; length += 1) {
    const place = newDirectory();
    const copy = openLane(place, { segmentBytes: 1 << 20 });
    copy.append(recordsOf(texts));
    copy.leave();
    const [target = ''] = segmentPaths(place);
    writeFileSync(target, good.subarray(0, length));
    const again = openLane(place, { segmentBytes: 1 << 20 });
    assert.deepEqual(again.append(recordsOf(['{"after":1}'])), { written: 1 });
    const { texts: found } = drain(again);
    again.close();
    assert.equal(found.at(-1), '{"after":1}', `cut at ${length}`);
    const before = found.slice(0, -1);
    assert.deepEqual(before, texts.slice(0, before.length), `cut at ${length}`);
  }
});

/** A disk of files in memory that can fail, tear a write, or lose power: then each file keeps what was synced and any part of the rest. */
class FaultyDisk {
  fails: 'ENOSPC' | 'EIO' | undefined = undefined;
  /** Bytes a failing write still takes. */
  takes = 0;

  readonly fileSystem: SpoolFileSystem = {
    ...nodeFileSystem,
    write: (fd, bytes, at) => {
      if (this.fails === undefined) return nodeFileSystem.write(fd, bytes, at);
      const part = bytes.subarray(0, Math.min(this.takes, bytes.length));
      this.takes = 0;
      if (part.length > 0) return nodeFileSystem.write(fd, part, at);
      throw this.#error();
    },
    sync: (fd) => {
      if (this.fails === 'EIO') throw this.#error();
      nodeFileSystem.sync(fd);
    },
    create: (path, mode) => {
      if (this.fails !== undefined) throw this.#error();
      return nodeFileSystem.create(path, mode);
    },
  };

  #error(): Error {
    return Object.assign(new Error(`${this.fails}: the disk fails`), { code: this.fails });
  }
}

type Step = keyof ListModel['steps'];

/** A lane of the spool beside the list that it should be. */
class ListModel {
  readonly #directory: string = newDirectory();
  readonly #disk: FaultyDisk = new FaultyDisk();
  readonly #fsync: 'never' | 'interval' | 'batch';
  readonly #list: string[] = [];
  #lane: SpoolLane;
  #settled = 0;
  #next = 0;

  readonly steps = {
    append: (amount: number) => this.#append(amount),
    settle: (amount: number) => this.#settle(amount),
    reopen: () => this.#reopen(() => this.#lane.close()),
    leave: () => this.#reopen(() => this.#lane.leave()),
    fail: (amount: number) => {
      this.#disk.fails = amount % 2 === 0 ? 'ENOSPC' : 'EIO';
      this.#disk.takes = amount * 7;
    },
    heal: () => {
      this.#disk.fails = undefined;
    },
  };

  constructor(fsync: 'never' | 'interval' | 'batch') {
    this.#fsync = fsync;
    this.#lane = this.#open();
  }

  #open(): SpoolLane {
    return openLane(this.#directory, {
      fileSystem: this.#disk.fileSystem,
      fsync: this.#fsync,
      segmentBytes: 2048,
      settled: this.#settled,
    });
  }

  #append(amount: number): void {
    const texts = Array.from({ length: amount }, (_, index) => `{"n":${this.#next + index}}`);
    const { written } = this.#lane.append(recordsOf(texts, this.#next));
    assert.ok(this.#disk.fails !== undefined || written === amount);
    this.#list.push(...texts.slice(0, written));
    this.#next += written;
  }

  #settle(amount: number): void {
    const batch = this.#lane.peek({ maxRecords: amount + 1, maxBytes: 4096 });
    assert.equal(batch === undefined, this.#list.length === 0);
    if (batch === undefined) return;
    const texts = Array.from({ length: batch.count }, (_, index) =>
      Buffer.from(batch.text.subarray(batch.starts[index], batch.ends[index])).toString(),
    );
    assert.deepEqual(texts, this.#list.splice(0, batch.count));
    this.#lane.settle(batch);
    this.#settled += batch.count;
  }

  #reopen(end: () => void): void {
    end();
    this.#disk.fails = undefined;
    this.#lane = this.#open();
    assert.equal(this.#lane.nextNumber - this.#lane.settledNumber, this.#list.length);
  }

  finish(): void {
    this.#disk.fails = undefined;
    assert.deepEqual(drain(this.#lane), { texts: this.#list, lost: 0 });
    this.#lane.close();
  }
}

// Goal: whatever the order of appends, settlements, failures, orderly and disorderly ends, a lane gives back exactly what it said it
// took, in order. Method: random steps against a list.
test('a lane of the spool behaves as a list does, through failures and reopenings', () => {
  const step = fc.record({
    kind: fc.oneof(
      { weight: 4, arbitrary: fc.constant<Step>('append') },
      { weight: 3, arbitrary: fc.constant<Step>('settle') },
      { weight: 3, arbitrary: fc.constantFrom<Step>('reopen', 'leave', 'fail', 'heal') },
    ),
    amount: fc.nat(40),
  });
  fc.assert(
    fc.property(
      fc.array(step, { maxLength: 60, size: 'max' }),
      fc.constantFrom<'never' | 'interval' | 'batch'>('never', 'interval', 'batch'),
      (steps, fsync) => {
        const model = new ListModel(fsync);
        for (const { kind, amount } of steps) model.steps[kind](amount);
        model.finish();
      },
    ),
    { numRuns: 500 },
  );
});

// Goal: a power cut at any point takes no record that was on stable storage, and brings up none that was never written. Method:
// random steps on a disk that keeps any part of what was not synced, then a cut, then all of it again.
test('a power cut takes no record that was on stable storage', () => {
  const step = fc.record({
    kind: fc.constantFrom('append', 'append', 'settle'),
    amount: fc.nat(30),
  });
  fc.assert(
    fc.property(
      fc.array(fc.array(step, { maxLength: 15 }), { minLength: 1, maxLength: 4 }),
      EVEN_DRAWS,
      (runs, draws) => {
        const random = () => draws.next().value ?? 0;
        const disk = new MemoryDisk();
        disk.fileSystem.makeDirectory('/run', 0o700);
        let settled = 0;
        let end = 0;
        for (const steps of runs) {
          const lane = openLane('/run', {
            fileSystem: disk.fileSystem,
            fsync: 'batch',
            segmentBytes: 2048,
          });
          assert.ok(lane.nextNumber >= end, `${lane.nextNumber} of ${end} records are known`);
          end = lane.nextNumber;
          for (const { kind, amount } of steps) {
            if (kind === 'append') {
              const texts = Array.from({ length: amount }, (_, index) => `{"n":${end + index}}`);
              assert.deepEqual(lane.append(recordsOf(texts, end)), { written: amount });
              end += amount;
              assert.equal(lane.durableNumber, end);
              continue;
            }
            const batch = lane.peek({ maxRecords: amount + 1, maxBytes: 4096 });
            if (batch === undefined) continue;
            assert.equal(batch.lost, 0);
            assert.ok(batch.first <= settled, 'no record is passed over');
            lane.settle(batch);
            settled = Math.max(settled, batch.nextNumber);
          }
          disk.losePower(random);
        }
        const lane = openLane('/run', { fileSystem: disk.fileSystem, segmentBytes: 2048 });
        const first = lane.settledNumber;
        assert.ok(first <= settled);
        const { texts, lost } = drain(lane);
        assert.equal(lost, 0);
        assert.deepEqual(
          texts,
          Array.from({ length: end - first }, (_, index) => `{"n":${first + index}}`),
        );
      },
    ),
    { numRuns: 300 },
  );
});

const INTERVAL_MS = 100;
const LOOK_MS_MAX = 30;

/** What the lane of an 'interval' spool promises of its records, beside the lane. */
class IntervalModel {
  readonly #disk = new MemoryDisk();
  readonly #random: () => number;
  /** When each record that is not settled was appended, by number. */
  readonly #appended = new Map<number, number>();
  #nowMs = 0;
  #lane: SpoolLane;
  #settled = 0;
  /** Every record below this number was in a segment that is removed. */
  #removedTo = 0;
  syncs = 0;

  readonly steps = {
    append: (amount: number) => {
      const from = this.#lane.nextNumber;
      const texts = Array.from({ length: amount }, (_, index) => textOf(from + index));
      assert.deepEqual(this.#lane.append(recordsOf(texts, from)), { written: amount });
      texts.forEach((_, index) => void this.#appended.set(from + index, this.#nowMs));
    },
    settle: (amount: number) => {
      const batch = this.#lane.peek({ maxRecords: amount + 1, maxBytes: 4096 });
      if (batch === undefined) return;
      this.#lane.settle(batch);
      this.#settled = batch.nextNumber;
      for (const number of this.#appended.keys()) {
        if (number < batch.nextNumber) this.#appended.delete(number);
      }
    },
    /** Its thread dies: another one goes on. */
    leave: () => {
      this.#lane.leave();
      this.#lane = this.#open();
    },
    wait: (amount: number) => {
      this.#nowMs += Math.min(amount, LOOK_MS_MAX);
      assert.equal(this.#lane.tend(), undefined);
    },
    rest: (amount: number) => {
      for (let looks = 0; looks < amount; looks += 1) this.steps.wait(LOOK_MS_MAX);
    },
  };

  constructor(random: () => number) {
    this.#random = random;
    this.#disk.fileSystem.makeDirectory('/run', 0o700);
    this.#lane = this.#open();
  }

  #open(): SpoolLane {
    const { fileSystem } = this.#disk;
    return openLane('/run', {
      fileSystem: {
        ...fileSystem,
        sync: (fd) => {
          this.syncs += 1;
          fileSystem.sync(fd);
        },
        remove: (path) => {
          fileSystem.remove(path);
          const firsts = fileSystem.list(dirname(path)).flatMap((name) => {
            return parseSegmentName(name)?.first ?? [];
          });
          this.#removedTo = Math.min(...firsts, this.#lane.nextNumber);
        },
      },
      clock: { nowMs: () => this.#nowMs, monotonicMs: () => this.#nowMs },
      fsync: 'interval',
      intervalMs: INTERVAL_MS,
      segmentBytes: 1024,
      settled: this.#settled,
    });
  }

  /** Whatever is older than the interval and was not settled is there, unchanged and in order. */
  losePower(): void {
    this.#disk.losePower(this.#random);
    const removedTo = this.#removedTo;
    this.#settled = 0;
    this.#lane = this.#open();
    const first = this.#lane.settledNumber;
    const { texts } = drain(this.#lane);
    const numbers = texts.map((text) => (JSON.parse(text) as { n: number }).n);
    assert.deepEqual(texts, numbers.map(textOf));
    assert.ok(numbers.every((number, at) => number > (numbers[at - 1] ?? -1)));
    const found = new Set(numbers);
    for (const [number, atMs] of this.#appended) {
      if (this.#nowMs - atMs < INTERVAL_MS + 2 * LOOK_MS_MAX) continue;
      assert.ok(found.has(number), `record ${number} of ${this.#nowMs - atMs} ms is missing`);
    }
    // What was settled may come up again; what was removed is never taken for lost.
    for (let number = first; number < removedTo; number += 1) {
      assert.ok(found.has(number), `${number} was settled and removed`);
    }
    this.#appended.clear();
    this.#removedTo = 0;
    this.#settled = this.#lane.nextNumber;
  }
}

function textOf(number: number): string {
  return `{"n":${number},"pad":"${'x'.repeat((number * 7) % 60)}"}`;
}

// Goal: 'interval' keeps its word with few syncs. Method: random steps by a clock that is set, looks at it as a worker has them, a power cut,
// then all of it again.
test('a power cut takes no record that is older than the interval', () => {
  const step = fc.record({
    kind: fc.constantFrom('append', 'append', 'settle', 'leave', 'wait', 'wait', 'wait', 'rest'),
    amount: fc.nat(40),
  } as const);
  fc.assert(
    fc.property(
      fc.array(fc.array(step, { maxLength: 60, size: 'max' }), { minLength: 1, maxLength: 3 }),
      EVEN_DRAWS,
      (runs, draws) => {
        const model = new IntervalModel(() => draws.next().value ?? 0);
        for (const steps of runs) {
          for (const { kind, amount } of steps)
            model.steps[kind as keyof typeof model.steps](amount);
          model.losePower();
        }
      },
    ),
    { numRuns: 400 },
  );
});

test('a power cut brings up no checkpoint that is older than the last one synced', () => {
  const write = fc.record({ how: fc.constantFrom('sync', 'keep'), reopens: fc.boolean() } as const);
  fc.assert(
    fc.property(fc.array(write, { minLength: 1, maxLength: 12 }), EVEN_DRAWS, (writes, draws) => {
      const disk = new MemoryDisk();
      disk.fileSystem.makeDirectory('/run', 0o700);
      const open = () => new CheckpointFile('/run', disk.fileSystem, { mode: 0o600, sync: 'sync' });
      let file = open();
      file.ensure(checkpointOf(0));
      disk.fileSystem.syncDirectory('/run');
      let synced = 0;
      for (const [index, { how, reopens }] of writes.entries()) {
        if (reopens) {
          file = open();
          assert.equal(file.read()?.settled, index);
        }
        file.write(checkpointOf(index + 1), how);
        if (how === 'sync') synced = index + 1;
      }
      disk.losePower(() => draws.next().value ?? 0);
      assert.ok((open().read()?.settled ?? -1) >= synced);
    }),
    { numRuns: 2000 },
  );
});

function checkpointOf(settled: number): Checkpoint {
  const tail = { sequence: 1, at: 0, number: settled, seq: undefined, state: 'open' } as const;
  return { settled, place: { sequence: 1, at: 0 }, tail, doubt: undefined };
}

test('what is settled within the interval is never synced', () => {
  const model = new IntervalModel(() => 0);
  model.steps.append(1);
  model.steps.settle(1);
  const { syncs } = model;
  for (let round = 0; round < 100; round += 1) {
    model.steps.append(2);
    model.steps.wait(LOOK_MS_MAX);
    model.steps.settle(2);
  }
  // What is left are the checkpoints, of which a segment that is removed has one, and a second one.
  assert.ok(model.syncs - syncs < 20, `${model.syncs - syncs} syncs`);
});

// Goal: P5 at every point a process or a machine can end. Method: all calls of a run to the disk are recorded; each beginning of them is
// done again on an empty disk, also with its last write torn, with and without a power cut, and recovered. More of it: F20 of
// npm run test:faults.
test('after every call to the disk, and in the middle of every write, recovery finds all that was promised', (context) => {
  const seed = Date.now() % 100_000;
  context.diagnostic(`seed ${seed}`);
  const { points } = enumerateCrashPoints(randomFrom(seed), { steps: 12, tearsMax: 3 });
  assert.ok(points > 100, `${points} points`);
});

test('verify finds what is damaged and changes nothing', () => {
  const directory = join(newDirectory(), 'run-000001');
  const lane = openLane(directory, { segmentBytes: 1 << 20 });
  lane.append(recordsOf(['{"a":1}', '{"b":2}', '{"c":3}']));
  lane.close();
  assert.equal(verifySpool(directory).isSound, true);
  const [path = ''] = segmentPaths(directory);
  const bytes = readFileSync(path);
  bytes[64 + 40 + 33] = (bytes[64 + 40 + 33] ?? 0) ^ 1;
  writeFileSync(path, bytes);
  const report = verifySpool(directory);
  assert.equal(report.isSound, false);
  assert.equal(report.pending, 2);
  assert.equal(report.lost, 1);
  assert.deepEqual(readFileSync(path), bytes);
});
