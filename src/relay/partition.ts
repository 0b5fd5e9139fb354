import type { DeliveryBatch } from '../worker/batcher.ts';
import type { RawDelivery, RawFate } from '../worker/raw-delivery.ts';
import type { Feed, PartitionWork, TakeLimits } from './source.ts';
import { type Load, unpack } from './unpack.ts';

/** Counts of records that all partitions of a relay share. */
export interface RelayCounts {
  messages: number;
  /** Read from the broker; read again after a hand-over counts again. */
  records: number;
  delivered: number;
  rejected: number;
  /** Lines that are no records. */
  bad: number;
  /** Read, but not settled when the partition went to another relay, or the relay was stopped: read there again. */
  handedOver: number;
  inHand: number;
  bytes: number;
}

export interface PartitionParts {
  readonly feed: Feed;
  readonly delivery: RawDelivery;
  readonly separator: ',' | '\n';
  readonly limits: TakeLimits;
  /** Records of one request. */
  readonly batchRecords: number;
  readonly counts: RelayCounts;
  /** Whether the whole relay stops at once. */
  readonly isStopped: () => boolean;
  /** Keeps what is no record, and what is refused for good; resolves when it is safe. */
  readonly bury: (lines: readonly string[]) => Promise<void>;
  readonly onTrouble: (message: string) => void;
}

/** Takes the records of one partition to the receiver, in order, and tells the feed what is settled. */
export class PartitionRelay implements PartitionWork {
  readonly #parts: PartitionParts;
  readonly #done: Promise<void>;
  #state: 'open' | 'draining' | 'dropped' = 'open';
  #isOver = false;

  constructor(parts: PartitionParts) {
    this.#parts = parts;
    this.#done = this.#run().finally(() => {
      this.#isOver = true;
    });
  }

  get isOver(): boolean {
    return this.#isOver;
  }

  /** Resolves when nothing more is done for the partition. */
  get done(): Promise<void> {
    return this.#done;
  }

  drain(): Promise<void> {
    if (this.#state === 'open') this.#state = 'draining';
    return this.#done;
  }

  drop(): Promise<void> {
    this.#state = 'dropped';
    return this.#done;
  }

  async #run(): Promise<void> {
    const { feed, limits, onTrouble } = this.#parts;
    while (this.#state === 'open' && !this.#parts.isStopped() && !feed.isAtEnd) {
      try {
        const messages = await feed.take(limits);
        if (messages.length === 0) continue;
        const load = unpack(messages, this.#parts.separator);
        if (!(await this.#relay(load, messages.length))) break;
      } catch (error) {
        // Our own mistake, or one of the file system: the records are read again by whoever comes next.
        onTrouble(`partition ${feed.partition}: ${error instanceof Error ? error.message : error}`);
        break;
      }
    }
    await feed.close();
  }

  /** True: all records are settled. */
  async #relay(load: Load, messages: number): Promise<boolean> {
    const { counts, feed } = this.#parts;
    counts.messages += messages;
    counts.records += load.count + load.bad.length;
    counts.inHand += load.count + load.bad.length;
    await this.#buryBad(load);
    let settled = 0;
    while (settled < load.count) {
      const to = Math.min(load.count, settled + this.#parts.batchRecords);
      settled = this.#state === 'dropped' ? settled : await this.#deliver(load, settled, to);
      if (settled < to) break;
    }
    const isWhole = settled === load.count;
    const last = load.marks.findLast(({ records }) => records <= settled);
    if (last !== undefined && this.#state !== 'dropped') feed.settle(last.position);
    counts.inHand -= load.count - settled;
    counts.handedOver += load.count - settled;
    return isWhole;
  }

  async #buryBad({ bad }: Load): Promise<void> {
    if (bad.length === 0) return;
    const { counts } = this.#parts;
    const time = new Date().toISOString();
    await this.#parts.bury(
      bad.map(({ text, reason }) => JSON.stringify({ time, reason, line: text })),
    );
    counts.bad += bad.length;
    counts.inHand -= bad.length;
  }

  /** Index of the first record in `[from, to)` that is not settled. */
  async #deliver(load: Load, from: number, to: number): Promise<number> {
    const { counts, delivery } = this.#parts;
    const starts = load.starts.subarray(from, to);
    const ends = load.ends.subarray(from, to);
    const refused: string[] = [];
    let open = from;
    const batch = { count: to - from, text: { bytes: load.text }, starts, ends };
    const note = (fate: RawFate) => {
      const count = from + fate.to - open;
      open += count;
      counts.inHand -= count;
      counts.bytes += fate.sentBytes;
      counts[fate.state] += count;
      if (fate.state === 'rejected') refused.push(...deadLetters(batch, fate));
    };
    await delivery.deliver(batch, note, () => this.#state !== 'dropped');
    // They count as settled upstream only when they are safe.
    await this.#parts.bury(refused);
    return open;
  }
}

/** A JSON object for each record: `{"time":…,"reason":…,"record":{…}}`. */
function deadLetters(
  { text, starts, ends }: DeliveryBatch,
  { from, to, reason }: RawFate,
): string[] {
  const head = `{"time":"${new Date().toISOString()}","reason":${JSON.stringify(reason)},"record":`;
  return Array.from({ length: to - from }, (_, index) => {
    const record = text.bytes.subarray(starts[from + index], ends[from + index]);
    return `${head}${Buffer.from(record).toString('utf8')}}`;
  });
}
