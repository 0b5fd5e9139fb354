import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import {
  appendFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { Analytics, LoggingConsumer } from '../../src/index.ts';
import { CheckpointFile } from '../../src/spool/checkpoint.ts';
import { nodeFileSystem } from '../../src/spool/file-system.ts';
import { enumerateCrashPoints } from '../crash-points.ts';
import type { DiskPlan } from '../failing-disk-worker.ts';
import { MemoryDisk } from '../memory-disk.ts';
import { drain, openLane, recordsOf } from '../spool-lane.ts';
import { metricIn, newDirectory, until } from '../support.ts';
import {
  assertNoLoss,
  type Drill,
  type DrillTools,
  delay,
  type Finding,
  MIB,
  optionsOf,
  reconcile,
} from './drill.ts';
import { SmallDisk } from './small-disk.ts';
import { numbersIn, open, Receiver, Sender, trackOne } from './stage.ts';

const DEAD = [{ action: { kind: 'status', status: 503 } }] as const;
const KIB = 1024;

/** Ends a run of the spool at every call to the disk. Nothing is sent: records are those of the spool alone. */
async function crashPoints({ random, pick }: DrillTools): Promise<Finding> {
  const runs = pick({ quick: 3, usual: 40, full: 1000 });
  let [calls, points] = [0, 0];
  for (let run = 0; run < runs; run += 1) {
    const found = enumerateCrashPoints(random, { steps: 16, tearsMax: 6 });
    calls += found.calls;
    points += found.points;
  }
  const measured = `${runs} runs with ${calls} calls to the disk: ${points} ends (after each call, in the middle of each write; death or power cut with pages lost in any order), all recovered, none missing`;
  return { enqueued: points, arrived: points, dropped: {}, duplicates: 0, measured };
}

/** Fills a spool's disk or its names while the receiver is dead, frees it, and lets the receiver recover. */
async function diskFull(what: 'room' | 'names'): Promise<Finding> {
  const disk = SmallDisk.mount({ bytes: 16 * MIB, files: 400 });
  try {
    const receiver = await Receiver.start();
    await receiver.process.setFaults(DEAD);
    const directory = join(disk.directory, 'spool');
    const spool = { directory, maxBytes: 512 * MIB, segmentBytes: 64 * KIB };
    const ta = open(receiver, { ringBytes: MIB, lanes: 2, queueSize: 1e6, spool });
    let index = 0;
    const track = async (count: number) => {
      for (const end = index + count; index < end; index += 1) assert.ok(trackOne(ta, index));
      await delay(10);
    };
    while (ta.stats().spooled === 0) await track(500);
    if (what === 'room') disk.fill();
    else disk.fillNames();
    while ((await failuresOf(ta)) === 0) await track(200);
    assert.equal(ta.stats().imbalance, 0);
    const { spooled, queued } = ta.stats();
    // Space comes back: the rest finds room on disk or in the ring, and all goes out.
    disk.free();
    await track(1000);
    await until(() => ta.stats().spooled > spooled, 'the disk is used again');
    await receiver.process.setFaults([]);
    await until(() => ta.stats().spooled + ta.stats().queued === 0, 'all is delivered');
    const failures = await failuresOf(ta);
    const stats = await ta.close();
    await receiver.stop();
    const measured = `${failures} refusals counted disk_full, with ${spooled} records on disk and ${queued} kept in the ring`;
    return { ...assertNoLoss(reconcile(stats, receiver.numbers())), measured };
  } finally {
    disk.unmount();
  }
}

async function failuresOf(ta: Analytics, reason = 'disk_full'): Promise<number> {
  return metricIn(await ta.register.metrics(), 'millrace_retries_total', `reason="${reason}"`);
}

/** Log files on a disk that fills up: whole lines only, and the rest when there is room. */
async function logsFull(): Promise<Finding> {
  const disk = SmallDisk.mount({ bytes: MIB, files: 64 });
  try {
    const directory = join(disk.directory, 'logs');
    const silent = () => {
      // The account tells.
    };
    const consumer = new LoggingConsumer({ directory, maxSizeMb: 0.25, fsync: 'batch' });
    const ta = new Analytics(consumer, { uuid: true, onError: silent });
    let index = 0;
    while ((await failuresOf(ta)) === 0) {
      for (let burst = 0; burst < 200; burst += 1, index += 1) assert.ok(trackOne(ta, index));
      await delay(10);
    }
    const full = textIn(directory);
    assert.ok(full.endsWith('\n'), 'no partial line is left');
    for (const line of full.trimEnd().split('\n')) JSON.parse(line);
    // The disk is made larger.
    execFileSync('mount', ['-o', 'remount,size=16m', disk.directory]);
    await until(() => ta.stats().queued === 0, 'the rest is written');
    const failures = await failuresOf(ta);
    const stats = await ta.close();
    const text = textIn(directory);
    for (const line of text.trimEnd().split('\n')) JSON.parse(line);
    const finding = assertNoLoss(reconcile(stats, numbersIn(text)));
    assert.equal(finding.duplicates, 0);
    return { ...finding, measured: `${failures} appends counted disk_full; every line whole` };
  } finally {
    disk.unmount();
  }
}

function textIn(directory: string): string {
  return readdirSync(directory)
    .filter((name) => !name.startsWith('.'))
    .map((name) => readFileSync(join(directory, name), 'latin1'))
    .join('');
}

/** Kinds of work of the spool fail, one after the other, with each of the system's errors, while records keep coming. */
async function failing(
  { codes, works }: { codes: readonly DiskPlan['code'][]; works: readonly DiskPlan['work'][] },
  { pick }: DrillTools,
): Promise<Finding> {
  const planFile = join(newDirectory(), 'plan.json');
  const hits = () =>
    existsSync(`${planFile}.hits`) ? readFileSync(`${planFile}.hits`, 'utf8') : '';
  const receiver = await Receiver.start();
  const forMs = pick({ quick: 100, usual: 600, full: 10_000 });
  const options = optionsOf(receiver, {
    durability: 'spool-first',
    ringBytes: 64 * MIB,
    spool: { directory: newDirectory(), segmentBytes: 64 * KIB, fsync: 'batch' },
    workerFile: new URL('../failing-disk-worker.js', import.meta.url).pathname,
  });
  const job = { from: 0, perTick: 50, tickMs: 5, stopsAtSignal: true, end: 'close' } as const;
  const sender = new Sender({ options, ...job }, { env: { MILLRACE_TEST_DISK: planFile } });
  await sender.untilAccepted(1000);
  for (const code of codes) {
    for (const work of works) {
      writeFileSync(planFile, JSON.stringify({ code, work }));
      await until(() => hits().includes(`${work} ${code}`), `${work} meets ${code}`);
      await delay(forMs / 2);
      await receiver.process.setFaults(DEAD);
      await delay(forMs / 2);
      rmSync(planFile);
      await receiver.process.setFaults([]);
    }
  }
  sender.child.kill('SIGUSR2');
  const stats = await sender.finish();
  await receiver.stop();
  const finding = assertNoLoss(reconcile(stats, receiver.numbers()));
  const reason = codes.includes('ENOSPC') ? 'disk_full' : 'disk';
  const labels = `reason="${reason}"`;
  const counted = metricIn(sender.metrics, 'millrace_retries_total', labels);
  assert.ok(counted > 0, `counted ${reason}`);
  const failures = hits().trimEnd().split('\n').length;
  return {
    ...finding,
    measured: `${failures} calls to the disk failed; ${counted} pauses counted ${reason}`,
  };
}

/** With a receiver that is dead, the disk alone can keep a promise: none is given while syncing fails. */
async function syncFails(): Promise<Finding> {
  const planFile = join(newDirectory(), 'plan.json');
  const receiver = await Receiver.start();
  await receiver.process.setFaults(DEAD);
  const directory = newDirectory();
  writeFileSync(planFile, JSON.stringify({ code: 'EIO', work: 'sync' }));
  const options = optionsOf(receiver, {
    durability: 'spool-first',
    spool: { directory, fsync: 'batch' },
    workerFile: new URL('../failing-disk-worker.js', import.meta.url).pathname,
  });
  const job = { from: 0, to: 500, perTick: 500, tickMs: 5, tellsDurable: true } as const;
  const place = { env: { MILLRACE_TEST_DISK: planFile } };
  const sender = new Sender({ options, ...job, end: 'stay' }, place);
  await delay(2000);
  assert.equal(sender.durable, 0, 'nothing is promised while syncing fails');
  rmSync(planFile);
  await until(() => sender.durable === 500, 'it is on disk when syncing succeeds');
  await sender.kill();
  await receiver.process.setFaults([]);
  const stats = await open(receiver, { spool: { directory } }).close();
  await receiver.stop();
  const finding = assertNoLoss(reconcile(stats, receiver.numbers()));
  assert.equal(finding.enqueued, 500);
  const measured =
    'flush() did not resolve while fsync failed; killed after it did: all found on disk';
  return { ...finding, measured };
}

/** The whole disk becomes read-only, and writable again. */
async function readOnly(): Promise<Finding> {
  const disk = SmallDisk.mount({ bytes: 64 * MIB, files: 1000 });
  try {
    const receiver = await Receiver.start();
    const directory = join(disk.directory, 'spool');
    const ta = open(receiver, { durability: 'spool-first', spool: { directory } });
    for (let index = 0; index < 2000; index += 1) assert.ok(trackOne(ta, index));
    await until(() => ta.stats().queued + ta.stats().spooled === 0, 'all is delivered');
    await until(() => isMadeReadOnly(disk), 'no file is open for writing');
    for (let index = 2000; index < 4000; index += 1) assert.ok(trackOne(ta, index));
    await until(() => ta.stats().queued === 0, 'all is delivered from memory');
    disk.makeWritable();
    for (let index = 4000; index < 6000; index += 1) assert.ok(trackOne(ta, index));
    const stats = await ta.close();
    await receiver.stop();
    return assertNoLoss(reconcile(stats, receiver.numbers()));
  } finally {
    disk.unmount();
  }
}

function isMadeReadOnly(disk: SmallDisk): boolean {
  try {
    disk.makeReadOnly();
    return true;
  } catch {
    // The system refuses while a file is open for writing.
    return false;
  }
}

/** The folder gives way to a file: nothing can be written below it any more. */
async function folderGone(): Promise<Finding> {
  const receiver = await Receiver.start();
  const directory = join(newDirectory(), 'spool');
  mkdirSync(directory);
  const ta = open(receiver, { durability: 'spool-first', spool: { directory } });
  rmSync(directory, { recursive: true });
  writeFileSync(directory, 'in the way');
  for (let index = 0; index < 5000; index += 1) trackOne(ta, index);
  await until(() => ta.stats().queued + ta.stats().spooled === 0, 'all is delivered');
  const stats = await ta.close();
  await receiver.stop();
  assert.ok(existsSync(directory));
  return assertNoLoss(reconcile(stats, receiver.numbers()));
}

/** Leaves records in the spool of one lane; returns its segment files, oldest first. */
async function leaveRecords(
  receiver: Receiver,
  spool: { readonly directory: string; readonly segmentBytes?: number },
  { from, count }: { readonly from: number; readonly count: number },
): Promise<string[]> {
  await receiver.process.setFaults(DEAD);
  const ta = open(receiver, { lanes: 1, workers: 1, spool });
  for (let index = from; index < from + count; index += 1) assert.ok(trackOne(ta, index));
  await ta.flush();
  assert.equal((await ta.close({ timeoutMs: 1500 })).spooled, count);
  await receiver.process.setFaults([]);
  return segmentsIn(spool.directory);
}

function segmentsIn(directory: string): string[] {
  return readdirSync(directory, { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.seg'))
    .sort()
    .map((name) => join(directory, name));
}

async function flipped({ random, pick }: DrillTools): Promise<Finding> {
  const receiver = await Receiver.start();
  const directory = newDirectory();
  let enqueued = 0;
  let lost = 0;
  const rounds = pick({ quick: 3, usual: 30, full: 2000 });
  for (let round = 0; round < rounds; round += 1) {
    const [path = ''] = await leaveRecords(
      receiver,
      { directory },
      { from: round * 100, count: 100 },
    );
    const bytes = readFileSync(path);
    const at = random(bytes.length);
    bytes[at] = (bytes[at] ?? 0) ^ (1 << random(8));
    writeFileSync(path, bytes);
    const stats = await open(receiver, { workers: 1, spool: { directory } }).close();
    assert.equal(stats.imbalance, 0);
    assert.ok(stats.dropped.corrupt <= 1, 'the frame hit, no more');
    assert.equal(stats.delivered + stats.dropped.corrupt, stats.recovered);
    enqueued += 100;
    lost += stats.dropped.corrupt;
  }
  await receiver.stop();
  const numbers = receiver.numbers();
  const arrived = new Set(numbers).size;
  assert.equal(arrived, enqueued - lost);
  const duplicates = numbers.length - arrived;
  const measured = `${rounds} damaged files`;
  return { enqueued, arrived, dropped: { corrupt: lost }, duplicates, measured };
}

const EXHAUSTIVE_RECORDS = 256;

/** Each byte of a segment of 64 KiB in turn, one flipped bit; on a disk in memory, by the spool's own reader. */
async function flippedEverywhere({ random, pick }: DrillTools): Promise<Finding> {
  const texts = Array.from(
    { length: EXHAUSTIVE_RECORDS },
    (_, index) => `{"n":${index},"pad":"${'x'.repeat(200)}"}`,
  );
  const known = new Set(texts);
  const step = pick({ quick: 97, usual: 3, full: 1 });
  let [flips, lost] = [0, 0];
  let bytes = 1;
  for (let at = 0; at < bytes; at += step) {
    const disk = new MemoryDisk();
    const { fileSystem } = disk;
    fileSystem.makeDirectory('/run', 0o700);
    const options = { fileSystem, segmentBytes: MIB };
    const writer = openLane('/run', options);
    writer.append(recordsOf(texts));
    writer.save();
    writer.leave();
    const name = fileSystem.list('/run/lane-000').find((one) => one.endsWith('.seg'));
    const path = `/run/lane-000/${name}`;
    bytes = fileSystem.bytesOf(path);
    const fd = fileSystem.open(path, 'update');
    const byte = new Uint8Array(1);
    fileSystem.read(fd, byte, at);
    byte[0] = (byte[0] ?? 0) ^ (1 << random(8));
    fileSystem.write(fd, byte, at);
    const found = drain(openLane('/run', options));
    for (const text of found.texts) assert.ok(known.has(text), `byte ${at} made ${text}`);
    assert.ok(found.lost <= 1, `byte ${at} cost ${found.lost} records`);
    assert.equal(found.texts.length + found.lost, EXHAUSTIVE_RECORDS, `byte ${at}`);
    flips += 1;
    lost += found.lost;
  }
  assert.ok(bytes >= 60 * KIB, `the segment has ${bytes} bytes`);
  const measured = `${flips} flips of a bit, in every ${step === 1 ? '' : `${step}th `}byte of a segment of ${bytes} bytes; never more than the frame hit`;
  const enqueued = flips * EXHAUSTIVE_RECORDS;
  return {
    enqueued,
    arrived: enqueued - lost,
    dropped: { corrupt: lost },
    duplicates: 0,
    measured,
  };
}

type Damage = 'truncated' | 'zero tail' | 'missing' | 'cursor ahead' | 'no cursor';

const LEFT = 3000;

/** Damages the middle or the end of a spool of many segments. */
const DAMAGES: Readonly<
  Record<Damage, (segments: readonly string[], random: (below: number) => number) => void>
> = {
  truncated: (segments, random) => {
    const path = segments[random(segments.length)] ?? '';
    truncateSync(path, random(statSync(path).size));
  },
  'zero tail': (segments) => appendFileSync(segments.at(-1) ?? '', Buffer.alloc(10_000)),
  missing: (segments, random) => rmSync(segments[1 + random(segments.length - 2)] ?? ''),
  'cursor ahead': (segments) => {
    const folder = dirname(segments[0] ?? '');
    const file = new CheckpointFile(folder, nodeFileSystem, { mode: 0o600, sync: 'sync' });
    const saved = file.read();
    assert.ok(saved !== undefined, 'there is a checkpoint');
    // The data of the youngest segments was never synced, the checkpoint was.
    for (const path of segments.slice(-3)) rmSync(path);
    file.write({ ...saved, settled: LEFT - 1 }, 'sync');
  },
  'no cursor': (segments) => rmSync(join(dirname(segments[0] ?? ''), 'checkpoint')),
};

async function damaged(damage: Damage, { random, pick }: DrillTools): Promise<Finding> {
  const rounds = pick({ quick: 1, usual: 3, full: 50 });
  const receiver = await Receiver.start();
  let [enqueued, lost, uncounted] = [0, 0, 0];
  for (let round = 0; round < rounds; round += 1) {
    const directory = newDirectory();
    const spool = { directory, segmentBytes: 64 * KIB };
    const from = round * 2 * LEFT;
    const segments = await leaveRecords(receiver, spool, { from, count: LEFT });
    assert.ok(segments.length > 4, `${segments.length} segments`);
    DAMAGES[damage](segments, random);
    const ta = open(receiver, { spool });
    for (let index = from + LEFT; index < from + LEFT + 1000; index += 1) trackOne(ta, index);
    const stats = await ta.close();
    assert.equal(stats.imbalance, 0);
    assert.equal(stats.spooled + stats.queued, 0, 'it went on to the end');
    assert.equal(stats.delivered + stats.dropped.corrupt, stats.accepted + stats.recovered);
    enqueued += LEFT + 1000;
    lost += stats.dropped.corrupt;
    uncounted += LEFT - stats.recovered;
  }
  await receiver.stop();
  const numbers = receiver.numbers();
  const arrived = new Set(numbers).size;
  assert.equal(arrived, enqueued - lost - uncounted);
  const names = { corrupt: lost, settled: uncounted };
  const dropped = Object.fromEntries(Object.entries(names).filter(([, count]) => count > 0));
  return {
    enqueued,
    arrived,
    dropped,
    duplicates: numbers.length - arrived,
    measured: `${rounds} spools opened, counted, and went on with 1000 new records each`,
  };
}

/** What becomes of disks. */
export const DISK_DRILLS: readonly Drill[] = [
  {
    row: 'F20',
    id: 'F20',
    fault: 'the spool ends at every call to the disk, by death or power cut',
    promise: 'what was synced is found',
    run: crashPoints,
  },
  {
    row: 'F21',
    id: 'F21a',
    fault: "the spool's disk is full, then has room again",
    promise: 'all arrive',
    run: () => diskFull('room'),
  },
  {
    row: 'F21',
    id: 'F21b',
    fault: "the spool's disk takes no new file (rotation), then does again",
    promise: 'all arrive',
    run: () => diskFull('names'),
  },
  {
    row: 'F21',
    id: 'F21c',
    fault: 'ENOSPC in an append, in the checkpoint, in a new segment',
    promise: 'all arrive',
    run: (tools) => failing({ codes: ['ENOSPC'], works: ['append', 'cursor', 'rotation'] }, tools),
  },
  {
    row: 'F21',
    id: 'F21d',
    fault: 'the disk of the log files is full, then larger',
    promise: 'all are written, whole lines only',
    run: logsFull,
  },
  {
    row: 'F22',
    id: 'F22a',
    fault: 'EIO, EROFS, EACCES, EMFILE in appends, checkpoints, new segments and syncs',
    promise: 'all arrive',
    run: (tools) =>
      failing(
        {
          codes: ['EIO', 'EROFS', 'EACCES', 'EMFILE'],
          works: ['append', 'cursor', 'rotation', 'sync'],
        },
        tools,
      ),
  },
  {
    row: 'F22',
    id: 'F22b',
    fault: 'fsync fails while the receiver is dead, `spool-first`',
    promise: 'nothing is promised meanwhile; all arrive',
    run: syncFails,
  },
  {
    row: 'F22',
    id: 'F22c',
    fault: 'the disk becomes read-only, then writable',
    promise: 'all arrive, from memory meanwhile',
    run: readOnly,
  },
  {
    row: 'F22',
    id: 'F22d',
    fault: "the spool's folder is replaced by a file",
    promise: 'all arrive, from memory',
    run: folderGone,
  },
  {
    row: 'F23',
    id: 'F23a',
    fault: 'a flipped bit in a segment, end to end',
    promise: 'no wrong record; the loss is counted',
    run: flipped,
  },
  {
    row: 'F23',
    id: 'F23b',
    fault:
      'a flipped bit in the bytes of a segment of 64 KiB, one after the other (all of them with --full)',
    promise: 'no wrong record; the loss is counted',
    run: flippedEverywhere,
  },
  ...(
    [
      ['F24a', 'truncated', 'a segment cut at a random place'],
      ['F24b', 'zero tail', 'zeros behind the end of the youngest segment'],
      ['F24c', 'missing', 'a segment in the middle is missing'],
      ['F24d', 'cursor ahead', 'the checkpoint is ahead of the data'],
      ['F24e', 'no cursor', 'the checkpoint is missing'],
    ] as const
  ).map(
    ([id, damage, fault]): Drill => ({
      row: 'F24',
      id,
      fault,
      promise: 'opens and goes on; the loss is counted',
      run: (tools) => damaged(damage, tools),
    }),
  ),
];
