import { Counter, Gauge, type Metric as PromMetric, Registry } from 'prom-client';
import type { Readings } from '../lane/readings.ts';
import { CATALOGUE } from './catalogue.ts';
import { Exposition } from './exposition.ts';
import { LedgerMetric } from './ledger-metric.ts';
import { getOrMake } from './memo.ts';
import type { MetricsSource } from './source.ts';
import type { ValueOf } from './value-of.ts';

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
  static of(registry: Registry = new LedgerRegistry()): MetricsCollector {
    return getOrMake(collectors, registry, () => new MetricsCollector(registry));
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
        writesOpenMetrics: () => writesOpenMetrics(this.registry),
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

const OPEN_METRICS = Registry.OPENMETRICS_CONTENT_TYPE;

function writesOpenMetrics({ contentType }: Registry): boolean {
  return String(contentType) === OPEN_METRICS;
}

/** A registry that writes the metrics of clients faster than prom-client's own. */
class LedgerRegistry extends Registry {
  readonly #exposition = new Exposition(this);

  override metrics(): Promise<string> {
    return writesOpenMetrics(this) ? super.metrics() : this.#exposition.text();
  }
}

const expositions = new WeakMap<Registry, Exposition>();

/** The text of a registry, as its `metrics()` gives it; that of clients' metrics at less cost. */
export function textOf(registry: MetricsRegistry): Promise<string> {
  if (registry instanceof LedgerRegistry || writesOpenMetrics(registry)) return registry.metrics();
  return getOrMake(expositions, registry, () => new Exposition(registry)).text();
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
