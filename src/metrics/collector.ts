import { Counter, Gauge, type Metric as PromMetric, Registry } from 'prom-client';
import type { Exemplar } from '../lane/ledger.ts';
import type { Readings } from '../lane/readings.ts';
import { CATALOGUE, type HistogramSample, type Metric, type Sample } from './catalogue.ts';
import type { MetricsSource } from './source.ts';

/** A Registry of prom-client. */
export type MetricsRegistry = Registry;

/** A source before it has its name within a registry. */
export type NewSource = Omit<MetricsSource, 'client'> & { readonly client?: string };

const FIRST_CLIENT = 'default';
const collectors = new WeakMap<Registry, MetricsCollector>();

/**
 * The metrics of all clients of one registry. They are read from shared memory when somebody scrapes; nothing is
 * counted in between.
 */
export class MetricsCollector {
  readonly registry: Registry;
  readonly #sources = new Set<MetricsSource>();
  #scrape: ReadonlyMap<MetricsSource, Readings> | undefined;

  private constructor(registry: Registry) {
    this.registry = registry;
  }

  /** The collector of a registry; of one of its own without. */
  static of(registry: Registry = new Registry()): MetricsCollector {
    const known = collectors.get(registry);
    if (known !== undefined) return known;
    const made = new MetricsCollector(registry);
    collectors.set(registry, made);
    return made;
  }

  /** Adds a client and returns a function that takes it out again. */
  add(source: NewSource): () => void {
    const named = { ...source, client: this.#freeName(source.client) };
    this.#sources.add(named);
    this.register();
    return () => this.#sources.delete(named);
  }

  #freeName(wanted: string | undefined): string {
    const taken = new Set([...this.#sources].map(({ client }) => client));
    const base = wanted ?? FIRST_CLIENT;
    if (!taken.has(base)) return base;
    let number = 2;
    while (taken.has(`${base}${number}`)) number += 1;
    return `${base}${number}`;
  }

  /** Puts in what is missing: all at first, and again after the registry was cleared. */
  register(): void {
    for (const metric of CATALOGUE) {
      if (this.registry.getSingleMetric(metric.name) !== undefined) continue;
      const made = new LedgerMetric(metric, {
        isOpen: () => String(this.registry.contentType) === OPEN_METRICS,
        readings: () => this.look(),
      });
      // prom-client's type lists its own four classes; its registry wants no more than what ours has.
      this.registry.registerMetric(made as unknown as PromMetric);
    }
  }

  /** One look at every source for all metrics of a scrape, so that they agree with each other. */
  look(): ReadonlyMap<MetricsSource, Readings> {
    if (this.#scrape === undefined) {
      this.#scrape = new Map([...this.#sources].map((source) => [source, source.readings()]));
      queueMicrotask(() => {
        this.#scrape = undefined;
      });
    }
    return this.#scrape;
  }
}

type Labels = Readonly<Record<string, string | number>>;

/** A sample as prom-client's registry writes it. */
interface PromValue {
  readonly metricName?: string;
  readonly labels: Labels;
  /** Labels that the registry remembers the text of, by the object. */
  readonly sharedLabels?: Labels;
  readonly value: number;
  readonly exemplar?: {
    readonly labelSet: Labels;
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

interface LedgerMetricHost {
  /** Whether the registry writes OpenMetrics, which has names without `_total`. */
  isOpen(): boolean;
  readings(): ReadonlyMap<MetricsSource, Readings>;
}

const OPEN_METRICS = Registry.OPENMETRICS_CONTENT_TYPE;
const NO_LABELS: Labels = Object.freeze({});

/**
 * A metric whose values are counted elsewhere: prom-client's own classes keep a table of what they are told, and its
 * histogram can only observe value by value. This is all that a registry asks of a metric.
 */
class LedgerMetric {
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

  reset(): void {
    // The ledger's counts are the truth; there is nothing of its own to forget.
  }

  #reading(values: readonly PromValue[]): PromReading {
    const { help, type, aggregator } = this;
    // OpenMetrics writes counters without their ending, and prom-client adds it to their samples.
    const isStem = type === 'counter' && this.#host.isOpen();
    const name = isStem ? this.name.replace(/_total$/, '') : this.name;
    return { name, help, type, aggregator, values };
  }

  #addValues(
    values: PromValue[],
    { source, readings }: { readonly source: MetricsSource; readonly readings: Readings },
  ): void {
    const metric = this.#metric;
    if (metric.type === 'histogram') {
      for (const sample of metric.read(readings))
        addHistogram(values, metric.name, { source, sample });
      return;
    }
    for (const { labels, value } of metric.read(readings)) {
      values.push({ labels: NO_LABELS, sharedLabels: seriesOf(source, labels), value });
    }
  }
}

const series = new WeakMap<MetricsSource, WeakMap<Labels, Labels>>();

/** Labels with those of the source: the same object at each scrape, because prom-client remembers its text. */
function seriesOf(source: MetricsSource, labels: Labels): Labels {
  const ofSource = known(series, source, () => new WeakMap<Labels, Labels>());
  const { client, consumer } = source;
  return known(ofSource, labels, () => Object.freeze({ client, consumer, ...labels }));
}

/** What is kept for a key; made if there is nothing yet. */
function known<Key extends WeakKey, Value>(
  map: Pick<WeakMap<Key, Value>, 'get' | 'set'>,
  key: Key,
  make: () => Value,
): Value {
  const present = map.get(key);
  if (present !== undefined) return present;
  const made = make();
  map.set(key, made);
  return made;
}

function addHistogram(
  values: PromValue[],
  name: string,
  { source, sample }: { readonly source: MetricsSource; readonly sample: HistogramSample },
): void {
  const { counts, exemplars, sum } = sample.reading;
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
const bucketLabels = new WeakMap<Labels, WeakMap<readonly number[], readonly Labels[]>>();

function bucketsOf(
  source: MetricsSource,
  { labels, reading }: HistogramSample,
): { readonly labels: Labels; readonly buckets: readonly Labels[] } {
  const shared = seriesOf(source, labels);
  const ofSeries = known(bucketLabels, shared, () => new WeakMap());
  const buckets = known(ofSeries, reading.bounds, () =>
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

/** A metric of something else than a client, without its labels. */
interface ValueOf<T> {
  readonly type: 'counter' | 'gauge';
  readonly name: string;
  readonly help: string;
  readonly labels: readonly string[];
  readonly read: (source: T) => readonly Sample[];
}

export function newRegistry(): MetricsRegistry {
  return new Registry();
}

/** Puts the metrics of one source into a registry, read at each scrape. The function it returns takes them out again. */
export function exposeValues<T>(
  registry: MetricsRegistry,
  catalogue: readonly ValueOf<T>[],
  read: () => T,
): () => void {
  for (const { type, name, help, labels, read: readValues } of catalogue) {
    const options = { name, help, labelNames: [...labels], registers: [registry] };
    if (type === 'gauge') {
      new Gauge({
        ...options,
        collect() {
          this.reset();
          for (const sample of readValues(read())) this.set(sample.labels, sample.value);
        },
      });
      continue;
    }
    new Counter({
      ...options,
      collect() {
        this.reset();
        for (const sample of readValues(read())) this.inc(sample.labels, sample.value);
      },
    });
  }
  return () => {
    for (const { name } of catalogue) registry.removeSingleMetric(name);
  };
}
