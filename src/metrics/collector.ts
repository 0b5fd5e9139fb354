import { Counter, Gauge, type Histogram, Registry } from 'prom-client';
import { CATALOGUE, type HistogramMetric, type ValueMetric } from './catalogue.ts';
import type { MetricsSource, Readings } from './source.ts';

/** A Registry of prom-client. */
export type MetricsRegistry = Registry;

/** A source before it has its name within a registry. */
export type NewSource = Omit<MetricsSource, 'client'> & { readonly client?: string };

const FIRST_CLIENT = 'default';
const SHARED_LABELS = ['client', 'consumer'] as const;
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
    this.#register();
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
  #register(): void {
    for (const metric of CATALOGUE) {
      if (this.registry.getSingleMetric(metric.name) !== undefined) continue;
      if (metric.type === 'histogram') this.#addHistogram(metric);
      else this.#addValue(metric);
    }
  }

  #addValue(metric: ValueMetric): void {
    const options = {
      name: metric.name,
      help: metric.help,
      labelNames: [...SHARED_LABELS, ...metric.labels],
      registers: [this.registry],
    };
    const samples = () => this.#samples(metric);
    if (metric.type === 'gauge') {
      new Gauge({
        ...options,
        collect() {
          this.reset();
          for (const { labels, value } of samples()) this.set(labels, value);
        },
      });
      return;
    }
    new Counter({
      ...options,
      collect() {
        this.reset();
        for (const { labels, value } of samples()) this.inc(labels, value);
      },
    });
  }

  *#samples(metric: ValueMetric): Iterable<{ labels: Record<string, string>; value: number }> {
    for (const [{ client, consumer }, readings] of this.#readings()) {
      for (const { labels, value } of metric.read(readings)) {
        yield { labels: { client, consumer, ...labels }, value };
      }
    }
  }

  #addHistogram(metric: HistogramMetric): void {
    const histogram = new LedgerHistogram(metric, () =>
      [...this.#readings()].map(([{ client, consumer }, readings]) => ({
        labels: { client, consumer },
        reading: metric.read(readings),
      })),
    );
    // prom-client's type lists its own four classes; its registry wants no more than name, get() and reset().
    this.registry.registerMetric(histogram as unknown as Histogram);
  }

  /** One look at every source for all metrics of a scrape, so that they agree with each other. */
  #readings(): ReadonlyMap<MetricsSource, Readings> {
    if (this.#scrape === undefined) {
      this.#scrape = new Map([...this.#sources].map((source) => [source, source.readings()]));
      queueMicrotask(() => {
        this.#scrape = undefined;
      });
    }
    return this.#scrape;
  }
}

interface LabelledReading {
  readonly labels: Record<string, string>;
  readonly reading: Readings['callSeconds'];
}

/**
 * A histogram whose buckets are counted elsewhere: prom-client's own can only observe value by value. It is all
 * that a registry asks of a metric.
 */
class LedgerHistogram {
  readonly name: string;
  readonly help: string;
  readonly type = 'histogram';
  readonly aggregator = 'sum';
  readonly labelNames: readonly string[] = SHARED_LABELS;
  readonly #read: () => readonly LabelledReading[];

  constructor({ name, help }: HistogramMetric, read: () => readonly LabelledReading[]) {
    this.name = name;
    this.help = help;
    this.#read = read;
  }

  async get(): Promise<object> {
    const { name, help, type, aggregator } = this;
    const values = this.#read().flatMap((labelled) => valuesOf(name, labelled));
    return { name, help, type, aggregator, values };
  }

  reset(): void {
    // The ledger's counts are the truth; there is nothing of its own to forget.
  }
}

interface HistogramValue {
  readonly metricName: string;
  readonly labels: Record<string, string | number>;
  readonly value: number;
}

function valuesOf(name: string, { labels, reading }: LabelledReading): HistogramValue[] {
  const values: HistogramValue[] = [];
  let count = 0;
  reading.counts.forEach((bucket, index) => {
    count += bucket;
    const le = reading.bounds[index] ?? '+Inf';
    values.push({ metricName: `${name}_bucket`, labels: { le, ...labels }, value: count });
  });
  values.push(
    { metricName: `${name}_sum`, labels, value: reading.sum },
    { metricName: `${name}_count`, labels, value: count },
  );
  return values;
}
