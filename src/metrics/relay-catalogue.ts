import type { Sample } from './catalogue.ts';

/** One look at a relay. Counts are of records unless said otherwise. */
export interface RelayReadings {
  readonly messages: number;
  readonly records: number;
  readonly delivered: number;
  readonly rejected: number;
  readonly bad: number;
  readonly handedOver: number;
  readonly inHand: number;
  readonly bytes: number;
  readonly partitions: number;
  readonly members: number;
  readonly isConnected: boolean;
  readonly lag: number;
  readonly imbalance: number;
  readonly partitionLags: readonly { readonly partition: number; readonly lag: number }[];
}

export interface RelayMetric {
  readonly type: 'counter' | 'gauge';
  readonly name: string;
  readonly help: string;
  readonly labels: readonly string[];
  readonly read: (readings: RelayReadings) => readonly Sample[];
}

function one(
  type: 'counter' | 'gauge',
  name: string,
  { help, read }: { help: string; read: (readings: RelayReadings) => number },
): RelayMetric {
  return {
    type,
    name: `millrace_relay_${name}`,
    help,
    labels: [],
    read: (at) => [{ labels: {}, value: read(at) }],
  };
}

/** Every metric of `millrace relay`; docs/metrics.md has the same list. */
export const RELAY_CATALOGUE: readonly RelayMetric[] = [
  one('counter', 'messages_total', {
    help: 'Messages read from the broker.',
    read: ({ messages }) => messages,
  }),
  one('counter', 'records_total', {
    help: 'Records read from the broker.',
    read: ({ records }) => records,
  }),
  one('counter', 'delivered_total', {
    help: 'Records acknowledged by the receiver, or written to a file.',
    read: ({ delivered }) => delivered,
  }),
  one('counter', 'rejected_total', {
    help: 'Records refused for good by the receiver.',
    read: ({ rejected }) => rejected,
  }),
  one('counter', 'bad_total', {
    help: 'Lines that are no records, and messages that can not be unpacked.',
    read: ({ bad }) => bad,
  }),
  one('counter', 'handed_over_total', {
    help: 'Records read, and left to another relay.',
    read: ({ handedOver }) => handedOver,
  }),
  one('counter', 'sent_bytes_total', {
    help: 'Bytes sent to the receiver, or written.',
    read: ({ bytes }) => bytes,
  }),
  one('gauge', 'in_hand_records', {
    help: 'Records read, and not yet settled.',
    read: ({ inHand }) => inHand,
  }),
  one('gauge', 'imbalance_records', {
    help: 'The account of this relay, left less right; 0.',
    read: ({ imbalance }) => imbalance,
  }),
  one('gauge', 'connected', {
    help: 'Whether the broker answers; 0 also while the relay waits for it at its start.',
    read: ({ isConnected }) => (isConnected ? 1 : 0),
  }),
  one('gauge', 'partitions', {
    help: 'Partitions that are this relay’s.',
    read: ({ partitions }) => partitions,
  }),
  one('gauge', 'members', {
    help: 'Living relays of the group.',
    read: ({ members }) => members,
  }),
  one('gauge', 'lag_messages', {
    help: 'Messages behind, of this relay’s partitions.',
    read: ({ lag }) => lag,
  }),
  {
    type: 'gauge',
    name: 'millrace_relay_partition_lag_messages',
    help: 'Messages behind, by partition.',
    labels: ['partition'],
    read: ({ partitionLags }) =>
      partitionLags.map(({ partition, lag }) => ({
        labels: { partition: String(partition) },
        value: lag,
      })),
  },
];
