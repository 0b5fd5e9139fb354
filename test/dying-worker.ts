import { BroadcastChannel, isMainThread, threadId, workerData } from 'node:worker_threads';
import { HttpSink, type HttpSinkConfig } from '../src/sink/http.ts';
import type { TurnEnd, TurnTask } from '../src/worker/contract.ts';
import { WorkerRuntime } from '../src/worker/runtime.ts';

/** Ways a thread can come to its end by its own hand. */
export type Death = 'exit' | 'throw' | 'starve' | 'hang';

/** Who is to die, and how: what is sent over {@link DEATH_CHANNEL}. */
interface DeathOrder {
  readonly threadId: number;
  readonly death: Death;
}

export const DEATH_CHANNEL = 'millrace-drill';

let runtime: WorkerRuntime | undefined;

/** A worker entry as ours, whose threads die when they are told to. */
export default function turn(task: TurnTask): Promise<TurnEnd> {
  runtime ??= WorkerRuntime.start(workerData, ({ sink }, machine) =>
    HttpSink.open(sink as HttpSinkConfig, machine),
  );
  return runtime.turn(task);
}

function die(death: Death): void {
  if (death === 'exit') process.exit(1);
  if (death === 'throw') {
    setImmediate(() => {
      throw new Error('a worker has a bug');
    });
    return;
  }
  const kept: unknown[] = [];
  for (;;) if (death === 'starve') kept.push({ next: kept.at(-1), words: [kept.length] });
}

// The drill itself has the channel's name from here.
if (!isMainThread) {
  const channel = new BroadcastChannel(DEATH_CHANNEL);
  channel.unref();
  channel.onmessage = (event: unknown) => {
    const { data } = event as { readonly data: DeathOrder };
    if (data.threadId === threadId) die(data.death);
  };
}
