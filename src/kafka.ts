/** `millrace/kafka`: records to Kafka (docs/fleet.md). */
export { KafkaConsumer, type KafkaConsumerOptions } from './consumers/kafka.ts';
export { type RelayAccount, type RelayOptions, relay, relayState } from './relay/relay.ts';
export type { PartitionState, ReplaySpan } from './relay/source.ts';
