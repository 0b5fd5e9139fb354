import { planLogging } from '../engine/options.ts';
import type { EnginePlan } from '../engine/plan.ts';
import type { EngineOptions } from './options.ts';

export interface LoggingConsumerOptions extends EngineOptions {
  /** Folder of the files; made if missing. */
  readonly directory: string;
  /** A file a day, or an hour; default 'day'. */
  readonly rotate?: 'day' | 'hour';
  /** Size after which a file of the same day or hour is begun, in MB of 1024 × 1024 bytes; default: no limit. */
  readonly maxSizeMb?: number;
  /** Put before the name: `prefix.log.…`. */
  readonly prefix?: string;
  /** Added to the prefix, for one file per process; 'auto': the machine's name and the process's number. */
  readonly instance?: string;
  /** JSON text written at once, in bytes; default 64 KiB. */
  readonly bufferSize?: number;
  /** Records written at once; default 2000. */
  readonly bufferRecords?: number;
  /** Longest wait of a record, in ms; default 50. */
  readonly lingerMs?: number;
  /** When the file is put on stable storage; default 'never'. */
  readonly fsync?: 'never' | 'flush' | 'batch';
  /** Permission of new files; default 0o644. */
  readonly mode?: number;
  /** Folder that is written to while `directory` can't be: full, read-only, no permission; default: records wait. */
  readonly spillDirectory?: string;
  /** Repeated attempts of a batch that can't be written before its records are dropped as expired; default 'forever'. */
  readonly retries?: number | 'forever';
  /** Longest time from the first attempt of a batch until its records are dropped as expired, in ms; default: no limit. */
  readonly retryForMs?: number;
  /**
   * Finished files are gzipped so long after they were written last, in ms; default: never. `millrace ship` reads them on;
   * LogBus does not read `.gz`, so give it time.
   */
  readonly gzipAfterMs?: number;
  /** Finished files this old are removed, but for those that `millrace ship` has not finished; default: never. */
  readonly keepDays?: number;
  /** The oldest finished files are removed while the folder's log files are larger, in MB of 1024 × 1024 bytes, with the same exception; default: no bound. */
  readonly keepTotalMb?: number;
}

/** Rotated log files for LogBus or `millrace ship`, written by worker threads. */
export class LoggingConsumer {
  readonly plan: EnginePlan;

  /**
   * @param options the options, or just the folder
   * @throws MillraceError MILLRACE_OPTIONS with everything that is wrong, a folder that can't be written included
   */
  constructor(options: LoggingConsumerOptions | string) {
    this.plan = planLogging(typeof options === 'string' ? { directory: options } : options);
  }
}
