import { threadId, workerData } from 'node:worker_threads';
import { fileShare } from '../src/lane/control.ts';
import type { FileSinkConfig } from '../src/sink/file.ts';
import { openFileSink } from '../src/sink/spill.ts';
import type { TurnEnd, TurnTask } from '../src/worker/contract.ts';
import { WorkerRuntime } from '../src/worker/runtime.ts';

let runtime: WorkerRuntime | undefined;
/** A worker that appends to log files: one turn a call. */
export default function turn(task: TurnTask): Promise<TurnEnd> {
  runtime ??= WorkerRuntime.start(workerData, ({ sink, control }) =>
    openFileSink(sink as FileSinkConfig, fileShare(control, threadId)),
  );
  return runtime.turn(task);
}
