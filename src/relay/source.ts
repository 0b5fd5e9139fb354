/** The contract between a relay and the brokers it reads from. */

/** One message of a partition: JSON lines, gzipped or plain. */
export interface SourceMessage {
  /** Place in the partition; grows. */
  readonly position: number;
  readonly payload: Uint8Array;
  readonly isPacked: boolean;
  /** When the broker took it, in ms. */
  readonly timeMs: number;
}

/** How much one `take` may give. */
export interface TakeLimits {
  readonly messagesMax: number;
  readonly bytesMax: number;
  /** Longest wait for more after the first message, in ms. */
  readonly lingerMs: number;
}

/** One partition, as long as it is this relay's: its messages in order, none left out. */
export interface Feed {
  readonly partition: number;
  /** The next messages; empty after a moment without any, and once the feed is closed. */
  take(limits: TakeLimits): Promise<readonly SourceMessage[]>;
  /** All messages up to this position are settled: whoever reads the partition next starts behind it. */
  settle(position: number): void;
  /** Messages of the partition that are not settled, as far as known. */
  readonly lag: number;
  /** Whether all that was to be read has been given: a replay ends. */
  readonly isAtEnd: boolean;
  /** Whether everything that was there at the last look has been given. */
  readonly isCaughtUp: boolean;
  close(): Promise<void>;
}

/** Whoever works on a partition. */
export interface PartitionWork {
  /** Takes nothing more, and resolves when what is in hand is settled. */
  drain(): Promise<void>;
  /** Stops at once: the partition is somebody else's. */
  drop(): Promise<void>;
  /** Whether nobody works on it any more, wanted or not. */
  readonly isOver: boolean;
}

/** What a source needs of the relay. */
export interface SourceHost {
  readonly begin: (feed: Feed) => PartitionWork;
  readonly onTrouble: (message: string) => void;
}

/** A stream or topic whose partitions are shared among relays. */
export interface Source {
  /** Partitions that are this relay's now. */
  readonly feeds: readonly Feed[];
  /** Living relays of the group, this one included; undefined: the brokers do not say. */
  readonly members: number | undefined;
  /** Whether the broker answers. */
  readonly isConnected: boolean;
  /** Whether this relay has the partitions that are its share. */
  readonly hasShare: boolean;
  /** Records that were refused for good, as JSON lines; resolves when they are kept. */
  bury(lines: readonly string[]): Promise<void>;
  /** Gives the partitions back: what is in hand is settled first. */
  close(): Promise<void>;
}

export interface ReplaySpan {
  readonly from: Date;
  readonly to: Date;
}

/**
 * A stream or topic, before it is connected to. What can't be reached, or is not there yet, rejects with
 * MILLRACE_UNAVAILABLE; what will never do with MILLRACE_OPTIONS.
 */
export interface Upstream {
  /** Joins the relays of the group. */
  open(host: SourceHost): Promise<Source>;
  /** Reads all partitions of a time again, in this process: nothing is written down. */
  replay(span: ReplaySpan, host: SourceHost): Promise<Source>;
  /** Where all partitions stand, without taking any. */
  states(): Promise<PartitionState[]>;
}

/** Where one partition stands: what a dry run shows. */
export interface PartitionState {
  readonly partition: number;
  /** Empty: nobody. Undefined: the broker does not say. */
  readonly owner: string | undefined;
  /** Place of the last settled message: its sequence in the stream, or its offset; less than the first: none. */
  readonly settled: number;
  readonly lag: number;
}
