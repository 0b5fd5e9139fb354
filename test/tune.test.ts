import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { adviseOn } from '../src/tune/advice.ts';
import { Descent, type Goal, ringBytesFor, type Trial } from '../src/tune/search.ts';
import type { Measurement, Setting } from '../src/tune/setting.ts';
import { newDirectory } from './support.ts';

const MIB: number = 1024 * 1024;
const START: Setting = {
  workers: 1,
  lanes: 4,
  ringBytes: 64 * MIB,
  batchSize: 500,
  lingerMs: 100,
  compress: 2,
};
const GOAL: Goal = {
  rate: 100_000,
  latencyMs: 250,
  trafficWeight: 20,
  cores: 4,
  outageSeconds: 5,
  ringBytesMin: 64 * MIB,
};

/** A machine that is known exactly: each worker adds, each gzip level costs, larger batches save. */
function model({ workers, compress, batchSize }: Setting): Measurement {
  const level = Number(compress);
  const cpuPerMillion = 2 + level + 100 / batchSize;
  return {
    rate: (workers * 1e6) / cpuPerMillion,
    cpuPerMillion,
    wireBytes: 120 - 8 * level,
    textBytes: 500,
    frameBytes: 200,
    callNs: 500,
    latencyMs: { p50: 10, p99: 20 },
    workersBusy: 1,
    cores: workers,
    lostShare: 0,
  };
}

async function descend(goal: Goal, trialsMax: number): Promise<{ trials: Trial[]; best: Setting }> {
  const trials: Trial[] = [];
  const host = {
    measure: async (setting: Setting) => model(setting),
    hasTime: () => trials.length < trialsMax,
    onTrial: (trial: Trial) => trials.push(trial),
  };
  const { best } = await new Descent(START, { goal, host, trialSeconds: 1 }).run();
  return { trials, best };
}

test('the search takes the fewest workers that leave head room, the level that traffic is worth, and a ring for the outage', async () => {
  const { best } = await descend({ ...GOAL, trafficWeight: 1 }, 1000);
  assert.deepEqual(best, { ...START, batchSize: 1000, compress: true, ringBytes: 128 * MIB });
  const dearTraffic = await descend({ ...GOAL, rate: 10_000, trafficWeight: 1000 }, 1000);
  assert.equal(dearTraffic.best.compress, 9);
  const fast = await descend({ ...GOAL, rate: 600_000 }, 1000);
  assert.ok(fast.best.workers >= 3, JSON.stringify(fast.best));
});

test('the search tries nothing twice, and ends when the time is over', async () => {
  const { trials } = await descend(GOAL, 1000);
  const settings = trials.map(({ setting }) => JSON.stringify(setting));
  assert.equal(new Set(settings).size, settings.length);
  const { trials: few } = await descend(GOAL, 5);
  assert.equal(few.length, 5);
});

test('the ring for an outage is a power of two within the bounds', () => {
  assert.equal(ringBytesFor({ ...GOAL, rate: 1000, ringBytesMin: 4 * MIB }, 200), 4 * MIB);
  assert.equal(ringBytesFor(GOAL, 200), 128 * MIB);
  assert.equal(ringBytesFor({ ...GOAL, rate: 1e7 }, 200), 1024 * MIB);
  assert.equal(ringBytesFor(GOAL, Number.NaN), 128 * MIB);
});

test('a ring below the default is recommended only to those who want to save memory', async () => {
  const slow = { ...GOAL, rate: 1000, outageSeconds: 1 };
  assert.equal((await descend(slow, 1000)).best.ringBytes, 64 * MIB);
  const thrifty = { ...slow, ringBytesMin: 4 * MIB };
  assert.equal((await descend(thrifty, 1000)).best.ringBytes, 4 * MIB);
});

test('the advice says what gives out first, and what rate can be met if the one asked for can not', () => {
  const most = model(START);
  const target = { url: 'http://receiver.example', appId: 'A' };
  const judge = (found: Measurement, goal: Goal, steady = { ...found, rate: goal.rate }) =>
    adviseOn(START, { most: found, steady, goal, target });
  const good = judge(most, GOAL);
  assert.equal(good.isMet, true);
  assert.equal(good.bottleneck, 'workers');
  assert.match(good.code, /batchSize: 500,/);
  const bad = judge(most, { ...GOAL, rate: 1e6 });
  assert.equal(bad.isMet, false);
  assert.match(bad.words[0] ?? '', /can NOT be met here: the most is 238,095.*190,476/);
  const slowReceiver = judge({ ...most, workersBusy: 0.3, cores: 0.5 }, GOAL);
  assert.equal(slowReceiver.bottleneck, 'receiver');
  assert.equal(judge({ ...most, workersBusy: 0.7, cores: 4 }, GOAL).bottleneck, 'cores');
  // At full speed it would do, but at the rate it fell behind.
  assert.equal(judge(most, GOAL, { ...most, rate: 50_000 }).isMet, false);
});

const main = fileURLToPath(new URL('../src/cli/main.js', import.meta.url));

function tune(...flags: string[]): Promise<{ code: unknown; stdout: string; stderr: string }> {
  return new Promise((resolve) => {
    execFile(process.execPath, [main, 'tune', ...flags], (error, stdout, stderr) => {
      resolve({ code: error === null ? 0 : error.code, stdout, stderr });
    });
  });
}

function writeSample(lines: readonly object[]): string {
  const path = join(newDirectory(), 'sample.jsonl');
  writeFileSync(path, lines.map((line) => `${JSON.stringify(line)}\n`).join(''));
  return path;
}

test('tune measures a sample of records and prints options to paste', async () => {
  const sample = writeSample([
    { '#type': 'track', '#event_name': 'login', '#account_id': 'a', properties: { level: 3 } },
    { '#type': 'user_set', '#account_id': 'a', properties: { name: 'Ann' } },
    { event: 'logout', accountId: 'b', properties: { seconds: 12 } },
  ]);
  const flags = ['--rate', '100', '--minutes', '0.02', '--sample', sample, '--json'];
  const { code, stdout, stderr } = await tune(...flags);
  assert.notEqual(stdout, '', stderr);
  const { best, steady, advice, trials } = JSON.parse(stdout) as {
    best: Setting;
    steady: Measurement;
    advice: { isMet: boolean; code: string };
    trials: Trial[];
  };
  // Whether a busy machine holds even this rate is its own affair.
  assert.equal(code, advice.isMet ? 0 : 1);
  assert.match(advice.code, new RegExp(`lanes: ${best.lanes},`));
  assert.equal(steady.lostShare, 0);
  assert.ok(steady.textBytes > 50 && steady.textBytes < 400, String(steady.textBytes));
  assert.ok(trials.length >= 1);
});

test('a sample that is no JSON lines, or of records nobody knows, is wrong usage and names the line', async () => {
  const path = join(newDirectory(), 'bad.jsonl');
  writeFileSync(path, '{"event":"e","accountId":"a"}\n{oops\n');
  const bad = await tune('--rate', '10', '--sample', path);
  assert.equal(bad.code, 2);
  assert.match(bad.stderr, /line 2/);
  const unknown = writeSample([{ '#type': 'nonsense' }]);
  const { code, stderr } = await tune('--rate', '10', '--sample', unknown);
  assert.equal(code, 2);
  assert.match(stderr, /line 1: #type is nonsense; known are track/);
});
