import { single, type ValueOf } from './value-of.ts';

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
  readonly members: number | undefined;
  readonly isConnected: boolean;
  readonly lag: number;
  readonly imbalance: number;
  readonly partitionLags: readonly { readonly partition: number; readonly lag: number }[];
}

/** Every metric of `millrace relay`; docs/metrics.md has the same list. */
export const RELAY_CATALOGUE: readonly ValueOf<RelayReadings>[] = [
  single('counter', 'millrace_relay_messages_total', {
    help: 'Messages read from the broker.',
    read: ({ messages }) => messages,
  }),
  single('counter', 'millrace_relay_records_total', {
    help: 'Records read from the broker.',
    read: ({ records }) => records,
  }),
  single('counter', 'millrace_relay_delivered_total', {
    help: 'Records acknowledged by the receiver, or written to a file.',
    read: ({ delivered }) => delivered,
  }),
  single('counter', 'millrace_relay_rejected_total', {
    help: 'Records refused for good by the receiver.',
    read: ({ rejected }) => rejected,
  }),
  single('counter', 'millrace_relay_bad_total', {
    help: 'Lines that are no records, and messages that can not be unpacked.',
    read: ({ bad }) => bad,
  }),
  single('counter', 'millrace_relay_handed_over_total', {
    help: 'Records read, and left to another relay.',
    read: ({ handedOver }) => handedOver,
  }),
  single('counter', 'millrace_relay_sent_bytes_total', {
    help: 'Bytes sent to the receiver, or written.',
    read: ({ bytes }) => bytes,
  }),
  single('gauge', 'millrace_relay_in_hand_records', {
    help: 'Records read, and not yet settled.',
    read: ({ inHand }) => inHand,
  }),
  single('gauge', 'millrace_relay_imbalance_records', {
    help: 'The account of this relay, left less right; 0.',
    read: ({ imbalance }) => imbalance,
  }),
  single('gauge', 'millrace_relay_connected', {
    help: 'Whether the broker answers; 0 also while the relay waits for it at its start.',
    read: ({ isConnected }) => (isConnected ? 1 : 0),
  }),
  single('gauge', 'millrace_relay_partitions', {
    help: 'Partitions that are this relay’s.',
    read: ({ partitions }) => partitions,
  }),
  single('gauge', 'millrace_relay_members', {
    help: 'Living relays of the group; absent: the brokers do not say.',
    read: ({ members }) => members,
  }),
  single('gauge', 'millrace_relay_lag_messages', {
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
