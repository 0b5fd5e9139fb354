import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import { SpoolFolder } from '../../src/spool/folder.ts';
import { SpoolLane } from '../../src/spool/lane.ts';
import { simulateOutage } from '../model/outage.ts';
import { recordsOf } from '../spool-lane.ts';
import { newDirectory, TestReceiver, until } from '../support.ts';
import {
  type Drill,
  type DrillTools,
  delay,
  type Finding,
  MIB,
  optionsOf,
  reconcile,
} from './drill.ts';
import { uuidOf } from './sender.ts';
import { peakBytesOf, Receiver, Sender } from './stage.ts';

const LANES = 4;
const RECORD_BYTES = 10_000;

/** Records of a backlog: the text of each as a sender would have put it there. */
function backlogText(index: number): string {
  const text = 'x'.repeat(RECORD_BYTES);
  return `{"#type":"track","#time":"2026-11-24 08:00:00.000","#event_name":"fault","#account_id":"u${index % 50}","#uuid":"${uuidOf(index)}","properties":{"index":${index},"text":"${text}"}}`;
}

/** Writes what an earlier run of a process left: so many segments of so many bytes, in four lanes. */
function makeBacklog(
  directory: string,
  { segments, segmentBytes }: { readonly segments: number; readonly segmentBytes: number },
): { records: number; bytes: number } {
  const folder = SpoolFolder.claim({ directory });
  const perSegment = Math.floor(segmentBytes / (RECORD_BYTES + 250));
  let [records, bytes, made] = [0, 0, 0];
  for (let number = 0; number < LANES; number += 1) {
    const lane = SpoolLane.open({
      directory: folder.directory,
      lane: number,
      segmentBytes,
      fsync: 'never',
      intervalMs: 0,
      settled: 0,
    });
    for (let segment = 0; segment < segments / LANES; segment += 1) {
      const texts = Array.from({ length: perSegment }, (_, at) => backlogText(records + at));
      assert.deepEqual(lane.append(recordsOf(texts, records)), { written: perSegment });
      records += perSegment;
    }
    bytes += lane.bytes;
    made += lane.segments;
    lane.close();
  }
  folder.release();
  assert.ok(Math.abs(made - segments) <= LANES, `${made} segments`);
  return { records, bytes };
}

const RSS_BYTES_MAX: number = 256 * MIB;
const DESCRIPTORS_MAX = 64;
const START_MS_MAX = 2000;

async function largeBacklog({ pick }: DrillTools): Promise<Finding> {
  const segments = pick({ quick: 200, usual: 2000, full: 10_000 });
  const segmentBytes = pick({ quick: 64 * 1024, usual: 256 * 1024, full: MIB });
  const directory = newDirectory();
  const { records, bytes } = makeBacklog(directory, { segments, segmentBytes });
  const receiver = await TestReceiver.start(['--appid', 'A']);
  const startMs = performance.now();
  const options = optionsOf(receiver, {
    ringBytes: 16 * MIB,
    timeoutMs: 30_000,
    spool: { directory, maxBytes: 64 * 1024 * MIB },
  });
  const job = { from: records, to: records, perTick: 1, tickMs: 1, end: 'stay' } as const;
  const sender = new Sender({ options, ...job });
  const unique = async () => (await receiver.snapshot()).unique;
  await until(async () => (await unique()) > 0, 'it ships');
  const startedMs = performance.now() - startMs;
  let peakBytes = 0;
  let descriptors = 0;
  while ((await unique()) < records && sender.child.exitCode === null) {
    peakBytes = peakBytesOf(sender.child.pid);
    const open = readdirSync(`/proc/${sender.child.pid}/fd`).length;
    descriptors = Math.max(descriptors, open);
    await delay(50);
  }
  const drainedMs = performance.now() - startMs;
  await until(() => sender.account.spooled === 0, 'the account says so, too');
  const stats = sender.account;
  await sender.kill();
  const { unique: arrived, duplicates } = await receiver.snapshot();
  await receiver.stop();
  assert.ok(startedMs <= START_MS_MAX, `shipping began after ${startedMs} ms`);
  assert.ok(peakBytes < RSS_BYTES_MAX, `${peakBytes} bytes of memory`);
  assert.ok(descriptors < DESCRIPTORS_MAX, `${descriptors} descriptors`);
  assert.deepEqual([stats.recovered, arrived, stats.imbalance], [records, records, 0]);
  const gib = (bytes / MIB / 1024).toFixed(2);
  const measured = `${gib} GiB in ${segments} segments; the first records arrived ${Math.round(startedMs)} ms after the process was started; peak ${(peakBytes / MIB).toFixed(0)} MB RSS, ${descriptors} descriptors; drained in ${(drainedMs / 1000).toFixed(0)} s`;
  return { enqueued: records, arrived, dropped: {}, duplicates, measured };
}

const SPOOL_BYTES: number = 64 * MIB;
const RING_BYTES: number = 16 * MIB;

/** Many times what the spool holds, as fast as it goes, while the receiver is dead. */
async function longOutage({ pick }: DrillTools): Promise<Finding> {
  const receiver = await Receiver.start();
  await receiver.process.setFaults([{ action: { kind: 'status', status: 503 } }]);
  const spool = { directory: newDirectory(), maxBytes: SPOOL_BYTES, segmentBytes: 4 * MIB };
  const options = optionsOf(receiver, { ringBytes: RING_BYTES, queueSize: 1e6, spool });
  const idle = new Sender({ options, from: 0, perTick: 1, tickMs: 200, end: 'stay' });
  await delay(2000);
  const idleBytes = peakBytesOf(idle.child.pid);
  await idle.kill();
  const records = pick({ quick: 200_000, usual: 3_000_000, full: 259_200_000 });
  const own = { ...options, spool: { ...spool, directory: newDirectory() } };
  const from = 1_000_000_000;
  const job = { from, to: from + records, perTick: 2000, tickMs: 0, end: 'close' } as const;
  const sender = new Sender({ options: own, ...job });
  const startMs = performance.now();
  await sender.untilAccepted(records);
  const tookMs = performance.now() - startMs;
  const peakBytes = peakBytesOf(sender.child.pid);
  await receiver.process.setFaults([]);
  const stats = await sender.finish();
  await receiver.stop();
  const numbers = receiver.numbers();
  const finding = reconcile(stats, numbers);
  const lost = stats.dropped.overflow_oldest;
  assert.equal(finding.arrived + lost, records);
  const over = peakBytes - idleBytes;
  assert.ok(over <= RING_BYTES + 64 * MIB, `${over} bytes more than idle`);
  const bytes = (stats.bytesRaw / finding.arrived) * records;
  const measured = `${(bytes / SPOOL_BYTES).toFixed(0)} times the spool of 64 MB in ${(tookMs / 1000).toFixed(0)} s; idle ${(idleBytes / MIB).toFixed(0)} MB, peak ${(peakBytes / MIB).toFixed(0)} MB RSS`;
  return { ...finding, measured };
}

/** The engine's own lanes, turns and spool with a clock that is moved by hand: three days. */
async function simulated({ random, pick }: DrillTools): Promise<Finding> {
  const perSecond = pick({ quick: 0.1, usual: 0.1, full: 10 });
  const hours = pick({ quick: 4, usual: 72, full: 72 });
  const found = await simulateOutage({ seed: random(1e9), hours, perSecond });
  const grown = found.rssBytesEnd - found.rssBytesStart;
  assert.ok(grown < 64 * MIB, `memory grew by ${grown} bytes`);
  const { enqueued, arrived, dropped, requests } = found;
  assert.equal(arrived + dropped, enqueued);
  const measured = `${hours} hours at ${perSecond} a second (simulated time, real lanes, turns and spool): ${requests} requests to the dead receiver, the longest pause between two ${(found.longestPauseMs / 1000).toFixed(0)} s, ${(grown / MIB).toFixed(0)} MB grown between the first hour and the last`;
  return { enqueued, arrived, dropped: { overflow_oldest: dropped }, duplicates: 0, measured };
}

/** What becomes of long outages and of what they leave. */
export const OUTAGE_DRILLS: readonly Drill[] = [
  {
    row: 'F25',
    id: 'F25',
    fault: 'a large backlog on disk (10 GB with --full)',
    promise: 'shipping begins at once, in bounded memory; all arrive',
    run: largeBacklog,
  },
  {
    row: 'L12',
    id: 'L12a',
    fault: 'the receiver is dead for 72 simulated hours',
    promise: 'bounded memory; what gave way is counted, all else arrives',
    run: simulated,
  },
  {
    row: 'L12',
    id: 'L12b',
    fault: 'the receiver is dead while many times the spool is tracked at full rate',
    promise: 'bounded memory; what gave way is counted, all else arrives',
    run: longOutage,
  },
];
