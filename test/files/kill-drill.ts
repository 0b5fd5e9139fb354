import assert from 'node:assert/strict';
import { type ChildProcess, type ForkOptions, fork } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { ship } from '../../src/index.ts';
import { newDirectory, TestReceiver, until } from '../support.ts';
import type { Drill, DrillTools } from './drill.ts';
import { textsOf, uuidsIn } from './drill.ts';

const WRITER_OPTIONS = { maxSizeMb: 0.02, lingerMs: 5, gzipAfterMs: 1000, workers: 1 };
/** After each hundred records, in ms. */
const PAUSE_MS = 5;

/** What runs while somebody kills it again and again. */
class Victim {
  readonly #start: () => ChildProcess;
  #child: ChildProcess;

  constructor(start: () => ChildProcess) {
    this.#start = start;
    this.#child = start();
  }

  async kill(): Promise<void> {
    const ended = once(this.#child, 'close');
    this.#child.kill('SIGKILL');
    await ended;
  }

  async killAndStart(): Promise<void> {
    await this.kill();
    this.#child = this.#start();
  }
}

async function killBoth({ rounds, random }: DrillTools): Promise<string> {
  const directory = newDirectory();
  const saved = newDirectory();
  const receiver = await TestReceiver.start(['--appid', 'A', '--save', saved]);
  const programs = fileURLToPath(new URL('../programs.js', import.meta.url));
  const main = fileURLToPath(new URL('../../src/cli/main.js', import.meta.url));
  let writers = 0;
  const quiet: ForkOptions = { stdio: 'ignore', execArgv: [] };
  const writer = new Victim(() => {
    writers += 1;
    const options = JSON.stringify(WRITER_OPTIONS);
    const args = ['write-files', directory, options, String(writers), '1e9', String(PAUSE_MS)];
    return fork(programs, args, quiet);
  });
  const flags = [
    'ship',
    directory,
    '--url',
    receiver.url,
    '--appid',
    'A',
    '--poll',
    '20',
    '--batch',
    '50',
  ];
  const shipper = new Victim(() => fork(main, flags, quiet));
  for (let round = 0; round < rounds; round += 1) {
    // Both are at work when the blow comes, at some moment, for one of them or both.
    const before = { bytes: bytesIn(directory), records: (await receiver.snapshot()).records };
    await until(() => bytesIn(directory) !== before.bytes, 'the writer writes');
    await until(async () => (await receiver.snapshot()).records > before.records, 'lines arrive');
    await delay(random(300));
    const blow = random(3);
    if (blow !== 0) await writer.killAndStart();
    if (blow !== 1) await shipper.killAndStart();
  }
  await writer.kill();
  await shipper.kill();
  const account = await ship({ directory, url: receiver.url, appId: 'A', once: true });
  assert.equal(account.imbalance, 0);
  const { records, duplicates } = await receiver.snapshot();
  await receiver.stop();
  return compare(directory, saved, { rounds, records, duplicates, files: account.files });
}

function bytesIn(directory: string): number {
  return readdirSync(directory).reduce((sum, name) => {
    return sum + (statSync(join(directory, name), { throwIfNoEntry: false })?.size ?? 0);
  }, 0);
}

/** The uuids at the receiver are those in whole lines of the files, all and no other. */
function compare(
  directory: string,
  saved: string,
  counts: { rounds: number; records: number; duplicates: number; files: number },
): string {
  const written = new Set<string>();
  let lines = 0;
  let packed = 0;
  for (const { name, text } of textsOf(directory)) {
    if (name.endsWith('.gz')) packed += 1;
    for (const line of text.split('\n').slice(0, -1)) {
      JSON.parse(line);
      lines += 1;
      for (const uuid of uuidsIn(line)) written.add(uuid);
    }
  }
  const arrived = new Set(uuidsIn(readFileSync(join(saved, 'received.jsonl'), 'utf8')));
  const missing = [...written].filter((uuid) => !arrived.has(uuid));
  const strange = [...arrived].filter((uuid) => !written.has(uuid));
  assert.deepEqual([missing.length, strange.length], [0, 0], `${missing[0]} ${strange[0]}`);
  assert.equal(lines, written.size, 'each line is in the files once');
  assert.ok(lines > counts.rounds * 100, `${lines} lines`);
  return `${counts.rounds} kills: ${written.size} uuids in ${lines} lines, all arrived; ${counts.duplicates} came twice; ${packed} files packed meanwhile`;
}

export const KILL_DRILLS: readonly Drill[] = [
  {
    id: 'kill',
    promise:
      'kill -9 of writer and shipper again and again: unique uuids at the receiver = those in the files',
    run: killBoth,
  },
];
