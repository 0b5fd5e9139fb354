/** Where records wait on disk. */
export interface SpoolOptions {
  /** Folder; processes may share it, each has a part of its own. */
  readonly directory: string;
  /** Bound of all files of one process in bytes; beyond it the oldest records are dropped and counted as `overflow_oldest`; default 1 GiB. A disk that is full before is tried again instead. */
  readonly maxBytes?: number;
  /** Size of one file in bytes; default 8 MiB. */
  readonly segmentBytes?: number;
  /**
   * When data goes to stable storage: 'interval' (default) 100 ms after it was written, unless it is delivered by then; 'batch' with every
   * write. A killed process loses nothing with any of them; a power cut does.
   */
  readonly fsync?: 'never' | 'interval' | 'batch';
  /** Permission of the files; default 0o600. */
  readonly mode?: number;
  /** What an earlier run left is delivered 'beside' the new records (default), or 'first': new ones wait on disk until then, so that a user's order is kept across a restart. */
  readonly replay?: 'beside' | 'first';
}

/** Options of every consumer's engine. */
export interface EngineOptions {
  /** Threads in the pool; default max(1, min(4, cores - 1)), 1 for files. */
  readonly workers?: number;
  /** Most memory of a worker's heap, in MB, at least 16; a thread that needs more dies and is replaced. Default: Node's own limit. */
  readonly workerHeapMb?: number;
  /** How long the workers of a lane may die without getting a record done before the lane is given up, in ms; default 120 000. */
  readonly workerPatienceMs?: number;
  /** Rings; a user's records stay in one lane; default 4 a worker. */
  readonly lanes?: number;
  /** Shared memory for all lanes together in bytes, a power of two; default 64 MiB. */
  readonly ringBytes?: number;
  /** What happens to a record that finds no room. Default with a spool: 'spool'. */
  readonly overflow?: 'drop-newest' | 'drop-oldest' | 'block' | 'spool';
  /** For 'block', and for 'spool' with a slow disk: longest wait in ms; then the record is dropped and counted; default 10 000. */
  readonly blockTimeoutMs?: number;
  /** Disk space for what can't be delivered now. */
  readonly spool?: SpoolOptions;
  /** 'spool-first': on disk before it is sent; default 'memory'. */
  readonly durability?: 'memory' | 'spool-first';
  /** File for records refused for good, or expired, one a line with the reason. */
  readonly deadLetter?: string;
  /** Permission of that file; a folder made for it follows. Default 0o600. */
  readonly deadLetterMode?: number;
  /** The worker entry, for bundled applications only. */
  readonly workerFile?: URL | string;
  /** Module of an own sink, run on the workers. */
  readonly sink?: URL | string;
  /** What the own sink is opened with: plain data. */
  readonly sinkOptions?: unknown;
  /** How long the process's 'exit' may be held to save what is queued, in ms; default 3000. */
  readonly exitFlushMs?: number;
}

/** Options of the HTTP consumers. */
export interface HttpOptions {
  /** The receiver: http or https, with or without a path. */
  readonly url: string;
  readonly appId: string;
  /** gzip: true (a deflate of our own, made for records), false, or a level of zlib from 0 (none) to 9. */
  readonly compress?: boolean | 0 | 1 | 2 | 3 | 4 | 5 | 6 | 7 | 8 | 9;
  /** Longest time of one request, in ms; default 30 000. */
  readonly timeoutMs?: number;
  /** Headers added to every request. */
  readonly headers?: Readonly<Record<string, string>>;
  /** URL of a proxy; default: what HTTP_PROXY, HTTPS_PROXY and NO_PROXY say. */
  readonly proxy?: string;
  /** Certificates to trust, PEM. */
  readonly ca?: string | Buffer;
  /** Most connections a worker opens; default 16. */
  readonly connections?: number;
}

/** Options of consumers that collect batches and never wait for them. */
export interface StreamOptions {
  /** Records in a batch, at most 2000; default 500, and 2000 for NATS and Kafka. */
  readonly batchSize?: number;
  /** JSON text in a batch before compression, in bytes; default 512 KiB. */
  readonly batchBytes?: number;
  /** Longest wait of a record for its batch to fill up, in ms; default 100. */
  readonly lingerMs?: number;
  /** Most records that wait, all lanes together; default 100 000. */
  readonly queueSize?: number;
  /** Repeated attempts before a record is dropped as expired; default 'forever'. */
  readonly retries?: number | 'forever';
  /** Longest time from the first attempt of a batch until its records are dropped as expired, in ms; default: no limit. */
  readonly retryForMs?: number;
  /** 'user': a user's records arrive in order (default). 'none': several batches of a lane under way at once. */
  readonly ordering?: 'user' | 'none';
}
