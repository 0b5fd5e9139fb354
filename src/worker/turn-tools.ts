import type { MillraceError } from '../base/errors.ts';
import type { RegionTranscoder } from '../codec/region-transcoder.ts';
import type { Control } from '../lane/control.ts';
import type { LedgerWriter } from '../lane/ledger.ts';
import type { Sink } from '../sink/sink.ts';
import type { SpoolEdge } from '../spool/lane.ts';
import type { Notice, WorkerConfig } from './contract.ts';
import type { Delivery } from './delivery.ts';
import type { Gate } from './gate.ts';

/** What a thread lends to each of its turns. */
export interface TurnTools {
  readonly config: WorkerConfig;
  readonly control: Control;
  readonly ledger: LedgerWriter;
  readonly transcoder: RegionTranscoder;
  readonly sink: Sink;
  readonly delivery: Delivery;
  readonly gate: Gate;
  /** Shows that the thread is alive. */
  readonly beat: () => void;
  readonly onTrouble: (error: MillraceError) => void;
  readonly onSettled: (notice: Notice) => void;
  /** Disk and clock of the spool; only tests put something else in their place. */
  readonly spoolEdge?: SpoolEdge;
}
