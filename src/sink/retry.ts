export interface RetryStep {
  /** Failed attempts so far, from 1. */
  readonly attempt: number;
  /** Drawn evenly from [0, 1). */
  readonly random: number;
  readonly baseMs: number;
  readonly capMs: number;
}

/**
 * Pause before the next attempt in ms: exponential back-off with full jitter, so drawn evenly between 0 and
 * `min(capMs, baseMs × 2^(attempt - 1))`. Full jitter spreads the clients of a receiver that just came back.
 */
export function retryDelayMs({ attempt, random, baseMs, capMs }: RetryStep): number {
  return random * Math.min(capMs, baseMs * 2 ** Math.min(attempt - 1, 30));
}
