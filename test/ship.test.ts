import assert from 'node:assert/strict';
import { execFile, fork } from 'node:child_process';
import { once } from 'node:events';
import {
  appendFileSync,
  closeSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  utimesSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { dirname, join } from 'node:path';
import { after, before, beforeEach, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import {
  Analytics,
  check,
  LoggingConsumer,
  type ShipAccount,
  type ShipOptions,
  ship,
} from '../src/index.ts';
import { type FileMark, MarkBook } from '../src/lines/marks.ts';
import { SHIP_CATALOGUE } from '../src/metrics/ship-catalogue.ts';
import { javaLines, linesOf, pythonLines } from './log-lines.ts';
import { assertBalanced, newDirectory, repositoryRoot, TestReceiver, until } from './support.ts';

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

function target(directory: string): { directory: string; url: string; appId: string } {
  return { directory, url: receiver.url, appId: 'A' };
}

/** Ships what there is, and holds the account against itself. */
async function shipOnce(directory: string, more: Partial<ShipOptions> = {}): Promise<ShipAccount> {
  const account = await ship({ ...target(directory), once: true, ...more });
  assert.equal(account.imbalance, 0);
  return account;
}

/** A shipper that follows a folder until it is stopped. */
function follow(directory: string): { stop: () => Promise<ShipAccount> } {
  const stop = new AbortController();
  const done = ship({ ...target(directory), pollMs: 10, signal: stop.signal });
  return {
    stop: async () => {
      stop.abort();
      const account = await done;
      assert.equal(account.imbalance, 0);
      return account;
    },
  };
}

async function untilUnique(count: number): Promise<void> {
  await until(async () => (await receiver.snapshot()).unique >= count, `${count} arrived`);
}

test('files of every layout are shipped once, in the order of their names, and only what is new the next time', async () => {
  const directory = newDirectory();
  writeFileSync(join(directory, 'log.2026-11-23'), linesOf(0, 1000));
  writeFileSync(join(directory, 'log.2026-11-24-08_0'), linesOf(1000, 1500));
  writeFileSync(join(directory, 'log.2026-11-24-08_1.gz'), gzipSync(linesOf(1500, 2000)));
  writeFileSync(join(directory, 'log.2026-11-24-08_10'), `${linesOf(2000, 2500)}{"#type":"tr`);
  writeFileSync(join(directory, 'notes.txt'), 'not ours\n');
  const first = await shipOnce(directory);
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
  const second = await shipOnce(directory);
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
  const account = await shipOnce(directory);
  assert.deepEqual([account.delivered, account.rejected, account.bad], [19, 1, 2]);
  const kept = readFileSync(join(directory, '.millrace-ship', 'bad.jsonl'), 'utf8')
    .trimEnd()
    .split('\n');
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
  await shipOnce(directory);
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
  const report = await check([path], { onProblem: (problem) => problems.push(problem) });
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

test('files of the official Python and Java SDKs ship unchanged', async () => {
  const directory = newDirectory();
  writeFileSync(join(directory, 'log.2026-11-24_0'), pythonLines(0, 50));
  writeFileSync(join(directory, 'log.2026-11-24-13'), pythonLines(50, 100));
  writeFileSync(join(directory, 'game.log.2026-11-24_0'), javaLines(100, 150));
  writeFileSync(join(directory, 'game.log.2026-11-24-13_0'), javaLines(150, 200));
  writeFileSync(join(directory, 'csharp.2026-11-24_0'), javaLines(200, 250));
  const account = await shipOnce(directory);
  assert.deepEqual([account.delivered, account.bad, account.rejected], [250, 0, 0]);
  const { unique, duplicates } = await receiver.snapshot();
  assert.deepEqual({ unique, duplicates }, { unique: 250, duplicates: 0 });
  const sent = (await receiver.events()).find(
    ({ properties }) => 'price' in (properties as object),
  );
  assert.deepEqual((sent?.properties as { name: string } | undefined)?.name, '云');
});

test('a file that is renamed while it grows is shipped once', async () => {
  const directory = newDirectory();
  const path = join(directory, 'log.2026-11-24');
  writeFileSync(path, linesOf(0, 100));
  const shipper = follow(directory);
  await untilUnique(100);
  renameSync(path, `${path}.1`);
  appendFileSync(`${path}.1`, linesOf(100, 150));
  writeFileSync(path, linesOf(150, 200));
  await untilUnique(200);
  renameSync(`${path}.1`, join(directory, 'kept-elsewhere'));
  appendFileSync(join(directory, 'kept-elsewhere'), linesOf(200, 220));
  await untilUnique(220);
  assert.equal((await shipper.stop()).delivered, 220);
  assert.equal((await shipOnce(directory)).delivered, 0);
  assert.equal((await receiver.snapshot()).duplicates, 0);
});

test('a file that is removed while it is followed is shipped to its end, once', async () => {
  const directory = newDirectory();
  const path = join(directory, 'log.2026-11-24');
  writeFileSync(path, linesOf(0, 100));
  const shipper = follow(directory);
  await untilUnique(100);
  const fd = openSync(path, 'a');
  rmSync(path);
  writeSync(fd, linesOf(100, 200));
  await untilUnique(200);
  closeSync(fd);
  writeFileSync(path, linesOf(200, 300));
  await untilUnique(300);
  assert.equal((await shipper.stop()).lostBytes, 0);
  assert.equal((await receiver.snapshot()).duplicates, 0);
});

test('a partial last line waits for its end, and is shipped once', async () => {
  const directory = newDirectory();
  const path = join(directory, 'log.2026-11-24');
  const lines = linesOf(0, 50);
  const shipper = follow(directory);
  for (let at = 0; at < lines.length; at += 97) {
    appendFileSync(path, lines.slice(at, at + 97));
    await delay(2);
  }
  await untilUnique(50);
  const { delivered, bad } = await shipper.stop();
  assert.deepEqual([delivered, bad], [50, 0]);
  assert.equal((await receiver.snapshot()).duplicates, 0);
});

test('a line that grows between two looks at the folder is not read over and over, and goes out when it is whole', async () => {
  const directory = newDirectory();
  const path = join(directory, 'log.2026-11-24');
  let reply: (() => void) | undefined;
  let taken = 0;
  const server = createServer((request, response) => {
    request.resume();
    request.on('end', () => {
      taken += 1;
      reply = () => response.end('{"code":0}');
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const stop = new AbortController();
  const pollMs = 200;
  const last = linesOf(1, 2);
  writeFileSync(path, linesOf(0, 1) + last.slice(0, 10));
  const done = ship({ directory, url, appId: 'A', pollMs, signal: stop.signal });
  await until(() => reply !== undefined, 'the first line is on its way');
  appendFileSync(path, last.slice(10, 20));
  // A look sees this much of the line, and the end of the request finds more.
  await delay(2 * pollMs);
  appendFileSync(path, last.slice(20, 30));
  reply?.();
  reply = undefined;
  await delay(2 * pollMs);
  appendFileSync(path, last.slice(30));
  await until(() => reply !== undefined, 'the second line is on its way');
  (reply as (() => void) | undefined)?.();
  await delay(pollMs);
  stop.abort();
  const { delivered, bad, imbalance } = await done;
  server.close();
  assert.deepEqual([delivered, bad, imbalance], [2, 0, 0]);
  assert.equal(taken, 2);
});

interface HeldReceiver {
  readonly url: string;
  /** Numbers of the records in each request so far, answered or not. */
  readonly requests: readonly (readonly number[])[];
  /** Answers what waits, and everything from now on. */
  readonly answer: () => void;
  readonly close: () => void;
}

/** A receiver that keeps its answers back, so that lines stay on their way. */
async function holdAnswers(): Promise<HeldReceiver> {
  const requests: number[][] = [];
  const waiting: (() => void)[] = [];
  let isOpen = false;
  const server = createServer(async (request, response) => {
    const pieces: Buffer[] = [];
    for await (const piece of request) pieces.push(piece as Buffer);
    const records = JSON.parse(Buffer.concat(pieces).toString('utf8')) as {
      properties: { index: number };
    }[];
    requests.push(records.map(({ properties }) => properties.index));
    const reply = () => response.end('{"code":0}');
    if (isOpen) reply();
    else waiting.push(reply);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    requests,
    answer: () => {
      isOpen = true;
      for (const reply of waiting.splice(0)) reply();
    },
    close: () => {
      server.close();
      server.closeAllConnections();
    },
  };
}

const LOOK_MS = 20;
/** Long enough for some looks at the folder. */
const SOME_LOOKS_MS: number = 10 * LOOK_MS;

/**
 * Follows a folder; does something to its files while their first lines are unanswered; then lets the answers go. In the end
 * every line up to `count` has come, once.
 */
async function whileUnanswered(
  directory: string,
  turnOver: () => void | Promise<void>,
  count: number,
): Promise<void> {
  const held = await holdAnswers();
  const stop = new AbortController();
  const told: string[] = [];
  const done = ship({
    directory,
    url: held.url,
    appId: 'A',
    compress: 0,
    batchSize: 50,
    pollMs: LOOK_MS,
    signal: stop.signal,
    onError: ({ message }) => told.push(message),
  });
  try {
    await until(() => held.requests.length > 0, 'lines are on their way');
    await turnOver();
    await delay(SOME_LOOKS_MS);
    held.answer();
    const arrived = () => held.requests.flat().sort((a, b) => a - b);
    await until(() => new Set(arrived()).size >= count, `${count} arrived`);
    await delay(SOME_LOOKS_MS);
    assert.deepEqual(
      arrived(),
      Array.from({ length: count }, (_, index) => index),
    );
  } finally {
    stop.abort();
    held.answer();
    const { imbalance, lostBytes } = await done;
    held.close();
    assert.deepEqual([imbalance, lostBytes], [0, 0]);
  }
  assert.deepEqual(told, []);
}

function pack(path: string): void {
  const directory = dirname(path);
  writeFileSync(join(directory, '.part'), gzipSync(readFileSync(path)));
  renameSync(join(directory, '.part'), `${path}.gz`);
  rmSync(path);
}

test('a file that is packed while its first lines are unanswered is shipped once', async () => {
  const directory = newDirectory();
  const path = join(directory, 'log.2026-11-24');
  writeFileSync(path, linesOf(0, 200));
  await whileUnanswered(directory, () => pack(path), 200);
});

test('a file that is packed while its last lines are unanswered is shipped once', async () => {
  const directory = newDirectory();
  const path = join(directory, 'log.2026-11-24');
  writeFileSync(path, linesOf(0, 100));
  await shipOnce(directory);
  appendFileSync(path, linesOf(100, 120));
  const held = await holdAnswers();
  const stop = new AbortController();
  const told: string[] = [];
  const onError = ({ message }: Error) => told.push(message);
  const more = { url: held.url, compress: 0, pollMs: LOOK_MS, signal: stop.signal, onError };
  const done = ship({ ...target(directory), ...more });
  await until(() => held.requests.length === 1, 'the last lines are on their way');
  pack(path);
  await delay(SOME_LOOKS_MS);
  held.answer();
  writeFileSync(`${path}_1`, linesOf(120, 130));
  await until(() => held.requests.flat().includes(129), 'the next file has arrived');
  stop.abort();
  await done;
  held.close();
  assert.deepEqual(
    held.requests.flat(),
    Array.from({ length: 30 }, (_, index) => 100 + index),
  );
  assert.deepEqual(told, []);
});

test('files that are packed while they wait for their turn are shipped once', async () => {
  const directory = newDirectory();
  const path = join(directory, 'log.2026-11-24');
  writeFileSync(`${path}_0`, linesOf(0, 100));
  writeFileSync(`${path}_1`, linesOf(100, 200));
  writeFileSync(`${path}_2`, '');
  const turnOver = async () => {
    appendFileSync(`${path}_2`, linesOf(200, 300));
    pack(`${path}_1`);
    pack(`${path}_2`);
  };
  await whileUnanswered(directory, turnOver, 300);
});

test('a file that is cut off and begun anew while its first lines are unanswered is shipped as two', async () => {
  const directory = newDirectory();
  const path = join(directory, 'log.2026-11-24');
  writeFileSync(path, linesOf(0, 50));
  await whileUnanswered(directory, () => writeFileSync(path, linesOf(50, 200)), 200);
});

test('copytruncate while lines are unanswered repeats none', async () => {
  const directory = newDirectory();
  const path = join(directory, 'log.2026-11-24');
  writeFileSync(path, linesOf(0, 200));
  const turnOver = async () => {
    copyFileSync(path, `${path}.1`);
    await delay(SOME_LOOKS_MS);
    truncateSync(path, 0);
    appendFileSync(path, linesOf(200, 250));
  };
  await whileUnanswered(directory, turnOver, 250);
});

test('a copy that takes its time is known for what it is before it is complete', async () => {
  const directory = newDirectory();
  const path = join(directory, 'log.2026-11-24');
  const text = linesOf(0, 300);
  writeFileSync(path, text);
  const shipper = follow(directory);
  await untilUnique(300);
  for (let at = 0; at < text.length; at += 20_000) {
    appendFileSync(`${path}.1`, text.slice(at, at + 20_000));
    await delay(30);
  }
  truncateSync(path, 0);
  appendFileSync(path, linesOf(300, 350));
  await untilUnique(350);
  const { delivered, lostBytes } = await shipper.stop();
  assert.deepEqual([delivered, lostBytes], [350, 0]);
});

/** Puts other content and another name on the inode of a file, as if that had been removed and its inode given to a new one. */
function reuseInode(from: string, to: string, content: Uint8Array): void {
  const hidden = join(dirname(from), '.hidden');
  renameSync(from, hidden);
  writeFileSync(hidden, content);
  renameSync(hidden, to);
}

// Goal: what ext4 does: the inode of the oldest file, just removed, is the copy's or the packed file's.
test('a copy, and a packed file, on the inode of a file that is done with go on where the original was', async () => {
  const directory = newDirectory();
  const path = join(directory, 'log.2026-11-24');
  writeFileSync(`${path}.8`, linesOf(0, 100));
  writeFileSync(`${path}.9`, linesOf(100, 200));
  writeFileSync(path, linesOf(200, 350));
  const shipper = follow(directory);
  await untilUnique(350);
  reuseInode(`${path}.9`, `${path}.1`, readFileSync(path));
  truncateSync(path, 0);
  appendFileSync(path, linesOf(350, 400));
  await untilUnique(400);
  const packed = gzipSync(readFileSync(path));
  rmSync(path);
  reuseInode(`${path}.8`, `${path}.gz`, packed);
  appendFileSync(path.replace('24', '25'), linesOf(400, 450));
  await untilUnique(450);
  const { delivered, lostBytes } = await shipper.stop();
  assert.deepEqual([delivered, lostBytes], [450, 0]);
});

test('a packed file on the inode of another one of the same size is shipped', async () => {
  const directory = newDirectory();
  const path = join(directory, 'log.2026-11-24');
  const packed = [10, 20].map((from) => gzipSync(linesOf(from, from + 10), { level: 0 }));
  assert.equal(packed[0]?.length, packed[1]?.length);
  writeFileSync(`${path}_0.gz`, packed[0] ?? '');
  const shipper = follow(directory);
  await untilUnique(10);
  await delay(100);
  reuseInode(`${path}_0.gz`, `${path}_1.gz`, packed[1] ?? Buffer.alloc(0));
  await untilUnique(20);
  assert.equal((await shipper.stop()).delivered, 20);
});

test('what is written to a file that was removed while lines are unanswered is shipped', async () => {
  const directory = newDirectory();
  const path = join(directory, 'log.2026-11-24');
  writeFileSync(path, linesOf(0, 50));
  const turnOver = () => {
    const fd = openSync(path, 'a');
    rmSync(path);
    writeSync(fd, linesOf(50, 100));
    closeSync(fd);
  };
  await whileUnanswered(directory, turnOver, 100);
});

// Goal: a line that grows all the time is no reason to look all the time. Method: it grows with every look, whatever that comes across.
test('a folder is looked at now and then, however its last line grows', async () => {
  const directory = newDirectory();
  const path = join(directory, 'log.2026-11-24');
  let looksLeft = 2000;
  class Growing extends RegExp {
    override test(name: string): boolean {
      if (name === 'log.2026-11-24') looksLeft -= 1;
      if (looksLeft > 0) appendFileSync(path, 'x');
      return super.test(name);
    }
  }
  writeFileSync(path, linesOf(0, 1));
  for (let file = 0; file < 8; file += 1)
    writeFileSync(join(directory, `a-file-before-${file}`), '');
  const stop = new AbortController();
  const match = new Growing('^log');
  const done = ship({ ...target(directory), match, pollMs: 50, signal: stop.signal });
  await untilUnique(1);
  await delay(500);
  stop.abort();
  assert.equal((await done).delivered, 1);
  assert.ok(looksLeft > 1900, `${2000 - looksLeft} looks`);
  const left = looksLeft;
  assert.equal(
    (await shipOnce(directory, { match, pollMs: 50, signal: AbortSignal.timeout(500) })).delivered,
    0,
  );
  assert.ok(left - looksLeft < 100, `${left - looksLeft} looks`);
});

test('a line as long as a sparse file leaves the thread its time', async () => {
  const directory = newDirectory();
  const path = join(directory, 'log.2026-11-24');
  writeFileSync(path, linesOf(0, 1));
  truncateSync(path, 192 * 1024 * 1024);
  appendFileSync(path, `\n${linesOf(1, 2)}`);
  let worstMs = 0;
  let lastMs = performance.now();
  const timer = setInterval(() => {
    worstMs = Math.max(worstMs, performance.now() - lastMs);
    lastMs = performance.now();
  }, 5);
  const startMs = performance.now();
  const account = await shipOnce(directory);
  const wholeMs = performance.now() - startMs;
  clearInterval(timer);
  assert.deepEqual([account.delivered, account.bad], [2, 1]);
  assert.ok(worstMs < wholeMs / 2, `the thread was held for ${worstMs} of ${wholeMs} ms`);
});

test('nothing is done with before its bad lines are put aside', async () => {
  const directory = newDirectory();
  writeFileSync(join(directory, 'log.2026-11-24'), `${linesOf(0, 10)}nonsense\n`);
  const failed = await shipOnce(directory, { quarantine: '/dev/full', onError: () => undefined });
  assert.deepEqual([failed.lines, failed.bad, failed.failedFiles], [0, 0, 1]);
  const kept = join(directory, '.millrace-ship', 'bad.jsonl');
  writeFileSync(kept, '{"torn by a full disk');
  const account = await shipOnce(directory);
  assert.deepEqual([account.delivered, account.bad], [10, 1]);
  const [, entry = ''] = readFileSync(kept, 'utf8').split('\n');
  assert.equal((JSON.parse(entry) as { text: string }).text, 'nonsense');
});

test('a folder whose checkpoint can not be opened is free again', async () => {
  const directory = newDirectory();
  writeFileSync(join(directory, 'log.2026-11-24'), linesOf(0, 10));
  const checkpoint = join(directory, '.millrace-ship', 'checkpoint.jsonl');
  mkdirSync(checkpoint, { recursive: true });
  await assert.rejects(shipOnce(directory), { code: 'MILLRACE_UNAVAILABLE', message: /EISDIR/ });
  rmSync(checkpoint, { recursive: true });
  assert.equal((await shipOnce(directory)).delivered, 10);
});

test('when the folder is lost, what is under way is answered and noted before the end', async () => {
  const directory = newDirectory();
  const moved = `${directory}-moved`;
  const stateDirectory = newDirectory();
  writeFileSync(join(directory, 'log.2026-11-24'), linesOf(0, 10));
  const held = await holdAnswers();
  const done = ship({
    directory,
    stateDirectory,
    url: held.url,
    appId: 'A',
    compress: 0,
    pollMs: LOOK_MS,
  });
  done.catch(() => undefined);
  await until(() => held.requests.length === 1, 'lines are on their way');
  renameSync(directory, moved);
  await delay(SOME_LOOKS_MS);
  held.answer();
  await assert.rejects(done, { code: 'MILLRACE_UNAVAILABLE', message: /ENOENT/ });
  held.close();
  renameSync(moved, directory);
  assert.equal((await shipOnce(directory, { stateDirectory })).delivered, 0);
});

test('marks that the disk did not take are written with the next, and a failed rewrite closes no other file', () => {
  const directory = newDirectory();
  const path = join(directory, 'checkpoint.jsonl');
  const book = MarkBook.open(path);
  const mark = (id: number, offset: number): FileMark => {
    const text = { name: 'x'.repeat(1000), inode: '1:1', head: '' };
    return { id, offset, lines: 0, headBytes: 0, crc: 0, packedBytes: 0, ...text };
  };
  symlinkSync('/dev/full', `${path}.tmp`);
  let offset = 0;
  assert.throws(
    () => {
      for (; offset < 10_000; offset += 1) book.set(mark(1, offset));
    },
    { code: 'ENOSPC' },
  );
  const own = openSync(join(directory, 'other'), 'w');
  assert.throws(() => book.set(mark(1, 10_000)), { code: 'ENOSPC' });
  writeSync(own, 'still open');
  closeSync(own);
  rmSync(`${path}.tmp`);
  book.set(mark(2, 8));
  book.close();
  const offsets = [...MarkBook.open(path).marks].map((each) => [each.id, each.offset]);
  assert.deepEqual(offsets, [
    [1, 10_000],
    [2, 8],
  ]);
});

test('a file that is packed goes on where it stopped, and one without its last line end is whole', async () => {
  const directory = newDirectory();
  const path = join(directory, 'log.2026-11-24');
  writeFileSync(path, linesOf(0, 100));
  assert.equal((await shipOnce(directory)).delivered, 100);
  appendFileSync(path, linesOf(100, 150).trimEnd());
  writeFileSync(`${path}.gz`, gzipSync(readFileSync(path)));
  assert.equal((await shipOnce(directory)).delivered, 49, 'the plain file goes before its copy');
  rmSync(path);
  const account = await shipOnce(directory);
  assert.deepEqual([account.delivered, account.failedFiles], [1, 0]);
  assert.equal((await shipOnce(directory)).delivered, 0);
  const { unique, duplicates } = await receiver.snapshot();
  assert.deepEqual({ unique, duplicates }, { unique: 150, duplicates: 0 });
});

test('a packed file that is not complete waits, and is shipped when it is', async () => {
  const directory = newDirectory();
  const path = join(directory, 'log.2026-11-24.gz');
  const packed = gzipSync(linesOf(0, 20_000));
  writeFileSync(path, packed.subarray(0, packed.length - 20));
  const first = await shipOnce(directory, { onError: () => undefined });
  assert.equal(first.failedFiles, 1);
  writeFileSync(path, packed);
  await shipOnce(directory);
  const { unique, duplicates } = await receiver.snapshot();
  assert.deepEqual({ unique, duplicates }, { unique: 20_000, duplicates: 0 });
});

test('a new file that got the inode or the name of an old one is shipped from its beginning', async () => {
  const directory = newDirectory();
  const path = join(directory, 'log.2026-11-24');
  writeFileSync(path, linesOf(0, 100));
  assert.equal((await shipOnce(directory)).delivered, 100);
  // The same inode, as long as before, and other content.
  writeFileSync(path, linesOf(100, 200));
  assert.equal((await shipOnce(directory)).delivered, 100);
  rmSync(path);
  writeFileSync(path, linesOf(200, 350));
  assert.equal((await shipOnce(directory)).delivered, 150);
  const { unique, duplicates } = await receiver.snapshot();
  assert.deepEqual({ unique, duplicates }, { unique: 350, duplicates: 0 });
});

// Goal: the bound that docs/ship.md gives. Lines that were shipped between the copy and the cut may come twice, others never.
test('copytruncate loses no line of a copy or an original, and repeats none that was shipped before the copy', async () => {
  const directory = newDirectory();
  const path = join(directory, 'log.2026-11-24');
  const shipper = follow(directory);
  for (let round = 0; round < 3; round += 1) {
    const from = round * 200;
    appendFileSync(path, linesOf(from, from + 150));
    if (round > 0) await untilUnique(from + 150);
    appendFileSync(path, linesOf(from + 150, from + 200));
    copyFileSync(path, `${path}.${9 - round}`);
    truncateSync(path, 0);
  }
  appendFileSync(path, linesOf(600, 700));
  await untilUnique(700);
  const account = await shipper.stop();
  const { unique, duplicates } = await receiver.snapshot();
  assert.equal(unique, 700);
  assert.equal(duplicates, account.delivered - 700);
  assert.ok(duplicates <= 3 * 50, `${duplicates} lines came twice`);
  assert.equal((await shipOnce(directory)).delivered, 0);
});

test('two files with the same lines are two files', async () => {
  const directory = newDirectory();
  writeFileSync(join(directory, 'a.log.2026-11-24'), linesOf(0, 20));
  writeFileSync(join(directory, 'b.log.2026-11-24'), linesOf(0, 20));
  assert.equal((await shipOnce(directory)).delivered, 40);
  assert.equal((await receiver.snapshot()).unique, 20);
});

test('a second shipper on the folder is refused by name, also after a kill -9 the next one gets in', async () => {
  const directory = newDirectory();
  writeFileSync(join(directory, 'log.2026-11-24'), linesOf(0, 10));
  const child = fork(main, ['ship', directory, '--url', receiver.url, '--appid', 'A'], {
    stdio: 'ignore',
    execArgv: [],
  });
  await untilUnique(10);
  await assert.rejects(shipOnce(directory), {
    code: 'MILLRACE_UNAVAILABLE',
    message: new RegExp(`process ${child.pid}`),
  });
  child.kill('SIGKILL');
  await once(child, 'close');
  appendFileSync(join(directory, 'log.2026-11-24'), linesOf(10, 20));
  await shipOnce(directory);
  assert.equal((await receiver.snapshot()).unique, 20);
});

test('lines too long, blank, in other encodings and none at all never stop the rest', async () => {
  const directory = newDirectory();
  const long = `{"x":"${'y'.repeat(17 * 1024 * 1024)}"}\n`;
  const latin = Buffer.from(linesOf(5, 6).replace('"u"', '"\xe9"'), 'latin1');
  const windows = linesOf(6, 8).replaceAll('\n', '\r\n');
  const parts = [linesOf(0, 5), long, '\n', '  \r\n', latin, windows, '\0\0\0\n', linesOf(8, 10)];
  writeFileSync(
    join(directory, 'log.2026-11-24'),
    Buffer.concat(parts.map((part) => Buffer.from(part))),
  );
  writeFileSync(join(directory, 'log.2026-11-25'), '');
  const account = await shipOnce(directory);
  assert.deepEqual([account.delivered, account.bad, account.blank], [9, 3, 2]);
  assert.equal((await receiver.snapshot()).unique, 9);
  const kept = readFileSync(join(directory, '.millrace-ship', 'bad.jsonl'), 'utf8').trimEnd();
  const lines = kept
    .split('\n')
    .map((line) => JSON.parse(line) as { line: number; reason: string });
  assert.deepEqual(
    lines.map(({ line }) => line),
    [6, 9, 12],
  );
  assert.match(lines[0]?.reason ?? '', /longer than/);
  assert.match(lines[1]?.reason ?? '', /UTF-8/);
});

test('files that are done with are removed when they are old enough, others stay', async () => {
  const directory = newDirectory();
  const old = join(directory, 'log.2026-11-20');
  const torn = join(directory, 'log.2026-11-21');
  const fresh = join(directory, 'log.2026-11-24');
  writeFileSync(old, linesOf(0, 10));
  writeFileSync(torn, `${linesOf(10, 20)}{"#type":`);
  writeFileSync(fresh, linesOf(20, 30));
  const past = Date.now() / 1000 - 5 * 86_400;
  for (const path of [old, torn]) utimesSync(path, past, past);
  const account = await shipOnce(directory, { removeAfterDays: 2 });
  assert.equal(account.removedFiles, 1);
  assert.deepEqual(
    readdirSync(directory).filter((name) => name.startsWith('log')),
    ['log.2026-11-21', 'log.2026-11-24'],
  );
  assert.equal((await receiver.snapshot()).unique, 30);
});

test('a shipper with its state elsewhere leaves word in the folder: a writer removes nothing before it is shipped', async () => {
  const directory = newDirectory();
  const stateDirectory = newDirectory();
  const names = ['log.2020-01-01', 'log.2020-01-02', 'log.2020-01-03'];
  names.forEach((name, index) => {
    writeFileSync(join(directory, name), linesOf(index * 10, index * 10 + 10));
    const seconds = Date.UTC(2020, 0, index + 1) / 1000;
    utimesSync(join(directory, name), seconds, seconds);
  });
  const [first = '', second = ''] = names;
  const left = () => readdirSync(directory).filter((name) => names.includes(name));
  const keep = async () => {
    const ta = new Analytics(new LoggingConsumer({ directory, keepDays: 1 }));
    ta.track({ accountId: 'u', event: 'e' });
    await ta.flush();
    await until(() => !left().includes(first), 'what is shipped is removed');
    assertBalanced(await ta.close());
  };
  const account = await shipOnce(directory, { stateDirectory, match: /log\.2020-01-01$/ });
  assert.equal(account.delivered, 10);
  await keep();
  assert.deepEqual(left(), names.slice(1), 'what is not shipped stays');
  assert.equal((await shipOnce(directory, { stateDirectory })).delivered, 21);
  rmSync(join(directory, second));
  assert.equal((await receiver.snapshot()).duplicates, 0);
});

test('a writer removes no file that only has the inode of one that was shipped', async () => {
  const directory = newDirectory();
  const paths = ['log.2020-01-01', 'log.2020-01-02'].map((name) => join(directory, name));
  const [shipped = '', reused = ''] = paths;
  const writeOld = (path: string, text: string) => {
    writeFileSync(path, text);
    utimesSync(path, 1_577_836_800, 1_577_836_800);
  };
  for (const path of paths) writeOld(path, linesOf(0, 20));
  await shipOnce(directory, { ordering: 'file' });
  writeOld(reused, linesOf(20, 30));
  const ta = new Analytics(new LoggingConsumer({ directory, keepDays: 1 }));
  ta.track({ accountId: 'u', event: 'e' });
  await ta.flush();
  await until(() => !existsSync(shipped), 'what is shipped is removed');
  assertBalanced(await ta.close());
  assert.ok(existsSync(reused));
});

// Goal: F29, the two that happen between looks of a shipper that follows: packed and removed at once, and a new file on the old one's inode.
test('while a folder is followed, a file that is packed, and one that gets another’s inode, are shipped once', async () => {
  const directory = newDirectory();
  const path = join(directory, 'log.2026-11-24');
  const shipper = follow(directory);
  let written = 0;
  for (let round = 0; round < 5; round += 1) {
    writeFileSync(path, linesOf(written, written + 100));
    await untilUnique(written + 100);
    appendFileSync(path, linesOf(written + 100, written + 150));
    writeFileSync(`${path}_${round}.gz`, gzipSync(readFileSync(path)));
    rmSync(path);
    written += 150;
    await untilUnique(written);
  }
  for (let round = 0; round < 5; round += 1) {
    writeFileSync(path, linesOf(written, written + 80));
    written += 80;
    await untilUnique(written);
    const { ino } = statSync(path);
    rmSync(path);
    // Most file systems give a freed inode to the next file; where not, it is a file like any other.
    writeFileSync(path, linesOf(written, written + 80));
    written += 80;
    await untilUnique(written);
    if (statSync(path).ino !== ino) rmSync(path);
  }
  const { delivered, lostBytes } = await shipper.stop();
  assert.deepEqual([delivered, lostBytes], [written, 0]);
  const { unique, duplicates } = await receiver.snapshot();
  assert.deepEqual({ unique, duplicates }, { unique: written, duplicates: 0 });
});

test('a rate is kept, several prefixes go side by side, and metrics tell files, lag and lines', async () => {
  const directory = newDirectory();
  for (let file = 0; file < 3; file += 1) {
    writeFileSync(
      join(directory, `p${file}.log.2026-11-24`),
      linesOf(file * 200, file * 200 + 200),
    );
  }
  const startMs = performance.now();
  let text = '';
  const port = 40_000 + (process.pid % 20_000);
  const account = await shipOnce(directory, {
    rate: 1000,
    batchSize: 50,
    metricsPort: port,
    onProgress: () => {
      fetch(`http://127.0.0.1:${port}/metrics`).then(async (reply) => {
        text = await reply.text();
      }, ignore);
    },
  });
  const seconds = (performance.now() - startMs) / 1000;
  assert.equal(account.delivered, 600);
  assert.ok(seconds >= 0.4, `600 records at 1000 a second took ${seconds} s`);
  for (const { name } of SHIP_CATALOGUE) assert.match(text, new RegExp(`^# TYPE ${name} `, 'm'));
  assert.match(text, /millrace_ship_files\{state="waiting"\} \d/);
});

test('a folder that is not there is told of, and not made', async () => {
  const directory = join(newDirectory(), 'a-slip');
  await assert.rejects(shipOnce(directory), {
    code: 'MILLRACE_UNAVAILABLE',
    message: /a-slip can't be shipped: ENOENT/,
  });
  assert.equal(existsSync(directory), false);
});

test('wrong options are told all at once', async () => {
  const wrong = { directory: 'x', url: 'nonsense', appId: '', batchSize: 0, bogus: 1 };
  await assert.rejects(ship(wrong as unknown as ShipOptions), {
    code: 'MILLRACE_OPTIONS',
    message: /url.*appId.*batchSize.*bogus/,
  });
});

function ignore(): void {
  // The endpoint may be gone by then.
}

/** First cells of the table below a heading of docs/ship.md. */
function documented(heading: string): string[] {
  const text = readFileSync(join(repositoryRoot(), 'docs', 'ship.md'), 'utf8');
  const section = text.slice(text.indexOf(heading)).split('\n#')[0] ?? '';
  return [...section.matchAll(/^\| `([^`]+)`/gm)].map(([, name = '']) => name);
}

test('docs/ship.md names exactly the options and the metrics there are', async () => {
  const error: unknown = await ship({ no_such_option: 1 } as unknown as ShipOptions).catch(
    (reason: unknown) => reason,
  );
  const known = /known are ([\w, ]+)/.exec(String(error))?.[1] ?? '';
  assert.deepEqual(documented('### Options').sort(), known.split(', '));
  assert.deepEqual(
    documented('### Metrics'),
    SHIP_CATALOGUE.map(({ name }) => name),
  );
});
