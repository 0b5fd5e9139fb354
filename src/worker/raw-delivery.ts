import type { MillraceError } from '../base/errors.ts';
import { Control, MODE_STOP } from '../lane/control.ts';
import { LedgerReader, LedgerWriter } from '../lane/ledger.ts';
import { DELIVERED } from '../lane/settlement.ts';
import type { Sink } from '../sink/sink.ts';
import type { DeliveryBatch } from './batcher.ts';
import { Delivery, type DeliveryJob, type Span } from './delivery.ts';
import { Gate } from './gate.ts';

/** What became of some records of a batch. */
export interface RawFate extends Span {
  /** 'rejected': refused for good, with the receiver's words as reason. */
  readonly state: 'delivered' | 'rejected';
  readonly reason: string;
  readonly sentBytes: number;
}

export interface RawDeliveryParts {
  readonly sink: Sink;
  /** Longest time of one attempt, in ms. */
  readonly attemptTimeoutMs: number;
  readonly onTrouble: (error: MillraceError) => void;
}

/** All counts are of one thread. */
const SLOT = 0;
const RETRY_BASE_MS = 200;
const RETRY_CAP_MS = 30_000;

/**
 * The engine's delivery for records that are text already and wait somewhere else than in a lane: the same retries, halving,
 * circuit breaker and counters, without a ring. Several batches may be under way at once; order is the caller's, who waits for a batch before the next.
 */
export class RawDelivery {
  readonly #control: Control = Control.create();
  readonly #reader: LedgerReader = new LedgerReader(this.#control.floats);
  readonly #delivery: Delivery;
  readonly #sink: Sink;

  constructor({ sink, attemptTimeoutMs, onTrouble }: RawDeliveryParts) {
    this.#sink = sink;
    this.#reader.slots = [{ worker: SLOT, floatAt: this.#control.slotFloatAt(SLOT) }];
    this.#delivery = new Delivery({
      sink,
      gate: new Gate(this.#control, 'breaker'),
      ledger: new LedgerWriter(this.#control.floats, this.#control.slotFloatAt(SLOT)),
      limits: { retries: 'forever', baseMs: RETRY_BASE_MS, capMs: RETRY_CAP_MS },
      attemptTimeoutMs,
      onExhausted: 'expire',
      deadLetter: undefined,
      onTrouble,
    });
  }

  /** Counters of attempts and retries. */
  get ledger(): LedgerReader {
    return this.#reader;
  }

  /**
   * Works on a batch until each record has its fate, which `onFate` hears of in order: a range is told once. The batch
   * must not change until then.
   *
   * @param isWanted asked before every attempt; false: no further one is made
   * @returns true when all of it is settled; false when {@link stop} came before, or it was not wanted any more
   */
  async deliver(
    batch: DeliveryBatch,
    onFate: (fate: RawFate) => void,
    isWanted: () => boolean = () => true,
  ): Promise<boolean> {
    let open = 0;
    const job: DeliveryJob = {
      batch,
      hold: () => (this.#control.mode === MODE_STOP || !isWanted() ? -1 : open),
      release: () => undefined,
      settle: ({ from, to }, counter, { sentBytes, reason }) => {
        open = to;
        const state = counter === DELIVERED ? 'delivered' : 'rejected';
        onFate({ from, to, state, reason, sentBytes });
      },
      countDeadLettered: () => undefined,
    };
    const end = await this.#delivery.run(job);
    return end.kind === 'done';
  }

  /** No attempt is begun any more; those under way may come to their end. */
  stop(): void {
    this.#control.mode = MODE_STOP;
  }

  /** Ends what is under way and frees the sink. */
  async close(): Promise<void> {
    this.stop();
    await this.#sink.close();
  }
}
