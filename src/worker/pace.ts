import type { LaneConsumer } from '../lane/consumer.ts';
import type { TurnCare, TurnEnd } from './contract.ts';
import type { InFlight } from './in-flight.ts';
import type { Intake } from './intake.ts';
import type { Rounds } from './rounds.ts';
import type { TurnTools } from './turn-tools.ts';

/** When batches go out. */
export interface Pace {
  /** Does what is due, or waits until something is. Undefined: go on. */
  step(): Promise<TurnEnd | undefined>;
  /** Resolves when nothing is under way. */
  quiesce(): Promise<void>;
}

export interface PaceParts {
  readonly lane: LaneConsumer;
  readonly tools: TurnTools;
  /** What turns before this one have died of. */
  readonly care: TurnCare | undefined;
  readonly intake: Intake;
  readonly inFlight: InFlight;
  readonly rounds: Rounds;
}
