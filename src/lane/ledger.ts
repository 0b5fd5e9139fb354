/**
 * The counters a worker keeps in its slot of the control memory: one float64 each, written by that worker
 * alone, read by whoever wants a number. Per-lane outcomes (delivered, rejected …) are not here: they move
 * with the head of the lane, in one step (settlement.ts).
 */

/** Counters by name. The order is the layout. */
export const WORKER_COUNTERS = [
  'batches',
  'batch_full',
  'batch_bytes',
  'batch_linger',
  'batch_flush',
  'retries_timeout',
  'retries_reset',
  'retries_dns',
  'retries_tls',
  'retries_network',
  'retries_redirect',
  'retries_http_4xx',
  'retries_http_429',
  'retries_http_5xx',
  'retries_bad_reply',
  'retries_receiver_code',
  'retries_too_large',
  'retries_config',
  'retries_disk_full',
  'retries_disk',
  'requests_2xx',
  'requests_3xx',
  'requests_4xx',
  'requests_413',
  'requests_429',
  'requests_5xx',
  'requests_none',
  'splits',
  'recoveries',
  'busy_ms',
  'turns',
  'deliver_ms',
  'rotations',
  'written_bytes',
] as const;

export type WorkerCounter = (typeof WORKER_COUNTERS)[number];

export type WorkerHistogram =
  | 'delivery_seconds'
  | 'request_seconds'
  | 'batch_records'
  | 'batch_raw_bytes'
  | 'batch_sent_bytes'
  | 'encode_seconds';

/** Upper bounds of histogram buckets; a last bucket takes what is above. */
export interface HistogramSpec {
  readonly name: WorkerHistogram;
  readonly bounds: readonly number[];
}

const LATENCY_SECONDS: readonly number[] = [
  0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300,
];

/** Histograms of a worker: for each, one float64 a bucket, then the sum of the values. */
export const WORKER_HISTOGRAMS: readonly HistogramSpec[] = [
  { name: 'delivery_seconds', bounds: LATENCY_SECONDS },
  { name: 'request_seconds', bounds: LATENCY_SECONDS },
  { name: 'batch_records', bounds: [1, 5, 10, 20, 50, 100, 200, 500, 1000, 2000] },
  {
    name: 'batch_raw_bytes',
    bounds: [1024, 4096, 16384, 65536, 131072, 262144, 524288, 1048576, 4194304],
  },
  {
    name: 'batch_sent_bytes',
    bounds: [256, 1024, 4096, 16384, 65536, 131072, 262144, 524288, 1048576],
  },
  {
    name: 'encode_seconds',
    bounds: [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1],
  },
];

const COUNTER_INDEX = new Map<string, number>(WORKER_COUNTERS.map((name, index) => [name, index]));
const HISTOGRAM_PLACES: ReadonlyMap<string, { at: number; spec: HistogramSpec }> =
  placeHistograms();

/** Float64s of one worker slot. */
export const FLOATS_PER_WORKER: number = [...HISTOGRAM_PLACES.values()].reduce(
  (end, { at, spec }) => Math.max(end, at + spec.bounds.length + 2),
  0,
);

function placeHistograms(): Map<string, { at: number; spec: HistogramSpec }> {
  const places = new Map<string, { at: number; spec: HistogramSpec }>();
  let at = WORKER_COUNTERS.length;
  for (const spec of WORKER_HISTOGRAMS) {
    places.set(spec.name, { at, spec });
    at += spec.bounds.length + 2;
  }
  return places;
}

/** Writes the counters of one worker slot. */
export class LedgerWriter {
  readonly #floats: Float64Array;
  readonly #at: number;

  constructor(floats: Float64Array, slotFloatAt: number) {
    this.#floats = floats;
    this.#at = slotFloatAt;
  }

  add(counter: WorkerCounter, amount = 1): void {
    const at = this.#at + (COUNTER_INDEX.get(counter) ?? 0);
    this.#floats[at] = (this.#floats[at] ?? 0) + amount;
  }

  /** Puts `times` observations of `value` into a histogram. */
  observe(histogram: WorkerHistogram, value: number, times = 1): void {
    const place = HISTOGRAM_PLACES.get(histogram);
    if (place === undefined) return;
    const bounds = place.spec.bounds;
    let bucket = 0;
    while (bucket < bounds.length && value > (bounds[bucket] ?? 0)) bucket += 1;
    const at = this.#at + place.at;
    this.#floats[at + bucket] = (this.#floats[at + bucket] ?? 0) + times;
    const sumAt = at + bounds.length + 1;
    this.#floats[sumAt] = (this.#floats[sumAt] ?? 0) + value * times;
  }
}

/** One histogram as read: `counts` per bucket (not cumulative), the one above the last bound at its end. */
export interface HistogramReading {
  readonly bounds: readonly number[];
  readonly counts: readonly number[];
  readonly sum: number;
}

/** Reads counters, summed over worker slots. */
export class LedgerReader {
  readonly #floats: Float64Array;
  readonly #slotsFloatAt: readonly number[];

  constructor(floats: Float64Array, slotsFloatAt: readonly number[]) {
    this.#floats = floats;
    this.#slotsFloatAt = slotsFloatAt;
  }

  total(counter: WorkerCounter): number {
    return this.#sum(COUNTER_INDEX.get(counter) ?? 0);
  }

  histogram(name: WorkerHistogram): HistogramReading {
    const place = HISTOGRAM_PLACES.get(name);
    if (place === undefined) return { bounds: [], counts: [], sum: 0 };
    const { at, spec } = place;
    const counts = Array.from({ length: spec.bounds.length + 1 }, (_, bucket) =>
      this.#sum(at + bucket),
    );
    return { bounds: spec.bounds, counts, sum: this.#sum(at + spec.bounds.length + 1) };
  }

  #sum(index: number): number {
    let sum = 0;
    for (const slotAt of this.#slotsFloatAt) sum += this.#floats[slotAt + index] ?? 0;
    return sum;
  }
}
