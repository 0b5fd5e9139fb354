import { PanelBuilder as BarGaugeBuilder } from '@grafana/grafana-foundation-sdk/bargauge';
import {
  AnnotationQueryBuilder,
  DashboardBuilder,
  DashboardCursorSync,
  DashboardLinkBuilder,
  DashboardLinkType,
  DatasourceVariableBuilder,
  QueryVariableBuilder,
  RowBuilder,
  ThresholdsConfigBuilder,
  ThresholdsMode,
} from '@grafana/grafana-foundation-sdk/dashboard';
import { PanelBuilder as HeatmapBuilder } from '@grafana/grafana-foundation-sdk/heatmap';
import { DataqueryBuilder, PromQueryFormat } from '@grafana/grafana-foundation-sdk/prometheus';
import { PanelBuilder as StatBuilder } from '@grafana/grafana-foundation-sdk/stat';
import { PanelBuilder as TimeseriesBuilder } from '@grafana/grafana-foundation-sdk/timeseries';

/** One curve: an expression and what it is called. */
export interface Curve {
  readonly expr: string;
  readonly legend: string;
}

export interface PanelPlan {
  readonly kind: 'curves' | 'stat' | 'bars' | 'heatmap';
  readonly title: string;
  readonly description: string;
  readonly unit: string;
  readonly curves: readonly Curve[];
  /** Of a stat: from here on it is red. */
  readonly redFrom?: number;
}

export interface RowPlan {
  readonly title: string;
  readonly panels: readonly PanelPlan[];
}

export interface DashboardPlan {
  readonly uid: string;
  readonly title: string;
  readonly rows: readonly RowPlan[];
  /** Variables besides datasource, job, instance, client and consumer: name, and metric that has the label. */
  readonly variables?: Readonly<Record<string, string>>;
}

const SOURCE = { type: 'prometheus', uid: '$datasource' };
const VARIABLES = ['job', 'instance', 'client', 'consumer'] as const;
/** Picks the series that the variables of the dashboard allow. */
export const SELECT: string = `{${pick(VARIABLES)}}`;
const COLUMNS = 24;
const PANEL_HEIGHT = 8;
const STAT_HEIGHT = 4;

function pick(names: readonly string[]): string {
  return names.map((name) => `${name}=~"$${name}"`).join(',');
}

/** As {@link SELECT}, and by more variables. */
export function selectBy(...names: string[]): string {
  return `{${pick([...VARIABLES, ...names])}}`;
}

export function sumRate(metric: string, by = '', select: string = SELECT): string {
  return `sum${by === '' ? '' : ` by (${by})`} (rate(${metric}${select}[$__rate_interval]))`;
}

export function quantiles(metric: string, shares: readonly number[] = [0.5, 0.99, 0.999]): Curve[] {
  return shares.map((share) => ({
    expr: `histogram_quantile(${share}, sum by (le) (rate(${metric}_bucket${SELECT}[$__rate_interval])))`,
    legend: `p${share * 100}`,
  }));
}

export function stat(
  title: string,
  description: string,
  { unit, expr, redFrom }: { unit: string; expr: string; redFrom?: number },
): PanelPlan {
  const plan = { kind: 'stat' as const, title, description, unit };
  const curve = { expr, legend: title };
  return { ...plan, curves: [curve], ...(redFrom === undefined ? {} : { redFrom }) };
}

export function curves(
  title: string,
  description: string,
  { unit, of }: { unit: string; of: readonly Curve[] },
): PanelPlan {
  return { kind: 'curves', title, description, unit, curves: of };
}

export function bars(
  title: string,
  description: string,
  { unit, of }: { unit: string; of: readonly Curve[] },
): PanelPlan {
  return { kind: 'bars', title, description, unit, curves: of };
}

/** The buckets of a histogram over time. */
export function heatmap(
  title: string,
  description: string,
  { unit, metric }: { unit: string; metric: string },
): PanelPlan {
  const expr = sumRate(`${metric}_bucket`, 'le');
  return { kind: 'heatmap', title, description, unit, curves: [{ expr, legend: '{{le}}' }] };
}

function variable(name: string, metric: string): QueryVariableBuilder {
  return new QueryVariableBuilder(name)
    .datasource(SOURCE)
    .query(`label_values(${metric}, ${name})`)
    .refresh(2)
    .multi(true)
    .includeAll(true)
    .allValue('.*');
}

/** Marks on all curves: what happened at that time. */
const ANNOTATIONS = [
  {
    name: 'Worker replaced',
    expr: `increase(millrace_worker_restarts_total${SELECT}[1m]) > 0`,
    text: '{{instance}} {{client}}: a worker thread died ({{reason}}) and was replaced',
    color: 'red',
  },
  {
    name: 'File begun',
    expr: `increase(millrace_file_rotations_total{${pick(VARIABLES)},cause!="start"}[1m]) > 0`,
    text: '{{instance}} {{client}}: another log file ({{cause}})',
    color: 'blue',
  },
  {
    name: 'Circuit open',
    expr: `millrace_circuit_state${SELECT} == 2`,
    text: '{{instance}} {{client}}: the receiver does not answer',
    color: 'orange',
  },
  {
    name: 'Recovered',
    expr: `increase(millrace_recovery_records_total${SELECT}[1m]) > 0`,
    text: '{{instance}} {{client}}: records of an earlier run',
    color: 'purple',
  },
] as const;

/** A dashboard's JSON, as it is committed beside its source. */
export function dashboardJson({ uid, title, rows, variables = {} }: DashboardPlan): string {
  const dashboard = new DashboardBuilder(title)
    .uid(uid)
    .tags(['millrace'])
    .refresh('10s')
    .time({ from: 'now-1h', to: 'now' })
    .timezone('browser')
    .tooltip(DashboardCursorSync.Crosshair)
    .link(
      new DashboardLinkBuilder('millrace')
        .type(DashboardLinkType.Dashboards)
        .tags(['millrace'])
        .keepTime(true)
        .includeVars(true),
    )
    .withVariable(new DatasourceVariableBuilder('datasource').type('prometheus'));
  for (const name of VARIABLES) dashboard.withVariable(variable(name, 'millrace_workers'));
  for (const [name, metric] of Object.entries(variables)) {
    dashboard.withVariable(variable(name, metric));
  }
  for (const { name, expr, text, color } of ANNOTATIONS) {
    dashboard.annotation(
      new AnnotationQueryBuilder()
        .name(name)
        .datasource(SOURCE)
        .enable(true)
        .iconColor(color)
        .expr(expr)
        .step('60s')
        .titleFormat(name)
        .textFormat(text),
    );
  }
  for (const row of rows) {
    dashboard.withRow(new RowBuilder(row.title));
    for (const panel of row.panels) dashboard.withPanel(panelOf(panel, row.panels.length));
  }
  return `${JSON.stringify(dashboard.build(), undefined, 2)}\n`;
}

type AnyPanelBuilder = TimeseriesBuilder | StatBuilder | BarGaugeBuilder | HeatmapBuilder;

function builderOf({ kind, redFrom }: PanelPlan): AnyPanelBuilder {
  switch (kind) {
    case 'stat':
      return redFrom === undefined ? new StatBuilder() : redStat(redFrom);
    case 'bars':
      return new BarGaugeBuilder();
    case 'heatmap':
      return new HeatmapBuilder();
    case 'curves':
      return new TimeseriesBuilder();
  }
}

function redStat(from: number): StatBuilder {
  return new StatBuilder().thresholds(
    new ThresholdsConfigBuilder().mode(ThresholdsMode.Absolute).steps([
      { value: null, color: 'green' },
      { value: from, color: 'red' },
    ]),
  );
}

function panelOf(plan: PanelPlan, panels: number): AnyPanelBuilder {
  const panel = builderOf(plan);
  panel
    .title(plan.title)
    .description(plan.description)
    .unit(plan.unit)
    .datasource(SOURCE)
    .height(plan.kind === 'stat' ? STAT_HEIGHT : PANEL_HEIGHT)
    .span(plan.kind === 'stat' ? Math.max(3, Math.floor(COLUMNS / panels)) : COLUMNS / 2);
  for (const { expr, legend } of plan.curves) {
    const query = new DataqueryBuilder().expr(expr).legendFormat(legend);
    if (plan.kind === 'heatmap') query.format(PromQueryFormat.Heatmap);
    panel.withTarget(query);
  }
  return panel;
}
