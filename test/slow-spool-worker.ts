import { closeSync, openSync, readSync } from 'node:fs';
import { workerData } from 'node:worker_threads';
import { HttpSink, type HttpSinkConfig } from '../src/sink/http.ts';
import { nodeFileSystem, type SpoolFileSystem } from '../src/spool/file-system.ts';
import type { TurnEnd, TurnTask } from '../src/worker/contract.ts';
import { WorkerRuntime } from '../src/worker/runtime.ts';
import { claimDeath } from './victim.ts';

/**
 * A disk whose first write takes MILLRACE_TEST_WRITE_MS, or, with MILLRACE_TEST_PIPE, as long as nobody writes to that named pipe: the
 * system holds the thread, and it can't even be ended.
 */
const fileSystem: SpoolFileSystem = {
  ...nodeFileSystem,
  write: (fd, bytes, at) => {
    if (claimDeath(1)) wait();
    return nodeFileSystem.write(fd, bytes, at);
  },
};

function wait(): void {
  const pipe = process.env.MILLRACE_TEST_PIPE;
  if (pipe === undefined) {
    const ms = Number(process.env.MILLRACE_TEST_WRITE_MS);
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms);
    return;
  }
  const held = openSync(pipe, 'r+');
  readSync(held, new Uint8Array(1));
  closeSync(held);
}

let runtime: WorkerRuntime | undefined;

/** A worker entry as ours, on a slow disk. */
export default function turn(task: TurnTask): Promise<TurnEnd> {
  runtime ??= WorkerRuntime.start(
    workerData,
    ({ sink }, machine) => HttpSink.open(sink as HttpSinkConfig, machine),
    { fileSystem },
  );
  return runtime.turn(task);
}
