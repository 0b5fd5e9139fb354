import type { KV, KvEntry, KvWatchEntry } from '@nats-io/kv';
import { textOfError } from '../base/errors.ts';
import { apiCodeOf } from '../broker/nats.ts';

/**
 * Who reads which partition, and how far: a key-value bucket that all relays of a group watch.
 *
 *   m.<relay>       {}                          a relay is alive; written every beat
 *   p.<partition>   { owner, settled, stream }  whose it is, and the last settled sequence of the stream that was made at that time; written every beat
 *
 * Each write of a partition names the revision it replaces, so of two relays one wins. A relay is taken for dead when its keys have
 * not changed for `leaseMs` by the watcher's own clock; no two clocks are compared. The order of a user's records does not hang on the
 * lease: a relay that was wrongly taken for dead and goes on repeats records that its successor delivers, too, in the
 * same order (docs/fleet.md). The lease only keeps that rare.
 */
export interface Lease extends Place {
  readonly owner: string;
}

/** How far a partition is. */
export interface Place {
  readonly settled: number;
  /** When the stream was made: in one that was made anew under the same name, the sequence means nothing. */
  readonly stream: string;
}

interface Seen {
  readonly lease: Lease;
  readonly revision: number;
  readonly seenMs: number;
}

export type Claim =
  | { readonly kind: 'held'; readonly settled: number }
  | { readonly kind: 'lost' }
  | { readonly kind: 'unknown'; readonly message: string };

/** JetStream's code for a revision, or an absence, that is not there any more. */
const WRONG_REVISION = 10_071;
const NOBODY = '';

export class NatsLeases {
  readonly #kv: KV;
  readonly #self: string;
  readonly #leaseMs: number;
  readonly #partitions = new Map<number, Seen>();
  readonly #members = new Map<string, number>();
  #isClosed = false;
  #watchMs = 0;
  #beatMs = 0;
  #stopWatch: () => void = () => undefined;

  constructor(kv: KV, { self, leaseMs }: { self: string; leaseMs: number }) {
    this.#kv = kv;
    this.#self = self;
    this.#leaseMs = leaseMs;
  }

  /** Living relays, this one included. */
  members(nowMs: number): number {
    let count = 1;
    for (const [name, seenMs] of this.#members) {
      if (name !== this.#self && nowMs - seenMs < this.#leaseMs) count += 1;
    }
    return count;
  }

  /** How far a partition of this stream is known to be. */
  settledOf(partition: number, stream: string): number {
    const lease = this.#partitions.get(partition)?.lease;
    return lease === undefined ? 0 : settledIn(lease, stream);
  }

  /** Whether this relay may take a partition: nobody has it, or whoever had it is gone. */
  isFree(partition: number, nowMs: number): boolean {
    const seen = this.#partitions.get(partition);
    if (seen === undefined || seen.lease.owner === NOBODY) return true;
    // What an earlier relay of the same name had: names are unique, so it is our own.
    return seen.lease.owner === this.#self || nowMs - seen.seenMs > this.#leaseMs;
  }

  /** Whether the watch tells of our own beats; else it is begun anew. */
  tend(nowMs: number): void {
    const lastMs = Math.max(this.#watchMs, this.#members.get(this.#self) ?? 0);
    if (this.#isClosed || nowMs - lastMs < 2 * this.#leaseMs) return;
    this.#stopWatch();
    this.watch(nowMs);
  }

  watch(nowMs: number): void {
    this.#watchMs = nowMs;
    let isStopped = false;
    this.#stopWatch = () => {
      isStopped = true;
    };
    const run = async (): Promise<void> => {
      const entries = await this.#kv.watch();
      this.#stopWatch = () => {
        isStopped = true;
        entries.stop();
      };
      for await (const entry of entries) {
        if (isStopped) return;
        this.#note(entry);
      }
    };
    run().catch(() => {
      // tend() notices that nothing is heard any more.
    });
  }

  #note(entry: KvWatchEntry | KvEntry): void {
    const nowMs = performance.now();
    const [kind = '', name = ''] = entry.key.split('.');
    if (kind === 'm') {
      if (entry.operation === 'PUT') this.#members.set(name, nowMs);
      else this.#members.delete(name);
      return;
    }
    const known = this.#partitions.get(Number(name));
    if (known !== undefined && known.revision >= entry.revision) return;
    this.#partitions.set(Number(name), {
      lease: leaseOf(entry),
      revision: entry.revision,
      seenMs: nowMs,
    });
  }

  /** Shows that this relay is alive. */
  async beat(): Promise<void> {
    await this.#kv.put(`m.${this.#self}`, '{}');
    const nowMs = performance.now();
    if (nowMs - this.#beatMs > this.#leaseMs / 2) this.#startOver(nowMs);
    this.#beatMs = nowMs;
  }

  /** This relay was cut off, and so, for all it knows, were the others: each has a whole lease from now on. */
  #startOver(nowMs: number): void {
    for (const [partition, seen] of this.#partitions) {
      this.#partitions.set(partition, { ...seen, seenMs: nowMs });
    }
    for (const name of this.#members.keys()) this.#members.set(name, nowMs);
  }

  /** Takes a free partition, or notes how far an own one is. */
  async write(partition: number, place: Place): Promise<Claim> {
    return this.#write(partition, { owner: this.#self, ...place });
  }

  /** Takes a partition where it was left. */
  async take(partition: number, stream: string): Promise<Claim> {
    return this.write(partition, { settled: this.settledOf(partition, stream), stream });
  }

  async release(partition: number, place: Place): Promise<Claim> {
    return this.#write(partition, { owner: NOBODY, ...place });
  }

  async #write(partition: number, lease: Lease): Promise<Claim> {
    const key = `p.${partition}`;
    const text = JSON.stringify(lease);
    const seen = this.#partitions.get(partition);
    try {
      const revision =
        seen === undefined
          ? await this.#kv.create(key, text)
          : await this.#kv.update(key, text, seen.revision);
      this.#partitions.set(partition, { lease, revision, seenMs: performance.now() });
      return { kind: 'held', settled: lease.settled };
    } catch (error) {
      const code = apiCodeOf(error);
      if (code === WRONG_REVISION) return this.#compare(partition, lease);
      return { kind: 'unknown', message: textOfError(error) };
    }
  }

  /** Somebody wrote in between: another relay, or this one by a write whose answer got lost. */
  async #compare(partition: number, lease: Lease): Promise<Claim> {
    try {
      const entry = await this.#kv.get(`p.${partition}`);
      if (entry === null) return { kind: 'lost' };
      this.#note(entry);
      const present = leaseOf(entry);
      if (present.owner !== this.#self) return { kind: 'lost' };
      return { kind: 'held', settled: Math.max(settledIn(present, lease.stream), lease.settled) };
    } catch (error) {
      return { kind: 'unknown', message: textOfError(error) };
    }
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    this.#stopWatch();
    await this.#kv.delete(`m.${this.#self}`);
  }
}

/** 0: it was settled in another stream of the same name. */
export function settledIn({ settled, stream }: Place, present: string): number {
  return stream === present ? settled : 0;
}

export function leaseOf(entry: KvEntry): Lease {
  try {
    const { owner, settled, stream } = entry.json<Partial<Lease>>();
    if (typeof owner === 'string' && typeof settled === 'number' && typeof stream === 'string') {
      return { owner, settled, stream };
    }
  } catch {
    // Not ours, or deleted by hand: the partition begins anew, and the receiver drops what it knows.
  }
  return { owner: NOBODY, settled: 0, stream: '' };
}
