/**
 * The counters a worker keeps in its slot of the control memory: one float64 each, written by that worker
 * alone, read by whoever wants a number. The engine's thread has a slot of its own behind those of the workers. Per-lane outcomes (delivered, rejected …) are not here: they move
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
  'requests_timeout',
  'requests_reset',
  'requests_dns',
  'requests_tls',
  'requests_network',
  'requests_disk',
  'requests_none',
  'codes_0',
  'codes_-1',
  'codes_-2',
  'codes_-3',
  'codes_other',
  'dead_content',
  'dead_too_large',
  'dead_unexplained',
  'dead_expired',
  'dead_crashed',
  'again_retry',
  'again_worker_death',
  'splits',
  'busy_ms',
  'turns',
  'retry_after_ms',
  'rotations_start',
  'rotations_period',
  'rotations_size',
  'rotations_reopen',
  'written_bytes',
  'upkeep_pack',
  'upkeep_remove',
  'recovery_ms',
] as const;

export type WorkerCounter = (typeof WORKER_COUNTERS)[number];

/** Numbers that a worker sets as they are now; they end with it. */
export const WORKER_LEVELS = ['inflight_requests'] as const;

export type WorkerLevel = (typeof WORKER_LEVELS)[number];

export type WorkerHistogram =
  | 'delivery_seconds'
  | 'queue_seconds'
  | `request_${RequestOutcome}`
  | 'batch_records'
  | 'batch_raw_bytes'
  | 'batch_sent_bytes'
  | 'encode_seconds'
  | 'compress_seconds'
  | 'fsync_file'
  | 'fsync_spool'
  | 'turn_seconds'
  | 'flush_seconds';

/** What came of an attempt, as a metric label. */
export type RequestOutcome = 'ok' | 'retryable' | 'permanent' | 'timeout' | 'network';

/** Upper bounds of histogram buckets; a last bucket takes what is above. */
interface HistogramSpec {
  readonly name: WorkerHistogram;
  readonly bounds: readonly number[];
  /** Whether each bucket remembers its latest value, when that was, and the lane: an exemplar. */
  readonly hasExemplars?: boolean;
}

const LATENCY_SECONDS: readonly number[] = [
  0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300,
];
const WORK_SECONDS: readonly number[] = [
  0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1,
];
const DISK_SECONDS: readonly number[] = [
  0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 2.5,
];
/** Value, time in s since 1970, lane. */
const EXEMPLAR_FLOATS = 3;

/** Histograms of a worker: for each, one float64 a bucket, then the sum of the values. */
const WORKER_HISTOGRAMS: readonly HistogramSpec[] = [
  { name: 'delivery_seconds', bounds: LATENCY_SECONDS, hasExemplars: true },
  { name: 'queue_seconds', bounds: LATENCY_SECONDS, hasExemplars: true },
  { name: 'request_ok', bounds: LATENCY_SECONDS, hasExemplars: true },
  { name: 'request_retryable', bounds: LATENCY_SECONDS, hasExemplars: true },
  { name: 'request_permanent', bounds: LATENCY_SECONDS, hasExemplars: true },
  { name: 'request_timeout', bounds: LATENCY_SECONDS, hasExemplars: true },
  { name: 'request_network', bounds: LATENCY_SECONDS, hasExemplars: true },
  { name: 'batch_records', bounds: [1, 5, 10, 20, 50, 100, 200, 500, 1000, 2000] },
  {
    name: 'batch_raw_bytes',
    bounds: [1024, 4096, 16384, 65536, 131072, 262144, 524288, 1048576, 4194304],
  },
  {
    name: 'batch_sent_bytes',
    bounds: [256, 1024, 4096, 16384, 65536, 131072, 262144, 524288, 1048576],
  },
  { name: 'encode_seconds', bounds: WORK_SECONDS },
  { name: 'compress_seconds', bounds: WORK_SECONDS },
  { name: 'fsync_file', bounds: DISK_SECONDS },
  { name: 'fsync_spool', bounds: DISK_SECONDS },
  { name: 'turn_seconds', bounds: [0.25, 0.5, 1, 5, 30, 60, 300, 1800] },
  { name: 'flush_seconds', bounds: LATENCY_SECONDS },
];

const COUNTER_INDEX = new Map<string, number>(
  [...WORKER_COUNTERS, ...WORKER_LEVELS].map((name, index) => [name, index]),
);
const HISTOGRAM_PLACES: ReadonlyMap<string, { at: number; spec: HistogramSpec }> =
  placeHistograms();

/** Float64s of one worker slot. */
export const FLOATS_PER_WORKER: number = [...HISTOGRAM_PLACES.values()].reduce(
  (end, { at, spec }) => Math.max(end, at + floatsOf(spec)),
  0,
);

function floatsOf({ bounds, hasExemplars }: HistogramSpec): number {
  const buckets = bounds.length + 1;
  return buckets + 1 + (hasExemplars === true ? buckets * EXEMPLAR_FLOATS : 0);
}

function placeHistograms(): Map<string, { at: number; spec: HistogramSpec }> {
  const places = new Map<string, { at: number; spec: HistogramSpec }>();
  let at: number = WORKER_COUNTERS.length + WORKER_LEVELS.length;
  for (const spec of WORKER_HISTOGRAMS) {
    places.set(spec.name, { at, spec });
    at += floatsOf(spec);
  }
  return places;
}

/** Values put into a histogram together. */
export interface Observation {
  /** How many records have the value; default 1. */
  readonly times?: number;
  /** Where it was seen, for the exemplar. */
  readonly lane?: number;
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

  set(level: WorkerLevel, value: number): void {
    this.#floats[this.#at + (COUNTER_INDEX.get(level) ?? 0)] = value;
  }

  observe(
    histogram: WorkerHistogram,
    value: number,
    { times = 1, lane = -1 }: Observation = {},
  ): void {
    const place = HISTOGRAM_PLACES.get(histogram);
    if (place === undefined) return;
    const { bounds, hasExemplars } = place.spec;
    let bucket = 0;
    while (bucket < bounds.length && value > (bounds[bucket] ?? 0)) bucket += 1;
    const floats = this.#floats;
    const at = this.#at + place.at;
    floats[at + bucket] = (floats[at + bucket] ?? 0) + times;
    const sumAt = at + bounds.length + 1;
    floats[sumAt] = (floats[sumAt] ?? 0) + value * times;
    if (hasExemplars !== true || lane < 0) return;
    const exemplarAt = sumAt + 1 + bucket * EXEMPLAR_FLOATS;
    floats[exemplarAt] = value;
    floats[exemplarAt + 1] = Date.now() / 1000;
    floats[exemplarAt + 2] = lane;
  }
}

/** One value that a bucket has seen, and where. */
export interface Exemplar {
  readonly value: number;
  /** In s since 1970. */
  readonly seconds: number;
  readonly lane: number;
  readonly worker: number;
}

/** One histogram as read: `counts` per bucket (not cumulative), the one above the last bound at its end. */
export interface HistogramReading {
  readonly bounds: readonly number[];
  readonly counts: readonly number[];
  readonly sum: number;
  /** Reads those by bucket; undefined: none, or the histogram has none. */
  readonly exemplars?: () => readonly (Exemplar | undefined)[];
}

/** A worker's slot, as the reader looks at it. */
export interface LedgerSlot {
  readonly worker: number;
  readonly floatAt: number;
}

/** Reads counters, summed over worker slots. */
export class LedgerReader {
  readonly #floats: Float64Array;
  /** Those that ever counted something. */
  slots: readonly LedgerSlot[] = [];

  constructor(floats: Float64Array) {
    this.#floats = floats;
  }

  total(counter: WorkerCounter): number {
    return this.#sum(COUNTER_INDEX.get(counter) ?? 0);
  }

  /** A counter or level of one slot. */
  of({ floatAt }: LedgerSlot, counter: WorkerCounter | WorkerLevel): number {
    return this.#floats[floatAt + (COUNTER_INDEX.get(counter) ?? 0)] ?? 0;
  }

  histogram(name: WorkerHistogram): HistogramReading {
    const place = HISTOGRAM_PLACES.get(name);
    if (place === undefined) return { bounds: [], counts: [], sum: 0 };
    const { at, spec } = place;
    const buckets = spec.bounds.length + 1;
    const counts: number[] = [];
    for (let bucket = 0; bucket < buckets; bucket += 1) counts.push(this.#sum(at + bucket));
    const reading = { bounds: spec.bounds, counts, sum: this.#sum(at + buckets) };
    if (spec.hasExemplars !== true) return reading;
    const exemplars = () =>
      counts.map((count, bucket) =>
        count === 0 ? undefined : this.#exemplar(at + buckets + 1 + bucket * EXEMPLAR_FLOATS),
      );
    return { ...reading, exemplars };
  }

  /** The latest of all slots. */
  #exemplar(index: number): Exemplar | undefined {
    let latest: Exemplar | undefined;
    for (const { floatAt, worker } of this.slots) {
      const at = floatAt + index;
      const seconds = this.#floats[at + 1] ?? 0;
      if (seconds <= (latest?.seconds ?? 0)) continue;
      latest = { value: this.#floats[at] ?? 0, seconds, lane: this.#floats[at + 2] ?? 0, worker };
    }
    return latest;
  }

  #sum(index: number): number {
    let sum = 0;
    for (const { floatAt } of this.slots) sum += this.#floats[floatAt + index] ?? 0;
    return sum;
  }
}
