import assert from 'node:assert/strict';
import type { SpoolFileSystem } from '../src/spool/file-system.ts';
import { MemoryDisk } from './memory-disk.ts';
import { drain, openLane, recordsOf } from './spool-lane.ts';

/** A call to the disk, and what had been promised before it. */
interface Call {
  readonly name: keyof SpoolFileSystem;
  readonly args: readonly unknown[];
  /** Every record below this number was acknowledged as being on stable storage. */
  readonly durable: number;
  /** Every record below this number was being written at most. */
  readonly written: number;
  /** Every record below this number had been settled at most. */
  readonly settled: number;
}

export interface CrashPoints {
  readonly calls: number;
  /** Ends that were recovered from: beginnings of the run, torn writes, with and without a power cut. */
  readonly points: number;
}

/** How large a run is. */
interface CrashPlan {
  readonly steps: number;
  /** Lengths at which each write is torn; a small one at each of its bytes if there are enough. */
  readonly tearsMax: number;
}

const RUN = '/run';
const SEGMENT_BYTES = 1024;

function laneOn(disk: MemoryDisk, fileSystem: SpoolFileSystem = disk.fileSystem) {
  return openLane(RUN, { fileSystem, fsync: 'batch', segmentBytes: SEGMENT_BYTES });
}

/** A run of appends, settlements and reopenings, and every call it made to the disk. */
class Recording {
  readonly calls: Call[] = [];
  readonly #disk = new MemoryDisk();
  #durable = 0;
  #written = 0;
  #settled = 0;

  make(random: (below: number) => number, steps: number): void {
    const fileSystem = this.#recorded();
    fileSystem.makeDirectory(RUN, 0o700);
    let lane = laneOn(this.#disk, fileSystem);
    for (let step = 0; step < steps; step += 1) {
      const draw = random(10);
      if (draw < 6) {
        const count = 1 + random(8);
        const from = this.#written;
        this.#written += count;
        const texts = Array.from({ length: count }, (_, index) => textOf(from + index));
        assert.deepEqual(lane.append(recordsOf(texts, from)), { written: count });
        assert.equal(lane.durableNumber, this.#written);
        this.#durable = this.#written;
      } else if (draw < 9) {
        const batch = lane.peek({ maxRecords: 1 + random(12), maxBytes: 4096 });
        if (batch === undefined) continue;
        this.#settled = batch.nextNumber;
        lane.settle(batch);
      } else {
        if (random(2) === 0) lane.close();
        else lane.leave();
        lane = laneOn(this.#disk, fileSystem);
      }
    }
  }

  #recorded(): SpoolFileSystem {
    const watched: Record<string, unknown> = {};
    for (const [key, run] of Object.entries(this.#disk.fileSystem)) {
      const name = key as keyof SpoolFileSystem;
      watched[key] = (...args: unknown[]) => {
        // What a write gets is a part of a buffer that is used again.
        const kept = args.map((arg) => (arg instanceof Uint8Array ? arg.slice() : arg));
        this.calls.push({
          name,
          args: kept,
          durable: this.#durable,
          written: this.#written,
          settled: this.#settled,
        });
        return (run as (...args: unknown[]) => unknown)(...args);
      };
    }
    return watched as unknown as SpoolFileSystem;
  }
}

function textOf(number: number): string {
  return `{"n":${number},"pad":"${'x'.repeat((number * 7) % 60)}"}`;
}

/**
 * Every end a run can come to: after each of its calls to the disk, and in the middle of each write, by the death of the process
 * (all that was written stays) and by a power cut (of what was not synced, any part). Asserts that recovery succeeds at each, that no
 * record below the last acknowledged sync is missing, and that none has another text.
 */
export function enumerateCrashPoints(
  random: (below: number) => number,
  { steps, tearsMax }: CrashPlan,
): CrashPoints {
  const recording = new Recording();
  recording.make(random, steps);
  const { calls } = recording;
  let points = 0;
  for (const [at, last] of calls.entries()) {
    for (const torn of tearsOf(last, { random, tearsMax })) {
      for (const end of ['death', 'power cut'] as const) {
        recover(calls.slice(0, at), { last, torn, end, random });
        points += 1;
      }
    }
  }
  return { calls: calls.length, points };
}

/** How much of the last call was done: for a write, so many bytes. */
function tearsOf(
  { name, args }: Call,
  { random, tearsMax }: { random: (below: number) => number; tearsMax: number },
): number[] {
  if (name !== 'write') return [0];
  const { length } = args[1] as Uint8Array;
  if (length <= tearsMax) return Array.from({ length: length + 1 }, (_, bytes) => bytes);
  return [0, length, ...Array.from({ length: tearsMax }, () => random(length))];
}

interface End {
  readonly last: Call;
  readonly torn: number;
  readonly end: 'death' | 'power cut';
  readonly random: (below: number) => number;
}

function recover(before: readonly Call[], { last, torn, end, random }: End): void {
  const disk = new MemoryDisk();
  for (const call of before) repeat(disk, call.name, call.args);
  if (torn > 0) {
    const [fd, bytes, at] = last.args as [number, Uint8Array, number];
    repeat(disk, 'write', [fd, bytes.subarray(0, torn), at]);
  }
  if (end === 'power cut') disk.losePower(() => random(2 ** 30) / 2 ** 30);
  const where = `${end} in ${last.name} (call ${before.length}), ${torn} bytes of it done`;
  const lane = laneOn(disk);
  const first = lane.settledNumber;
  const { texts } = drain(lane);
  const numbers = texts.map((text) => (JSON.parse(text) as { n: number }).n);
  assert.ok(first <= last.settled, `${where}: ${first} was not settled`);
  assert.deepEqual(texts, numbers.map(textOf), where);
  assert.ok(
    numbers.every((number, at) => number > (numbers[at - 1] ?? first - 1)),
    `${where}: in order, none twice`,
  );
  assert.ok((numbers.at(-1) ?? -1) < last.written, `${where}: more than were written`);
  // Of what was never synced any part may be there, the first part or another.
  const promised = Array.from({ length: Math.max(0, last.durable - first) }, (_, at) => first + at);
  assert.deepEqual(numbers.slice(0, promised.length), promised, `${where}: records are missing`);
  // It goes on: what is appended now is found after what was recovered.
  assert.deepEqual(lane.append(recordsOf(['{"after":1}'], 0)), { written: 1 });
  assert.deepEqual(drain(lane), { texts: ['{"after":1}'], lost: 0 });
}

function repeat(disk: MemoryDisk, name: keyof SpoolFileSystem, args: readonly unknown[]): void {
  try {
    (disk.fileSystem[name] as (...args: readonly unknown[]) => unknown)(...args);
  } catch {
    // It failed in the run as well: files that are looked for and not there.
  }
}
