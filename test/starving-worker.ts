import { workerData } from 'node:worker_threads';
import { HttpSink, type HttpSinkConfig } from '../src/sink/http.ts';
import type { Sink } from '../src/sink/sink.ts';
import type { TurnEnd, TurnTask } from '../src/worker/contract.ts';
import { WorkerRuntime } from '../src/worker/runtime.ts';
import { claimDeath, watched } from './victim.ts';

let runtime: WorkerRuntime | undefined;

/**
 * A worker entry as ours, but a thread uses up its heap when it delivers for the MILLRACE_TEST_STARVE_AFTER-th time, until
 * MILLRACE_TEST_STARVE_TIMES threads of the pool have done so (default 1).
 */
export default function turn(task: TurnTask): Promise<TurnEnd> {
  runtime ??= WorkerRuntime.start(workerData, ({ sink }, machine) =>
    starving(HttpSink.open(sink as HttpSinkConfig, machine)),
  );
  return runtime.turn(task);
}

function starving(sink: Sink): Sink {
  let delivered = 0;
  return watched(sink, () => {
    delivered += 1;
    if (delivered !== Number(process.env.MILLRACE_TEST_STARVE_AFTER)) return;
    if (claimDeath(Number(process.env.MILLRACE_TEST_STARVE_TIMES ?? '1'))) starve();
  });
}

/** Fills the heap with small objects, as a leak would: V8 gives up the thread, not the process. */
function starve(): void {
  const kept: unknown[] = [];
  for (;;) kept.push({ next: kept.at(-1), words: [kept.length, kept.length + 1] });
}
