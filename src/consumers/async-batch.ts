import { planAsync } from '../engine/options.ts';
import type { EnginePlan } from '../engine/plan.ts';
import type { EngineOptions, HttpOptions, StreamOptions } from './options.ts';

export interface AsyncBatchConsumerOptions extends HttpOptions, EngineOptions, StreamOptions {}

/** Batches by HTTP, sent by worker threads: the one for production. Never blocks, unless asked to. */
export class AsyncBatchConsumer {
  readonly plan: EnginePlan;

  /** @throws MillraceError MILLRACE_OPTIONS with everything that is wrong */
  constructor(options: AsyncBatchConsumerOptions) {
    this.plan = planAsync(options);
  }
}
