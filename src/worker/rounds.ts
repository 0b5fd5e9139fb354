import type { LaneConsumer } from '../lane/consumer.ts';

/** The rounds a lane's producer asks for and waits for: flushes, by number. */
export class Rounds {
  readonly #lane: LaneConsumer;
  #done: number;

  constructor(lane: LaneConsumer) {
    this.#lane = lane;
    this.#done = lane.loadRoundDone();
  }

  /** Number of the latest round that was answered. */
  get done(): number {
    return this.#done;
  }

  /** Number of the round that waits for its answer; undefined: none does. */
  get asked(): number | undefined {
    const round = this.#lane.loadRound();
    return round === this.#done ? undefined : round;
  }

  /** Answers a round, and all before it. */
  end(round: number, code: number, message = ''): void {
    if (!this.#lane.holds()) return;
    this.#lane.endRound(round, code, message);
    this.#done = round;
  }
}
