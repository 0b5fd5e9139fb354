import { workerData } from 'node:worker_threads';
import { HttpSink, type HttpSinkConfig } from '../src/sink/http.ts';
import type { TurnEnd, TurnTask } from '../src/worker/contract.ts';
import { WorkerRuntime } from '../src/worker/runtime.ts';
import { countLoad } from './victim.ts';

// The first two threads are those the pool begins with; the third is the one that is to replace one of them.
if (countLoad() === 3) throw new Error('this thread can not be loaded');

let runtime: WorkerRuntime | undefined;

/** A worker entry as ours, but the first thread that replaces another one can't load it. */
export default function turn(task: TurnTask): Promise<TurnEnd> {
  runtime ??= WorkerRuntime.start(workerData, ({ sink }, machine) =>
    HttpSink.open(sink as HttpSinkConfig, machine),
  );
  return runtime.turn(task);
}
