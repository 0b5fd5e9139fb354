/** Counts of one receiver since it was opened or reset. */
export interface ReceiverSnapshot {
  readonly requests: number;
  /** Batches acknowledged. */
  readonly batches: number;
  /** Records in acknowledged batches, repeated ones included. */
  readonly records: number;
  /** Records with a uuid not seen before, or without one. */
  readonly unique: number;
  /** Records whose uuid had been seen. */
  readonly duplicates: number;
  /** Records in batches that were refused for what they held. */
  readonly refused: number;
  /** Debug records that were fine. */
  readonly debugRecords: number;
  /** Requests answered by a fault. */
  readonly faulted: number;
  readonly bytesWire: number;
  readonly bytesRaw: number;
  readonly byType: Readonly<Record<string, number>>;
  readonly byAppId: Readonly<Record<string, number>>;
  /** What was refused, by reason. */
  readonly errors: Readonly<Record<string, number>>;
  /** From `#time` to arrival, of the latest records, in ms. */
  readonly latencyMs: { readonly p50: number; readonly p99: number; readonly max: number };
}

const LATENCIES_MAX = 16_384;
const REASONS_MAX = 100;

/** Keeps the counts. */
export class Tally {
  requests = 0;
  batches = 0;
  records = 0;
  unique = 0;
  duplicates = 0;
  refused = 0;
  debugRecords = 0;
  faulted = 0;
  bytesWire = 0;
  bytesRaw = 0;
  readonly #byType = new Map<string, number>();
  readonly #byAppId = new Map<string, number>();
  readonly #errors = new Map<string, number>();
  readonly #latencies: number[] = [];
  #latencyAt = 0;

  countType(type: string): void {
    bump(this.#byType, type, 1);
  }

  countAppId(appId: string, records: number): void {
    bump(this.#byAppId, appId, records);
  }

  countError(reason: string): void {
    bump(this.#errors, this.#errors.size < REASONS_MAX ? reason : 'others', 1);
  }

  observeLatency(ms: number): void {
    this.#latencies[this.#latencyAt] = ms;
    this.#latencyAt = (this.#latencyAt + 1) % LATENCIES_MAX;
  }

  snapshot(): ReceiverSnapshot {
    const sorted = this.#latencies.toSorted((a, b) => a - b);
    const quantile = (share: number) => sorted[Math.floor(share * (sorted.length - 1))] ?? 0;
    return {
      requests: this.requests,
      batches: this.batches,
      records: this.records,
      unique: this.unique,
      duplicates: this.duplicates,
      refused: this.refused,
      debugRecords: this.debugRecords,
      faulted: this.faulted,
      bytesWire: this.bytesWire,
      bytesRaw: this.bytesRaw,
      byType: Object.fromEntries(this.#byType),
      byAppId: Object.fromEntries(this.#byAppId),
      errors: Object.fromEntries(this.#errors),
      latencyMs: { p50: quantile(0.5), p99: quantile(0.99), max: quantile(1) },
    };
  }
}

function bump(counts: Map<string, number>, name: string, amount: number): void {
  counts.set(name, (counts.get(name) ?? 0) + amount);
}
