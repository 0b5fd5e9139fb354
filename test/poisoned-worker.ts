import { workerData } from 'node:worker_threads';
import { HttpSink, type HttpSinkConfig } from '../src/sink/http.ts';
import type { TurnEnd, TurnTask } from '../src/worker/contract.ts';
import { WorkerRuntime } from '../src/worker/runtime.ts';
import { watched } from './victim.ts';

let runtime: WorkerRuntime | undefined;

/**
 * A worker entry as ours, but a thread dies of every batch that has the word `poison` in it; MILLRACE_TEST_POISON says how:
 * 'exit' at once, 'late' by an error that is thrown after the call, 'memory' by using up its heap, 'process' with all the process.
 */
export default function turn(task: TurnTask): Promise<TurnEnd> {
  runtime ??= WorkerRuntime.start(workerData, ({ sink }, machine) =>
    watched(HttpSink.open(sink as HttpSinkConfig, machine), (text) => {
      if (Buffer.from(text).includes('poison')) die();
    }),
  );
  return runtime.turn(task);
}

function die(): void {
  switch (process.env.MILLRACE_TEST_POISON) {
    case 'exit':
      process.exit(7);
      break;
    case 'process':
      process.kill(process.pid, 'SIGKILL');
      break;
    case 'memory': {
      const kept: unknown[] = [];
      for (;;) kept.push({ next: kept.at(-1), words: [kept.length, kept.length + 1] });
    }
    default:
      setImmediate(() => {
        throw new Error('the sink has swallowed poison');
      });
  }
}
