import assert from 'node:assert/strict';
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import {
  appendFileSync,
  closeSync,
  copyFileSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import type { Stats } from '../../src/index.ts';
import { parseName } from '../../src/sink/rotation.ts';
import { setClock } from '../clock-file.ts';
import { linesOf } from '../log-lines.ts';
import { assertBalanced, newDirectory, runProgram, TestReceiver, until } from '../support.ts';
import { type Drill, type DrillTools, delay, type Finding, MIB } from './drill.ts';

const HOUR_MS = 3_600_000;
/** Longest line of what the writers write, in bytes. */
const RECORD_BYTES_MAX = 400;
/** What a process writes at once: those that share a file may each have looked at its size before another one wrote. */
const WRITE_BYTES: number = 64 * 1024;
const CLOCK_WORKER: string = new URL('../clock-worker.js', import.meta.url).pathname;
/** An hour before clocks go back there, and an hour before they go forward. */
const FALL_MS: number = Date.UTC(2026, 10, 1, 5);
const SPRING_MS: number = Date.UTC(2026, 2, 8, 6);

interface Writers {
  readonly directory: string;
  readonly processes: number;
  readonly count: number;
  readonly maxSizeMb: number;
  /** Whether each process has files of its own. */
  readonly instance?: 'auto';
  /** After each hundred records, in ms. */
  readonly pauseMs: number;
}

/** Processes that write into one folder, by a clock that `moves` sets meanwhile. */
async function write(
  { directory, processes, count, maxSizeMb, pauseMs, instance }: Writers,
  moves: (setMs: (ms: number) => void, isOver: () => boolean) => Promise<void>,
): Promise<void> {
  const clockFile = join(newDirectory(), 'clock');
  setClock(clockFile, FALL_MS);
  const own = instance === undefined ? {} : { instance };
  const options = { workers: 2, rotate: 'hour', maxSizeMb, workerFile: CLOCK_WORKER, ...own };
  const env = { MILLRACE_TEST_CLOCK: clockFile, TZ: 'America/New_York' };
  let isOver = false;
  const runs = Promise.all(
    Array.from({ length: processes }, (_, writer) => {
      const args = [directory, JSON.stringify(options), String(writer), String(count)];
      return runProgram('write-files', [...args, String(pauseMs)], { env, timeoutMs: 900_000 });
    }),
  ).finally(() => {
    isOver = true;
  });
  await moves(
    (ms) => setClock(clockFile, ms),
    () => isOver,
  );
  for (const { code, stderr, messages } of await runs) {
    assert.equal(code, 0, stderr);
    assertBalanced(messages.at(-1) as Stats);
  }
}

interface Written {
  readonly finding: Finding;
  readonly files: number;
  /** Most bytes of a file above its size. */
  readonly over: number;
}

/** Every record is in one file, once, in a whole line; every file has a name of its own kind and its size. */
function prove({ directory, processes, count, maxSizeMb }: Writers): Written {
  const names = readdirSync(directory).filter((name) => !name.startsWith('.'));
  const seen = new Map<string, string>();
  let lines = 0;
  let over = Number.NEGATIVE_INFINITY;
  for (const name of names) {
    assert.ok(parseName(name) !== undefined, `${name} is a log file`);
    over = Math.max(over, statSync(join(directory, name)).size - maxSizeMb * MIB);
    const text = readFileSync(join(directory, name), 'utf8');
    // A file that was begun as the hour ended may be empty.
    if (text === '') continue;
    assert.ok(text.endsWith('\n'), `${name} ends with a whole line`);
    for (const line of text.trimEnd().split('\n')) {
      const { '#uuid': uuid } = JSON.parse(line) as { '#uuid': string };
      assert.equal(seen.get(uuid), undefined, `${uuid} is in ${name} and ${seen.get(uuid)}`);
      seen.set(uuid, name);
      lines += 1;
    }
  }
  const enqueued = processes * count;
  assert.deepEqual([lines, seen.size], [enqueued, enqueued]);
  const finding = { enqueued, arrived: seen.size, dropped: {}, duplicates: 0 };
  return { finding, files: names.length, over };
}

/** The clock jumps while records are written: by an hour back and forth, and through both changes of the zone's time. */
async function clockJumps({ random, pick }: DrillTools): Promise<Finding> {
  const writers: Writers = {
    directory: newDirectory(),
    processes: 2,
    count: pick({ quick: 5000, usual: 50_000, full: 1_000_000 }),
    maxSizeMb: 0.25,
    pauseMs: 10,
  };
  let jumps = 0;
  await write(writers, async (setMs, isOver) => {
    for (let ms = FALL_MS; !isOver(); jumps += 1) {
      ms = jumpFrom(ms, random);
      setMs(ms);
      await delay(20);
    }
  });
  const { finding, files } = prove(writers);
  return { ...finding, measured: `${jumps} jumps in zone America/New_York, ${files} files` };
}

function jumpFrom(ms: number, random: (below: number) => number): number {
  switch (random(4)) {
    case 0:
      return ms - HOUR_MS;
    case 1:
      return ms + HOUR_MS;
    case 2:
      return (random(2) === 0 ? FALL_MS : SPRING_MS) + random(3 * HOUR_MS);
    default:
      return ms + random(HOUR_MS / 2);
  }
}

/** Eight processes on one folder, as fast as they can, while hours pass: rotation by size and hour together. */
async function rotation(files: 'own' | 'shared', { pick }: DrillTools): Promise<Finding> {
  const writers: Writers = {
    directory: newDirectory(),
    ...(files === 'own' ? { instance: 'auto' } : {}),
    processes: 8,
    count: pick({ quick: 2000, usual: 100_000, full: 1_000_000 }),
    maxSizeMb: 1,
    pauseMs: 0,
  };
  const startMs = performance.now();
  let hours = 0;
  await write(writers, async (setMs, isOver) => {
    for (; !isOver(); hours += 1) {
      setMs(FALL_MS + hours * HOUR_MS);
      await delay(500);
    }
  });
  const rate = (writers.processes * writers.count) / ((performance.now() - startMs) / 1000);
  const { finding, files: made, over } = prove(writers);
  const bound = files === 'own' ? RECORD_BYTES_MAX : writers.processes * WRITE_BYTES;
  assert.ok(over <= bound, `a file is ${over} bytes above its size`);
  const measured = `${Math.round(rate / 1000)} 000 lines a second by 8 processes (their starts included), ${hours} hours, ${made} files, at most ${over} bytes above their size`;
  return { ...finding, measured };
}

/** The command line, following a folder. */
class Shipper {
  readonly #child: ChildProcess;
  readonly #ended: Promise<unknown>;

  constructor(directory: string, receiver: TestReceiver) {
    const main = fileURLToPath(new URL('../../src/cli/main.js', import.meta.url));
    const flags = ['ship', directory, '--url', receiver.url, '--appid', 'A', '--poll', '10'];
    const withParent = new URL('./end-with-parent.js', import.meta.url).href;
    this.#child = fork(main, flags, { stdio: 'ignore', execArgv: ['--import', withParent] });
    this.#ended = once(this.#child, 'close');
  }

  async stop(): Promise<void> {
    this.#child.kill('SIGTERM');
    await this.#ended;
  }
}

interface Tailed {
  readonly directory: string;
  readonly path: string;
  /** Adds so many new lines to a file; a number continues where the last one ended. */
  readonly lines: (count: number) => string;
  /** Waits until all lines so far have arrived. */
  readonly arrived: () => Promise<void>;
}

type Turnover = (tailed: Tailed, random: (below: number) => number) => Promise<void>;

const TURNOVERS: Readonly<Record<string, Turnover>> = {
  rename: async ({ path, lines, arrived }) => {
    writeFileSync(path, lines(100));
    await arrived();
    renameSync(path, `${path}.1`);
    appendFileSync(`${path}.1`, lines(50));
    writeFileSync(path, lines(50));
    await arrived();
    renameSync(`${path}.1`, `${path}.2`);
    appendFileSync(`${path}.2`, lines(20));
    await arrived();
  },
  delete: async ({ path, lines, arrived }) => {
    writeFileSync(path, lines(100));
    await arrived();
    const fd = openSync(path, 'a');
    rmSync(path);
    writeSync(fd, lines(100));
    await arrived();
    closeSync(fd);
    writeFileSync(path, lines(100));
    await arrived();
  },
  gzip: async ({ path, lines, arrived }) => {
    writeFileSync(path, lines(100));
    await arrived();
    writeFileSync(`${path}.part`, gzipSync(readFileSync(path)));
    renameSync(`${path}.part`, `${path}.gz`);
    rmSync(path);
    writeFileSync(`${path}_1`, lines(50));
    await arrived();
  },
  'inode reuse': async ({ path, lines, arrived }) => {
    writeFileSync(path, lines(100));
    await arrived();
    rmSync(path);
    writeFileSync(path, lines(150));
    await arrived();
    // The same inode, and other content.
    writeFileSync(path, lines(200));
    await arrived();
  },
  'partial last line': async ({ path, lines, arrived }, random) => {
    const text = lines(50);
    for (let at = 0; at < text.length; ) {
      const next = at + 1 + random(200);
      appendFileSync(path, text.slice(at, next));
      at = next;
      await delay(random(15));
    }
    await arrived();
  },
};

/** Follows a folder while its files are turned over so. Returns the lines that came twice. */
async function tail(
  { random }: DrillTools,
  turnover: Turnover,
): Promise<{ lines: number; unique: number; duplicates: number }> {
  const receiver = await TestReceiver.start(['--appid', 'A']);
  const directory = newDirectory();
  const shipper = new Shipper(directory, receiver);
  let written = 0;
  const tailed: Tailed = {
    directory,
    path: join(directory, 'log.2026-11-24'),
    lines: (count) => {
      written += count;
      return linesOf(written - count, written);
    },
    arrived: () =>
      until(async () => (await receiver.snapshot()).unique >= written, `${written} arrived`),
  };
  await turnover(tailed, random);
  await shipper.stop();
  const { unique, duplicates } = await receiver.snapshot();
  await receiver.stop();
  assert.equal(unique, written);
  return { lines: written, unique, duplicates };
}

async function turnedOver(tools: DrillTools): Promise<Finding> {
  let lines = 0;
  for (const [name, turnover] of Object.entries(TURNOVERS)) {
    const found = await tail(tools, turnover);
    assert.equal(found.duplicates, 0, name);
    lines += found.lines;
  }
  const measured = Object.keys(TURNOVERS).join(', ');
  return { enqueued: lines, arrived: lines, dropped: {}, duplicates: 0, measured };
}

const COPIES = 3;
/** Lines written just before each copy, so that some of them are shipped between copy and cut. */
const LATE_LINES = 50;

async function copyTruncated(tools: DrillTools): Promise<Finding> {
  const found = await tail(tools, async ({ path, lines, arrived }) => {
    for (let round = 0; round < COPIES; round += 1) {
      appendFileSync(path, lines(150));
      if (round > 0) await arrived();
      appendFileSync(path, lines(LATE_LINES));
      copyFileSync(path, `${path}.${9 - round}`);
      truncateSync(path, 0);
    }
    appendFileSync(path, lines(100));
    await arrived();
  });
  assert.ok(found.duplicates <= COPIES * LATE_LINES, `${found.duplicates} came twice`);
  const measured = `bound (docs/ship.md): lines shipped between copy and cut, here at most ${COPIES * LATE_LINES}`;
  const { lines: enqueued, unique: arrived, duplicates } = found;
  return { enqueued, arrived, dropped: {}, duplicates, measured };
}

/** What becomes of log files. */
export const FILE_DRILLS: readonly Drill[] = [
  {
    row: 'F27',
    id: 'F27',
    fault:
      'the clock jumps by an hour, and through both changes to and from summer time, while log files are written',
    promise: 'every record in one file, once',
    run: clockJumps,
  },
  {
    row: 'F28',
    id: 'F28a',
    fault: "eight processes write one folder, rotated by hour and size, `instance: 'auto'`",
    promise: 'every record in one file, once; files keep their size',
    run: (tools) => rotation('own', tools),
  },
  {
    row: 'F28',
    id: 'F28b',
    fault: 'eight processes write the same files, rotated by hour and size',
    promise: 'every record in one file, once; above its size by one write a process at most',
    run: (tools) => rotation('shared', tools),
  },
  {
    row: 'F29',
    id: 'F29a',
    fault:
      'log files renamed, deleted, packed, replaced, half a line written, under `millrace ship`',
    promise: 'all arrive, none twice',
    run: turnedOver,
  },
  {
    row: 'F29',
    id: 'F29b',
    fault: 'copytruncate under `millrace ship`',
    promise: 'all arrive; few twice',
    run: copyTruncated,
  },
];
