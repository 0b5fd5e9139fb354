import assert from 'node:assert/strict';
import { execFile, fork } from 'node:child_process';
import { once } from 'node:events';
import { appendFileSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, beforeEach, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import { check, ship } from '../src/index.ts';
import { newDirectory, TestReceiver, until } from './support.ts';

let receiver: TestReceiver;
const main = fileURLToPath(new URL('../src/cli/main.js', import.meta.url));

before(async () => {
  receiver = await TestReceiver.start(['--appid', 'A']);
});
beforeEach(async () => {
  await receiver.setFaults([]);
  await receiver.reset();
});
after(() => receiver.stop());

/** Lines as the official SDKs write them. */
function linesOf(from: number, to: number): string {
  let text = '';
  for (let index = from; index < to; index += 1) {
    const uuid = `00000000-0000-4000-8000-${String(index).padStart(12, '0')}`;
    text += `{"#type":"track","#time":"2026-11-24 08:00:00.000","#account_id":"u","#event_name":"e","#uuid":"${uuid}","properties":{"index":${index}}}\n`;
  }
  return text;
}

function target(directory: string): { directory: string; url: string; appId: string } {
  return { directory, url: receiver.url, appId: 'A' };
}

test('files of every layout are shipped once, in the order of their names, and only what is new the next time', async () => {
  const directory = newDirectory();
  writeFileSync(join(directory, 'log.2026-11-23'), linesOf(0, 1000));
  writeFileSync(join(directory, 'log.2026-11-24-08_0'), linesOf(1000, 1500));
  writeFileSync(join(directory, 'log.2026-11-24-08_1.gz'), gzipSync(linesOf(1500, 2000)));
  writeFileSync(join(directory, 'log.2026-11-24-08_10'), `${linesOf(2000, 2500)}{"#type":"tr`);
  writeFileSync(join(directory, 'notes.txt'), 'not ours\n');
  const first = await ship({ ...target(directory), once: true });
  assert.deepEqual([first.delivered, first.bad, first.files], [2500, 0, 4]);
  const numbers = (await receiver.events()).map(
    ({ properties }) => (properties as { index: number }).index,
  );
  assert.deepEqual(
    numbers,
    Array.from({ length: 2500 }, (_, index) => index),
  );
  appendFileSync(
    join(directory, 'log.2026-11-24-08_10'),
    linesOf(2500, 2501).slice('{"#type":"tr'.length) + linesOf(2501, 2600),
  );
  renameSync(join(directory, 'log.2026-11-23'), join(directory, 'old.log.2026-11-23'));
  const plain = readFileSync(join(directory, 'log.2026-11-24-08_0'));
  rmSync(join(directory, 'log.2026-11-24-08_0'));
  writeFileSync(join(directory, 'log.2026-11-24-08_0.gz'), gzipSync(plain));
  const second = await ship({ ...target(directory), once: true });
  assert.equal(second.delivered, 100);
  const { unique, duplicates } = await receiver.snapshot();
  assert.deepEqual({ unique, duplicates }, { unique: 2600, duplicates: 0 });
});

test('bad lines and refused records are put aside with the reason, and their neighbours go on', async () => {
  const directory = newDirectory();
  const bad =
    '{"#type":"wrong","#time":"2026-11-24 08:00:00.000","#account_id":"u","properties":{}}\n';
  writeFileSync(
    join(directory, 'log.2026-11-24'),
    `${linesOf(0, 10)}this is no JSON\n${bad}${linesOf(10, 20)}`,
  );
  await receiver.setFaults([{ action: { kind: 'poison', text: '"index":15}' } }]);
  const account = await ship({ ...target(directory), once: true });
  assert.deepEqual([account.delivered, account.rejected, account.bad], [19, 1, 2]);
  const kept = readFileSync(join(directory, '.millrace-bad.jsonl'), 'utf8').trimEnd().split('\n');
  assert.equal(kept.length, 3);
  assert.match(kept[0] ?? '', /is not JSON/);
  assert.match(kept[1] ?? '', /#type/);
});

test('a shipper that is killed again and again while files grow ships every line', async (context) => {
  const seed = Date.now() % 1000;
  context.diagnostic(`seed ${seed}`);
  const directory = newDirectory();
  const flags = ['ship', directory, '--url', receiver.url, '--appid', 'A', '--batch', '20'];
  let written = 0;
  for (let round = 0; round < 6; round += 1) {
    const child = fork(main, flags, { stdio: 'ignore', execArgv: [] });
    for (let burst = 0; burst < 10; burst += 1) {
      appendFileSync(join(directory, `log.2026-11-24_${round}`), linesOf(written, written + 100));
      written += 100;
      await delay((seed + round * 31 + burst * 17) % 60);
    }
    child.kill('SIGKILL');
    await once(child, 'close');
  }
  await ship({ ...target(directory), once: true });
  assert.equal((await receiver.snapshot()).unique, written);
});

test('following a folder delivers what is appended, survives a dead receiver, and ends at a signal', async () => {
  const directory = newDirectory();
  const stop = new AbortController();
  const done = ship({ ...target(directory), pollMs: 10, signal: stop.signal });
  await receiver.setFaults([{ action: { kind: 'status', status: 503 }, requests: 3 }]);
  writeFileSync(join(directory, 'log.2026-11-24'), linesOf(0, 100));
  await until(async () => (await receiver.snapshot()).unique === 100, 'the first are there');
  appendFileSync(join(directory, 'log.2026-11-24'), linesOf(100, 200));
  await until(async () => (await receiver.snapshot()).unique === 200, 'all are there');
  stop.abort();
  assert.equal((await done).delivered, 200);
});

test('check tells file, line, column and reason, and the command line ends with 1', async () => {
  const directory = newDirectory();
  const path = join(directory, 'log.2026-11-24');
  const wrong = linesOf(1, 2).replace('"2026-11-24 08:00:00.000"', '"yesterday"');
  writeFileSync(path, `${linesOf(0, 1)}${wrong}nonsense\n`);
  const problems: unknown[] = [];
  const report = check([path], (problem) => problems.push(problem));
  assert.deepEqual([report.lines, report.bad], [3, 2]);
  const [first] = problems as { file: string; line: number; column: number; reason: string }[];
  assert.equal(first?.line, 2);
  assert.equal(first?.column, wrong.indexOf('"#time"') + 1);
  assert.match(first?.reason ?? '', /#time/);
  const { code, stdout } = await new Promise<{ code: unknown; stdout: string }>((resolve) => {
    execFile(process.execPath, [main, 'check', path], (error, out) => {
      resolve({ code: error === null ? 0 : error.code, stdout: out });
    });
  });
  assert.equal(code, 1);
  assert.match(stdout, /log\.2026-11-24:2:\d+ #time/);
});
