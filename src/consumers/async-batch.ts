import { planAsync } from '../engine/options.ts';
import type { EnginePlan } from '../engine/plan.ts';
import type { EngineOptions, HttpOptions } from './options.ts';

export interface AsyncBatchConsumerOptions extends HttpOptions, EngineOptions {
  /** Records in a request; default 500, at most 2000. */
  readonly batchSize?: number;
  /** JSON text in a request before compression, in bytes; default 512 KiB. */
  readonly batchBytes?: number;
  /** Longest wait of a record for its batch to fill up, in ms; default 100. */
  readonly lingerMs?: number;
  /** Most records that wait, all lanes together; default 100 000. */
  readonly queueSize?: number;
  /** Repeated attempts before a record is dropped as expired; default 'forever'. */
  readonly retries?: number | 'forever';
  /** 'user': a user's records arrive in order (default). 'none': several batches of a lane under way at once. */
  readonly ordering?: 'user' | 'none';
}

/** Batches by HTTP, sent by worker threads: the one for production. Never blocks, unless asked to. */
export class AsyncBatchConsumer {
  readonly plan: EnginePlan;

  /** @throws MillraceError MILLRACE_OPTIONS with everything that is wrong */
  constructor(options: AsyncBatchConsumerOptions) {
    this.plan = planAsync(options);
  }
}
