import { execFileSync } from 'node:child_process';
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { Analytics, AsyncBatchConsumer, LoggingConsumer, type Stats } from '../../src/index.ts';
import { freePort, TestPrometheus } from '../prometheus-process.ts';
import { assertBalanced, newDirectory, TestReceiver } from '../support.ts';

/**
 * Two faults as somebody sees them who has nothing but Prometheus: the queries of the run-book, before, while and after. Prints
 * the tables of docs/fault-drill.md. Takes three minutes, a Prometheus, and the right to mount a tmpfs.
 */

interface Question {
  readonly name: string;
  readonly expr: string;
}

const HTTP_QUESTIONS: readonly Question[] = [
  { name: 'alerts firing or pending', expr: 'ALERTS' },
  {
    name: 'attempts in 30 s, by answer',
    expr: 'round(sum by (code) (increase(millrace_requests_total{client="http"}[30s]))) > 0',
  },
  { name: 'circuit', expr: 'millrace_circuit_state{client="http"}' },
  {
    name: 'accepted a second',
    expr: 'sum(rate(millrace_records_accepted_total{client="http"}[5s]))',
  },
  {
    name: 'delivered a second',
    expr: 'sum(rate(millrace_records_delivered_total{client="http"}[5s]))',
  },
  { name: 'oldest record, s', expr: 'max(millrace_oldest_record_age_seconds{client="http"})' },
  { name: 'in the ring', expr: 'millrace_queue_records{client="http"}' },
  { name: 'on disk', expr: 'millrace_spool_records{client="http"}' },
  {
    name: 'spool used, share',
    expr: 'millrace_spool_bytes{client="http"} / millrace_spool_capacity_bytes',
  },
  {
    name: 'minutes until it is full',
    expr: 'instance:millrace_spool_full:seconds{client="http"} / 60',
  },
  { name: 'dropped', expr: 'sum(millrace_records_dropped_total{client="http"})' },
  { name: 'imbalance', expr: 'millrace_ledger_imbalance_records{client="http"}' },
];

const FILE_QUESTIONS: readonly Question[] = [
  { name: 'alerts firing or pending', expr: 'ALERTS' },
  {
    name: 'failed appends in 30 s',
    expr: 'round(increase(millrace_requests_total{client="files",code="disk"}[30s]))',
  },
  {
    name: 'retries in 30 s, by reason',
    expr: 'round(sum by (reason) (increase(millrace_retries_total{client="files"}[30s]))) > 0',
  },
  {
    name: 'written, bytes a second',
    expr: 'sum(rate(millrace_file_written_bytes_total{client="files"}[5s]))',
  },
  { name: 'oldest record, s', expr: 'max(millrace_oldest_record_age_seconds{client="files"})' },
  {
    name: 'ring used, share',
    expr: 'millrace_queue_bytes{client="files"} / millrace_queue_capacity_bytes',
  },
  { name: 'dropped', expr: 'sum(millrace_records_dropped_total{client="files"})' },
  { name: 'imbalance', expr: 'millrace_ledger_imbalance_records{client="files"}' },
];

/** Answers by moment: a column each. */
class Readings {
  readonly #prometheus: TestPrometheus;
  readonly #questions: readonly Question[];
  readonly #rows: string[][];
  readonly #moments: string[] = [];

  constructor(prometheus: TestPrometheus, questions: readonly Question[]) {
    this.#prometheus = prometheus;
    this.#questions = questions;
    this.#rows = questions.map(({ name }) => [name]);
  }

  async take(moment: string): Promise<void> {
    this.#moments.push(moment);
    for (const [index, { expr }] of this.#questions.entries()) {
      const series = await this.#prometheus.query(expr);
      const texts = series.map(({ metric, value: [, value] }) => {
        if (expr === 'ALERTS') return `${metric.alertname} (${metric.alertstate})`;
        const label = metric.code ?? metric.reason;
        const number = String(Number(Number(value).toPrecision(3)));
        return label === undefined ? number : `${label}: ${number}`;
      });
      this.#rows[index]?.push([...new Set(texts)].join(', ') || '–');
    }
  }

  print(title: string): void {
    console.log(`\n${title}\n\n| | ${this.#moments.join(' | ')} |`);
    console.log(`|---|${this.#moments.map(() => '---|').join('')}`);
    for (const row of this.#rows) console.log(`| ${row.join(' | ')} |`);
    console.log('\n```promql');
    for (const { name, expr } of this.#questions) console.log(`${expr}  # ${name}`);
    console.log('```');
  }
}

/** Calls `track` some thousand times a second, until stopped. */
function play(clients: readonly Analytics[], aSecond: number): () => void {
  const timer = setInterval(() => {
    for (let index = 0; index < aSecond / 20; index += 1) {
      const fields = {
        accountId: `u${index}`,
        event: 'e',
        properties: { index, text: 'x'.repeat(200) },
      };
      for (const client of clients) client.track(fields);
    }
  }, 50);
  return () => clearInterval(timer);
}

async function deadReceiver(): Promise<Stats> {
  const receiver = await TestReceiver.start();
  const port = await freePort();
  const spool = { directory: newDirectory(), maxBytes: 64 * 1024 * 1024 };
  const ta = new Analytics(
    new AsyncBatchConsumer({ url: receiver.url, appId: 'A', workers: 1, queueSize: 20_000, spool }),
    { name: 'http', metricsServer: { port }, onError: () => {} },
  );
  const prometheus = await TestPrometheus.start(`127.0.0.1:${port}`);
  const readings = new Readings(prometheus, HTTP_QUESTIONS);
  const stop = play([ta], 1000);
  await delay(15_000);
  await readings.take('before');
  await receiver.setFaults([{ action: { kind: 'status', status: 503 } }]);
  await delay(10_000);
  await readings.take('10 s dead');
  await delay(50_000);
  await readings.take('60 s dead');
  await receiver.setFaults([]);
  await delay(5000);
  await readings.take('back for 5 s');
  await delay(25_000);
  await readings.take('back for 30 s');
  stop();
  const stats = await ta.close();
  const { unique } = await receiver.snapshot();
  if (unique !== stats.accepted) throw new Error(`${unique} arrived of ${stats.accepted}`);
  await prometheus.stop();
  await receiver.stop();
  readings.print('A receiver that answers 503 for a minute');
  return stats;
}

async function fullDisk(): Promise<Stats> {
  const directory = join(newDirectory(), 'small');
  mkdirSync(directory);
  execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=4m', 'tmpfs', directory]);
  const ballast = join(directory, 'ballast');
  const port = await freePort();
  const ta = new Analytics(
    new LoggingConsumer({ directory, maxSizeMb: 1, ringBytes: 8 * 1024 * 1024 }),
    { name: 'files', metricsServer: { port }, onError: () => {} },
  );
  const prometheus = await TestPrometheus.start(`127.0.0.1:${port}`);
  const readings = new Readings(prometheus, FILE_QUESTIONS);
  const stop = play([ta], 100);
  try {
    await delay(12_000);
    await readings.take('before');
    try {
      writeFileSync(ballast, Buffer.alloc(8 * 1024 * 1024));
    } catch {
      // The disk is full now, which is what the ballast is for.
    }
    await delay(10_000);
    await readings.take('10 s full');
    await delay(20_000);
    await readings.take('30 s full');
    rmSync(ballast);
    // The open circuit probes at most 30 s apart.
    await delay(35_000);
    await readings.take('room for 35 s');
    stop();
    const stats = await ta.close();
    readings.print('A full disk under the log files');
    return stats;
  } finally {
    stop();
    await ta.close();
    await prometheus.stop();
    execFileSync('umount', [directory]);
  }
}

for (const drill of [deadReceiver, fullDisk]) {
  const stats = await drill();
  assertBalanced(stats);
  console.log(`\naccount: ${JSON.stringify(stats)}`);
}
