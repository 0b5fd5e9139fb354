import { workerData } from 'node:worker_threads';
import { CustomSink, type CustomSinkConfig } from '../src/sink/custom.ts';
import type { TurnEnd, TurnTask } from '../src/worker/contract.ts';
import { WorkerRuntime } from '../src/worker/runtime.ts';

let runtime: WorkerRuntime | undefined;

/** A worker that delivers by a sink of the user's own: one turn a call. */
export default function turn(task: TurnTask): Promise<TurnEnd> {
  runtime ??= WorkerRuntime.start(workerData, ({ sink }) =>
    CustomSink.open(sink as CustomSinkConfig),
  );
  return runtime.turn(task);
}
