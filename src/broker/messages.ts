import { type BodyLevel, gzip } from '../codec/gzip.ts';
import type { Machine } from '../codec/machine.ts';
import { spread } from '../codec/spread.ts';
import type { RecordBatch } from '../sink/record-batch.ts';

/** Records of one partition on their way to a broker as one message: JSON lines, gzipped or plain. */
export interface PartitionMessage {
  readonly partition: number;
  readonly payload: Uint8Array;
  readonly isPacked: boolean;
  /** The same for the same records; undefined: a record has no uuid, so nobody can tell a copy. */
  readonly id: string | undefined;
  /** User of the only record; undefined: records of several users. */
  readonly key: string | undefined;
}

export interface Packing {
  readonly partitions: number;
  /** One message for all records of a partition in the batch, or one for each record. */
  readonly message: 'batch' | 'record';
  /** How batch messages are compressed. */
  readonly level: BodyLevel;
  readonly machine: Machine | undefined;
  /** Longest payload in bytes. A longer single record is a message of its own, for the caller to refuse. */
  readonly bytesMax: number;
}

/** Name of the header that tells how a payload is packed, and its value. */
export const ENCODING_HEADER = 'Content-Encoding';
export const GZIP = 'gzip';
/** A record alone is too short to get shorter. */
const NOT_PACKED: Pick<Packing, 'level' | 'machine'> = { level: 'none', machine: undefined };

/**
 * The messages of a batch, in chains: a message of a chain must be acknowledged before the next is sent, so that a failure in
 * between can't change the order of a user's records. Chains know nothing of each other.
 */
export function packBatch(batch: RecordBatch, packing: Packing): PartitionMessage[][] {
  return packing.message === 'record' ? packRecords(batch, packing) : packRuns(batch, packing);
}

function packRecords(batch: RecordBatch, packing: Packing): PartitionMessage[][] {
  const chains = new Map<string, PartitionMessage[]>();
  for (let index = 0; index < batch.count; index += 1) {
    const key = batch.key(index);
    const partition = batch.partition(index, packing.partitions);
    const message = messageOf(batch.bytes(index), {
      partition,
      id: batch.uuid(index),
      key,
      packing: NOT_PACKED,
    });
    const chain = chains.get(key);
    if (chain === undefined) chains.set(key, [message]);
    else chain.push(message);
  }
  return [...chains.values()];
}

function packRuns(batch: RecordBatch, packing: Packing): PartitionMessage[][] {
  const { machine, partitions, bytesMax } = packing;
  const runs = machine && spread(batch.lines(), partitions, machine);
  if (runs === undefined || runs.some(({ lines }) => lines.length > bytesMax)) {
    return packRunsSlowly(batch, packing);
  }
  return runs.map(({ partition, count, first, last, lines }) => {
    const id = runId(batch, { first, last, count });
    return [messageOf(lines, { partition, id, key: undefined, packing })];
  });
}

/** The same without the machine, or for more than it holds. */
function packRunsSlowly(batch: RecordBatch, packing: Packing): PartitionMessage[][] {
  const runs = new Map<number, number[]>();
  for (let index = 0; index < batch.count; index += 1) {
    const partition = batch.partition(index, packing.partitions);
    const run = runs.get(partition);
    if (run === undefined) runs.set(partition, [index]);
    else run.push(index);
  }
  return [...runs].map(([partition, indexes]) => packRun(batch, { partition, indexes, packing }));
}

/** One message, or several where the records are longer than a message may be. */
function packRun(
  batch: RecordBatch,
  { partition, indexes, packing }: { partition: number; indexes: number[]; packing: Packing },
): PartitionMessage[] {
  const chain: PartitionMessage[] = [];
  let from = 0;
  let bytes = 0;
  for (let at = 0; at <= indexes.length; at += 1) {
    const index = indexes[at];
    const more = index === undefined ? 0 : batch.byteLength(index) + 1;
    const isFull = bytes > 0 && bytes + more > packing.bytesMax;
    if (index === undefined || isFull) {
      const run = indexes.slice(from, at);
      chain.push(
        messageOf(batch.gather(run), {
          partition,
          id: runId(batch, { first: run[0] ?? 0, last: run.at(-1) ?? 0, count: run.length }),
          key: undefined,
          packing,
        }),
      );
      from = at;
      bytes = 0;
    }
    bytes += more;
  }
  return chain;
}

/** First, last and number tell a run of a lane: the records between two of them are always the same. */
function runId(
  batch: RecordBatch,
  run: { readonly first: number; readonly last: number; readonly count: number },
): string | undefined {
  const first = batch.uuid(run.first);
  const last = batch.uuid(run.last);
  return first === undefined || last === undefined ? undefined : `${first}-${last}-${run.count}`;
}

function messageOf(
  plain: Uint8Array,
  {
    packing: { level, machine },
    ...facts
  }: Pick<PartitionMessage, 'partition' | 'id' | 'key'> & {
    readonly packing: Pick<Packing, 'level' | 'machine'>;
  },
): PartitionMessage {
  if (level === 'none') return { ...facts, isPacked: false, payload: plain };
  return { ...facts, isPacked: true, payload: gzip(plain, level, { machine }) };
}

/**
 * Sends chains side by side, at most `inFlight` messages at once, each chain one message after the other.
 *
 * @returns what failed first; undefined: all are acknowledged
 */
export async function sendChains<T>(
  chains: readonly (readonly T[])[],
  { inFlight, send }: { inFlight: number; send: (message: T) => Promise<void> },
): Promise<unknown> {
  let next = 0;
  let failure: unknown;
  const work = async (): Promise<void> => {
    for (let chain = chains[next++]; chain !== undefined; chain = chains[next++]) {
      for (const message of chain) {
        // After a failure the rest waits for the next attempt: it would only fail, too.
        if (failure !== undefined) return;
        try {
          await send(message);
        } catch (error) {
          failure ??= error;
          break;
        }
      }
    }
  };
  await Promise.all(Array.from({ length: Math.min(inFlight, chains.length) }, work));
  return failure;
}

/** Remembers the ids of the latest acknowledged messages, so that a repeated batch sends only what is missing. */
export class AckedIds {
  readonly #ids = new Set<string>();
  readonly #max: number;

  constructor(max = 16_384) {
    this.#max = max;
  }

  has(id: string | undefined): boolean {
    return id !== undefined && this.#ids.has(id);
  }

  add(id: string | undefined): void {
    if (id === undefined) return;
    this.#ids.add(id);
    if (this.#ids.size <= this.#max) return;
    for (const oldest of this.#ids) {
      this.#ids.delete(oldest);
      return;
    }
  }
}
