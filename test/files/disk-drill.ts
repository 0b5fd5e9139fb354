import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync, rmSync, statfsSync } from 'node:fs';
import { join } from 'node:path';
import { Analytics, LoggingConsumer } from '../../src/index.ts';
import { parseName } from '../../src/sink/rotation.ts';
import { uuidOf } from '../log-lines.ts';
import { assertBalanced, newDirectory, until } from '../support.ts';
import type { Drill, DrillTools } from './drill.ts';
import { uuidsIn } from './drill.ts';

/** Of the run that gives up: several times what the disk holds. */
const RECORDS_GIVEN_UP = 20_000;

/** Runs `work` on a disk of one MiB of its own. Needs the right to mount. */
async function onSmallDisk<T>(work: (directory: string) => Promise<T>): Promise<T> {
  const directory = newDirectory();
  execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=1m', 'millrace', directory]);
  try {
    return await work(directory);
  } finally {
    execFileSync('umount', [directory]);
  }
}

function logsIn(directory: string): string[] {
  const names = readdirSync(directory).filter((name) => parseName(name) !== undefined);
  return names.sort((a, b) => (parseName(a)?.index ?? 0) - (parseName(b)?.index ?? 0));
}

/** Uuids of a file, of which every line must be whole. */
function take(directory: string, name: string): string[] {
  const text = readFileSync(join(directory, name), 'utf8');
  assert.ok(text === '' || text.endsWith('\n'), `${name} ends with a whole line`);
  const uuids = uuidsIn(text);
  for (const line of text.split('\n').slice(0, -1)) JSON.parse(line);
  assert.equal(uuids.length, text.split('\n').length - 1);
  return uuids;
}

/** A disk that is full again and again while somebody takes the finished files away: each record is there once, none is lost. */
async function fill({ records }: DrillTools): Promise<string> {
  return onSmallDisk(async (directory) => {
    const seen = new Set<string>();
    const reasons = new Set<string>();
    const ta = new Analytics(
      new LoggingConsumer({ directory, workers: 2, maxSizeMb: 0.1, overflow: 'block' }),
      { onError: ({ message }) => reasons.add(/\((disk\w*)\)/.exec(message)?.[1] ?? message) },
    );
    const keep = (name: string) => {
      for (const uuid of take(directory, name)) {
        assert.ok(!seen.has(uuid), `${uuid} is there once`);
        seen.add(uuid);
      }
      rmSync(join(directory, name));
    };
    for (let index = 0; index < records; index += 1) {
      ta.track({
        accountId: `u${index % 97}`,
        event: 'e',
        uuid: uuidOf(index),
        properties: { index },
      });
    }
    let times = 0;
    while (ta.stats().delivered < records) {
      await until(
        () => statfsSync(directory).bavail === 0 || ta.stats().delivered === records,
        'the disk is full again',
      );
      times += 1;
      for (const name of logsIn(directory).slice(0, -2)) keep(name);
    }
    const stats = await ta.close();
    assertBalanced(stats);
    assert.equal(stats.delivered, records);
    for (const name of logsIn(directory)) keep(name);
    assert.equal(seen.size, records);
    assert.ok(reasons.has('disk_full'), [...reasons].join());
    return `${records} records through a disk of 1 MiB that was full ${times} times: each in the files once`;
  });
}

/** A disk that stays full: what can't be written in time is given up and counted, what is counted as written is there. */
async function giveUp(): Promise<string> {
  return onSmallDisk(async (directory) => {
    const ta = new Analytics(new LoggingConsumer({ directory, retries: 2, lingerMs: 5 }), {
      onError: () => undefined,
    });
    for (let index = 0; index < RECORDS_GIVEN_UP; index += 1) {
      ta.track({ accountId: 'u', event: 'e', uuid: uuidOf(index), properties: { index } });
    }
    await until(() => ta.stats().queued === 0, 'all are settled');
    const { delivered, dropped } = ta.stats();
    assert.ok(delivered > 0 && dropped.expired > 0, JSON.stringify(ta.stats()));
    const [name = ''] = logsIn(directory);
    const before = take(directory, name);
    assert.equal(before.length, delivered);
    // Somebody makes room by taking the file away: the next record begins it anew.
    rmSync(join(directory, name));
    ta.track({ accountId: 'u', event: 'e', uuid: uuidOf(RECORDS_GIVEN_UP), properties: {} });
    await ta.flush();
    const stats = await ta.close();
    assertBalanced(stats);
    assert.equal(stats.delivered, delivered + 1);
    assert.deepEqual(take(directory, name), [uuidOf(RECORDS_GIVEN_UP)]);
    return `given up: ${delivered} of ${RECORDS_GIVEN_UP} written, ${dropped.expired} expired; in the files exactly the first`;
  });
}

export const DISK_DRILLS: readonly Drill[] = [
  {
    id: 'disk',
    promise: 'a full disk tears no line, loses none and doubles none (mounts a tmpfs: needs root)',
    run: async (tools) => `${await fill(tools)}\n  ${await giveUp()}`,
  },
];
