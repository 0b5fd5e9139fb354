import type { LaneConsumer } from '../lane/consumer.ts';
import { MODE_STOP } from '../lane/control.ts';
import { BatchPool } from './batcher.ts';
import type { TurnCare, TurnEnd } from './contract.ts';
import { InFlight } from './in-flight.ts';
import { Intake } from './intake.ts';
import type { Pace, PaceParts } from './pace.ts';
import { RoundPace } from './round-pace.ts';
import { Rounds } from './rounds.ts';
import { StreamPace } from './stream-pace.ts';
import type { TurnTools } from './turn-tools.ts';

/** One attendance of one lane, from claim to idleness. */
export class Turn {
  readonly #lane: LaneConsumer;
  readonly #tools: TurnTools;
  readonly #inFlight: InFlight;
  readonly #pace: Pace;

  /** @param care what turns before this one have died of */
  constructor(lane: LaneConsumer, tools: TurnTools, care?: TurnCare) {
    const { config, sink } = tools;
    const pool = new BatchPool(config.batch, sink.separator);
    // Opens the spool: what an earlier turn put there comes first, and moves the head.
    const inFlight = new InFlight(lane, tools, pool);
    const intake = new Intake({ lane, tools, care, pool, inFlight });
    const parts: PaceParts = { lane, tools, care, intake, inFlight, rounds: new Rounds(lane) };
    this.#lane = lane;
    this.#tools = tools;
    this.#inFlight = inFlight;
    this.#pace = config.pace === 'rounds' ? new RoundPace(parts) : new StreamPace(parts);
  }

  /** Attends the lane until it has been idle for a while, is taken away, or the engine stops. */
  async run(): Promise<TurnEnd> {
    for (;;) {
      this.#tools.beat();
      if (this.#tools.control.mode === MODE_STOP) return this.#end('stopped');
      if (this.#inFlight.isFenced || !this.#lane.holds()) return this.#end('fenced');
      const end = await this.#pace.step();
      if (end !== undefined) return this.#end(end);
    }
  }

  /** Nothing of this turn is left when it returns. */
  async #end(end: TurnEnd): Promise<TurnEnd> {
    // What is under way may take longer than the thread lives.
    if (this.#tools.control.mode === MODE_STOP && this.#lane.holds()) {
      this.#inFlight.spool?.save();
      this.#lane.closeSpooling();
    }
    await this.#pace.quiesce();
    const { spool } = this.#inFlight;
    if (this.#lane.holds()) spool?.close();
    else spool?.leave();
    return end;
  }
}
