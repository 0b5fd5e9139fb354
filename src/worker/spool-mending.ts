import type { MillraceError } from '../base/errors.ts';
import { LaneConsumer } from '../lane/consumer.ts';
import type { Control } from '../lane/control.ts';
import type { Region } from '../lane/region.ts';
import type { SpoolEdge } from '../spool/lane.ts';
import type { SpoolPlan } from './contract.ts';
import { Gate } from './gate.ts';
import { LaneSpool } from './lane-spool.ts';

/** A lane that no turn attends any more. */
export interface LeftLane {
  readonly region: Region;
  readonly lane: number;
  /** Its present term. */
  readonly term: number;
}

/**
 * Makes the files of a lane agree with its settlement, as the next turn would: what was appended and not committed is made void, what
 * is settled is noted. For a lane whose thread was ended in the middle of its turn, with no turn to come.
 */
export function mendSpool(
  { region, lane, term }: LeftLane,
  {
    plan,
    control,
    onTrouble,
    edge = {},
  }: {
    readonly plan: SpoolPlan;
    readonly control: Control;
    readonly onTrouble: (error: MillraceError) => void;
    readonly edge?: SpoolEdge;
  },
): void {
  const consumer = LaneConsumer.claim(region, { lane, term, owner: 0 });
  if (consumer === undefined) return;
  const spool = new LaneSpool({
    lane: consumer,
    plan,
    control,
    gate: new Gate(control, 'pauses'),
    change: (change) => consumer.commit(change),
    onSync: () => {},
    onFailure: () => {},
    onTrouble,
    edge,
  });
  spool.open();
  spool.close();
}
