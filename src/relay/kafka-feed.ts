import type { Batch, KafkaMessage } from 'kafkajs';
import { ENCODING_HEADER, GZIP } from '../broker/messages.ts';
import { MessageBuffer } from './message-buffer.ts';
import type { Feed, ReplaySpan, SourceMessage, TakeLimits } from './source.ts';

/** What a replay gives of a partition. */
export interface KafkaSpan extends ReplaySpan {
  /** Offset behind the last message to look at. */
  readonly end: number;
}

/** One partition of a topic: what the group's member reads is put in, what the receiver has settled is known here. */
export class KafkaFeed implements Feed {
  readonly partition: number;
  readonly #span: KafkaSpan | undefined;
  readonly #buffer: MessageBuffer = new MessageBuffer();
  /** Offset behind the last message that was put in; undefined: not known before the first. */
  #next: number | undefined;
  /** Offset of the last message that was put in to be given. */
  #last = -1;
  #settled: number | undefined;
  /** End of the partition at the last look. */
  #high: number | undefined;
  #isClosed = false;
  #wake: () => void = () => undefined;

  constructor(partition: number, { from, span }: { from?: number; span?: KafkaSpan } = {}) {
    this.partition = partition;
    this.#span = span;
    if (from !== undefined) this.#start(from);
    if (this.isAtEnd) this.#buffer.end();
  }

  #start(from: number): void {
    this.#next = from;
    this.#last = -1;
    this.#settled = from - 1;
  }

  /** Offset to go on reading from; undefined: where the group is. */
  get next(): number | undefined {
    return this.#next;
  }

  /** Offset of the last settled message; undefined: nothing is known to be. */
  get settled(): number | undefined {
    return this.#settled;
  }

  /** Whether all that was put in is settled. */
  get isSettled(): boolean {
    return this.#next === undefined || (this.#settled ?? -1) >= this.#next - 1;
  }

  /** Whether nobody takes from it any more. */
  get isClosed(): boolean {
    return this.#isClosed;
  }

  get lag(): number {
    const high = this.#span?.end ?? this.#high;
    return high === undefined || this.#settled === undefined
      ? 0
      : Math.max(0, high - this.#settled - 1);
  }

  get isAtEnd(): boolean {
    return this.#isOver && this.#buffer.length === 0;
  }

  /** Whether all that a replay is to give was put in. */
  get #isOver(): boolean {
    return this.#span !== undefined && (this.#next ?? 0) >= this.#span.end;
  }

  get isCaughtUp(): boolean {
    return this.#high !== undefined && (this.#next ?? 0) >= this.#high && this.#buffer.length === 0;
  }

  /** What the broker says of the partition: its end, and what the group has committed. */
  look({ high, committed }: { high: number; committed: number }): void {
    this.#high = high;
    if (this.#next === undefined) this.#start(committed);
  }

  /** Puts in what was fetched: it goes on behind what was put in before. A replay that has come to its end takes no more, whatever the topic has become. */
  put(batch: Batch): void {
    if (this.#isOver) return;
    const first = Number(batch.firstOffset() ?? 0);
    // Below: the group begins anew there, as after a topic was deleted and made again.
    if (this.#next === undefined || first < this.#next) this.#start(first);
    this.#high = Number(batch.highWatermark);
    for (const message of batch.messages.filter((each) => this.#isWanted(each))) {
      this.#last = Number(message.offset);
      this.#buffer.push(sourceMessage(message));
    }
    this.#next = Number(batch.lastOffset()) + 1;
    this.#passGap();
    if (this.#isOver) this.#buffer.end();
  }

  #isWanted({ offset, timestamp }: KafkaMessage): boolean {
    if (this.#span === undefined) return true;
    const { from, to, end } = this.#span;
    const timeMs = Number(timestamp);
    return Number(offset) < end && timeMs >= from.getTime() && timeMs <= to.getTime();
  }

  /** Does not linger: the next fetch comes when all of this one is settled, and has what came up meanwhile. */
  take(limits: TakeLimits): Promise<readonly SourceMessage[]> {
    if (this.#isClosed) return Promise.resolve([]);
    return this.#buffer.take({ ...limits, lingerMs: 0 });
  }

  settle(position: number): void {
    this.#settled = Math.max(this.#settled ?? -1, position);
    this.#passGap();
    this.#wake();
  }

  /** Offsets without a message that anybody wants, by compaction, transactions or a replay's time, are settled with the last before. */
  #passGap(): void {
    if (this.#next !== undefined && (this.#settled ?? -1) >= this.#last) {
      this.#settled = this.#next - 1;
    }
  }

  /** Resolves when something was settled, when the feed was closed, or after a while. */
  async news(ms: number): Promise<void> {
    if (this.#isClosed) return;
    let timer: NodeJS.Timeout | undefined;
    await new Promise<void>((resolve) => {
      this.#wake = resolve;
      timer = setTimeout(resolve, ms);
    });
    clearTimeout(timer);
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    this.#buffer.end();
    this.#wake();
  }
}

function sourceMessage({ offset, value, headers, timestamp }: KafkaMessage): SourceMessage {
  return {
    position: Number(offset),
    // A tombstone has no value.
    payload: value ?? Buffer.alloc(0),
    isPacked: headers?.[ENCODING_HEADER]?.toString() === GZIP,
    timeMs: Number(timestamp),
  };
}
