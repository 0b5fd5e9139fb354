import { planDebug } from '../engine/options.ts';
import type { EnginePlan } from '../engine/plan.ts';
import type { EngineOptions, HttpOptions } from './options.ts';

export interface DebugConsumerOptions
  extends Pick<
      HttpOptions,
      'url' | 'appId' | 'timeoutMs' | 'headers' | 'proxy' | 'ca' | 'connections' | 'compress'
    >,
    Pick<EngineOptions, 'workerFile' | 'exitFlushMs'> {
  /** Checks only; the receiver stores nothing. */
  readonly dryRun?: boolean;
  /** Marks this sender in the receiver's debug view. */
  readonly deviceId?: string;
}

/**
 * Every record is sent alone and its result comes back: a tracking call blocks, and throws
 * MILLRACE_DEBUG_REJECTED with the receiver's reasons. Not for production.
 */
export class DebugConsumer {
  readonly plan: EnginePlan;

  /** @throws MillraceError MILLRACE_OPTIONS with everything that is wrong */
  constructor(options: DebugConsumerOptions) {
    this.plan = planDebug(options);
  }
}
