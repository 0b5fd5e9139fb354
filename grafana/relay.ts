import { bars, curves, dashboardJson, type RowPlan, stat } from './dashboard.ts';

/** Relays are no clients: only job and instance tell them apart. */
const SELECT = '{job=~"$job",instance=~"$instance"}';

function rate(metric: string, by = ''): string {
  return `sum${by === '' ? '' : ` by (${by})`} (rate(millrace_relay_${metric}${SELECT}[$__rate_interval]))`;
}

const RELAYS: RowPlan = {
  title: 'Relays',
  panels: [
    stat('Behind', 'Messages at the broker that no relay has settled.', {
      unit: 'short',
      expr: `sum(millrace_relay_lag_messages${SELECT})`,
    }),
    stat('Relays', 'Living relays, as the relays themselves see it.', {
      unit: 'short',
      expr: `max(millrace_relay_members${SELECT}) or count(millrace_relay_connected${SELECT} == 1)`,
    }),
    stat('Without a broker', 'Relays that the broker does not answer.', {
      unit: 'short',
      expr: `count(millrace_relay_connected${SELECT} == 0) or vector(0)`,
      redFrom: 1,
    }),
    stat('Partitions in work', 'Fewer than there are: some wait for a lease to run out.', {
      unit: 'short',
      expr: `sum(millrace_relay_partitions${SELECT})`,
    }),
    stat(
      'Imbalance',
      'Records the account of a relay can not explain. Anything but 0 is a fault of ours.',
      {
        unit: 'short',
        expr: `sum(abs(millrace_relay_imbalance_records${SELECT}))`,
        redFrom: 1,
      },
    ),
  ],
};

const FLOW: RowPlan = {
  title: 'Flow',
  panels: [
    curves('Records', 'Read, and what became of them.', {
      unit: 'short',
      of: [
        { expr: rate('records_total'), legend: 'read' },
        { expr: rate('delivered_total'), legend: 'delivered' },
        { expr: rate('rejected_total'), legend: 'refused' },
        { expr: rate('bad_total'), legend: 'no records' },
        { expr: rate('handed_over_total'), legend: 'handed over' },
      ],
    }),
    curves(
      'Behind, by relay',
      'A relay that falls behind has a slow receiver, or too many partitions.',
      {
        unit: 'short',
        of: [
          {
            expr: `sum by (instance) (millrace_relay_lag_messages${SELECT})`,
            legend: '{{instance}}',
          },
        ],
      },
    ),
    bars('Behind, by partition', 'One long bar: a user or a few make most of the records.', {
      unit: 'short',
      of: [
        {
          expr: `topk(16, sum by (partition) (millrace_relay_partition_lag_messages${SELECT}))`,
          legend: '{{partition}}',
        },
      ],
    }),
  ],
};

/** The dashboard of `millrace relay`. */
export function relayJson(): string {
  return dashboardJson({ uid: 'millrace-relay', title: 'millrace relays', rows: [RELAYS, FLOW] });
}
