import { Piscina, type Piscina as Pool } from 'piscina';
import { workerEntry } from '../engine/entry.ts';
import { workerFlags } from '../engine/worker-flags.ts';
import type { SurveyReport, SurveyTask } from '../lines/survey.ts';

/** Threads that look through parts of log files. */
export class SurveyPool {
  readonly #pool: Pool;

  /** @throws MillraceError MILLRACE_OPTIONS when there is no such worker file */
  constructor(threads: number, workerFile: URL | string | undefined) {
    this.#pool = new Piscina({
      filename: workerEntry('check', workerFile),
      minThreads: 1,
      maxThreads: threads,
      // Else a thread ends whenever it waits for its next part, and starting one takes longer than a small file.
      idleTimeout: Number.POSITIVE_INFINITY,
      recordTiming: false,
      execArgv: workerFlags(process.execArgv),
    });
  }

  /** Bytes go to the thread for good. */
  run(task: SurveyTask): Promise<SurveyReport> {
    const transferList = task.kind === 'bytes' ? [task.bytes.buffer as ArrayBuffer] : [];
    return this.#pool.run(task, { transferList });
  }

  close(): Promise<void> {
    return this.#pool.destroy();
  }
}
