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

/** Numbers of records, from one window to the next. */
interface Counter {
  next: number;
}

/** Tracks for so long: as fast as records leave, or so many a second. Returns the records delivered a second. */
async function load(
  ta: Analytics,
  counter: Counter,
  { forMs, aSecond }: { readonly forMs: number; readonly aSecond: number },
): Promise<number> {
  const from = ta.stats().delivered;
  const startMs = performance.now();
  let now = startMs;
  for (let tracked = 0; now < startMs + forMs; now = performance.now()) {
    const due = Math.min(tracked + 200, (aSecond * (now - startMs)) / 1000);
    for (; tracked < due; tracked += 1, counter.next += 1) trackOne(ta, counter.next);
    if (tracked + 200 > due) await delay(TICK_MS);
    else await nextTurn();
  }
  return ((ta.stats().delivered - from) / (now - startMs)) * 1000;
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
  const reports: ScrapeReport[] = [];
  for (let pair = 0; pair < pairs; pair += 1) {
    const calm = await load(ta, counter, { forMs, aSecond });
    const report = scraper.run({ url, everyMs: EVERY_MS, forMs });
    const stormy = await load(ta, counter, { forMs, aSecond });
    reports.push(await report);
    calmRates.push(calm);
    changes.push((stormy / calm - 1) * 100);
  }
  const sum = (read: (report: ScrapeReport) => number) =>
    reports.reduce((total, report) => total + read(report), 0);
  for (const { faults } of reports) assert.deepEqual(faults, []);
  return {
    calmRate: quantile(calmRates, 0.5),
    change: quantile(changes, 0.5),
    quartiles: [quantile(changes, 0.25), quantile(changes, 0.75)],
    scrapes: sum(({ scrapes }) => scrapes),
    bytes: sum(({ bytes }) => bytes),
    scraperShare: (sum(({ cpuMs }) => cpuMs) / (pairs * forMs)) * 100,
  };
}

const CHANGE_MIN = -3;

/** Lanes and batches that keep all workers at work, whatever the ids: what then limits the engine is its processor. */
const BUSY = { overflow: 'block', lanes: 8, ringBytes: 4 * MIB, batchSize: 1000 } as const;

/** Real scrapes by another process, of an engine that has all the work it can do, and of one that has half of that. */
async function scraped({ pick }: DrillTools): Promise<Finding> {
  // It only counts: one that checked each record would be what limits the rate, whatever the engine does.
  const receiver = await TestReceiver.start(['--appid', 'A', '--mode', 'count']);
  const port = await freePort();
  const url = `http://127.0.0.1:${port}/metrics`;
  const ta = open(receiver, BUSY, { metricsServer: { port } });
  const scraper = new Scraper();
  const windows = {
    forMs: pick({ quick: 500, usual: 2500, full: 10_000 }),
    pairs: pick({ quick: 3, usual: 9, full: 15 }),
  };
  const stage = { ta, counter: { next: 0 }, scraper, url };
  await storm(stage, { pairs: 1, forMs: windows.forMs, aSecond: Number.POSITIVE_INFINITY });
  const full = await storm(stage, { ...windows, aSecond: Number.POSITIVE_INFINITY });
  const half = await storm(stage, { ...windows, aSecond: full.calmRate / 2 });
  await scraper.stop();
  const stats = await ta.close();
  const { records: arrived } = await receiver.snapshot();
  await receiver.stop();
  assertBalanced(stats);
  const words = [full, half].map(wordsOf);
  const measured = `100 scrapes a second of ${Math.round(full.bytes / full.scrapes / 1000)} KB by another process, ${full.scrapes + half.scrapes} in all, each added up to the record (imbalance 0); pairs of windows of ${windows.forMs / 1000} s without and with scrapes, ${windows.pairs} each: throughput ${words[0]} with all the load that the two processes could take, ${words[1]} with half of it`;
  for (const { change } of [full, half]) {
    assert.ok(change >= CHANGE_MIN, `throughput ${change.toFixed(1)} %`);
  }
  const finding = { enqueued: stats.accepted, arrived, dropped: {}, duplicates: 0, measured };
  return assertNoLoss(finding);
}

function wordsOf({ calmRate, change, quartiles, scraperShare }: Storm): string {
  const [low, high] = quartiles.map((value) => value.toFixed(1));
  return `${change.toFixed(1)} % (quartiles ${low} and ${high}) at ${Math.round(calmRate / 1000)} 000 records a second (scraping took ${scraperShare.toFixed(1)} % of a processor)`;
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
