/** Knows for how long something has not moved, without the wall clock, which may jump. */
export class Patience {
  #at = Number.NaN;
  #sinceMs = 0;

  /** Ms since `at` was first seen to be what it is, as far as anybody looked. */
  waitedMs(at: number): number {
    const now = performance.now();
    if (at !== this.#at) {
      this.#at = at;
      this.#sinceMs = now;
    }
    return now - this.#sinceMs;
  }
}
