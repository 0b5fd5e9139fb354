import type { Exemplar } from '../lane/ledger.ts';
import type { Readings } from '../lane/readings.ts';
import type { HistogramSample, Metric } from './catalogue.ts';
import { getOrMake } from './memo.ts';
import type { MetricsSource } from './source.ts';

export type PromLabels = Readonly<Record<string, string | number>>;

/** A sample as prom-client's registry writes it. */
interface PromValue {
  readonly metricName?: string;
  readonly labels: PromLabels;
  /** Labels that the registry remembers the text of, by the object. */
  readonly sharedLabels?: PromLabels;
  readonly value: number;
  readonly exemplar?: {
    readonly labelSet: PromLabels;
    readonly value: number;
    readonly timestamp: number;
  };
}

interface PromReading {
  readonly name: string;
  readonly help: string;
  readonly type: Metric['type'];
  readonly aggregator: Metric['aggregator'];
  readonly values: readonly PromValue[];
}

export interface LedgerMetricHost {
  /** Whether the registry writes OpenMetrics: counters are named without `_total` there, and buckets have exemplars. */
  writesOpenMetrics(): boolean;
  readings(): ReadonlyMap<MetricsSource, Readings>;
}

/** The numbers of a metric in the order of its lines. */
export interface Numbers {
  /** What the lines are of: the same objects again as long as only values change. */
  readonly keys: readonly object[];
  readonly values: readonly number[];
}

const NO_LABELS: PromLabels = Object.freeze({});

/**
 * A metric whose values are counted elsewhere: prom-client's own classes keep a table of what they are told, and its
 * histogram can only observe value by value. This is all that a registry asks of a metric.
 */
export class LedgerMetric {
  readonly help: string;
  readonly type: Metric['type'];
  readonly aggregator: Metric['aggregator'];
  readonly labelNames: readonly string[];
  readonly #metric: Metric;
  readonly #host: LedgerMetricHost;

  constructor(metric: Metric, host: LedgerMetricHost) {
    this.help = metric.help;
    this.type = metric.type;
    this.aggregator = metric.aggregator;
    this.labelNames = ['client', 'consumer', ...metric.labels];
    this.#metric = metric;
    this.#host = host;
  }

  get name(): string {
    return this.#metric.name;
  }

  set name(_name: string) {
    // An OpenMetrics registry renames its counters; ours know their name.
  }

  /** For the text, of which the labels are most: so they are shared, and written only once for all scrapes. */
  async getForPromString(): Promise<PromReading> {
    const values: PromValue[] = [];
    for (const [source, readings] of this.#host.readings()) {
      this.#addValues(values, { source, readings });
    }
    return this.#reading(values);
  }

  /** For `getMetricsAsJSON()`, which a cluster's primary adds up. */
  async get(): Promise<PromReading> {
    const { values, ...reading } = await this.getForPromString();
    return {
      ...reading,
      values: values.map(({ sharedLabels, ...value }) => ({
        ...value,
        labels: { ...sharedLabels },
      })),
    };
  }

  /** The values of the lines that a registry writes of {@link getForPromString} at the same moment. */
  numbers(): Numbers {
    const metric = this.#metric;
    const keys: object[] = [];
    const values: number[] = [];
    for (const [source, readings] of this.#host.readings()) {
      keys.push(source);
      if (metric.type === 'histogram') {
        for (const { labels, reading } of metric.read(readings)) {
          keys.push(labels, reading.bounds);
          let count = 0;
          for (const bucket of reading.counts) {
            count += bucket;
            values.push(count);
          }
          values.push(reading.sum, count);
        }
      } else {
        for (const { labels, value } of metric.read(readings)) {
          keys.push(labels);
          values.push(value);
        }
      }
    }
    return { keys, values };
  }

  reset(): void {
    // The ledger's counts are the truth; there is nothing of its own to forget.
  }

  #reading(values: readonly PromValue[]): PromReading {
    const { help, type, aggregator } = this;
    // OpenMetrics writes counters without their ending, and prom-client adds it to their samples.
    const isStem = type === 'counter' && this.#host.writesOpenMetrics();
    const name = isStem ? this.name.replace(/_total$/, '') : this.name;
    return { name, help, type, aggregator, values };
  }

  #addValues(
    values: PromValue[],
    { source, readings }: { readonly source: MetricsSource; readonly readings: Readings },
  ): void {
    const metric = this.#metric;
    if (metric.type === 'histogram') {
      const hasExemplars = this.#host.writesOpenMetrics();
      for (const sample of metric.read(readings)) {
        addHistogram(values, { name: metric.name, hasExemplars, source, sample });
      }
      return;
    }
    for (const { labels, value } of metric.read(readings)) {
      values.push({ labels: NO_LABELS, sharedLabels: seriesOf(source, labels), value });
    }
  }
}

const series = new WeakMap<MetricsSource, WeakMap<PromLabels, PromLabels>>();

/** Labels with those of the source: the same object at each scrape, because prom-client remembers its text. */
function seriesOf(source: MetricsSource, labels: PromLabels): PromLabels {
  const ofSource = getOrMake(series, source, () => new WeakMap<PromLabels, PromLabels>());
  const { client, consumer } = source;
  return getOrMake(ofSource, labels, () => Object.freeze({ client, consumer, ...labels }));
}

interface NamedHistogram {
  readonly name: string;
  readonly hasExemplars: boolean;
  readonly source: MetricsSource;
  readonly sample: HistogramSample;
}

function addHistogram(
  values: PromValue[],
  { name, hasExemplars, source, sample }: NamedHistogram,
): void {
  const { counts, sum } = sample.reading;
  const exemplars = hasExemplars ? sample.reading.exemplars?.() : undefined;
  const { labels, buckets } = bucketsOf(source, sample);
  let count = 0;
  for (const [index, bucket] of counts.entries()) {
    count += bucket;
    const exemplar = exemplars?.[index];
    values.push({
      metricName: `${name}_bucket`,
      labels: NO_LABELS,
      sharedLabels: buckets[index] ?? labels,
      value: count,
      ...(exemplar === undefined ? {} : { exemplar: promExemplar(exemplar) }),
    });
  }
  values.push(
    { metricName: `${name}_sum`, labels: NO_LABELS, sharedLabels: labels, value: sum },
    { metricName: `${name}_count`, labels: NO_LABELS, sharedLabels: labels, value: count },
  );
}

/** Buckets belong to the bounds: histograms of one label set may have several lists of them. */
const bucketLabels = new WeakMap<PromLabels, WeakMap<readonly number[], readonly PromLabels[]>>();

function bucketsOf(
  source: MetricsSource,
  { labels, reading }: HistogramSample,
): { readonly labels: PromLabels; readonly buckets: readonly PromLabels[] } {
  const shared = seriesOf(source, labels);
  const ofSeries = getOrMake(bucketLabels, shared, () => new WeakMap());
  const buckets = getOrMake(ofSeries, reading.bounds, () =>
    [...reading.bounds, '+Inf'].map((le) => Object.freeze({ le, ...shared })),
  );
  return { labels: shared, buckets };
}

function promExemplar({
  value,
  seconds,
  lane,
  worker,
}: Exemplar): NonNullable<PromValue['exemplar']> {
  return {
    labelSet: { lane: String(lane), worker: String(worker) },
    value,
    timestamp: Number(seconds.toFixed(3)),
  };
}
