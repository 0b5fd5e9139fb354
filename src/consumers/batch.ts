import { planBatch } from '../engine/options.ts';
import type { EnginePlan } from '../engine/plan.ts';
import type { EngineOptions, HttpOptions } from './options.ts';

export interface BatchConsumerOptions extends HttpOptions, EngineOptions {
  /** Records in a request; default 20, at most 2000. */
  readonly batchSize?: number;
  /** Failed batches kept for another attempt; beyond, the oldest is dropped; default 50. */
  readonly maxCachedBatches?: number;
  /** Repeated attempts within one call; default 3. */
  readonly retries?: number;
  /** Longest time from the first attempt of a batch until it is kept for the next time, in ms; default: no limit. */
  readonly retryForMs?: number;
}

/**
 * Batches by HTTP, synchronously: the call that completes a batch returns when the receiver has acknowledged it, or all
 * attempts failed. Failed batches are kept and sent first next time. The sending itself is done by a worker thread.
 */
export class BatchConsumer {
  readonly plan: EnginePlan;

  /** @throws MillraceError MILLRACE_OPTIONS with everything that is wrong */
  constructor(options: BatchConsumerOptions) {
    this.plan = planBatch(options);
  }
}
