import assert from 'node:assert/strict';
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import type { Analytics } from '../../src/index.ts';
import { freePort } from '../prometheus-process.ts';
import { assertBalanced, TestReceiver } from '../support.ts';
import {
  assertNoLoss,
  type Drill,
  type DrillTools,
  delay,
  type Finding,
  MIB,
  quantile,
} from './drill.ts';
import type { ScrapeOrder, ScrapeReport } from './scraper.ts';
import { open, trackOne } from './stage.ts';

/** A process that scrapes, as Prometheus would. */
class Scraper {
  readonly #child = fork(fileURLToPath(new URL('./scraper.js', import.meta.url)), {
    execArgv: [],
  });

  async run(order: ScrapeOrder): Promise<ScrapeReport> {
    const answer = once(this.#child, 'message');
    this.#child.send(order);
    const [report] = (await answer) as [ScrapeReport];
    return report;
  }

  async stop(): Promise<void> {
    const ended = once(this.#child, 'close');
    this.#child.kill();
    await ended;
  }
}

const EVERY_MS = 10;
const TICK_MS = 10;
/** Records between two looks of the event loop at what else there is to do. */
const BURST = 200;

/** Numbers of records, from one window to the next. */
interface Counter {
  next: number;
}

/** What came of a window. */
interface Load {
  /** Records delivered a second. */
  readonly rate: number;
  /** Processor time of this process, workers included, by record, in ns. */
  readonly recordNs: number;
}

/** Tracks for so long: as fast as records leave, or so many a second. */
async function load(
  ta: Analytics,
  counter: Counter,
  { forMs, aSecond }: { readonly forMs: number; readonly aSecond: number },
): Promise<Load> {
  const from = ta.stats().delivered;
  const cpu = process.cpuUsage();
  const startMs = performance.now();
  let now = startMs;
  for (let tracked = 0; now < startMs + forMs; now = performance.now()) {
    // Those of the tick that begins.
    const due = (aSecond * (now - startMs + TICK_MS)) / 1000;
    const end = Math.min(tracked + BURST, due);
    for (; tracked < end; tracked += 1, counter.next += 1) trackOne(ta, counter.next);
    if (tracked < due) await nextTurn();
    else await delay(TICK_MS);
  }
  const delivered = ta.stats().delivered - from;
  const { user, system } = process.cpuUsage(cpu);
  return {
    rate: (delivered / (now - startMs)) * 1000,
    recordNs: ((user + system) / delivered) * 1000,
  };
}

interface Windows {
  readonly pairs: number;
  readonly forMs: number;
  readonly aSecond: number;
}

interface Storm {
  /** Records a second: the median of the windows without scrapes. */
  readonly calmRate: number;
  /** Throughput with scrapes by that without, less 1, in per cent: the median of the pairs, and their quartiles. */
  readonly change: number;
  readonly quartiles: readonly [number, number];
  /** The same of processor time by record. */
  readonly costChange: number;
  readonly scrapes: number;
  readonly bytes: number;
  /** What the scraping process took of one processor, in per cent. */
  readonly scraperShare: number;
}

/** Windows with and without scrapes in turn, so that both see the same weather of the machine. */
async function storm(
  { ta, counter, scraper, url }: { ta: Analytics; counter: Counter; scraper: Scraper; url: string },
  { pairs, forMs, aSecond }: Windows,
): Promise<Storm> {
  const calmRates: number[] = [];
  const changes: number[] = [];
  const costChanges: number[] = [];
  const reports: ScrapeReport[] = [];
  for (let pair = 0; pair < pairs; pair += 1) {
    const calm = await load(ta, counter, { forMs, aSecond });
    const report = scraper.run({ url, everyMs: EVERY_MS, forMs });
    const stormy = await load(ta, counter, { forMs, aSecond });
    reports.push(await report);
    calmRates.push(calm.rate);
    changes.push((stormy.rate / calm.rate - 1) * 100);
    costChanges.push((stormy.recordNs / calm.recordNs - 1) * 100);
  }
  const sum = (read: (report: ScrapeReport) => number) =>
    reports.reduce((total, report) => total + read(report), 0);
  for (const { faults } of reports) assert.deepEqual(faults, []);
  return {
    calmRate: quantile(calmRates, 0.5),
    change: quantile(changes, 0.5),
    quartiles: [quantile(changes, 0.25), quantile(changes, 0.75)],
    costChange: quantile(costChanges, 0.5),
    scrapes: sum(({ scrapes }) => scrapes),
    bytes: sum(({ bytes }) => bytes),
    scraperShare: (sum(({ cpuMs }) => cpuMs) / (pairs * forMs)) * 100,
  };
}

const CHANGE_MIN = -3;
const WARM_UP_MS = 5000;
/** Of the most that the machine does: a rate that it sustains, with a fifth of its time left. */
const SUSTAINED_SHARE = 0.8;

/** Lanes and batches that keep all workers at work, whatever the ids: what then limits the engine is its processor. */
const BUSY = { overflow: 'block', lanes: 8, ringBytes: 4 * MIB, batchSize: 1000 } as const;

/** Real scrapes by another process, of an engine at a high rate, and of one that has all the work it can do. */
async function scraped({ pick }: DrillTools): Promise<Finding> {
  // It only counts: one that checked each record would be what limits the rate, whatever the engine does.
  const receiver = await TestReceiver.start(['--appid', 'A', '--mode', 'count']);
  const port = await freePort();
  const url = `http://127.0.0.1:${port}/metrics`;
  const ta = open(receiver, BUSY, { metricsServer: { port } });
  const scraper = new Scraper();
  const windows = {
    forMs: pick({ quick: 500, usual: 1500, full: 10_000 }),
    pairs: pick({ quick: 3, usual: 15, full: 15 }),
  };
  const stage = { ta, counter: { next: 0 }, scraper, url };
  await load(ta, stage.counter, { forMs: WARM_UP_MS, aSecond: Number.POSITIVE_INFINITY });
  const full = await storm(stage, { ...windows, aSecond: Number.POSITIVE_INFINITY });
  const high = await storm(stage, { ...windows, aSecond: full.calmRate * SUSTAINED_SHARE });
  await scraper.stop();
  const stats = await ta.close();
  const { records: arrived } = await receiver.snapshot();
  await receiver.stop();
  assertBalanced(stats);
  const scrapes = full.scrapes + high.scrapes;
  const kilobytes = Math.round((full.bytes + high.bytes) / scrapes / 1000);
  const share = `${SUSTAINED_SHARE * 100} % of what the machine does`;
  const measured = `${scrapes} scrapes of ${kilobytes} KB by another process, 100 a second, each added up to the record (imbalance 0); ${windows.pairs} pairs of windows of ${windows.forMs / 1000} s without and with scrapes: at ${share}, ${wordsOf(high)}; for comparison, at all that the two processors do (engine, scraping process and receiver share them), ${wordsOf(full)}`;
  assert.ok(high.change >= CHANGE_MIN, measured);
  const finding = { enqueued: stats.accepted, arrived, dropped: {}, duplicates: 0, measured };
  return assertNoLoss(finding);
}

function wordsOf({ calmRate, change, quartiles, costChange, scraperShare }: Storm): string {
  const [low, high] = quartiles.map((value) => value.toFixed(1));
  return `${Math.round(calmRate / 1000)} 000 records a second, throughput ${change.toFixed(1)} % (quartiles ${low} and ${high}), processor time of the engine by record ${costChange.toFixed(1)} %, the scraping process ${scraperShare.toFixed(1)} % of a processor`;
}

/** What becomes of those who watch. */
export const WATCH_DRILLS: readonly Drill[] = [
  {
    row: 'F33',
    id: 'F33',
    fault: 'scraped 100 times a second under load',
    promise: 'each scrape adds up; all arrive',
    run: scraped,
  },
];
