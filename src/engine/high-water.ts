import { MillraceError } from '../base/errors.ts';
import type { Seat } from './seat.ts';

const WARN_SHARE = 0.8;
const CALM_SHARE = 0.5;

/** Says once an episode that a lane is filling up; the episode ends when all are half empty. */
export class HighWaterMark {
  readonly #onError: (error: MillraceError) => void;
  #isTold = false;

  constructor(onError: (error: MillraceError) => void) {
    this.#onError = onError;
  }

  /** To be called now and then. */
  look(seats: readonly Seat[]): void {
    let fullest = 0;
    for (const seat of seats) {
      const usedBytes = (seat.tail - seat.settlement.readHead()) >>> 0;
      fullest = Math.max(fullest, usedBytes / seat.region.laneBytes);
    }
    if (this.#isTold) {
      this.#isTold = fullest >= CALM_SHARE;
      return;
    }
    if (fullest < WARN_SHARE) return;
    this.#isTold = true;
    this.#onError(
      new MillraceError(
        'MILLRACE_UNAVAILABLE',
        `records come faster than they leave: a lane is ${Math.floor(fullest * 100)} % full`,
      ),
    );
  }
}
