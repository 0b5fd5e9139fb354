import {
  DashboardBuilder,
  DashboardCursorSync,
  DatasourceVariableBuilder,
  QueryVariableBuilder,
  RowBuilder,
} from '@grafana/grafana-foundation-sdk/dashboard';
import { DataqueryBuilder } from '@grafana/grafana-foundation-sdk/prometheus';
import { PanelBuilder as StatBuilder } from '@grafana/grafana-foundation-sdk/stat';
import { PanelBuilder as TimeseriesBuilder } from '@grafana/grafana-foundation-sdk/timeseries';

/** One curve: an expression and what it is called. */
interface Curve {
  readonly expr: string;
  readonly legend: string;
}

interface PanelPlan {
  readonly title: string;
  readonly description: string;
  readonly unit: string;
  readonly curves: readonly Curve[];
  /** A number instead of curves. */
  readonly isStat?: boolean;
}

interface RowPlan {
  readonly title: string;
  readonly panels: readonly PanelPlan[];
}

const SOURCE = { type: 'prometheus', uid: '$datasource' };
const SELECT = '{job=~"$job",instance=~"$instance",client=~"$client",consumer=~"$consumer"}';
const COLUMNS = 24;
const PANEL_HEIGHT = 8;
const STAT_HEIGHT = 4;

function sumRate(metric: string, by = ''): string {
  return `sum${by === '' ? '' : ` by (${by})`} (rate(${metric}${SELECT}[$__rate_interval]))`;
}

function quantile(share: number, metric: string): string {
  return `histogram_quantile(${share}, sum by (le) (rate(${metric}_bucket${SELECT}[$__rate_interval])))`;
}

function quantiles(metric: string): Curve[] {
  return [0.5, 0.99, 0.999].map((share) => ({
    expr: quantile(share, metric),
    legend: `p${share * 100}`,
  }));
}

const ROWS: readonly RowPlan[] = [
  {
    title: 'Is it all right?',
    panels: [
      stat('Imbalance', 'Records the account can not explain. Anything but 0 is a fault of ours.', {
        unit: 'short',
        expr: `sum(abs(millrace_ledger_imbalance_records${SELECT}))`,
      }),
      stat('Dropped, last hour', 'All reasons together.', {
        unit: 'short',
        expr: `sum(increase(millrace_records_dropped_total${SELECT}[1h]))`,
      }),
      stat('Oldest record', 'Rises whenever anything is stuck, for whatever reason.', {
        unit: 's',
        expr: `max(millrace_oldest_record_age_seconds${SELECT})`,
      }),
      stat('Circuit', '0 closed, 1 half-open, 2 open: the receiver is taken for dead.', {
        unit: 'short',
        expr: `max(millrace_circuit_state${SELECT})`,
      }),
      stat('Ring used', 'Share of the ring that is full.', {
        unit: 'percentunit',
        expr: `max(millrace_queue_bytes${SELECT} / millrace_queue_capacity_bytes${SELECT})`,
      }),
      stat('Workers missing', 'Threads asked for that do not live.', {
        unit: 'short',
        expr: `sum(millrace_workers_configured${SELECT}) - sum(millrace_workers${SELECT})`,
      }),
    ],
  },
  {
    title: 'Flow',
    panels: [
      curves('Records', 'What came in, and what became of it.', 'cps', [
        { expr: sumRate('millrace_records_accepted_total'), legend: 'accepted' },
        { expr: sumRate('millrace_records_delivered_total'), legend: 'delivered' },
        { expr: sumRate('millrace_records_rejected_total'), legend: 'rejected' },
      ]),
      curves('Dropped', 'By reason.', 'cps', [
        { expr: sumRate('millrace_records_dropped_total', 'reason'), legend: '{{reason}}' },
      ]),
      curves('Queue', 'Records in the ring, and those of them in flight.', 'short', [
        { expr: `sum(millrace_queue_records${SELECT})`, legend: 'queued' },
        { expr: `sum(millrace_inflight_records${SELECT})`, legend: 'in flight' },
      ]),
      curves('Bytes', 'JSON text before compression, and what was sent for it.', 'Bps', [
        { expr: sumRate('millrace_record_bytes_total'), legend: 'JSON' },
        { expr: sumRate('millrace_sent_bytes_total'), legend: 'sent' },
      ]),
    ],
  },
  {
    title: 'Cost to the game',
    panels: [
      curves(
        'A tracking call',
        'Of every 64th call.',
        's',
        quantiles('millrace_track_duration_seconds'),
      ),
      curves('Callers held', 'Time spent waiting for room, a second (overflow: block).', 's', [
        { expr: sumRate('millrace_backpressure_seconds_total'), legend: 'held' },
      ]),
      curves('Worker threads busy', 'Cores in use, all threads together.', 'short', [
        { expr: sumRate('millrace_worker_busy_seconds_total'), legend: 'busy' },
      ]),
    ],
  },
  {
    title: 'Delivery',
    panels: [
      curves(
        'From track() to settled',
        'How late records are.',
        's',
        quantiles('millrace_delivery_latency_seconds'),
      ),
      curves('Attempts', 'By status class; none: no reply.', 'cps', [
        { expr: sumRate('millrace_requests_total', 'code'), legend: '{{code}}' },
      ]),
      curves(
        'Time of an attempt',
        'A request, or a write to a file.',
        's',
        quantiles('millrace_request_duration_seconds'),
      ),
      curves('Retries', 'Repeated attempts, by reason.', 'cps', [
        { expr: sumRate('millrace_retries_total', 'reason'), legend: '{{reason}}' },
      ]),
      curves(
        'Records of a batch',
        'Small batches cost more.',
        'short',
        quantiles('millrace_batch_records'),
      ),
      curves('Why batches leave', 'Full by records or bytes, linger over, or flush.', 'cps', [
        { expr: sumRate('millrace_batch_trigger_total', 'trigger'), legend: '{{trigger}}' },
      ]),
    ],
  },
  {
    title: 'Lanes and workers',
    panels: [
      curves(
        'Queue by lane',
        'One lane far above the others: one user, or a stuck worker.',
        'short',
        [{ expr: `sum by (lane) (millrace_lane_queue_records${SELECT})`, legend: 'lane {{lane}}' }],
      ),
      curves('Heartbeat', 'Age of the oldest sign of life of a thread.', 's', [
        { expr: `max(millrace_worker_heartbeat_age_seconds${SELECT})`, legend: 'oldest' },
      ]),
      curves('Restarts', 'Threads that died and were replaced, in five minutes.', 'short', [
        { expr: `sum(increase(millrace_worker_restarts_total${SELECT}[5m]))`, legend: 'restarts' },
      ]),
    ],
  },
  {
    title: 'Spool and shedding',
    panels: [
      curves('Spool', 'Size on disk and its bound. Zero while all is well.', 'bytes', [
        { expr: `sum(millrace_spool_bytes${SELECT})`, legend: 'on disk' },
        { expr: `sum(millrace_spool_capacity_bytes${SELECT})`, legend: 'bound' },
      ]),
      curves('Through the disk', 'Records that go to disk and come back.', 'rps', [
        { expr: sumRate('millrace_records_spooled_total'), legend: 'to disk' },
        { expr: sumRate('millrace_records_unspooled_total'), legend: 'from disk' },
      ]),
      curves(
        'Recovered and damaged',
        'Records that earlier runs left, and those that damage took.',
        'short',
        [
          { expr: `sum(millrace_recovery_records_total${SELECT})`, legend: 'recovered' },
          { expr: `sum(millrace_recovery_corrupt_records_total${SELECT})`, legend: 'damaged' },
        ],
      ),
      curves(
        'Kept out for more important records',
        'By priority; these are among the dropped ones.',
        'rps',
        [
          {
            expr: sumRate('millrace_records_shed_total', 'priority'),
            legend: '{{priority}}',
          },
        ],
      ),
    ],
  },
];

function stat(
  title: string,
  description: string,
  { unit, expr }: { unit: string; expr: string },
): PanelPlan {
  return { title, description, unit, curves: [{ expr, legend: title }], isStat: true };
}

function curves(
  title: string,
  description: string,
  unit: string,
  list: readonly Curve[],
): PanelPlan {
  return { title, description, unit, curves: list };
}

function label(name: string, metric: string): QueryVariableBuilder {
  return new QueryVariableBuilder(name)
    .datasource(SOURCE)
    .query(`label_values(${metric}, ${name})`)
    .refresh(2)
    .multi(true)
    .includeAll(true)
    .allValue('.*');
}

/** The dashboard's JSON, as it is committed beside this file. */
export function overviewJson(): string {
  const dashboard = new DashboardBuilder('millrace')
    .uid('millrace-overview')
    .tags(['millrace'])
    .refresh('10s')
    .time({ from: 'now-1h', to: 'now' })
    .timezone('browser')
    .tooltip(DashboardCursorSync.Crosshair)
    .withVariable(new DatasourceVariableBuilder('datasource').type('prometheus'));
  for (const name of ['job', 'instance', 'client', 'consumer']) {
    dashboard.withVariable(label(name, 'millrace_workers'));
  }
  for (const { title, panels } of ROWS) {
    dashboard.withRow(new RowBuilder(title));
    for (const panel of panels) dashboard.withPanel(panelOf(panel, panels.length));
  }
  return `${JSON.stringify(dashboard.build(), undefined, 2)}\n`;
}

function panelOf(plan: PanelPlan, panels: number): TimeseriesBuilder | StatBuilder {
  const panel = plan.isStat === true ? new StatBuilder() : new TimeseriesBuilder();
  panel
    .title(plan.title)
    .description(plan.description)
    .unit(plan.unit)
    .datasource(SOURCE)
    .height(plan.isStat === true ? STAT_HEIGHT : PANEL_HEIGHT)
    .span(plan.isStat === true ? Math.floor(COLUMNS / panels) : COLUMNS / 2);
  for (const { expr, legend } of plan.curves) {
    panel.withTarget(new DataqueryBuilder().expr(expr).legendFormat(legend));
  }
  return panel;
}
