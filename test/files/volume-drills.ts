import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { closeSync, mkdirSync, openSync, rmSync, statSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { newDirectory, TestReceiver } from '../support.ts';
import type { Cost, Drill, DrillTools } from './drill.ts';
import { runJob, timeOf } from './drill.ts';

const MIB: number = 1024 * 1024;
const ROUNDS = 3;
const LINES_AT_ONCE = 2000;

/** Events of 14 properties, 460 bytes. */
function writeEvents(path: string, mib: number): number {
  const fd = openSync(path, 'w');
  let lines = 0;
  for (let bytes = 0; bytes < mib * MIB; ) {
    let text = '';
    for (let line = 0; line < LINES_AT_ONCE; line += 1) text += eventLine(lines + line);
    lines += LINES_AT_ONCE;
    bytes += writeSync(fd, text);
  }
  closeSync(fd);
  return lines;
}

function eventLine(index: number): string {
  const record = {
    '#type': 'track',
    '#time': '2026-11-24 08:00:00.123',
    '#event_name': 'battle_end',
    '#account_id': `player-${index % 5000}`,
    '#distinct_id': `device-${index % 5000}`,
    '#uuid': randomUUID(),
    properties: {
      level: index % 100,
      hero: 'Aria the great',
      map: `Forest ${index % 7}`,
      duration: (index % 977) / 7,
      won: index % 2 === 0,
      gold: index * 3,
      items: ['sword', 'shield'],
      server: 'eu-1',
      channel: 'appstore',
      mode: 'ranked',
      note: '云 and text',
      score: 12345.678,
      '#lib': 'millrace',
      '#lib_version': '0.1.0',
    },
  };
  return `${JSON.stringify(record)}\n`;
}

function median(costs: readonly Cost[], part: keyof Cost): number {
  const values = costs.map((cost) => cost[part]).sort((a, b) => a - b);
  return values[values.length >> 1] ?? Number.NaN;
}

function words(costs: readonly Cost[], mib: number): string {
  const elapsed = median(costs, 'elapsed');
  return `${(mib / elapsed).toFixed(0)} MiB/s, ${median(costs, 'cpu').toFixed(1)} CPU s`;
}

function ratio(costs: readonly Cost[], base: readonly Cost[]): string {
  const elapsed = median(base, 'elapsed') / median(costs, 'elapsed');
  const cpu = median(costs, 'cpu') / median(base, 'cpu');
  return `${elapsed.toFixed(2)} of its rate, ${cpu.toFixed(1)} × its CPU`;
}

async function measureCheck({ mib }: DrillTools): Promise<string> {
  const directory = newDirectory();
  const path = join(directory, 'log.2026-11-24');
  const lines = writeEvents(path, mib);
  await timeOf(`gzip -1 -k ${path}`);
  const costs = { wc: [], gzip: [], plain: [], packed: [] } as Record<string, Cost[]>;
  let rssMiB = 0;
  for (let round = 0; round < ROUNDS; round += 1) {
    costs.wc?.push(await timeOf(`wc -l ${path}`));
    costs.gzip?.push(await timeOf(`gzip -dc ${path}.gz | wc -l`));
    for (const [name, file] of [
      ['plain', path],
      ['packed', `${path}.gz`],
    ] as const) {
      const report = await runJob(['check', file]);
      assert.deepEqual(report.result, { lines, bad: 0 });
      rssMiB = Math.max(rssMiB, report.rssMiB);
      costs[name]?.push(report);
    }
  }
  const { wc = [], gzip = [], plain = [], packed = [] } = costs;
  const bytes = statSync(path).size / MIB;
  rmSync(directory, { recursive: true });
  return [
    `${lines} lines, ${bytes.toFixed(0)} MiB, at most ${rssMiB.toFixed(0)} MiB of memory`,
    `wc -l ${words(wc, bytes)}; check ${words(plain, bytes)}: ${ratio(plain, wc)}`,
    `gzip -dc | wc -l ${words(gzip, bytes)}; check .gz ${words(packed, bytes)}: ${ratio(packed, gzip)}`,
  ].join('\n  ');
}

async function measureShip({ mib }: DrillTools): Promise<string> {
  const folder = newDirectory();
  const directory = join(folder, 'logs');
  mkdirSync(directory);
  const path = join(directory, 'log.2026-11-24');
  const size = Math.min(mib, 512);
  const lines = writeEvents(path, size);
  const receiver = await TestReceiver.start(['--appid', 'A', '--mode', 'count']);
  const found: string[] = [`${lines} lines, ${size} MiB`];
  for (const [title, bare, level] of [
    ['plain bodies', '0', '0'],
    ['gzip', '2', ''],
  ] as const) {
    const posted: Cost[] = [];
    const shipped: Cost[] = [];
    for (let round = 0; round < ROUNDS; round += 1) {
      const post = await runJob(['post', path, receiver.url, bare]);
      assert.equal(post.result.lines, lines);
      posted.push(post);
      rmSync(join(directory, '.millrace-ship'), { recursive: true, force: true });
      const report = await runJob(['ship', directory, receiver.url, level]);
      assert.deepEqual(report.result, { lines, delivered: lines });
      shipped.push(report);
    }
    found.push(
      `${title}: posting ${words(posted, size)}; ship ${words(shipped, size)}: ${ratio(shipped, posted)}`,
    );
  }
  await receiver.stop();
  rmSync(folder, { recursive: true });
  return found.join('\n  ');
}

export const VOLUME_DRILLS: readonly Drill[] = [
  { id: 'check', promise: 'check beside wc -l and gzip -dc, in flat memory', run: measureCheck },
  { id: 'ship', promise: 'ship --once beside bare posting of the same bytes', run: measureShip },
];
