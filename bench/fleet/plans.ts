import { type Measured, type MeasuredStage, readMeasured } from './measured.ts';
import type { Figures, FleetPlan, Outage } from './simulation.ts';

/** A core is planned to this share in peace, so that a backlog is worked off at twice the rate. */
export const SHARE = 0.5;
/** Outages of the receiver, and of the brokers, that there is room for. */
export const OUTAGE_SECONDS = 3600;
const REPLICAS = 3;
/** The receiver takes so much more than comes: an hour's outage is worked off in two. */
const RECEIVER_SPARE = 1.5;
const PARTITIONS_MIN = 16;
const PARTITIONS_A_RELAY = 4;
const RELAYS_MIN = 2;
/** Of a record in a spool: a frame, msgpack with the texts of these events. */
const SPOOL_BYTES = 300;
const ROOM = 1.2;
const RECOVERY_MS_MAX = 900_000;
const LEASE_MS = 5000;

/** What somebody wants to have: the rest of a plan follows from it and the figures. */
interface Goal {
  readonly name: string;
  readonly servers: number;
  readonly recordsPerSecond: number;
  readonly brokers: number;
}

const GOALS: readonly Goal[] = [
  { name: '100 k/s', servers: 100, recordsPerSecond: 100_000, brokers: 3 },
  { name: '1 M/s', servers: 500, recordsPerSecond: 1_000_000, brokers: 3 },
  { name: '10 M/s', servers: 3000, recordsPerSecond: 10_000_000, brokers: 9 },
];

/** CPU and bytes of a record, as they were measured: packed messages over NATS. */
export function figuresOf(measured: Measured): Figures {
  const sender = stageOf(measured, 'nats sender gzip');
  return {
    senderMicros: sender.cpuMicros.median,
    brokerMicros: sender.brokerMicros.median,
    relayMicros: stageOf(measured, 'nats relay gzip').cpuMicros.median,
    packedBytes: Math.ceil(sender.bytes),
    spoolBytes: SPOOL_BYTES,
  };
}

function stageOf({ stages }: Measured, id: string): MeasuredStage {
  const found = stages.find((stage) => stage.id === id);
  if (found === undefined) throw new Error(`no stage ${id} was measured`);
  return found;
}

function planOf({ name, servers, recordsPerSecond, brokers }: Goal, figures: Figures): FleetPlan {
  const cores = (micros: number) => (recordsPerSecond * micros) / 1e6 / SHARE;
  const relays = Math.max(RELAYS_MIN, Math.ceil(cores(figures.relayMicros)));
  const room = (bytes: number) => OUTAGE_SECONDS * bytes * ROOM;
  return {
    name,
    servers,
    recordsPerSecond,
    partitions: Math.max(PARTITIONS_MIN, 2 ** Math.ceil(Math.log2(PARTITIONS_A_RELAY * relays))),
    relays,
    brokers,
    replicas: REPLICAS,
    brokerCores: Math.ceil((cores(figures.brokerMicros) * REPLICAS) / brokers),
    receiverPerSecond: RECEIVER_SPARE * recordsPerSecond,
    spoolBytesMax: room((recordsPerSecond / servers) * figures.spoolBytes),
    streamBytesMax: room(recordsPerSecond * figures.packedBytes),
    leaseMs: LEASE_MS,
    recoveryMsMax: RECOVERY_MS_MAX,
  };
}

export function plansOf(figures: Figures): FleetPlan[] {
  return GOALS.map((goal) => planOf(goal, figures));
}

export const FIGURES: Figures = figuresOf(readMeasured());
export const PLANS: readonly FleetPlan[] = plansOf(FIGURES);

/** The bad quarter of an hour: the broker away for a minute, the receiver for five, relays dying all along. */
export const OUTAGES: readonly Outage[] = [
  { what: 'broker', atMs: 60_000, forMs: 60_000 },
  { what: 'receiver', atMs: 180_000, forMs: 300_000 },
  ...Array.from({ length: 20 }, (_, index) => ({
    what: 'relay' as const,
    atMs: 10_000 + 23_000 * index,
    forMs: 15_000,
  })),
];

/** Length of a run, and time for the rest to drain, in ms. */
export const RUN_MS = 1_500_000;
export const DRAIN_MS = 120_000;
