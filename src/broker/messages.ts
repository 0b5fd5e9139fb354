import type { BodyMemory } from '../codec/body-memory.ts';
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
  /** Where payloads are put. */
  readonly memory: BodyMemory;
  /** Longest payload in bytes. A longer single record is a message of its own, for the caller to refuse. */
  readonly bytesMax: number;
}

/** Name of the header that tells how a payload is packed, and its value. */
export const ENCODING_HEADER = 'Content-Encoding';
export const GZIP = 'gzip';

/**
 * The messages of a batch, in chains: a message of a chain must be acknowledged before the next is sent, so that a failure in
 * between can't change the order of a user's records. Chains know nothing of each other. Nothing in them is the batch's memory.
 */
export interface PackedBatch {
  readonly chains: readonly (readonly PartitionMessage[])[];
  /** Takes the payloads' memory back: they are acknowledged, and nobody may look at them any more. */
  readonly release: () => void;
}

/** Looks at the batch's memory only until it returns. */
export function packBatch(batch: RecordBatch, packing: Packing): PackedBatch {
  return packing.message === 'record' ? packRecords(batch, packing) : packRuns(batch, packing);
}

function packRecords(batch: RecordBatch, packing: Packing): PackedBatch {
  const { partitions, memory } = packing;
  const lines = memory.take(batch.lines().length);
  lines.set(batch.lines());
  const chains = new Map<string, PartitionMessage[]>();
  let at = 0;
  for (let index = 0; index < batch.count; index += 1) {
    const key = batch.key(index);
    const end = at + batch.byteLength(index);
    // A record alone is too short to get shorter.
    const message: PartitionMessage = {
      partition: batch.partition(index, partitions),
      payload: lines.subarray(at, end),
      isPacked: false,
      id: batch.uuid(index),
      key,
    };
    at = end + 1;
    const chain = chains.get(key);
    if (chain === undefined) chains.set(key, [message]);
    else chain.push(message);
  }
  return { chains: [...chains.values()], release: () => memory.giveBack(lines) };
}

function packRuns(batch: RecordBatch, packing: Packing): PackedBatch {
  const { machine, partitions, bytesMax, memory, level } = packing;
  const records = { lines: batch.lines(), ends: batch.lineEnds };
  const found = machine && spread(records, partitions, { machine, memory });
  if (found === undefined || found.runs.some(({ lines }) => lines.length > bytesMax)) {
    return { chains: packRunsSlowly(batch, packing), release: () => undefined };
  }
  const chains = found.runs.map(({ partition, count, first, last, lines }) => {
    const id = runId(batch, { first, last, count });
    return [messageOf(lines, { partition, id, packing })];
  });
  const release = () => memory.giveBack(found.memory);
  if (level === 'none') return { chains, release };
  release();
  return { chains, release: () => undefined };
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
  }: Pick<PartitionMessage, 'partition' | 'id'> & { readonly packing: Packing },
): PartitionMessage {
  if (level === 'none') return { ...facts, key: undefined, isPacked: false, payload: plain };
  const payload = gzip(plain, level, { machine });
  return { ...facts, key: undefined, isPacked: true, payload };
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

/** Remembers the latest acknowledged messages of batches that will be repeated, so that only what is missing is sent. */
export class AckedIds {
  readonly #ids = new Set<string>();
  readonly #max: number;

  constructor(max = 16_384) {
    this.#max = max;
  }

  has(id: string | undefined): boolean {
    return id !== undefined && this.#ids.size > 0 && this.#ids.has(id);
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
