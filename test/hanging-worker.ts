import { workerData } from 'node:worker_threads';
import { HttpSink, type HttpSinkConfig } from '../src/sink/http.ts';
import type { Sink } from '../src/sink/sink.ts';
import type { TurnEnd, TurnTask } from '../src/worker/contract.ts';
import { WorkerRuntime } from '../src/worker/runtime.ts';
import { claimDeath, watched } from './victim.ts';

let runtime: WorkerRuntime | undefined;

/** A worker entry as ours, but one thread of the pool falls into an endless loop. */
export default function turn(task: TurnTask): Promise<TurnEnd> {
  runtime ??= WorkerRuntime.start(workerData, ({ sink }, machine) =>
    hanging(HttpSink.open(sink as HttpSinkConfig, machine)),
  );
  return runtime.turn(task);
}

function hanging(sink: Sink): Sink {
  const isVictim = claimDeath(1);
  let delivered = 0;
  return watched(sink, () => {
    delivered += 1;
    if (!isVictim || delivered !== Number(process.env.MILLRACE_TEST_HANG_AFTER)) return;
    for (;;);
  });
}
