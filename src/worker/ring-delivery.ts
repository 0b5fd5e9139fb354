import type { PendingBatch } from './batcher.ts';
import type { DeliveryEnd } from './delivery.ts';
import type { PaceParts } from './pace.ts';

/** Delivers batches from the ring, but for the record that workers die of. */
export class RingDelivery {
  readonly #parts: Pick<PaceParts, 'tools' | 'care' | 'inFlight'>;

  constructor(parts: Pick<PaceParts, 'tools' | 'care' | 'inFlight'>) {
    this.#parts = parts;
  }

  /** Works on a batch until it is settled, or it must stop. */
  async run(batch: PendingBatch): Promise<DeliveryEnd> {
    const { tools, inFlight } = this.#parts;
    const job = inFlight.jobOf(batch);
    return this.#isKiller(batch) ? tools.delivery.giveUpFirst(job) : tools.delivery.run(job);
  }

  #isKiller({ count, firstSeq, moved }: PendingBatch): boolean {
    return count === 1 && moved === 0 && firstSeq === this.#parts.care?.killerInRing;
  }
}
