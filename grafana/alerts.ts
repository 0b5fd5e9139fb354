import { stringify } from 'yaml';

/** One alert, its paragraph for people, and a case in which it fires. */
export interface Alert {
  readonly name: string;
  /** What is looked at: gives a value for every client that reports. */
  readonly signal: string;
  /** When it is too much; put behind the signal. */
  readonly condition: string;
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
    signal: 'abs(millrace_ledger_imbalance_records)',
    condition: '> 0',
    for: '2m',
    severity: 'critical',
    summary: 'The account of records does not add up.',
    runbook:
      'Records were lost or counted twice without a reason: a fault of millrace itself. Keep the output of `ta.stats()` and the spool folder, and report it. Delivery goes on meanwhile.',
    fires: { series: { [`millrace_ledger_imbalance_records{${LABELS}}`]: '0 3x10' }, at: '5m' },
  },
  {
    name: 'MillraceRecordsDropped',
    signal: 'increase(millrace_records_dropped_total{reason!="invalid"}[5m])',
    condition: '> 0',
    for: '0m',
    severity: 'critical',
    summary: 'Records were given up: {{ $labels.reason }}.',
    runbook:
      '`overflow_newest` and `overflow_oldest`: more came in than the receiver took, and the ring (or the spool) was full; look at `millrace_requests_total` for what the receiver says, then give `ringBytes` or `spool` more room. `expired`: `retries` is a number and was used up. `shutdown`: `close()` ran out of time; raise its `timeoutMs` or add a `spool`. `corrupt`: see MillraceSpoolCorrupt. `crashed`: records that workers died of; `onError` had `MILLRACE_POISON` or `MILLRACE_GIVEN_UP`.',
    fires: {
      series: {
        [`millrace_records_dropped_total{${LABELS},reason="overflow_newest"}`]: '0x4 7x10',
      },
      at: '6m',
    },
  },
  {
    name: 'MillraceInvalidCalls',
    signal: 'increase(millrace_records_dropped_total{reason="invalid"}[15m])',
    condition: '> 0',
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
    signal: 'millrace_oldest_record_age_seconds',
    condition: '> 120',
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
    signal: 'time() - millrace_last_success_timestamp_seconds',
    condition:
      '> 300 and on(client, consumer, instance) rate(millrace_records_accepted_total[5m]) > 0',
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
    signal: 'millrace_queue_bytes / millrace_queue_capacity_bytes',
    condition: '> 0.8',
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
    signal: 'predict_linear(millrace_spool_bytes[30m], 4 * 3600)',
    condition: '> (millrace_spool_capacity_bytes > 0)',
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
    signal: 'millrace_spool_bytes / (millrace_spool_capacity_bytes > 0)',
    condition: '> 0.8',
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
    signal: 'increase(millrace_recovery_corrupt_records_total[1h])',
    condition: '> 0',
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
    signal: 'rate(millrace_requests_total{code="429"}[5m])',
    condition: '> 0',
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
    signal: 'increase(millrace_records_rejected_total[15m])',
    condition: '> 0',
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
    signal: 'millrace_circuit_state',
    condition: '== 2',
    for: '5m',
    severity: 'warning',
    summary: 'The receiver has failed so often that it is only probed now and then.',
    runbook:
      'Five attempts in a row failed. One worker probes with growing pauses of at most 15 s (NATS and Kafka: 1 s); the first success opens the way for all. See MillraceDeliveryStalled.',
    fires: { series: { [`millrace_circuit_state{${LABELS}}`]: '2x20' }, at: '10m' },
  },
  {
    name: 'MillraceWorkerCrashLoop',
    signal: 'sum without (reason) (increase(millrace_worker_restarts_total[10m]))',
    condition: '> 3',
    for: '0m',
    severity: 'critical',
    summary: 'Worker threads die again and again.',
    runbook:
      'Each dead thread is replaced and its batch sent again, so nothing is lost, but work is repeated. The label `reason` says what they die of, `onError` hears `MILLRACE_WORKER` with the cause: out of memory (`workerHeapMb`), a worker file that does not load, or a sink of your own that throws.',
    fires: {
      series: {
        [`millrace_worker_restarts_total{${FILES_LABELS},reason="exit"}`]: '0+0x20',
        [`millrace_worker_restarts_total{${FILES_LABELS},reason="out_of_memory"}`]: '0+1x20',
      },
      at: '12m',
    },
  },
  {
    name: 'MillraceTrackSlow',
    signal:
      'histogram_quantile(0.99, sum by (instance, client, consumer, le) (rate(millrace_track_duration_seconds_bucket[5m])))',
    condition: '> 0.00005',
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
    name: 'MillraceBurnRateFast',
    signal: 'instance:millrace_late_records:ratio_rate1h',
    condition: '> 14.4 * 0.001 and instance:millrace_late_records:ratio_rate5m > 14.4 * 0.001',
    for: '2m',
    severity: 'critical',
    summary:
      '{{ $value | humanizePercentage }} of the records of an hour were not delivered within a minute.',
    runbook:
      'The objective is that 99.9 % of accepted records are delivered within a minute. At this rate the allowance of a month is gone in two days, and it is still going on (five minutes). Begin with MillraceDeliveryStalled: is the receiver there? Then MillraceQueueHigh: are workers enough?',
    fires: {
      series: {
        [`millrace_records_accepted_total{${LABELS}}`]: '0+1000x120',
        [`millrace_delivery_latency_seconds_bucket{${LABELS},le="60"}`]: '0+1000x10 10000+900x110',
      },
      at: '60m',
    },
  },
  {
    name: 'MillraceBurnRateSlow',
    signal: 'instance:millrace_late_records:ratio_rate6h',
    condition: '> 6 * 0.001 and instance:millrace_late_records:ratio_rate30m > 6 * 0.001',
    for: '15m',
    severity: 'warning',
    summary:
      '{{ $value | humanizePercentage }} of the records of six hours were not delivered within a minute.',
    runbook:
      'As MillraceBurnRateFast, but slower: the allowance of a month is gone in five days. Often a receiver that is slow at busy hours: compare `millrace_queue_wait_seconds` (waiting for a worker) with `millrace_request_duration_seconds` (waiting for the receiver).',
    fires: {
      series: {
        [`millrace_records_accepted_total{${LABELS}}`]: '0+1000x500',
        [`millrace_delivery_latency_seconds_bucket{${LABELS},le="60"}`]: '0+1000x10 10000+990x490',
      },
      at: '480m',
    },
  },
  {
    name: 'MillraceReceiverMisconfigured',
    signal:
      'sum by (instance, client, consumer) (increase(millrace_retries_total{reason=~"config|redirect"}[5m]))',
    condition: '> 0',
    for: '1m',
    severity: 'critical',
    summary: 'The receiver turns everything away: app id, address or URL.',
    runbook:
      'The receiver answered 401, 403, 404, a redirect, or code -2 (unknown app id) or -3 (address not allowed): nothing goes through until people mend that. `onError` and the log have its words. Records are kept and tried every 30 seconds.',
    fires: {
      series: { [`millrace_retries_total{${LABELS},reason="config"}`]: '0x4 0+2x20' },
      at: '12m',
    },
  },
  {
    name: 'MillraceDiskFails',
    signal: 'increase(millrace_requests_total{code="disk"}[5m])',
    condition: '> 0',
    for: '0m',
    severity: 'critical',
    summary: 'Log files can not be written.',
    runbook:
      'The disk is full, or the folder is read-only or gone. Records stay in the ring and are tried again; when it is full the overflow policy decides. `df`, `df -i`, permissions of the folder; `millrace_retries_total` has the reason (`disk_full` or `disk`).',
    fires: {
      series: { [`millrace_requests_total{${FILES_LABELS},code="disk"}`]: '0x4 3x10' },
      at: '6m',
    },
  },
  {
    name: 'MillraceLogFilesPileUp',
    signal: 'increase(millrace_file_upkeep_failures_total[10m])',
    condition: '> 0',
    for: '15m',
    severity: 'warning',
    summary: 'Finished log files can not be packed or removed.',
    runbook:
      'Writing goes on, but the folder grows. `onError` names the file and the cause: the disk is full, permissions, or a checkpoint of `millrace ship` that can not be read, without which no file is removed. `work` tells packing from removing.',
    fires: {
      series: { [`millrace_file_upkeep_failures_total{${FILES_LABELS},work="pack"}`]: '0+1x40' },
      at: '30m',
    },
  },
  {
    name: 'MillraceWorkersMissing',
    signal: 'millrace_workers_configured - millrace_workers',
    condition: '> 0',
    for: '2m',
    severity: 'warning',
    summary: '{{ $value }} worker threads are missing.',
    runbook:
      'Threads that ended were not replaced for two minutes: out of memory, or the machine is so busy that new ones do not get to load. Lanes of missing threads are attended by the others.',
    fires: {
      series: {
        [`millrace_workers_configured{${LABELS}}`]: '2x20',
        [`millrace_workers{${LABELS}}`]: '1x20',
      },
      at: '5m',
    },
  },
  {
    name: 'MillraceWorkerHung',
    signal: 'max by (instance, client, consumer) (millrace_worker_heartbeat_age_seconds)',
    condition: '> 10',
    for: '1m',
    severity: 'critical',
    summary: 'A worker thread has shown no life for {{ $value | humanizeDuration }}.',
    runbook:
      'A hung thread is normally ended and replaced within five seconds. That this did not happen means that the event loop of the game is blocked, or the machine (or container) stands still.',
    fires: {
      series: { [`millrace_worker_heartbeat_age_seconds{${LABELS},worker="0"}`]: '0 60x20' },
      at: '5m',
    },
  },
  {
    name: 'MillraceNoRecords',
    signal: 'rate(millrace_records_accepted_total[10m])',
    condition: '== 0 and rate(millrace_records_accepted_total[1h]) > 0',
    for: '5m',
    severity: 'warning',
    summary: 'The game tracks nothing any more.',
    runbook:
      'Records came within the last hour, but none in ten minutes: nobody plays, the game stands still, or the calls are no longer reached. Look at MillraceInvalidCalls: records that are refused do not count as accepted.',
    fires: {
      series: { [`millrace_records_accepted_total{${LABELS}}`]: '0+100x20 2000x60' },
      at: '40m',
    },
  },
  {
    name: 'MillraceTargetMissing',
    signal: 'up{job=~"millrace.*"}',
    condition: '== 0 or absent(millrace_build_info)',
    for: '5m',
    severity: 'warning',
    summary: 'A game server does not report any more.',
    runbook:
      'Prometheus reaches nobody, or not this one: the server is down, the scrape target is wrong, or the registry is not served. The job must be called `millrace…` for a single server to be missed; without any server left the alert fires in any case.',
    fires: { series: { 'up{job="millrace",instance="game-1"}': '1x3 0x20' }, at: '15m' },
  },
];

const HEAD = '# Made by `npm run grafana`; change grafana/alerts.ts instead.\n';

/** When the alert is up. */
export function exprOf({ signal, condition }: Alert): string {
  return `${signal} ${condition}`;
}

const WINDOWS = ['5m', '30m', '1h', '6h'] as const;
const CLIENT = 'instance, client, consumer';

function ratePerClient(metric: string, window: string): string {
  return `sum by (${CLIENT}) (rate(${metric}[${window}]))`;
}

/** What dashboards of a whole fleet and the burn-rate alerts read, computed once. */
export const RECORDED: readonly { readonly record: string; readonly expr: string }[] = [
  ...['accepted', 'delivered', 'rejected', 'dropped'].map((what) => ({
    record: `instance:millrace_records_${what}:rate1m`,
    expr: ratePerClient(`millrace_records_${what}_total`, '1m'),
  })),
  {
    record: 'instance:millrace_compression:ratio5m',
    expr: `${ratePerClient('millrace_record_bytes_total', '5m')} / (${ratePerClient('millrace_sent_bytes_total', '5m')} > 0)`,
  },
  {
    record: 'instance:millrace_worker_busy:ratio5m',
    expr: `${ratePerClient('millrace_worker_busy_seconds_total', '5m')} / on(${CLIENT}) (millrace_workers_configured > 0)`,
  },
  {
    record: 'instance:millrace_delivery_latency_seconds:p99_5m',
    expr: `histogram_quantile(0.99, sum by (${CLIENT}, le) (rate(millrace_delivery_latency_seconds_bucket[5m])))`,
  },
  {
    record: 'instance:millrace_spool_full:seconds',
    expr: '(millrace_spool_capacity_bytes - millrace_spool_bytes) / clamp_min(deriv(millrace_spool_bytes[10m]), 1)',
  },
  // Accepted records less those delivered within a minute: what is late, stuck or lost alike.
  ...WINDOWS.map((window) => ({
    record: `instance:millrace_late_records:ratio_rate${window}`,
    expr: `1 - clamp_max(${ratePerClient('millrace_delivery_latency_seconds_bucket{le="60"}', window)} / (${ratePerClient('millrace_records_accepted_total', window)} > 0), 1)`,
  })),
];

/** Alert rules for Prometheus. */
export function rulesYaml(): string {
  const rules = ALERTS.map((alert) => ({
    alert: alert.name,
    expr: exprOf(alert),
    for: alert.for,
    labels: { severity: alert.severity },
    annotations: {
      summary: alert.summary,
      runbook: `docs/runbook.md#${alert.name.toLowerCase()}`,
    },
  }));
  return (
    HEAD +
    stringify({
      groups: [
        { name: 'millrace-records', rules: RECORDED },
        { name: 'millrace-alerts', rules },
      ],
    })
  );
}

/** For `promtool test rules`: each alert is quiet at first, and fires in its case. */
export function ruleTestsYaml(): string {
  const tests = ALERTS.map(({ name, fires }) => {
    const firing = `ALERTS{alertname="${name}", alertstate="firing"}`;
    return {
      name,
      interval: '1m',
      input_series: Object.entries(fires.series).map(([series, values]) => ({ series, values })),
      promql_expr_test: [
        { expr: firing, eval_time: '1m', exp_samples: [] },
        { expr: `count(${firing}) > bool 0`, eval_time: fires.at, exp_samples: [{ value: 1 }] },
      ],
    };
  });
  return HEAD + stringify({ rule_files: ['millrace-rules.yml'], evaluation_interval: '1m', tests });
}

/** What to do when an alert fires. */
export function runbookMarkdown(): string {
  const parts = ALERTS.map(
    (alert) =>
      `## ${alert.name}\n\n*${alert.severity}*: \`${exprOf(alert)}\`\n\n${alert.runbook}\n`,
  );
  return `# Run-book\n\nOne paragraph for each alert of \`grafana/millrace-rules.yml\`. Made by \`npm run grafana\` from \`grafana/alerts.ts\`. [Two faults told from metrics alone](fault-drill.md) show how to follow it.\n\n${parts.join('\n')}`;
}
