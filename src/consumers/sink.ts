import { planSink, readModule, readSinkOptions } from '../engine/options.ts';
import type { EnginePlan } from '../engine/plan.ts';
import type { EngineOptions, StreamOptions } from './options.ts';

export interface SinkConsumerOptions<Options> extends EngineOptions, StreamOptions {
  /** Module that exports `open(options, context)`; it is loaded by each worker. A path is taken from the working folder. */
  readonly sink: URL | string;
  /** What `open` gets: plain data, as it goes to other threads. */
  readonly sinkOptions?: Options;
  /** Longest time of one attempt, in ms; then its signal aborts; default 30 000. */
  readonly timeoutMs?: number;
}

const ATTEMPT_MS = 30_000;

/** Delivers to a sink of your own, run by worker threads, with the policies, accounts, metrics and the spool of every consumer. */
export class SinkConsumer<Options = unknown> {
  readonly plan: EnginePlan;

  /** @throws MillraceError MILLRACE_OPTIONS with everything that is wrong, a module that is not there included */
  constructor(options: SinkConsumerOptions<Options>) {
    this.plan = planSink(options, {
      owner: 'SinkConsumer',
      consumer: 'sink',
      attemptTimeoutMs: ATTEMPT_MS,
      read: (reader) => {
        const module = readModule(reader);
        if (module === undefined) reader.fail('sink is missing');
        return { module: module ?? '', options: readSinkOptions(reader) };
      },
    });
  }
}
