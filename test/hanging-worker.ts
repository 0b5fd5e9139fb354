import { threadId, workerData } from 'node:worker_threads';
import { HttpSink, type HttpSinkConfig } from '../src/sink/http.ts';
import type { Sink } from '../src/sink/sink.ts';
import type { TurnEnd, TurnTask } from '../src/worker/contract.ts';
import { WorkerRuntime } from '../src/worker/runtime.ts';

let runtime: WorkerRuntime | undefined;
let delivered = 0;

/** A worker entry as ours, but one thread of the pool falls into an endless loop. */
export default function turn(task: TurnTask): Promise<TurnEnd> {
  runtime ??= WorkerRuntime.start(workerData, ({ sink }, machine) =>
    hanging(HttpSink.open(sink as HttpSinkConfig, machine)),
  );
  return runtime.turn(task);
}

function hanging(sink: HttpSink): Sink {
  const isVictim = claimVictim();
  return {
    separator: sink.separator,
    get lastAttempt() {
      return sink.lastAttempt;
    },
    deliver: (batch, signal) => {
      delivered += 1;
      if (isVictim && delivered === Number(process.env.MILLRACE_TEST_HANG_AFTER)) {
        for (;;);
      }
      return sink.deliver(batch, signal);
    },
    flush: () => sink.flush(),
    close: () => sink.close(),
  };
}

/** Only the first thread to ask: workers share no memory but what the engine gave them. */
function claimVictim(): boolean {
  const words = new Int32Array((workerData as { control: SharedArrayBuffer }).control);
  // A word of the control memory that the engine leaves free.
  return Atomics.compareExchange(words, 100, 0, threadId) === 0;
}
