import assert from 'node:assert/strict';
import { readdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { NEWLINE } from '../../src/base/characters.ts';
import { Analytics, check, LoggingConsumer, type Stats } from '../../src/index.ts';
import { parseName } from '../../src/sink/rotation.ts';
import { setClock } from '../clock-file.ts';
import { uuidOf } from '../log-lines.ts';
import { assertBalanced, newDirectory, runProgram } from '../support.ts';
import type { Drill, DrillTools } from './drill.ts';
import { textsOf, uuidsIn } from './drill.ts';

const RECORD_BYTES_MAX = 400;
/** Records of a file, about: so many files as a large run has, but no more than a folder is listed quickly with. */
const RECORDS_PER_FILE_MIN = 100;
const FILES_MAX = 5000;
const RECORD_BYTES = 215;
const HOURS = 48;
const USERS = 97;
/** A uuid, and its last part, which is the number of the record. */
const UUID_BYTES = 36;
const UUID_DIGITS = 12;
const ZERO = 0x30;
const MIB: number = 1024 * 1024;

/** Every line is in one file, whole; every file is at most one record above its size; a user's lines are in order. */
async function rotate({ records }: DrillTools): Promise<string> {
  const directory = newDirectory();
  const clockFile = join(newDirectory(), 'clock');
  process.env.MILLRACE_TEST_CLOCK = clockFile;
  // The 48 hours have one twice there.
  process.env.TZ = 'America/New_York';
  const startMs = Date.UTC(2026, 9, 31, 12);
  const perFile = Math.max(RECORDS_PER_FILE_MIN, Math.ceil(records / FILES_MAX));
  const maxSizeMb = (perFile * RECORD_BYTES) / MIB;
  setClock(clockFile, startMs);
  const beganMs = performance.now();
  const ta = new Analytics(
    new LoggingConsumer({
      directory,
      rotate: 'hour',
      maxSizeMb,
      workers: 2,
      lanes: 8,
      overflow: 'block',
      blockTimeoutMs: 600_000,
      workerFile: new URL('../clock-worker.js', import.meta.url),
    }),
  );
  const step = Math.ceil(records / HOURS);
  for (let index = 0; index < records; index += 1) {
    if (index % step === 0) setClock(clockFile, startMs + (index / step) * 3_600_000);
    const properties = { index };
    ta.track({ accountId: `u${index % USERS}`, event: 'e', uuid: uuidOf(index), properties });
    if (index % 10_000 === 0) await new Promise((resolve) => setImmediate(resolve));
  }
  const stats = await ta.close({ timeoutMs: 600_000 });
  assertBalanced(stats);
  const wroteMs = performance.now() - beganMs;
  const names = readdirSync(directory).sort(compareNames);
  const { lines, bad } = await check(names.map((name) => join(directory, name)));
  assert.deepEqual([lines, bad], [records, 0]);
  const largest = proveFiles(directory, names, { records, maxBytes: maxSizeMb * MIB });
  rmSync(directory, { recursive: true });
  const rate = (records / wroteMs / 1000).toFixed(2);
  const rssMiB = process.resourceUsage().maxRSS / 1024;
  return `${records} records in ${names.length} files, written at ${rate} million a second, each once; the largest ${largest} bytes above its size; at most ${rssMiB.toFixed(0)} MiB of memory`;
}

/** Accounts for every record by a bit, a file at a time. The bytes of the largest file above its size. */
function proveFiles(
  directory: string,
  names: readonly string[],
  { records, maxBytes }: { records: number; maxBytes: number },
): number {
  const seen = new Uint8Array(Math.ceil(records / 8));
  const latest = new Int32Array(USERS).fill(-1);
  let count = 0;
  let largest = 0;
  for (const name of names) {
    const bytes = readFileSync(join(directory, name));
    largest = Math.max(largest, bytes.length - Math.floor(maxBytes));
    assert.equal(bytes.at(-1), NEWLINE, `${name} ends with a whole line`);
    for (const index of indicesIn(bytes)) {
      const bit = 1 << (index & 7);
      assert.equal((seen[index >> 3] ?? 0) & bit, 0, `record ${index} is there once`);
      seen[index >> 3] = (seen[index >> 3] ?? 0) | bit;
      const user = index % USERS;
      assert.ok((latest[user] ?? 0) < index, `record ${index} of its user is in order`);
      latest[user] = index;
      count += 1;
    }
  }
  assert.equal(count, records, 'every record is there');
  assert.ok(largest < RECORD_BYTES_MAX, `${largest} bytes above the size`);
  return largest;
}

/** Numbers of the records in a file: the last digits of their uuids. */
function* indicesIn(bytes: Buffer): Generator<number> {
  const mark = Buffer.from('"#uuid":"');
  for (let at = bytes.indexOf(mark); at >= 0; at = bytes.indexOf(mark, at + UUID_BYTES)) {
    const end = at + mark.length + UUID_BYTES;
    let index = 0;
    for (let digit = end - UUID_DIGITS; digit < end; digit += 1) {
      index = 10 * index + (bytes[digit] ?? 0) - ZERO;
    }
    yield index;
  }
}

function compareNames(a: string, b: string): number {
  const [first, second] = [parseName(a), parseName(b)];
  if (first === undefined || second === undefined) return 0;
  if (first.period !== second.period) return first.period < second.period ? -1 : 1;
  return first.index - second.index;
}

/** Several processes with several threads each, all in one folder: no line is torn or lost. */
async function share({ records, processes }: DrillTools): Promise<string> {
  const found: string[] = [];
  for (const instance of [{}, { instance: 'auto' }]) {
    const directory = newDirectory();
    const options = JSON.stringify({ workers: 2, rotate: 'hour', maxSizeMb: 0.05, ...instance });
    const count = Math.floor(records / processes);
    const runs = await Promise.all(
      Array.from({ length: processes }, (_, writer) =>
        runProgram('write-files', [directory, options, String(writer), String(count)], {
          timeoutMs: 600_000,
        }),
      ),
    );
    for (const { code, stderr, messages } of runs) {
      assert.equal(code, 0, stderr);
      const stats = messages.at(-1) as Stats;
      assertBalanced(stats);
      assert.equal(stats.workers.restarts, 0, 'no worker that waits is taken for hung');
    }
    const uuids = new Map<string, string>();
    let lines = 0;
    let files = 0;
    for (const { name, text } of textsOf(directory)) {
      files += 1;
      for (const line of text.split('\n').slice(0, -1)) {
        JSON.parse(line);
        lines += 1;
      }
      for (const uuid of uuidsIn(text)) {
        assert.equal(uuids.get(uuid), undefined, `${uuid} is in ${name}, too`);
        uuids.set(uuid, name);
      }
    }
    assert.deepEqual([lines, uuids.size], [count * processes, count * processes]);
    rmSync(directory, { recursive: true });
    found.push(
      `${lines} lines in ${files} files${'instance' in instance ? ', one sequence each' : ''}`,
    );
  }
  return `${processes} processes: ${found.join('; ')}`;
}

export const WRITE_DRILLS: readonly Drill[] = [
  {
    id: 'rotation',
    promise:
      'by hour and size, through a repeated hour: every record once, in order per user, files exact to a record',
    run: rotate,
  },
  { id: 'processes', promise: 'processes on one folder tear and lose no line', run: share },
];
