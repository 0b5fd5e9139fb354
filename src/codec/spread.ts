import type { Machine } from './machine.ts';
import {
  PACKED_AT,
  PLAIN_AT,
  PLAIN_BYTES,
  RUN_COUNTS_AT,
  RUN_ENDS_AT,
  RUN_FIRSTS_AT,
  RUN_LASTS_AT,
} from './machine-places.ts';

/** Records of one partition, in order. */
export interface Run {
  readonly partition: number;
  readonly count: number;
  /** Numbers of the first and the last among all records that were spread. */
  readonly first: number;
  readonly last: number;
  /** The records as lines; a copy. */
  readonly lines: Uint8Array;
}

/**
 * Sorts records by the partition of their user (`RecordBatch.partition`).
 *
 * @param lines JSON, a line each, every line with its line break
 * @returns undefined: more than the machine has room for
 */
export function spread(lines: Uint8Array, partitions: number, machine: Machine): Run[] | undefined {
  if (lines.length > PLAIN_BYTES) return undefined;
  machine.bytes.set(lines, PLAIN_AT);
  if (machine.calls.spread(lines.length, partitions) === 0) return undefined;
  const { words } = machine;
  const runs: Run[] = [];
  let from = 0;
  for (let partition = 0; partition < partitions; partition += 1) {
    const count = words[RUN_COUNTS_AT / 4 + partition] ?? 0;
    if (count === 0) continue;
    const end = words[RUN_ENDS_AT / 4 + partition] ?? from;
    runs.push({
      partition,
      count,
      first: words[RUN_FIRSTS_AT / 4 + partition] ?? 0,
      last: words[RUN_LASTS_AT / 4 + partition] ?? 0,
      lines: machine.bytes.slice(PACKED_AT + from, PACKED_AT + end),
    });
    from = end;
  }
  return runs;
}
