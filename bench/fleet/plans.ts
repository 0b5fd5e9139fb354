import type { Figures, FleetPlan, Outage } from './simulation.ts';

/**
 * CPU and bytes of a record, measured by `npm run measure:fleet` on two cores that all stages and other work shared: cautious.
 * docs/scale.md has the run.
 */
export const FIGURES: Figures = {
  senderMicros: 4.0,
  brokerMicros: 0.5,
  relayMicros: 5.7,
  packedBytes: 47,
  spoolBytes: 300,
};

const GIB: number = 1024 ** 3;

export const PLANS: readonly FleetPlan[] = [
  {
    name: '100 k records/s',
    servers: 100,
    recordsPerSecond: 100_000,
    partitions: 16,
    relays: 2,
    brokers: 3,
    replicas: 3,
    brokerCores: 2,
    receiverPerSecond: 150_000,
    spoolBytesMax: GIB,
    streamBytesMax: 20 * GIB,
    leaseMs: 5000,
    recoveryMsMax: 900_000,
  },
  {
    name: '1 M records/s',
    servers: 500,
    recordsPerSecond: 1_000_000,
    partitions: 64,
    relays: 12,
    brokers: 3,
    replicas: 3,
    brokerCores: 4,
    receiverPerSecond: 1_500_000,
    spoolBytesMax: 2 * GIB,
    streamBytesMax: 200 * GIB,
    leaseMs: 5000,
    recoveryMsMax: 900_000,
  },
  {
    name: '10 M records/s',
    servers: 3000,
    recordsPerSecond: 10_000_000,
    partitions: 512,
    relays: 110,
    brokers: 9,
    replicas: 3,
    brokerCores: 8,
    receiverPerSecond: 15_000_000,
    spoolBytesMax: 3 * GIB,
    streamBytesMax: 2000 * GIB,
    leaseMs: 5000,
    recoveryMsMax: 900_000,
  },
];

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
