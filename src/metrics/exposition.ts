import { LedgerMetric, type Numbers } from './ledger-metric.ts';

/** What is asked of a registry of prom-client. */
interface Registered {
  getMetricsAsArray(): readonly { readonly name: string }[];
  getSingleMetric(name: string): unknown;
  getSingleMetricAsString(name: string): Promise<string>;
}

/** A metric whose text changes whenever that of other lines may: with the registry's own labels, and with the clients. */
const FORM = 'millrace_build_info';

/**
 * Writes a registry's text in Prometheus' format with the same bytes as prom-client, for a fraction of its time: what prom-client
 * wrote of a metric of ours is remembered, and afterwards only the values that changed are written anew. Other metrics are
 * prom-client's.
 */
export class Exposition {
  readonly #registry: Registered;
  readonly #written = new Map<LedgerMetric, WrittenMetric>();
  #form: string | undefined;

  constructor(registry: Registered) {
    this.#registry = registry;
  }

  async text(): Promise<string> {
    const registry = this.#registry;
    const isThere = registry.getSingleMetric(FORM) !== undefined;
    const form = isThere ? await registry.getSingleMetricAsString(FORM) : undefined;
    if (form === undefined || form !== this.#form) this.#written.clear();
    this.#form = form;
    const texts = registry
      .getMetricsAsArray()
      .map((metric) =>
        metric instanceof LedgerMetric
          ? this.#textOf(metric)
          : registry.getSingleMetricAsString(metric.name),
      );
    const isReady = texts.every((text) => typeof text === 'string');
    return `${(isReady ? texts : await Promise.all(texts)).join('\n\n')}\n`;
  }

  #textOf(metric: LedgerMetric): string | Promise<string> {
    const numbers = metric.numbers();
    return this.#written.get(metric)?.write(numbers) ?? this.#learn(metric, numbers);
  }

  async #learn(metric: LedgerMetric, numbers: Numbers): Promise<string> {
    const text = await this.#registry.getSingleMetricAsString(metric.name);
    this.#written.set(metric, new WrittenMetric(text, numbers));
    return text;
  }
}

/** One metric's text, and where its values are. */
class WrittenMetric {
  readonly #keys: readonly object[];
  /** The text up to each value. */
  readonly #heads: readonly string[];
  readonly #lines: string[];
  readonly #head: string;
  #values: readonly number[];
  #text: string;

  constructor(text: string, { keys, values }: Numbers) {
    const [help = '', type = '', ...lines] = text.split('\n');
    this.#head = `${help}\n${type}`;
    this.#keys = keys;
    this.#heads = lines.map((line) => line.slice(0, line.lastIndexOf(' ') + 1));
    this.#lines = lines;
    this.#values = values;
    this.#text = text;
  }

  /** The text with these values; undefined: they are of other lines. */
  write({ keys, values }: Numbers): string | undefined {
    if (!areSame(keys, this.#keys)) return undefined;
    let isNew = false;
    for (let index = 0; index < values.length; index += 1) {
      const value = values[index] ?? Number.NaN;
      if (value === this.#values[index]) continue;
      this.#lines[index] = this.#heads[index] + textOf(value);
      isNew = true;
    }
    this.#values = values;
    if (isNew) this.#text = [this.#head, ...this.#lines].join('\n');
    return this.#text;
  }
}

function areSame(keys: readonly object[], others: readonly object[]): boolean {
  return keys.length === others.length && keys.every((key, index) => key === others[index]);
}

function textOf(value: number): string {
  if (Number.isFinite(value)) return String(value);
  if (Number.isNaN(value)) return 'Nan';
  return value > 0 ? '+Inf' : '-Inf';
}
