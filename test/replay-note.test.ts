import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { SpoolFileSystem } from '../src/spool/file-system.ts';
import { repairSpool } from '../src/spool/repair.ts';
import { ReplayNote, readReplayNote } from '../src/spool/replay-note.ts';
import { verifySpool } from '../src/spool/verify.ts';
import { MemoryDisk } from './memory-disk.ts';

const DIRECTORY = '/spool/instance-0/run-000001';
const HOUR_MS = 3_600_000;

class Killed extends Error {}

/** A folder of records that processes replay one after the other, and what has become of each. */
class Folder {
  readonly waiting: number[];
  readonly delivered: number[] = [];
  readonly givenUp: number[] = [];
  /** Deaths in the middle of a record. */
  readonly deaths = new Map<number, number>();
  nowMs = HOUR_MS;
  /** Call of the disk before which the process ends; each counts down to its own. */
  diesIn = Number.POSITIVE_INFINITY;
  readonly #disk = new MemoryDisk();
  readonly #isKiller: (record: number) => boolean;
  #isDead = false;

  constructor(records: number, isKiller: (record: number) => boolean) {
    this.waiting = Array.from({ length: records }, (_, index) => index);
    this.#isKiller = isKiller;
    this.#disk.fileSystem.makeDirectory(DIRECTORY, 0o700);
  }

  /** One process, from its start to its end. */
  replay(): 'done' | 'died' | 'held' {
    this.#isDead = false;
    try {
      return this.#replay();
    } catch (error) {
      if (!(error instanceof Killed)) throw error;
      return 'died';
    }
  }

  #replay(): 'done' | 'held' {
    const { nowMs } = this;
    const left = this.waiting.length;
    const fileSystem = this.#mortal();
    const start = { directory: DIRECTORY, fileSystem, left, inHand: 5, nowMs };
    const note = this.#step(() => ReplayNote.open(start));
    if (note.isHeld) return 'held';
    for (let [number] = this.waiting; number !== undefined; [number] = this.waiting) {
      const record = { lane: 0, number };
      if (this.#step(() => note.takeKiller(record))) this.givenUp.push(number);
      else {
        const batch = note.isAlone ? [number] : this.waiting.slice(0, 5);
        this.#step(() => note.enter(record));
        this.#send(batch);
        this.#step(() => note.leave());
        note.noteDone();
        this.delivered.push(...batch);
        this.waiting.splice(0, batch.length - 1);
      }
      this.waiting.shift();
    }
    this.#step(() => note.end());
    return 'done';
  }

  /** What the note does; it takes a call that throws for a failing disk, but a process that is dead does nothing more. */
  #step<T>(run: () => T): T {
    const result = run();
    if (this.#isDead) throw new Killed();
    return result;
  }

  #send(batch: readonly number[]): void {
    if (!batch.some((record) => this.#isKiller(record))) return;
    if (batch.length === 1) this.#countDeath(batch[0] ?? -1);
    throw new Killed();
  }

  #countDeath(record: number): void {
    this.deaths.set(record, (this.deaths.get(record) ?? 0) + 1);
  }

  /** The disk of a process that ends before a certain call. */
  #mortal(): SpoolFileSystem {
    const mortal: Record<string, unknown> = {};
    for (const [name, call] of Object.entries(this.#disk.fileSystem)) {
      mortal[name] = (...args: unknown[]) => {
        this.diesIn -= 1;
        if (this.diesIn === 0) this.#isDead = true;
        if (this.#isDead) throw new Killed();
        return (call as (...args: unknown[]) => unknown)(...args);
      };
    }
    return mortal as unknown as SpoolFileSystem;
  }

  /** Starts process after process. */
  drain(): number {
    let starts = 1;
    while (this.replay() !== 'done') {
      starts += 1;
      assert.ok(starts < 200, 'it comes to an end');
    }
    return starts;
  }
}

test('records that end every process are given up after three deaths of their own, and no others are', () => {
  const killers = [3, 4, 11, 19];
  const folder = new Folder(20, (record) => killers.includes(record));
  folder.drain();
  assert.deepEqual(folder.givenUp, killers);
  assert.equal(folder.delivered.length, 20 - killers.length);
  for (const killer of killers) assert.equal(folder.deaths.get(killer), 3);
});

// Goal: the counts are right wherever a process ends. Method: one more death, before each call of the disk in turn.
test('a death at any place more costs time and no healthy record', () => {
  for (let at = 1; ; at += 1) {
    const folder = new Folder(12, (record) => record === 6);
    folder.diesIn = at;
    folder.drain();
    assert.deepEqual(folder.givenUp, [6], `death ${at}`);
    assert.equal(new Set(folder.delivered).size, 11, `death ${at}`);
    // At worst it had just been given up, which is forgotten then.
    assert.ok((folder.deaths.get(6) ?? 0) <= 6, `death ${at}`);
    if (folder.diesIn > 0) {
      assert.ok(at > 50, `${at} places`);
      return;
    }
  }
});

test('a process that ends now and then gives no record up', () => {
  const folder = new Folder(1000, () => false);
  for (let at = 1; folder.waiting.length > 0; at += 1) {
    folder.diesIn = 1 + (at % 40);
    folder.replay();
  }
  assert.deepEqual(folder.givenUp, []);
});

// Method: a receiver that is away while the record is tried alone, and processes that end in between, as they may.
test('a record that is tried alone again and again, and survived, is not given up', () => {
  const { fileSystem } = new MemoryDisk();
  fileSystem.makeDirectory(DIRECTORY, 0o700);
  const start = { directory: DIRECTORY, fileSystem, left: 9, inHand: 5, nowMs: HOUR_MS };
  const record = { lane: 0, number: 7 };
  let alone = 0;
  for (let life = 0; life < 8; life += 1) {
    const note = ReplayNote.open(start);
    for (let attempt = 0; attempt < 5; attempt += 1) {
      assert.equal(note.takeKiller(record), false, `life ${life}, attempt ${attempt}`);
      note.enter(record);
      note.leave();
      if (note.isAlone) alone += 1;
    }
  }
  assert.ok(alone >= 20, `${alone} attempts alone`);
  assert.equal(readReplayNote(DIRECTORY, fileSystem)?.deaths, 0);
});

test('when every record kills it isn’t the records: after three the folder is left alone for an hour', () => {
  const folder = new Folder(20, () => true);
  let starts = 0;
  while (folder.replay() !== 'held') starts += 1;
  assert.deepEqual(folder.givenUp, [0, 1, 2]);
  assert.ok(starts < 20, `${starts} starts`);
  assert.equal(folder.replay(), 'held', 'still');
  folder.nowMs += HOUR_MS;
  assert.equal(folder.replay(), 'died', 'one try');
  assert.equal(folder.replay(), 'held', 'and again');
  assert.deepEqual(folder.givenUp, [0, 1, 2]);
});

test('verify tells what is noted of a run, and repair forgets it', () => {
  const { fileSystem } = new MemoryDisk();
  fileSystem.makeDirectory(`${DIRECTORY}/lane-000`, 0o700);
  const start = { directory: DIRECTORY, fileSystem, left: 9, inHand: 5, nowMs: HOUR_MS };
  const suspect = { lane: 0, number: 7 };
  for (let opening = 1; opening <= 4; opening += 1) ReplayNote.open(start).enter(suspect);
  assert.deepEqual(verifySpool('/spool', { fileSystem }).replays, [
    { directory: DIRECTORY, openings: 4, suspect, deaths: 1, givenUp: 0, heldMs: 0 },
  ]);
  const self = { pid: 1, start: '1', place: 'here' };
  const processes = { self, startOf: () => undefined };
  assert.deepEqual(repairSpool('/spool', { fileSystem, processes }).after.replays, []);
  assert.equal(ReplayNote.open(start).isAlone, false);
});
