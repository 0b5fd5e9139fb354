import { workerData } from 'node:worker_threads';
import { HttpSink, type HttpSinkConfig } from '../src/sink/http.ts';
import type { TurnEnd, TurnTask } from '../src/worker/contract.ts';
import { WorkerRuntime } from '../src/worker/runtime.ts';

let runtime: WorkerRuntime | undefined;

/** A worker that delivers by HTTP: one turn a call. */
export default function turn(task: TurnTask): Promise<TurnEnd> {
  runtime ??= WorkerRuntime.start(workerData, ({ sink }, machine) =>
    HttpSink.open(sink as HttpSinkConfig, machine),
  );
  return runtime.turn(task);
}
