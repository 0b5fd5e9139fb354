import { DELIVERED } from '../lane/settlement.ts';
import type { SpoolBatch } from '../spool/reader.ts';
import type { DeliveryJob, SettleFacts, Span } from './delivery.ts';
import type { TurnTools } from './turn-tools.ts';

/** The place a batch from disk came from. */
export interface SpoolHome {
  /** Number of the first record that is not settled, and is kept until {@link release}; -1: the batch is out of our hands. */
  firstOpen(): number;
  /** Settles the records of the batch below the index. */
  settle(to: number, counter: number, facts: SettleFacts): void;
  countDeadLettered(count: number): void;
  /** A pause begins: what had to give way meanwhile is dropped for good. */
  release?(): void;
}

/** A batch from disk as a job for the delivery. */
export function spoolJob(
  batch: SpoolBatch,
  home: SpoolHome,
  { ledger, sink }: Pick<TurnTools, 'ledger' | 'sink'>,
): DeliveryJob {
  const separator = sink.separator.charCodeAt(0);
  for (let index = 0; index < batch.count; index += 1) {
    batch.text[batch.ends[index] ?? 0] = separator;
  }
  const { count, text, starts, ends } = batch;
  return {
    batch: { count, text: { bytes: text }, starts, ends },
    lane: batch.lane,
    hold: () => {
      const open = home.firstOpen();
      return open < 0 ? -1 : Math.min(Math.max(0, open - batch.first), count);
    },
    release: () => home.release?.(),
    settle: ({ from, to }: Span, counter, facts) => {
      if (counter === DELIVERED) {
        ledger.observe('batch_sent_bytes', facts.sentBytes);
        const ageMs = Math.max(0, Date.now() - (batch.stamps[from] ?? 0));
        ledger.observe('delivery_seconds', ageMs / 1000, { times: to - from, lane: batch.lane });
      }
      home.settle(to, counter, facts);
    },
    countDeadLettered: (records) => home.countDeadLettered(records),
  };
}
