import { EventQueue } from './event-queue.ts';

/** What one stage takes, measured by `npm run measure:fleet`. */
export interface Figures {
  /** CPU of a sender's worker for one record, in µs. */
  readonly senderMicros: number;
  /** CPU of a broker for one record, in µs, one replica. */
  readonly brokerMicros: number;
  /** CPU of a relay for one record, in µs. */
  readonly relayMicros: number;
  /** Bytes of a record in a gzipped message. */
  readonly packedBytes: number;
  /** Bytes of a record in a spool. */
  readonly spoolBytes: number;
}

export interface FleetPlan {
  readonly name: string;
  readonly servers: number;
  /** Records a second of all servers together, on average. */
  readonly recordsPerSecond: number;
  readonly partitions: number;
  readonly relays: number;
  readonly brokers: number;
  readonly replicas: number;
  /** Cores of one broker that take messages. */
  readonly brokerCores: number;
  /** Records a second that the receiver takes. */
  readonly receiverPerSecond: number;
  /** Room of one server's spool, and of the stream, in bytes. */
  readonly spoolBytesMax: number;
  readonly streamBytesMax: number;
  readonly leaseMs: number;
  /** Longest time after the last outage until everything has arrived, in ms. */
  readonly recoveryMsMax: number;
}

export interface Outage {
  /** 'broker': no acknowledgements. 'receiver': takes nothing. 'relay': one of them dies. */
  readonly what: 'broker' | 'receiver' | 'relay';
  readonly atMs: number;
  /** Of a relay: until another is started in its place. */
  readonly forMs: number;
}

export interface FleetResult {
  readonly produced: number;
  readonly delivered: number;
  /** Records dropped by a full spool. */
  readonly lost: number;
  /** Most bytes in one server's spool, and in the stream. */
  readonly spoolBytesPeak: number;
  readonly streamBytesPeak: number;
  /** From the end of the last outage until everything had arrived, in ms; Infinity: not within the run. */
  readonly recoveryMs: number;
  /** Age of the oldest record at its arrival, in ms. */
  readonly lagMsPeak: number;
  /** Share of the time that the busiest relay worked, outages included. */
  readonly relayBusyPeak: number;
  /** Left less right of the account; 0. */
  readonly imbalance: number;
}

interface Lot {
  readonly count: number;
  /** When the oldest of them was made. */
  readonly madeMs: number;
}

interface Server {
  readonly perSecond: number;
  readonly spool: Lot[];
  spooled: number;
  isDraining: boolean;
}

const FLUSH_MS = 1000;
const SERVER_SPREAD = 0.5;
const BACKOFF_MS = 5000;
const BATCH_RECORDS = 500;
const IDLE_MS = 20;
const TAKE_RECORDS_MAX = 20_000;
const MICROS_PER_MS = 1000;
const ELECTION_MS = 5000;

/** Mulberry32: small, and the same everywhere. */
function randomFrom(seed: number): () => number {
  let state = seed | 0;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/**
 * A fleet in virtual time: servers that spool while the broker is away, a stream of partitions, relays that share them and die, a receiver with
 * limits. Records move in lots; each server, partition and relay is an actor of its own.
 */
export class FleetSimulation {
  readonly #plan: FleetPlan;
  readonly #figures: Figures;
  readonly #events = new EventQueue();
  readonly #random: () => number;
  readonly #servers: Server[];
  readonly #partitions: Lot[][];
  readonly #owners: number[];
  readonly #down = { broker: 0, receiver: 0 };
  readonly #dead = new Set<number>();
  readonly #busyMs: number[];
  /** When the stream, and the receiver, has room for the next lot. */
  #brokerFreeMs = 0;
  #receiverFreeMs = 0;
  #streamed = 0;
  #spooled = 0;
  #inHand = 0;
  #produced = 0;
  #delivered = 0;
  #lost = 0;
  #spoolPeak = 0;
  #streamPeak = 0;
  #lagPeak = 0;
  #isProducing = true;

  constructor(plan: FleetPlan, figures: Figures, seed: number) {
    this.#plan = plan;
    this.#figures = figures;
    this.#random = randomFrom(seed);
    const mean = plan.recordsPerSecond / plan.servers;
    this.#servers = Array.from({ length: plan.servers }, () => ({
      perSecond: mean * (1 + SERVER_SPREAD * (2 * this.#random() - 1)),
      spool: [],
      spooled: 0,
      isDraining: false,
    }));
    this.#partitions = Array.from({ length: plan.partitions }, () => []);
    this.#owners = this.#partitions.map((_, partition) => partition % plan.relays);
    this.#busyMs = Array.from({ length: plan.relays }, () => 0);
  }

  /** Runs for a while with outages, then until everything has arrived, or `drainMs` are over. */
  run(
    ms: number,
    { outages, drainMs }: { outages: readonly Outage[]; drainMs: number },
  ): FleetResult {
    for (const server of this.#servers) {
      this.#events.after(this.#random() * FLUSH_MS, () => this.#flush(server));
    }
    for (let relay = 0; relay < this.#plan.relays; relay += 1) {
      this.#events.after(this.#random() * IDLE_MS, () => this.#relay(relay));
    }
    for (const outage of outages) this.#events.after(outage.atMs, () => this.#begin(outage));
    const lastEndMs = Math.max(0, ...outages.map(({ atMs, forMs }) => atMs + forMs));
    const recoveredMs = this.#runUntilRecovered(ms, lastEndMs);
    this.#isProducing = false;
    const endMs = ms + drainMs;
    while (this.#events.nowMs < endMs && this.#waiting > 0) {
      this.#events.runUntil(this.#events.nowMs + FLUSH_MS);
    }
    return this.#result(recoveredMs - lastEndMs, ms);
  }

  /** When the backlog was back to what is usual: two seconds of records. */
  #runUntilRecovered(ms: number, lastEndMs: number): number {
    const usual = 2 * FLUSH_MS * (this.#plan.recordsPerSecond / 1000);
    let recoveredMs = Number.POSITIVE_INFINITY;
    while (this.#events.nowMs < ms) {
      this.#events.runUntil(this.#events.nowMs + FLUSH_MS);
      const isOver = this.#events.nowMs >= lastEndMs && recoveredMs === Number.POSITIVE_INFINITY;
      if (isOver && this.#waiting <= usual) recoveredMs = this.#events.nowMs;
    }
    return recoveredMs;
  }

  get #waiting(): number {
    return this.#spooled + this.#streamed + this.#inHand;
  }

  #result(recoveryMs: number, ms: number): FleetResult {
    return {
      produced: this.#produced,
      delivered: this.#delivered,
      lost: this.#lost,
      spoolBytesPeak: this.#spoolPeak * this.#figures.spoolBytes,
      streamBytesPeak: this.#streamPeak * this.#figures.packedBytes,
      recoveryMs,
      lagMsPeak: this.#lagPeak,
      relayBusyPeak: Math.max(...this.#busyMs) / ms,
      imbalance: this.#produced - this.#delivered - this.#lost - this.#waiting,
    };
  }

  #begin({ what, forMs }: Outage): void {
    if (what === 'relay') {
      this.#killRelay(forMs);
      return;
    }
    this.#down[what] += 1;
    // A cluster without its leader needs a while to find another.
    const endMs = what === 'broker' ? Math.max(forMs, ELECTION_MS) : forMs;
    this.#events.after(endMs, () => {
      this.#down[what] -= 1;
    });
  }

  /** Its partitions wait for the lease, then go to the others; what replaces it takes its share back. */
  #killRelay(forMs: number): void {
    const relay = Math.floor(this.#random() * this.#plan.relays);
    if (this.#dead.has(relay)) return;
    this.#dead.add(relay);
    this.#events.after(this.#plan.leaseMs, () => this.#share());
    this.#events.after(forMs, () => {
      this.#dead.delete(relay);
      this.#share();
      this.#relay(relay);
    });
  }

  #share(): void {
    const living = this.#busyMs.map((_, relay) => relay).filter((relay) => !this.#dead.has(relay));
    if (living.length === 0) return;
    for (let partition = 0; partition < this.#owners.length; partition += 1) {
      this.#owners[partition] = living[partition % living.length] ?? 0;
    }
  }

  /** A server's batch: to the stream, or into the spool. */
  #flush(server: Server): void {
    if (!this.#isProducing) return;
    const count = Math.round((server.perSecond * FLUSH_MS * (0.8 + 0.4 * this.#random())) / 1000);
    this.#produced += count;
    const lot = { count, madeMs: this.#events.nowMs };
    if (server.spool.length > 0 || !this.#offer(lot)) this.#spool(server, lot);
    this.#events.after(FLUSH_MS, () => this.#flush(server));
  }

  #spool(server: Server, lot: Lot): void {
    const roomRecords = this.#plan.spoolBytesMax / this.#figures.spoolBytes - server.spooled;
    if (lot.count > roomRecords) {
      this.#lost += lot.count;
      return;
    }
    server.spool.push(lot);
    server.spooled += lot.count;
    this.#spooled += lot.count;
    this.#spoolPeak = Math.max(this.#spoolPeak, server.spooled);
    if (server.isDraining) return;
    server.isDraining = true;
    this.#events.after(this.#random() * BACKOFF_MS, () => this.#drain(server));
  }

  #drain(server: Server): void {
    const lot = server.spool[0];
    if (lot === undefined) {
      server.isDraining = false;
      return;
    }
    if (!this.#offer(lot)) {
      this.#events.after(this.#random() * BACKOFF_MS, () => this.#drain(server));
      return;
    }
    server.spool.shift();
    server.spooled -= lot.count;
    this.#spooled -= lot.count;
    const ms = (lot.count * this.#figures.senderMicros) / MICROS_PER_MS;
    this.#events.after(ms, () => this.#drain(server));
  }

  /** False: the broker is away, has no room, or is more than a second behind. */
  #offer(lot: Lot): boolean {
    const { brokers, brokerCores, replicas, streamBytesMax } = this.#plan;
    const nowMs = this.#events.nowMs;
    const isFull = (this.#streamed + lot.count) * this.#figures.packedBytes > streamBytesMax;
    if (this.#down.broker > 0 || isFull || this.#brokerFreeMs > nowMs + FLUSH_MS) return false;
    const micros = this.#figures.brokerMicros * replicas;
    const workMs = (lot.count * micros) / MICROS_PER_MS / (brokers * brokerCores);
    this.#brokerFreeMs = Math.max(nowMs, this.#brokerFreeMs) + workMs;
    const partition = Math.floor(this.#random() * this.#partitions.length);
    this.#partitions[partition]?.push(lot);
    this.#streamed += lot.count;
    this.#streamPeak = Math.max(this.#streamPeak, this.#streamed);
    return true;
  }

  /** A relay's step: some of the oldest lots of its partitions, to the receiver. */
  #relay(relay: number): void {
    if (this.#dead.has(relay)) return;
    if (this.#down.broker > 0 || this.#down.receiver > 0) {
      this.#events.after(IDLE_MS * (1 + 10 * this.#random()), () => this.#relay(relay));
      return;
    }
    const lots = this.#take(relay);
    const count = lots.reduce((sum, lot) => sum + lot.count, 0);
    if (count === 0) {
      this.#events.after(IDLE_MS, () => this.#relay(relay));
      return;
    }
    const workMs = (count * this.#figures.relayMicros) / MICROS_PER_MS;
    this.#busyMs[relay] = (this.#busyMs[relay] ?? 0) + workMs;
    const nowMs = this.#events.nowMs;
    this.#receiverFreeMs =
      Math.max(nowMs, this.#receiverFreeMs) + (count * 1000) / this.#plan.receiverPerSecond;
    const doneMs = Math.max(workMs, this.#receiverFreeMs - nowMs);
    this.#inHand += count;
    this.#events.after(doneMs, () => this.#settle(relay, lots, count));
  }

  #settle(relay: number, lots: readonly Lot[], count: number): void {
    this.#inHand -= count;
    this.#delivered += count;
    for (const { madeMs } of lots) {
      this.#lagPeak = Math.max(this.#lagPeak, this.#events.nowMs - madeMs);
    }
    this.#relay(relay);
  }

  #take(relay: number): Lot[] {
    const lots: Lot[] = [];
    let count = 0;
    for (const [partition, owner] of this.#owners.entries()) {
      const queue = this.#partitions[partition];
      if (owner !== relay || queue === undefined) continue;
      let taken = 0;
      while (queue.length > 0 && taken < BATCH_RECORDS && count < TAKE_RECORDS_MAX) {
        const lot = queue.shift();
        if (lot === undefined) break;
        lots.push(lot);
        taken += lot.count;
        count += lot.count;
      }
    }
    this.#streamed -= count;
    return lots;
  }
}
