import { readFileSync } from 'node:fs';
import { threadId, workerData } from 'node:worker_threads';
import type { Clock } from '../src/base/clock.ts';
import { fileShare } from '../src/lane/control.ts';
import type { FileSinkConfig } from '../src/sink/file.ts';
import { openFileSink } from '../src/sink/spill.ts';
import type { TurnEnd, TurnTask } from '../src/worker/contract.ts';
import { WorkerRuntime } from '../src/worker/runtime.ts';

/** A clock whose wall time stands in a file, in ms: what a test writes there is the time for every thread. */
const clock: Clock = {
  nowMs: () => Number(readFileSync(process.env.MILLRACE_TEST_CLOCK ?? '', 'utf8')),
  monotonicMs: () => performance.now(),
};

let runtime: WorkerRuntime | undefined;

/** The file worker, with a clock that a test sets. */
export default function turn(task: TurnTask): Promise<TurnEnd> {
  runtime ??= WorkerRuntime.start(workerData, ({ sink, control }) =>
    openFileSink(sink as FileSinkConfig, { ...fileShare(control, threadId), clock }),
  );
  return runtime.turn(task);
}
