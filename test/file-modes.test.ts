import assert from 'node:assert/strict';
import { readdirSync, statSync, utimesSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { after, before, test } from 'node:test';
import { Analytics, AsyncBatchConsumer, LoggingConsumer } from '../src/index.ts';
import { Upkeep } from '../src/sink/upkeep.ts';
import { assertBalanced, newDirectory, TestReceiver, until } from './support.ts';

// What is asked for is what is there: the umask takes nothing away.
const umask = process.umask(0);
let receiver: TestReceiver;

before(async () => {
  receiver = await TestReceiver.start();
  await receiver.setFaults([{ action: { kind: 'status', status: 503 } }]);
});
after(() => {
  process.umask(umask);
  return receiver.stop();
});

/** Permissions of all files with records, and of all folders, below a folder. A lock names a process and nothing else. */
function modesIn(directory: string): { files: Set<string>; folders: Set<string> } {
  const files = new Set<string>();
  const folders = new Set<string>();
  for (const entry of readdirSync(directory, { recursive: true, encoding: 'utf8' })) {
    if (basename(entry).startsWith('lock-')) continue;
    const facts = statSync(join(directory, entry));
    (facts.isDirectory() ? folders : files).add((facts.mode & 0o777).toString(8));
  }
  return { files, folders };
}

/** Fills a spool and a file of dead letters, and looks who may read them. */
async function spoolModes(modes: {
  spool?: object;
  deadLetterMode?: number;
}): Promise<{ spool: ReturnType<typeof modesIn>; letters: ReturnType<typeof modesIn> }> {
  const root = newDirectory();
  const directory = join(root, 'deep', 'spool');
  const letters = join(root, 'letters');
  const { spool, ...options } = modes;
  const ta = new Analytics(
    new AsyncBatchConsumer({
      url: receiver.url,
      appId: 'A',
      workers: 1,
      lanes: 1,
      batchSize: 10,
      retries: 0,
      durability: 'spool-first',
      spool: { directory, ...spool },
      deadLetter: join(letters, 'dead.jsonl'),
      ...options,
    }),
    { onError: () => {} },
  );
  for (let index = 0; index < 10; index += 1) ta.track({ accountId: 'u', event: 'e' });
  await until(() => ta.stats().dropped.expired === 10, 'all are dead letters');
  const found = { spool: modesIn(directory), letters: modesIn(root) };
  assertBalanced(await ta.close());
  return found;
}

test('spool and dead letters are for nobody else, folders included', async () => {
  const { spool, letters } = await spoolModes({});
  assert.deepEqual(spool, { files: new Set(['600']), folders: new Set(['700']) });
  assert.deepEqual(letters.files, new Set(['600']));
  assert.deepEqual(letters.folders, new Set(['700']));
});

test('spool and dead letters are for whom the options say', async () => {
  const { spool, letters } = await spoolModes({ spool: { mode: 0o640 }, deadLetterMode: 0o640 });
  assert.deepEqual(spool, { files: new Set(['640']), folders: new Set(['750']) });
  assert.deepEqual(letters.files, new Set(['640']));
  assert.deepEqual(letters.folders, new Set(['750']));
});

test('log files have the mode of the option, and a finished one keeps it when it is packed', async () => {
  const directory = newDirectory();
  for (const [mode, prefix] of [
    [undefined, 'all'],
    [0o600, 'own'],
  ] as const) {
    const ta = new Analytics(
      new LoggingConsumer({ directory, prefix, ...(mode === undefined ? {} : { mode }) }),
    );
    ta.track({ accountId: 'u', event: 'e' });
    assertBalanced(await ta.close());
  }
  const modeOf = (name: string) => statSync(join(directory, name)).mode & 0o777;
  const [all = '', own = ''] = readdirSync(directory)
    .filter((name) => !name.startsWith('.'))
    .sort();
  assert.equal(modeOf(all), 0o644);
  assert.equal(modeOf(own), 0o600);

  const old = 'log.2026-03-07';
  writeFileSync(join(directory, old), '{}\n', { mode: 0o600 });
  utimesSync(join(directory, old), 0, 0);
  await new Upkeep(directory, { packAfterMs: 1 }).run({ nowMs: Date.now(), period: '2026-03-08' });
  assert.equal(modeOf(`${old}.gz`), 0o600);
});
