import { stringify } from 'yaml';

/** One alert, its paragraph for people, and a case in which it fires. */
export interface Alert {
  readonly name: string;
  readonly expr: string;
  /** How long it must hold. */
  readonly for: string;
  readonly severity: 'critical' | 'warning';
  readonly summary: string;
  /** What it means and what to do: a paragraph of docs/runbook.md. */
  readonly runbook: string;
  readonly fires: {
    /** Series in promtool's notation, one sample a minute. */
    readonly series: Readonly<Record<string, string>>;
    readonly at: string;
  };
}

const LABELS = 'client="default",consumer="async",instance="game-1"';
const FILES_LABELS = 'client="default",consumer="logging",instance="game-1"';

export const ALERTS: readonly Alert[] = [
  {
    name: 'MillraceLedgerImbalance',
    expr: 'abs(millrace_ledger_imbalance_records) > 0',
    for: '2m',
    severity: 'critical',
    summary: 'The account of records does not add up.',
    runbook:
      'Records were lost or counted twice without a reason: a fault of millrace itself. Keep the output of `ta.stats()` and the spool folder, and report it. Delivery goes on meanwhile.',
    fires: { series: { [`millrace_ledger_imbalance_records{${LABELS}}`]: '0 3x10' }, at: '5m' },
  },
  {
    name: 'MillraceRecordsDropped',
    expr: 'increase(millrace_records_dropped_total{reason!="invalid"}[5m]) > 0',
    for: '0m',
    severity: 'critical',
    summary: 'Records were given up: {{ $labels.reason }}.',
    runbook:
      '`overflow_newest` and `overflow_oldest`: more came in than the receiver took, and the ring (or the spool) was full; look at `millrace_requests_total` for what the receiver says, then give `ringBytes` or `spool` more room. `expired`: `retries` is a number and was used up. `shutdown`: `close()` ran out of time; raise its `timeoutMs` or add a `spool`. `corrupt`: see MillraceSpoolCorrupt.',
    fires: {
      series: {
        [`millrace_records_dropped_total{${LABELS},reason="overflow_newest"}`]: '0x4 7x10',
      },
      at: '6m',
    },
  },
  {
    name: 'MillraceInvalidCalls',
    expr: 'increase(millrace_records_dropped_total{reason="invalid"}[15m]) > 0',
    for: '0m',
    severity: 'warning',
    summary: 'The game makes wrong tracking calls.',
    runbook:
      "A call was refused for what it held. Under `validation: 'throw'` the exception names the field; under `'drop'` each kind is told once through `onError`. Fix the call.",
    fires: {
      series: { [`millrace_records_dropped_total{${LABELS},reason="invalid"}`]: '0x4 2x10' },
      at: '6m',
    },
  },
  {
    name: 'MillraceDeliveryStalled',
    expr: 'millrace_oldest_record_age_seconds > 120',
    for: '2m',
    severity: 'critical',
    summary: 'Records in the {{ $labels.stage }} have waited for {{ $value | humanizeDuration }}.',
    runbook:
      'Nothing leaves, whatever the cause. Look at `millrace_circuit_state` and `millrace_requests_total` (is the receiver there, and what does it answer?), at `millrace_worker_heartbeat_age_seconds` (do the workers live?), and at the file system for log files. During an outage of the receiver this is expected; see how long ring and spool last.',
    fires: {
      series: { [`millrace_oldest_record_age_seconds{${LABELS},stage="queue"}`]: '0 60+60x20' },
      at: '8m',
    },
  },
  {
    name: 'MillraceNoSuccess',
    expr: 'time() - millrace_last_success_timestamp_seconds > 300 and on(client, consumer, instance) rate(millrace_records_accepted_total[5m]) > 0',
    for: '1m',
    severity: 'critical',
    summary: 'No batch was acknowledged for five minutes, though records come in.',
    runbook:
      'As MillraceDeliveryStalled, but it also sees a receiver that has never answered since the start: check `url`, `appId`, proxy and certificates; `onError` and the process warnings have the words of the receiver.',
    fires: {
      series: {
        [`millrace_last_success_timestamp_seconds{${LABELS}}`]: '0x30',
        [`millrace_records_accepted_total{${LABELS}}`]: '0+100x30',
      },
      at: '10m',
    },
  },
  {
    name: 'MillraceQueueHigh',
    expr: 'millrace_queue_bytes / millrace_queue_capacity_bytes > 0.8',
    for: '5m',
    severity: 'warning',
    summary: 'The ring is {{ $value | humanizePercentage }} full.',
    runbook:
      'Records come faster than they leave. If `millrace_worker_busy_seconds_total` rises by nearly a second a second for each worker, add `workers`; if requests are slow, raise `batchSize` or `connections`; if the receiver fails, this is the time it has left before records are dropped or go to the spool.',
    fires: {
      series: {
        [`millrace_queue_bytes{${LABELS}}`]: '90x20',
        [`millrace_queue_capacity_bytes{${LABELS}}`]: '100x20',
      },
      at: '10m',
    },
  },
  {
    name: 'MillraceSpoolFillingUp',
    expr: 'millrace_spool_capacity_bytes > 0 and predict_linear(millrace_spool_bytes[30m], 4 * 3600) > millrace_spool_capacity_bytes',
    for: '10m',
    severity: 'warning',
    summary: 'The spool will be full within four hours.',
    runbook:
      'The receiver has been away for a while. Mend it, or raise `spool.maxBytes` while the disk has room. When the spool is full its oldest records are dropped and counted.',
    fires: {
      series: {
        [`millrace_spool_bytes{${LABELS}}`]: '0+1000x60',
        [`millrace_spool_capacity_bytes{${LABELS}}`]: '100000x60',
      },
      at: '50m',
    },
  },
  {
    name: 'MillraceSpoolAlmostFull',
    expr: 'millrace_spool_bytes / (millrace_spool_capacity_bytes > 0) > 0.8',
    for: '5m',
    severity: 'critical',
    summary: 'The spool is {{ $value | humanizePercentage }} full.',
    runbook: 'As MillraceSpoolFillingUp, and soon.',
    fires: {
      series: {
        [`millrace_spool_bytes{${LABELS}}`]: '90x20',
        [`millrace_spool_capacity_bytes{${LABELS}}`]: '100x20',
      },
      at: '10m',
    },
  },
  {
    name: 'MillraceSpoolCorrupt',
    expr: 'increase(millrace_recovery_corrupt_records_total[1h]) > 0',
    for: '0m',
    severity: 'warning',
    summary: 'Damage took records from the spool.',
    runbook:
      'The disk gave back other bytes than were written, or files were changed or removed from outside. No wrong record was delivered; the damaged ones are counted as dropped. `npx millrace spool verify DIR` tells where; check the disk.',
    fires: {
      series: { [`millrace_recovery_corrupt_records_total{${LABELS}}`]: '0x4 2x10' },
      at: '6m',
    },
  },
  {
    name: 'MillraceRateLimited',
    expr: 'rate(millrace_requests_total{code="429"}[5m]) > 0',
    for: '10m',
    severity: 'warning',
    summary: 'The receiver asks to slow down.',
    runbook:
      'The receiver answers 429; all workers wait as long as its `Retry-After` says. Ask its owner for a higher limit, or send larger batches (`batchSize`, `lingerMs`).',
    fires: {
      series: { [`millrace_requests_total{${LABELS},code="429"}`]: '0+5x30' },
      at: '20m',
    },
  },
  {
    name: 'MillraceRecordsRejected',
    expr: 'increase(millrace_records_rejected_total[15m]) > 0',
    for: '0m',
    severity: 'warning',
    summary: 'The receiver refused records for good.',
    runbook:
      'The content of records is wrong in the eyes of the receiver; `onError` has its words, and the file named by `deadLetter` has the records, one a line with the reason. Their neighbours were delivered.',
    fires: {
      series: { [`millrace_records_rejected_total{${LABELS}}`]: '0x4 2x10' },
      at: '6m',
    },
  },
  {
    name: 'MillraceCircuitOpen',
    expr: 'millrace_circuit_state == 2',
    for: '5m',
    severity: 'warning',
    summary: 'The receiver has failed so often that it is only probed now and then.',
    runbook:
      'Five attempts in a row failed. One worker probes with growing pauses of at most 30 s; the first success opens the way for all. See MillraceDeliveryStalled.',
    fires: { series: { [`millrace_circuit_state{${LABELS}}`]: '2x20' }, at: '10m' },
  },
  {
    name: 'MillraceWorkerCrashLoop',
    expr: 'increase(millrace_worker_restarts_total[10m]) > 3',
    for: '0m',
    severity: 'critical',
    summary: 'Worker threads die again and again.',
    runbook:
      'Each dead thread is replaced and its batch sent again, so nothing is lost, but work is repeated. `onError` hears `MILLRACE_WORKER` with the cause: out of memory, a worker file that does not load, or a sink of your own that throws.',
    fires: { series: { [`millrace_worker_restarts_total{${FILES_LABELS}}`]: '0+1x20' }, at: '12m' },
  },
  {
    name: 'MillraceTrackSlow',
    expr: 'histogram_quantile(0.99, sum by (instance, client, consumer, le) (rate(millrace_track_duration_seconds_bucket[5m]))) > 0.00005',
    for: '10m',
    severity: 'warning',
    summary: 'Tracking calls take {{ $value | humanizeDuration }} at the 99th percentile.',
    runbook:
      "Usually very large records, properties whose names change with every call (each new list of names is checked once), or callers held by `overflow: 'block'` (`millrace_backpressure_seconds_total`). A busy machine shows here, too.",
    fires: {
      series: {
        [`millrace_track_duration_seconds_bucket{${LABELS},le="0.00005"}`]: '0+10x40',
        [`millrace_track_duration_seconds_bucket{${LABELS},le="0.0001"}`]: '0+100x40',
        [`millrace_track_duration_seconds_bucket{${LABELS},le="+Inf"}`]: '0+100x40',
      },
      at: '20m',
    },
  },
  {
    name: 'MillraceAbsent',
    expr: 'absent(millrace_workers_configured)',
    for: '5m',
    severity: 'warning',
    summary: 'No game server reports any more.',
    runbook:
      'Prometheus scrapes nobody who has millrace: servers are down, the scrape target is wrong, or the registry is not served.',
    fires: { series: {}, at: '10m' },
  },
];

const HEAD = '# Made by `npm run grafana`; change grafana/alerts.ts instead.\n';

/** Alert rules for Prometheus. */
export function rulesYaml(): string {
  const rules = ALERTS.map((alert) => ({
    alert: alert.name,
    expr: alert.expr,
    for: alert.for,
    labels: { severity: alert.severity },
    annotations: {
      summary: alert.summary,
      runbook: `docs/runbook.md#${alert.name.toLowerCase()}`,
    },
  }));
  const recorded = [
    {
      record: 'instance:millrace_records_accepted:rate1m',
      expr: 'sum by (instance, client, consumer) (rate(millrace_records_accepted_total[1m]))',
    },
    {
      record: 'instance:millrace_records_delivered:rate1m',
      expr: 'sum by (instance, client, consumer) (rate(millrace_records_delivered_total[1m]))',
    },
  ];
  return (
    HEAD +
    stringify({
      groups: [
        { name: 'millrace-records', rules: recorded },
        { name: 'millrace-alerts', rules },
      ],
    })
  );
}

/** A case for each alert, for `promtool test rules`. */
export function ruleTestsYaml(): string {
  const tests = ALERTS.map(({ name, fires }) => ({
    name,
    interval: '1m',
    input_series: Object.entries(fires.series).map(([series, values]) => ({ series, values })),
    promql_expr_test: [
      {
        expr: `count(ALERTS{alertname="${name}", alertstate="firing"}) > 0`,
        eval_time: fires.at,
        exp_samples: [{ value: 1 }],
      },
    ],
  }));
  return HEAD + stringify({ rule_files: ['millrace-rules.yml'], evaluation_interval: '1m', tests });
}

/** What to do when an alert fires. */
export function runbookMarkdown(): string {
  const parts = ALERTS.map(
    ({ name, expr, severity, runbook }) =>
      `## ${name}\n\n*${severity}*: \`${expr}\`\n\n${runbook}\n`,
  );
  return `# Run-book\n\nOne paragraph for each alert of \`grafana/millrace-rules.yml\`. Made by \`npm run grafana\` from \`grafana/alerts.ts\`.\n\n${parts.join('\n')}`;
}
