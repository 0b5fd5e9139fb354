import { closeSync, openSync, writeSync } from 'node:fs';
import { dirname } from 'node:path';
import { makeDirectory } from '../base/directory.ts';
import { isTorn } from '../base/torn-end.ts';
import { directoryModeOf } from '../spool/lane.ts';
import type { DeliveryBatch } from './batcher.ts';
import type { DeadLetterPlan } from './contract.ts';

/**
 * Appends records that were refused for good, or expired, to one file: a JSON object a line,
 * `{"time":…,"reason":…,"record":{…}}`. Several threads and processes may append to the same file.
 */
export class DeadLetterFile {
  readonly #plan: DeadLetterPlan;
  #fd: number | undefined;

  constructor(plan: DeadLetterPlan) {
    this.#plan = plan;
  }

  /** Appends the records `[from, to)`. Throws what the file system throws; nothing is half counted then. */
  append(batch: DeliveryBatch, { from, to }: { from: number; to: number }, reason: string): void {
    this.#fd ??= this.#open();
    const head = `{"time":"${new Date().toISOString()}","reason":${JSON.stringify(reason)},"record":`;
    const parts: Buffer[] = [];
    for (let index = from; index < to; index += 1) {
      const record = batch.text.bytes.subarray(batch.starts[index], batch.ends[index]);
      parts.push(Buffer.from(head), Buffer.from(record), Buffer.from('}\n'));
    }
    // What another write, or a process that is gone, has left half done ends here.
    if (isTorn(this.#fd)) parts.unshift(Buffer.from('\n'));
    const bytes = Buffer.concat(parts);
    for (let at = 0; at < bytes.length; ) at += writeSync(this.#fd, bytes, at);
  }

  close(): void {
    if (this.#fd !== undefined) closeSync(this.#fd);
    this.#fd = undefined;
  }

  #open(): number {
    const { path, mode } = this.#plan;
    makeDirectory(dirname(path), directoryModeOf(mode));
    return openSync(path, 'a+', mode);
  }
}
