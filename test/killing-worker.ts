import { isMainThread, threadId, workerData } from 'node:worker_threads';
import { HttpSink, type HttpSinkConfig } from '../src/sink/http.ts';
import type { Sink } from '../src/sink/sink.ts';
import type { TurnEnd, TurnTask } from '../src/worker/contract.ts';
import { WorkerRuntime } from '../src/worker/runtime.ts';

let runtime: WorkerRuntime | undefined;
let delivered = 0;

/** A worker entry as ours, but the pool's first thread ends itself in the middle of a delivery. */
export default function turn(task: TurnTask): Promise<TurnEnd> {
  runtime ??= WorkerRuntime.start(workerData, ({ sink }, machine) =>
    killing(HttpSink.open(sink as HttpSinkConfig, machine)),
  );
  return runtime.turn(task);
}

function killing(sink: HttpSink): Sink {
  const isVictim = !isMainThread && threadId === 1;
  const after = Number(process.env.MILLRACE_TEST_KILL_AFTER);
  return {
    separator: sink.separator,
    get lastAttempt() {
      return sink.lastAttempt;
    },
    deliver: (batch, signal) => {
      delivered += 1;
      if (isVictim && delivered === after) process.exit(7);
      return sink.deliver(batch, signal);
    },
    flush: () => sink.flush(),
    close: () => sink.close(),
  };
}
