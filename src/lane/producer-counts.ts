import {
  BLOCKED_MS_FLOAT,
  CALL_BOUNDS_SECONDS,
  CALL_BUCKETS_FLOAT,
  CALL_SUM_FLOAT,
  INVALID_FLOAT,
  INVALID_REASONS,
  type InvalidReason,
  PRODUCER_FLOATS,
  PRODUCER_FLOATS_AT,
  SHED_LOW_FLOAT,
  SHED_NORMAL_FLOAT,
  WARNINGS_FLOAT,
} from './layout.ts';
import type { HistogramReading } from './ledger.ts';
import type { Region } from './region.ts';

/** What a producing thread counts beside its lanes. It alone writes; whoever has the region may read. */
export class ProducerCounts {
  readonly #floats: Float64Array;

  private constructor(floats: Float64Array) {
    this.#floats = floats;
  }

  static of({ floats }: Region): ProducerCounts {
    return new ProducerCounts(
      floats.subarray(PRODUCER_FLOATS_AT, PRODUCER_FLOATS_AT + PRODUCER_FLOATS),
    );
  }

  /** Counts of nobody, to add up those of several. */
  static none(): ProducerCounts {
    return new ProducerCounts(new Float64Array(PRODUCER_FLOATS));
  }

  add(other: ProducerCounts): this {
    for (let index = 0; index < PRODUCER_FLOATS; index += 1) {
      this.#count(index, other.#floats[index] ?? 0);
    }
    return this;
  }

  #count(index: number, amount: number): void {
    this.#floats[index] = (this.#floats[index] ?? 0) + amount;
  }

  countInvalid(reason: InvalidReason): void {
    this.#count(INVALID_FLOAT + INVALID_REASONS.indexOf(reason), 1);
  }

  countShed(priority: 'low' | 'normal'): void {
    this.#count(priority === 'low' ? SHED_LOW_FLOAT : SHED_NORMAL_FLOAT, 1);
  }

  /** Adds time callers were held, in ms. */
  countBlocked(ms: number): void {
    this.#count(BLOCKED_MS_FLOAT, ms);
  }

  countWarning(): void {
    this.#count(WARNINGS_FLOAT, 1);
  }

  countCall(seconds: number): void {
    let bucket = 0;
    while (bucket < CALL_BOUNDS_SECONDS.length && seconds > (CALL_BOUNDS_SECONDS[bucket] ?? 0)) {
      bucket += 1;
    }
    this.#count(CALL_BUCKETS_FLOAT + bucket, 1);
    this.#count(CALL_SUM_FLOAT, seconds);
  }

  /** Wrong calls, by what was wrong. */
  get invalid(): Readonly<Record<InvalidReason, number>> {
    const counts = INVALID_REASONS.map((reason, index) => [
      reason,
      this.#floats[INVALID_FLOAT + index] ?? 0,
    ]);
    return Object.fromEntries(counts) as Record<InvalidReason, number>;
  }

  /** Records that were kept out for more important ones; they are in overflow_newest, too. */
  get shed(): { readonly low: number; readonly normal: number } {
    return {
      low: this.#floats[SHED_LOW_FLOAT] ?? 0,
      normal: this.#floats[SHED_NORMAL_FLOAT] ?? 0,
    };
  }

  /** Time callers were held by a full ring, in ms. */
  get blockedMs(): number {
    return this.#floats[BLOCKED_MS_FLOAT] ?? 0;
  }

  /** Values sent though the receiver may cut them. */
  get warnings(): number {
    return this.#floats[WARNINGS_FLOAT] ?? 0;
  }

  /** Cost of a tracking call, of those that were timed. */
  get callSeconds(): HistogramReading {
    const from = CALL_BUCKETS_FLOAT;
    const buckets = this.#floats.subarray(from, from + CALL_BOUNDS_SECONDS.length + 1);
    return {
      bounds: CALL_BOUNDS_SECONDS,
      counts: [...buckets],
      sum: this.#floats[CALL_SUM_FLOAT] ?? 0,
    };
  }
}
