import assert from 'node:assert/strict';
import { readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { Analytics, LoggingConsumer, type Stats } from '../../src/index.ts';
import { parseName } from '../../src/sink/rotation.ts';
import { setClock } from '../clock-file.ts';
import { uuidOf } from '../log-lines.ts';
import { assertBalanced, newDirectory, runProgram } from '../support.ts';
import type { Drill, DrillTools } from './drill.ts';
import { textsOf, uuidsIn } from './drill.ts';

const RECORD_BYTES_MAX = 400;
/** Records of a file, about: so many files as a large run has. */
const RECORDS_PER_FILE = 100;
const RECORD_BYTES = 215;
const HOURS = 48;
const USERS = 97;
const MIB: number = 1024 * 1024;

/** Every line is in one file, whole; every file is at most one record above its size; a user's lines are in order. */
async function rotate({ records }: DrillTools): Promise<string> {
  const directory = newDirectory();
  const clockFile = join(newDirectory(), 'clock');
  process.env.MILLRACE_TEST_CLOCK = clockFile;
  // The 48 hours have one twice there.
  process.env.TZ = 'America/New_York';
  const startMs = Date.UTC(2026, 9, 31, 12);
  const maxSizeMb = (RECORDS_PER_FILE * RECORD_BYTES) / MIB;
  setClock(clockFile, startMs);
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
  const { files, largest } = proveFiles(directory, records, maxSizeMb * MIB);
  return `${records} records in ${files} files, the largest ${largest} bytes above its size`;
}

function proveFiles(
  directory: string,
  records: number,
  maxBytes: number,
): { files: number; largest: number } {
  const seen = new Uint8Array(records);
  const latest = new Map<number, number>();
  const names = readdirSync(directory).sort(compareNames);
  let largest = 0;
  for (const name of names) {
    largest = Math.max(largest, statSync(join(directory, name)).size - maxBytes);
  }
  const texts = new Map([...textsOf(directory)].map(({ name, text }) => [name, text]));
  for (const name of names) {
    const text = texts.get(name) ?? '';
    assert.ok(text.endsWith('\n'), `${name} ends with a whole line`);
    for (const line of text.trimEnd().split('\n')) {
      const { properties } = JSON.parse(line) as { properties: { index: number } };
      const { index } = properties;
      assert.equal(seen[index], 0, `record ${index} is there once`);
      seen[index] = 1;
      assert.ok(
        (latest.get(index % USERS) ?? -1) < index,
        `record ${index} of its user is in order`,
      );
      latest.set(index % USERS, index);
    }
  }
  assert.equal(seen.indexOf(0), -1, 'every record is there');
  assert.ok(largest < RECORD_BYTES_MAX, `${largest} bytes above the size`);
  return { files: names.length, largest };
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
      assertBalanced(messages.at(-1) as Stats);
    }
    const uuids = new Set<string>();
    let lines = 0;
    let files = 0;
    for (const { text } of textsOf(directory)) {
      files += 1;
      for (const line of text.split('\n').slice(0, -1)) {
        JSON.parse(line);
        lines += 1;
      }
      for (const uuid of uuidsIn(text)) uuids.add(uuid);
    }
    assert.deepEqual([lines, uuids.size], [count * processes, count * processes]);
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
