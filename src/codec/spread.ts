import type { BodyMemory } from './body-memory.ts';
import type { Machine } from './machine.ts';
import {
  PACKED_AT,
  PLAIN_AT,
  PLAIN_BYTES,
  RUN_COUNTS_AT,
  RUN_ENDS_AT,
  RUN_FIRSTS_AT,
  RUN_LASTS_AT,
  SPREAD_ENDS_AT,
  SPREAD_PARTITIONS_MAX,
  SPREAD_RECORDS_MAX,
} from './machine-places.ts';

/** Records of one partition, in order. */
export interface Run {
  readonly partition: number;
  readonly count: number;
  /** Numbers of the first and the last among all records that were spread. */
  readonly first: number;
  readonly last: number;
  /** The records as lines. */
  readonly lines: Uint8Array;
}

/** The runs of some records, and the memory that all their lines are in: to be given back when nobody reads them any more. */
export interface Spread {
  readonly runs: readonly Run[];
  readonly memory: Buffer<ArrayBuffer>;
}

/** What records are spread with. */
export interface SpreadTools {
  readonly machine: Machine;
  readonly memory: BodyMemory;
}

/** Records as JSON, a line each, every line with its line break. */
export interface SpreadRecords {
  readonly lines: Uint8Array;
  /** Where in `lines` the line break of each record is. */
  readonly ends: Uint32Array;
}

/**
 * Sorts records by the partition of their user (`RecordBatch.partition`).
 *
 * @returns undefined: more than the machine has room for
 */
export function spread(
  { lines, ends }: SpreadRecords,
  partitions: number,
  { machine, memory: kept }: SpreadTools,
): Spread | undefined {
  const isTooMuch = lines.length > PLAIN_BYTES || ends.length > SPREAD_RECORDS_MAX;
  if (isTooMuch || partitions > SPREAD_PARTITIONS_MAX) return undefined;
  const { words } = machine;
  machine.bytes.set(lines, PLAIN_AT);
  words.set(ends, SPREAD_ENDS_AT / 4);
  machine.calls.spread(ends.length, partitions);
  // At one go: as many small pieces as there are partitions would keep the collector busy.
  const memory = kept.take(lines.length);
  memory.set(machine.bytes.subarray(PACKED_AT, PACKED_AT + lines.length));
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
      lines: memory.subarray(from, end),
    });
    from = end;
  }
  return { runs, memory };
}
