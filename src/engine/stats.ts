/** One exact look at an engine's accounts. Counts of records unless said otherwise. */
export interface Stats {
  /** Entered the ring, or the spool. */
  readonly accepted: number;
  /** Acknowledged by the receiver, or written to a file. */
  readonly delivered: number;
  /** Refused for good by the receiver. */
  readonly rejected: number;
  readonly dropped: {
    /** Kept out by a full ring (never accepted). */
    readonly overflow_newest: number;
    /** Gave way to newer records. */
    readonly overflow_oldest: number;
    /** Wrong calls (never accepted). */
    readonly invalid: number;
    /** Attempts were used up, damage took them from the spool, or no worker survived them. */
    readonly expired: number;
    /** Left when the engine had to close. */
    readonly shutdown: number;
    /** Those of `expired` that damage took from the spool. */
    readonly corrupt: number;
    /** Those of `expired` that no worker survived, or that no worker was left for. */
    readonly crashed: number;
  };
  /** In the ring now, those in flight included. */
  readonly queued: number;
  /** On disk now. */
  readonly spooled: number;
  /** Repeated attempts (batches). */
  readonly retries: number;
  /** Found in the spool of an earlier run. */
  readonly recovered: number;
  /** Bytes of the frames in the ring. */
  readonly bytesQueued: number;
  /** JSON text of settled records, in bytes. */
  readonly bytesRaw: number;
  /** Bytes that went over the wire or into files for them. */
  readonly bytesSent: number;
  /** Age of the oldest unsettled record, in ms; 0: none. */
  readonly oldestAgeMs: number;
  /** accepted + recovered less everything they can have become: always 0. */
  readonly imbalance: number;
  readonly workers: { readonly alive: number; readonly restarts: number };
}
