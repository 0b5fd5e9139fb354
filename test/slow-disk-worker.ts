import { threadId, workerData } from 'node:worker_threads';
import { fileShare } from '../src/lane/control.ts';
import type { FileSinkConfig } from '../src/sink/file.ts';
import { type FileSystem, nodeFileSystem } from '../src/sink/file-system.ts';
import { openFileSink } from '../src/sink/spill.ts';
import type { TurnEnd, TurnTask } from '../src/worker/contract.ts';
import { WorkerRuntime } from '../src/worker/runtime.ts';

/** Longer than a thread may show no life (engine/supervisor.ts). */
const WRITE_MS = 4500;

let isSlow = true;

/** A disk whose first write takes seconds. */
const fileSystem: FileSystem = {
  ...nodeFileSystem,
  append: (fd, bytes) => {
    if (isSlow) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, WRITE_MS);
    isSlow = false;
    return nodeFileSystem.append(fd, bytes);
  },
};

let runtime: WorkerRuntime | undefined;

/** The file worker, on a slow disk. */
export default function turn(task: TurnTask): Promise<TurnEnd> {
  runtime ??= WorkerRuntime.start(workerData, ({ sink, control }) =>
    openFileSink(sink as FileSinkConfig, { ...fileShare(control, threadId), fileSystem }),
  );
  return runtime.turn(task);
}
