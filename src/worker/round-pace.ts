import type { LaneConsumer } from '../lane/consumer.ts';
import { ROUND_DONE, ROUND_KEPT, ROUND_REJECTED } from '../lane/layout.ts';
import type { TurnEnd } from './contract.ts';
import type { DeliveryEnd } from './delivery.ts';
import type { InFlight } from './in-flight.ts';
import type { Intake } from './intake.ts';
import type { Pace, PaceParts } from './pace.ts';
import { RingDelivery } from './ring-delivery.ts';
import type { Rounds } from './rounds.ts';
import type { TurnTools } from './turn-tools.ts';

/** Batches go out when the producer asks, which waits for the result. */
export class RoundPace implements Pace {
  readonly #lane: LaneConsumer;
  readonly #tools: TurnTools;
  readonly #ring: RingDelivery;
  readonly #intake: Intake;
  readonly #inFlight: InFlight;
  readonly #rounds: Rounds;

  constructor({ lane, tools, care, intake, inFlight, rounds }: PaceParts) {
    this.#lane = lane;
    this.#tools = tools;
    this.#ring = new RingDelivery({ tools, care, inFlight });
    this.#intake = intake;
    this.#inFlight = inFlight;
    this.#rounds = rounds;
  }

  /** Sends what was there when the producer asked, and tells it how that went. */
  async step(): Promise<TurnEnd | undefined> {
    const round = this.#rounds.asked;
    if (round === undefined) return this.#rest();
    this.#inFlight.forgetShortfall();
    const end = await this.#sendUntil(this.#lane.loadFlushPosition());
    if (end.kind === 'stopped') return 'stopped';
    const { shortfall } = this.#inFlight;
    if (end.kind === 'kept') this.#rounds.end(round, ROUND_KEPT, end.message);
    else if (shortfall === undefined) this.#rounds.end(round, ROUND_DONE);
    else {
      const code = shortfall.kind === 'refused' ? ROUND_REJECTED : ROUND_KEPT;
      this.#rounds.end(round, code, shortfall.reason);
    }
    return undefined;
  }

  /** One batch after the other, until all before the position are settled, or one is not. */
  async #sendUntil(position: number): Promise<DeliveryEnd> {
    const intake = this.#intake;
    intake.restart();
    while (((position - intake.batch.position) | 0) > 0) {
      const filled = intake.fill(position);
      // A lane that was taken away reads as broken for ever.
      if (!this.#lane.holds()) return { kind: 'stopped' };
      if (filled === 'broken') continue;
      const batch = intake.handOut();
      this.#inFlight.add(batch);
      const end = await this.#ring.run(batch);
      if (end.kind !== 'done') {
        this.#inFlight.abandon(batch);
        return end;
      }
      this.#inFlight.finish(batch);
    }
    return { kind: 'done' };
  }

  async #rest(): Promise<TurnEnd | undefined> {
    const lane = this.#lane;
    const tail = lane.loadTail();
    const mark = {
      head: lane.loadFlushPosition(),
      wakePosition: (tail + lane.region.laneBytes) | 0,
      wakeSeq: (lane.loadTailSeq() + 0x4000_0000) | 0,
      round: this.#rounds.done,
    };
    await lane.bell.sleep(mark, this.#tools.config.idleMs);
    if (this.#rounds.asked !== undefined) return undefined;
    return lane.bell.leave(mark) ? 'idle' : undefined;
  }

  async quiesce(): Promise<void> {
    // A step ends with nothing under way.
  }
}
