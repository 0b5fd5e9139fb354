import { workerData } from 'node:worker_threads';
import type { Sink } from '../src/sink/sink.ts';

/** Two words of the control memory that the engine leaves free: worker threads share no other memory. */
const FREE_WORD = 120;

/** Claims one of `times` deaths for this thread. False: they have all been claimed. */
export function claimDeath(times: number): boolean {
  const words = new Int32Array((workerData as { control: SharedArrayBuffer }).control);
  return Atomics.add(words, FREE_WORD, 1) < times;
}

/** Counts the threads of the pool that have come as far as this; gives the number of the present one. */
export function countLoad(): number {
  const words = new Int32Array((workerData as { control: SharedArrayBuffer }).control);
  return Atomics.add(words, FREE_WORD + 1, 1) + 1;
}

/** A sink that looks at each batch before it delivers it. */
export function watched(sink: Sink, look: (text: Uint8Array) => void): Sink {
  return {
    separator: sink.separator,
    get lastAttempt() {
      return sink.lastAttempt;
    },
    deliver: (batch, signal) => {
      look(batch.text.subarray(batch.starts[0], batch.ends[batch.count - 1]));
      return sink.deliver(batch, signal);
    },
    flush: () => sink.flush(),
    close: () => sink.close(),
  };
}
