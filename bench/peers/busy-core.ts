import { isMainThread, Worker, workerData } from 'node:worker_threads';
import { gunzipSync, gzipSync } from 'node:zlib';
import { makeEvents } from '../../src/tune/game-events.ts';
import { finishedRecord } from '../events.ts';

const IDLE = 0;
const BUSY = 1;

/** A thread that does what a receiver does while it is told to: what a machine of two cores leaves for one of them then. */
export class BusyCore {
  readonly #state = new Int32Array(new SharedArrayBuffer(4));
  readonly #thread = new Worker(new URL(import.meta.url), { workerData: this.#state });

  start(): void {
    if (Atomics.exchange(this.#state, 0, BUSY) === IDLE) Atomics.notify(this.#state, 0);
  }

  stop(): void {
    Atomics.store(this.#state, 0, IDLE);
  }

  async close(): Promise<void> {
    await this.#thread.terminate();
  }
}

function unpackForEver(state: Int32Array): never {
  const records = makeEvents(500).map((event) => finishedRecord(event));
  const body = gzipSync(JSON.stringify(records));
  for (;;) {
    Atomics.wait(state, 0, IDLE);
    gunzipSync(body);
  }
}

if (!isMainThread && workerData instanceof Int32Array) unpackForEver(workerData);
