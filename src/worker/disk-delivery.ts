import { MillraceError } from '../base/errors.ts';
import type { LaneConsumer } from '../lane/consumer.ts';
import { type DiskRecord, isSameRecord, NONE_FROM_DISK } from '../lane/from-disk.ts';
import { BUSY_AT_DISK, BUSY_NOT } from '../lane/layout.ts';
import type { SpoolBatch, SpoolLimits } from '../spool/reader.ts';
import type { ReplayNote } from '../spool/replay-note.ts';
import type { TurnCare } from './contract.ts';
import type { DeliveryEnd } from './delivery.ts';
import { type SpoolHome, spoolJob } from './spool-job.ts';
import type { TurnTools } from './turn-tools.ts';

export interface DiskDeliveryParts {
  readonly lane: LaneConsumer;
  readonly tools: TurnTools;
  /** What turns before this one have died of. */
  readonly care: TurnCare | undefined;
}

/** Delivers batches from disk: one record at a time where workers have died, and without the one they die of. */
export class DiskDelivery {
  readonly #parts: DiskDeliveryParts;

  constructor(parts: DiskDeliveryParts) {
    this.#parts = parts;
  }

  /**
   * How much the next batch may have.
   *
   * @param note what is known of earlier processes that died of what they read there
   */
  limits(note?: ReplayNote): SpoolLimits {
    const { recordsMax, bytesMax: maxBytes } = this.#parts.tools.config.batch;
    return { maxRecords: this.#isAlone(note) ? 1 : recordsMax, maxBytes };
  }

  #isAlone(note: ReplayNote | undefined): boolean {
    const { care, lane } = this.#parts;
    if (note?.isAlone === true) return true;
    return care !== undefined && lane.spoolSettled < care.aloneBelowOnDisk;
  }

  /** Works on a batch until it is settled, or its first record is if that one has to be given up, or it must stop. */
  async run(batch: SpoolBatch, home: SpoolHome, note?: ReplayNote): Promise<DeliveryEnd> {
    const { lane, tools } = this.#parts;
    const job = spoolJob(batch, home, tools);
    const first: DiskRecord = { lane: batch.lane, number: batch.first };
    if (this.#mustGiveUp(first, note)) return tools.delivery.giveUpFirst(job);
    tools.ledger.add('batches');
    lane.setFromDisk({ ...first, records: batch.count });
    const end = await tools.delivery.run({
      ...job,
      enter: () => {
        note?.enter(first);
        lane.setBusy(BUSY_AT_DISK);
      },
      leave: () => {
        lane.setBusy(BUSY_NOT);
        note?.leave();
      },
    });
    lane.setFromDisk(NONE_FROM_DISK);
    if (end.kind === 'done') note?.noteDone();
    return end;
  }

  #mustGiveUp(record: DiskRecord, note: ReplayNote | undefined): boolean {
    const { lane, care, tools } = this.#parts;
    const killer = care?.killer;
    // Whoever says so has told of it.
    if (killer?.settled === lane.spoolSettled && isSameRecord(killer, record)) return true;
    if (note?.takeKiller(record) !== true) return false;
    const message = 'a record that an earlier run left was dropped, because processes die of it';
    tools.onTrouble(new MillraceError('MILLRACE_POISON', message));
    return true;
  }
}
