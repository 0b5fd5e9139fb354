/** Where time comes from. Injected, so that rotation, linger and back-off are tested without waiting. */
export interface Clock {
  /** Wall time in ms since 1970-01-01T00:00:00Z. May jump. */
  nowMs(): number;
  /** Monotonic time in ms from an arbitrary start. Never jumps. */
  monotonicMs(): number;
}

export const systemClock: Clock = {
  nowMs: () => Date.now(),
  monotonicMs: () => performance.now(),
};
