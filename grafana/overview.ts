import {
  bars,
  curves,
  dashboardJson,
  heatmap,
  quantiles,
  type RowPlan,
  SELECT,
  stat,
  sumRate,
} from './dashboard.ts';

const HEALTH: RowPlan = {
  title: 'Is it all right?',
  panels: [
    stat('Imbalance', 'Records the account can not explain. Anything but 0 is a fault of ours.', {
      unit: 'short',
      expr: `sum(abs(millrace_ledger_imbalance_records${SELECT}))`,
      redFrom: 1,
    }),
    stat('Dropped, last hour', 'All reasons together.', {
      unit: 'short',
      expr: `sum(increase(millrace_records_dropped_total${SELECT}[1h]))`,
      redFrom: 1,
    }),
    stat('Oldest record', 'Rises whenever anything is stuck, for whatever reason.', {
      unit: 's',
      expr: `max(millrace_oldest_record_age_seconds${SELECT})`,
      redFrom: 120,
    }),
    stat('Since the last success', 'Of the client that has waited longest.', {
      unit: 's',
      expr: `time() - min(millrace_last_success_timestamp_seconds${SELECT})`,
      redFrom: 300,
    }),
    stat('Circuit', '0 closed, 1 half-open, 2 open: the receiver is taken for dead.', {
      unit: 'short',
      expr: `max(millrace_circuit_state${SELECT})`,
      redFrom: 2,
    }),
    stat('Ring used', 'Share of the ring that is full.', {
      unit: 'percentunit',
      expr: `max(millrace_queue_bytes${SELECT} / millrace_queue_capacity_bytes${SELECT})`,
      redFrom: 0.8,
    }),
    stat('Spool used', 'Share of the spool that is full.', {
      unit: 'percentunit',
      expr: `max(millrace_spool_bytes${SELECT} / (millrace_spool_capacity_bytes${SELECT} > 0))`,
      redFrom: 0.8,
    }),
    stat('Workers missing', 'Threads asked for that do not live.', {
      unit: 'short',
      expr: `sum(millrace_workers_configured${SELECT}) - sum(millrace_workers${SELECT})`,
      redFrom: 1,
    }),
  ],
};

const FLOW: RowPlan = {
  title: 'Flow: rate, loss, lag',
  panels: [
    curves('Records', 'What came in, and what became of it.', {
      unit: 'cps',
      of: [
        { expr: sumRate('millrace_records_accepted_total'), legend: 'accepted' },
        { expr: sumRate('millrace_records_delivered_total'), legend: 'delivered' },
        { expr: sumRate('millrace_records_rejected_total'), legend: 'rejected' },
      ],
    }),
    curves('Dropped', 'By reason.', {
      unit: 'cps',
      of: [{ expr: sumRate('millrace_records_dropped_total', 'reason'), legend: '{{reason}}' }],
    }),
    bars('Where records are now', 'Everything accepted that is not settled.', {
      unit: 'short',
      of: [
        {
          expr: `sum(millrace_queue_records${SELECT}) - sum(millrace_inflight_records${SELECT})`,
          legend: 'waiting in the ring',
        },
        { expr: `sum(millrace_inflight_records${SELECT})`, legend: 'in flight' },
        { expr: `sum(millrace_spool_records${SELECT})`, legend: 'on disk' },
      ],
    }),
    curves('Lag', 'From track() to settled.', {
      unit: 's',
      of: quantiles('millrace_delivery_latency_seconds'),
    }),
    curves('Bytes', 'JSON text before compression, and what was sent for it.', {
      unit: 'Bps',
      of: [
        { expr: sumRate('millrace_record_bytes_total'), legend: 'JSON' },
        { expr: sumRate('millrace_sent_bytes_total'), legend: 'sent' },
      ],
    }),
    curves('Compression', 'JSON bytes for each byte sent.', {
      unit: 'short',
      of: [
        {
          expr: `${sumRate('millrace_record_bytes_total', 'client')} / ${sumRate('millrace_sent_bytes_total', 'client')}`,
          legend: '{{client}}',
        },
      ],
    }),
  ],
};

const SATURATION: RowPlan = {
  title: 'Saturation',
  panels: [
    curves('Queue', 'Records in the ring, and those of them in flight.', {
      unit: 'short',
      of: [
        { expr: `sum(millrace_queue_records${SELECT})`, legend: 'queued' },
        { expr: `sum(millrace_inflight_records${SELECT})`, legend: 'in flight' },
      ],
    }),
    curves('Oldest record', 'By where it waits.', {
      unit: 's',
      of: [
        {
          expr: `max by (stage) (millrace_oldest_record_age_seconds${SELECT})`,
          legend: '{{stage}}',
        },
      ],
    }),
    curves('Spool', 'Size on disk and its bound. Zero while all is well.', {
      unit: 'bytes',
      of: [
        { expr: `sum(millrace_spool_bytes${SELECT})`, legend: 'on disk' },
        { expr: `sum(millrace_spool_capacity_bytes${SELECT})`, legend: 'bound' },
      ],
    }),
    curves('Time to a full spool', 'At the present growth; a day and more is shown as a day.', {
      unit: 's',
      of: [
        {
          expr: `clamp(min((millrace_spool_capacity_bytes${SELECT} - millrace_spool_bytes${SELECT}) / clamp_min(deriv(millrace_spool_bytes${SELECT}[10m]), 1)), 0, 86400)`,
          legend: 'left',
        },
      ],
    }),
    curves(
      'Kept out for more important records',
      'By priority; these are among the dropped ones.',
      {
        unit: 'cps',
        of: [{ expr: sumRate('millrace_records_shed_total', 'priority'), legend: '{{priority}}' }],
      },
    ),
    curves(
      'Slow or lost, share of records',
      'Not delivered within a minute; the objective is 0.1 %.',
      {
        unit: 'percentunit',
        of: [
          {
            expr: `1 - clamp_max(${sumRate('millrace_delivery_latency_seconds_bucket', '', `${SELECT.slice(0, -1)},le="60"}`)} / ${sumRate('millrace_records_accepted_total')}, 1)`,
            legend: 'late',
          },
        ],
      },
    ),
  ],
};

const COST: RowPlan = {
  title: 'Cost to the game',
  panels: [
    curves('A tracking call', 'Of every 64th call.', {
      unit: 's',
      of: quantiles('millrace_track_duration_seconds'),
    }),
    curves('Callers held', 'Time spent waiting for room, a second (overflow: block).', {
      unit: 's',
      of: [{ expr: sumRate('millrace_backpressure_seconds_total'), legend: 'held' }],
    }),
    curves('Worker threads busy', 'Cores in use, all threads together.', {
      unit: 'short',
      of: [{ expr: sumRate('millrace_worker_busy_seconds_total'), legend: 'busy' }],
    }),
    curves(
      'Event loop',
      "Lag of the game's loop: prom-client's default metrics, if they are collected.",
      {
        unit: 's',
        of: [
          {
            expr: 'max by (instance) (nodejs_eventloop_lag_p99_seconds{job=~"$job",instance=~"$instance"})',
            legend: '{{instance}} p99',
          },
        ],
      },
    ),
  ],
};

const DELIVERY: RowPlan = {
  title: 'Delivery',
  panels: [
    curves('Attempts', 'By status class, or by what went wrong without a reply.', {
      unit: 'cps',
      of: [{ expr: sumRate('millrace_requests_total', 'code'), legend: '{{code}}' }],
    }),
    curves('Time of an attempt', 'A request, or a write to a file.', {
      unit: 's',
      of: quantiles('millrace_request_duration_seconds'),
    }),
    curves('Retries', 'Repeated attempts, by reason.', {
      unit: 'cps',
      of: [{ expr: sumRate('millrace_retries_total', 'reason'), legend: '{{reason}}' }],
    }),
    curves('Held by the receiver', 'Retry-After, seconds a second.', {
      unit: 's',
      of: [{ expr: sumRate('millrace_retry_after_seconds_total'), legend: 'held' }],
    }),
    heatmap('Records of a batch', 'Small batches cost more.', {
      unit: 'short',
      metric: 'millrace_batch_records',
    }),
    curves('Why batches leave', 'Full by records or bytes, linger over, or flush.', {
      unit: 'cps',
      of: [{ expr: sumRate('millrace_batch_trigger_total', 'trigger'), legend: '{{trigger}}' }],
    }),
  ],
};

const FILES: RowPlan = {
  title: 'Files and spool',
  panels: [
    curves('Log files begun', 'In five minutes, by cause.', {
      unit: 'short',
      of: [
        {
          expr: `sum by (cause) (increase(millrace_file_rotations_total${SELECT}[5m]))`,
          legend: '{{cause}}',
        },
      ],
    }),
    curves('Written to log files', '', {
      unit: 'Bps',
      of: [{ expr: sumRate('millrace_file_written_bytes_total', 'client'), legend: '{{client}}' }],
    }),
    curves('Finished files left as they are', 'In five minutes; packing or removing them failed.', {
      unit: 'short',
      of: [
        {
          expr: `sum by (work) (increase(millrace_file_upkeep_failures_total${SELECT}[5m]))`,
          legend: '{{work}}',
        },
      ],
    }),
    curves('Through the disk', 'Records that go to disk and come back.', {
      unit: 'cps',
      of: [
        { expr: sumRate('millrace_records_spooled_total'), legend: 'to disk' },
        { expr: sumRate('millrace_records_unspooled_total'), legend: 'from disk' },
      ],
    }),
    curves('Until the disk is sure', 'p99 of fsync; nothing while nobody syncs.', {
      unit: 's',
      of: [
        {
          expr: `histogram_quantile(0.99, sum by (target, le) (rate(millrace_fsync_duration_seconds_bucket${SELECT}[$__rate_interval])))`,
          legend: '{{target}}',
        },
      ],
    }),
    curves('Recovered and damaged', 'Records that earlier runs left, and those that damage took.', {
      unit: 'short',
      of: [
        { expr: `sum(millrace_recovery_records_total${SELECT})`, legend: 'recovered' },
        { expr: `sum(millrace_recovery_corrupt_records_total${SELECT})`, legend: 'damaged' },
      ],
    }),
    curves('Segments', 'Files of the spool.', {
      unit: 'short',
      of: [{ expr: `sum by (client) (millrace_spool_segments${SELECT})`, legend: '{{client}}' }],
    }),
  ],
};

const FLEET: RowPlan = {
  title: 'Fleet',
  panels: [
    bars('Oldest record, ten worst', '', {
      unit: 's',
      of: [
        {
          expr: `topk(10, max by (instance) (millrace_oldest_record_age_seconds${SELECT}))`,
          legend: '{{instance}}',
        },
      ],
    }),
    bars('Dropped in an hour, ten worst', '', {
      unit: 'short',
      of: [
        {
          expr: `topk(10, sum by (instance) (increase(millrace_records_dropped_total${SELECT}[1h])))`,
          legend: '{{instance}}',
        },
      ],
    }),
    bars('Waiting records, ten worst', '', {
      unit: 'short',
      of: [
        {
          expr: `topk(10, sum by (instance) (millrace_queue_records${SELECT}) + sum by (instance) (millrace_spool_records${SELECT}))`,
          legend: '{{instance}}',
        },
      ],
    }),
    bars('Versions', 'Clients, by what runs.', {
      unit: 'short',
      of: [
        {
          expr: `count by (version, node, codec) (millrace_build_info${SELECT})`,
          legend: '{{version}} on Node {{node}}, {{codec}}',
        },
      ],
    }),
  ],
};

/** The dashboard to begin with: rate, loss, lag, saturation, cost. */
export function overviewJson(): string {
  return dashboardJson({
    uid: 'millrace-overview',
    title: 'millrace',
    rows: [HEALTH, FLOW, SATURATION, COST, DELIVERY, FILES, FLEET],
  });
}
