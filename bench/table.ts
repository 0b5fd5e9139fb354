import Table from 'cli-table3';
import { spreadOf } from './measure.ts';
import type { Metric, Section } from './suites/suite.ts';

/** A section as a table for the terminal: medians, with the least and the most, and how the first figure compares. */
export function tableOf({ title, note, metrics, rows, against }: Section): string {
  const [first] = metrics;
  const base = rows.find(({ name }) => name === against);
  const table = new Table({
    head: [title, ...(base === undefined ? [] : ['×']), ...metrics.map((metric) => metric.title)],
    style: { head: [], border: [], compact: true },
    colAligns: ['left', ...metrics.map(() => 'right' as const), 'right'],
  });
  for (const { name, values } of rows) {
    const ratio = ratioOf(values[first?.key ?? ''], base?.values[first?.key ?? '']).toFixed(2);
    table.push([
      name,
      ...(base === undefined ? [] : [ratio]),
      ...metrics.map((metric) => cellOf(metric, values[metric.key] ?? [])),
    ]);
  }
  const ratioNote =
    base === undefined ? '' : ` ×: against ${base.name}, median of the rounds' ratios.`;
  return `${table.toString()}\n${note}${ratioNote}`;
}

/** Median, least and most, in the metric's digits. */
export function cellOf({ digits }: Metric, values: readonly number[]): string {
  if (values.length === 0) return '';
  const { median, min, max } = spreadOf(values);
  const show = (value: number) => value.toLocaleString('en-US', { maximumFractionDigits: digits });
  return values.length === 1 ? show(median) : `${show(median)} (${show(min)}–${show(max)})`;
}

/** Median of the ratios within a round: what slows a whole round down is not in it. */
export function ratioOf(own: readonly number[] = [], reference: readonly number[] = []): number {
  return spreadOf(own.map((value, round) => value / (reference[round] ?? Number.NaN))).median;
}
