/** Spreads records evenly: at most `rate` a second, and none saved up from idle times but those of a tenth of a second. */
export class Pace {
  readonly #msPerRecord: number;
  #freeAtMs = 0;

  /** @param rate records a second; undefined: no limit */
  constructor(rate: number | undefined) {
    this.#msPerRecord = rate === undefined ? 0 : 1000 / rate;
  }

  /** How long to wait before `records` may go, in ms; they count as gone then. */
  take(records: number, nowMs: number): number {
    if (this.#msPerRecord === 0) return 0;
    const startMs = Math.max(this.#freeAtMs, nowMs - SAVED_MS);
    this.#freeAtMs = startMs + records * this.#msPerRecord;
    return Math.max(0, startMs - nowMs);
  }
}

const SAVED_MS = 100;
