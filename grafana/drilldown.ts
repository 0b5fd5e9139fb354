import {
  curves,
  dashboardJson,
  heatmap,
  quantiles,
  type RowPlan,
  SELECT,
  selectBy,
  sumRate,
} from './dashboard.ts';

const BY_LANE = selectBy('lane');
const BY_WORKER = selectBy('worker');
const BY_CODE = selectBy('code');

const LANES: RowPlan = {
  title: 'By lane',
  panels: [
    curves('Queue', 'One lane far above the others: one user, or a stuck worker.', {
      unit: 'short',
      of: [
        {
          expr: `sum by (client, lane) (millrace_lane_queue_records${BY_LANE})`,
          legend: '{{client}} {{lane}}',
        },
      ],
    }),
    curves('Oldest record', '', {
      unit: 's',
      of: [
        {
          expr: `max by (client, lane) (millrace_lane_oldest_record_age_seconds${BY_LANE})`,
          legend: '{{client}} {{lane}}',
        },
      ],
    }),
    curves(
      'Delivered',
      'A lane that stays at 0 while others deliver has an attendant that is stuck.',
      {
        unit: 'cps',
        of: [
          {
            expr: sumRate('millrace_lane_records_delivered_total', 'client, lane', BY_LANE),
            legend: '{{client}} {{lane}}',
          },
        ],
      },
    ),
    curves('In flight', '', {
      unit: 'short',
      of: [
        {
          expr: `sum by (client, lane) (millrace_lane_inflight_records${BY_LANE})`,
          legend: '{{client}} {{lane}}',
        },
      ],
    }),
    curves('Bytes in the ring', '', {
      unit: 'bytes',
      of: [
        {
          expr: `sum by (client, lane) (millrace_lane_queue_bytes${BY_LANE})`,
          legend: '{{client}} {{lane}}',
        },
      ],
    }),
    curves('On disk', '', {
      unit: 'short',
      of: [
        {
          expr: `sum by (client, lane) (millrace_lane_spool_records${BY_LANE})`,
          legend: '{{client}} {{lane}}',
        },
      ],
    }),
  ],
};

const WORKERS: RowPlan = {
  title: 'By worker thread',
  panels: [
    curves('Busy', 'Share of a core. Near 1 for all: add workers.', {
      unit: 'percentunit',
      of: [
        {
          expr: sumRate('millrace_worker_busy_seconds_total', 'client, worker', BY_WORKER),
          legend: '{{client}} {{worker}}',
        },
      ],
    }),
    curves('Batches', '', {
      unit: 'cps',
      of: [
        {
          expr: sumRate('millrace_worker_batches_total', 'client, worker', BY_WORKER),
          legend: '{{client}} {{worker}}',
        },
      ],
    }),
    curves('Requests under way', '', {
      unit: 'short',
      of: [
        {
          expr: `sum by (client, worker) (millrace_worker_inflight_requests${BY_WORKER})`,
          legend: '{{client}} {{worker}}',
        },
      ],
    }),
    curves('Since the last sign of life', 'Above a few seconds: hung. It is ended and replaced.', {
      unit: 's',
      of: [
        {
          expr: `max by (client, worker) (millrace_worker_heartbeat_age_seconds${BY_WORKER})`,
          legend: '{{client}} {{worker}}',
        },
      ],
    }),
    curves('Turns', 'Tasks a second: a lane that comes and goes costs more of them.', {
      unit: 'cps',
      of: [
        {
          expr: sumRate('millrace_turns_total', 'client, worker', BY_WORKER),
          legend: '{{client}} {{worker}}',
        },
      ],
    }),
    curves('Length of a turn', '', {
      unit: 's',
      of: quantiles('millrace_turn_duration_seconds', [0.5, 0.99]),
    }),
    curves('Threads replaced', 'In five minutes.', {
      unit: 'short',
      of: [
        {
          expr: `sum by (client, reason) (increase(millrace_worker_restarts_total${SELECT}[5m]))`,
          legend: '{{client}} {{reason}}',
        },
      ],
    }),
    curves('Encode and compress', 'p99 of what a worker needs for a batch.', {
      unit: 's',
      of: [
        ...quantiles('millrace_encode_duration_seconds', [0.99]).map(({ expr }) => ({
          expr,
          legend: 'encode',
        })),
        ...quantiles('millrace_compress_duration_seconds', [0.99]).map(({ expr }) => ({
          expr,
          legend: 'compress',
        })),
      ],
    }),
  ],
};

const STATUS: RowPlan = {
  title: 'By answer',
  panels: [
    curves('Attempts', 'By status class, or by what went wrong without a reply.', {
      unit: 'cps',
      of: [
        {
          expr: sumRate('millrace_requests_total', 'client, code', BY_CODE),
          legend: '{{client}} {{code}}',
        },
      ],
    }),
    curves('p99 of an attempt, by outcome', '', {
      unit: 's',
      of: [
        {
          expr: `histogram_quantile(0.99, sum by (outcome, le) (rate(millrace_request_duration_seconds_bucket${SELECT}[$__rate_interval])))`,
          legend: '{{outcome}}',
        },
      ],
    }),
    curves("The receiver's own codes", '0 accepted, -1 content, -2 app id, -3 address.', {
      unit: 'cps',
      of: [{ expr: sumRate('millrace_receiver_codes_total', 'code'), legend: '{{code}}' }],
    }),
    curves('Retries', '', {
      unit: 'cps',
      of: [
        {
          expr: sumRate('millrace_retries_total', 'client, reason'),
          legend: '{{client}} {{reason}}',
        },
      ],
    }),
    curves('Sent again', 'Records whose copies the receiver drops by #uuid.', {
      unit: 'cps',
      of: [{ expr: sumRate('millrace_records_redelivered_total', 'cause'), legend: '{{cause}}' }],
    }),
    curves('Refused and kept', 'Records in the dead-letter file, in an hour, by reason.', {
      unit: 'short',
      of: [
        {
          expr: `sum by (reason) (increase(millrace_records_dead_lettered_total${SELECT}[1h]))`,
          legend: '{{reason}}',
        },
      ],
    }),
    curves('Batches cut in halves', 'Too large, or in search of a record that is refused.', {
      unit: 'cps',
      of: [{ expr: sumRate('millrace_batch_splits_total', 'client'), legend: '{{client}}' }],
    }),
    curves('Values the receiver may cut', 'Long texts, huge numbers.', {
      unit: 'cps',
      of: [{ expr: sumRate('millrace_records_warned_total', 'client'), legend: '{{client}}' }],
    }),
  ],
};

const TIMES: RowPlan = {
  title: 'Where the time goes',
  panels: [
    heatmap('From track() to the first attempt', '', {
      unit: 's',
      metric: 'millrace_queue_wait_seconds',
    }),
    heatmap('From track() to settled', '', {
      unit: 's',
      metric: 'millrace_delivery_latency_seconds',
    }),
    curves('flush() and close()', '', {
      unit: 's',
      of: quantiles('millrace_flush_duration_seconds', [0.5, 0.99]),
    }),
    curves('Size of a batch', 'JSON, and what was sent for it: medians.', {
      unit: 'bytes',
      of: [
        ...quantiles('millrace_batch_raw_bytes', [0.5]).map(({ expr }) => ({
          expr,
          legend: 'JSON',
        })),
        ...quantiles('millrace_batch_sent_bytes', [0.5]).map(({ expr }) => ({
          expr,
          legend: 'sent',
        })),
      ],
    }),
    curves('Sending what earlier runs left', 'Time spent since the start.', {
      unit: 's',
      of: [
        {
          expr: `sum by (client) (millrace_recovery_duration_seconds${SELECT})`,
          legend: '{{client}}',
        },
      ],
    }),
  ],
};

/** The second look: which lane, which thread, which answer. */
export function drilldownJson(): string {
  return dashboardJson({
    uid: 'millrace-drilldown',
    title: 'millrace by lane, worker and answer',
    rows: [LANES, WORKERS, STATUS, TIMES],
    variables: {
      lane: 'millrace_lane_queue_records',
      worker: 'millrace_turns_total',
      code: 'millrace_requests_total',
    },
  });
}
