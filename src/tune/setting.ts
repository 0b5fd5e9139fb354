/** One choice of all the knobs. */
export interface Setting {
  readonly workers: number;
  readonly lanes: number;
  readonly ringBytes: number;
  readonly batchSize: number;
  readonly lingerMs: number;
  /** true: the engine's own deflate; a number: a level of zlib. */
  readonly compress: true | 1 | 2 | 3 | 4 | 5 | 6 | 7 | 8 | 9;
}

export type Knob = keyof Setting;

/** What one trial of a setting measured. */
export interface Measurement {
  /** Records a second that arrived: the most there can be, or those that were asked for. */
  readonly rate: number;
  /** Seconds of processor time of the whole process for a million records. */
  readonly cpuPerMillion: number;
  /** Bytes over the wire for a record. */
  readonly wireBytes: number;
  /** JSON text of a record, in bytes. */
  readonly textBytes: number;
  /** Bytes of the ring for a record; NaN: none was caught in it. */
  readonly frameBytes: number;
  /** Cost of a call to its caller, in ns; NaN where the ring's fullness is in it. */
  readonly callNs: number;
  /** From the call to the acknowledgement, in ms. */
  readonly latencyMs: { readonly p50: number; readonly p99: number };
  /** Share of the time that the workers were at work, 0 to 1, of all of them. */
  readonly workersBusy: number;
  /** Processors in use by this process, on average. */
  readonly cores: number;
  /** Share of the records that were not taken or not delivered, 0 to 1. */
  readonly lostShare: number;
}

/** What a trial puts on the engine. */
export type Load =
  /** As many as it takes. */
  | { readonly kind: 'most'; readonly seconds: number }
  | { readonly kind: 'rate'; readonly seconds: number; readonly rate: number };
