/** `millrace/nats`: records to NATS JetStream (docs/fleet.md). */
export {
  NatsConsumer,
  type NatsConsumerOptions,
  type NatsServerOptions,
} from './consumers/nats.ts';
export { type RelayAccount, type RelayOptions, relay, relayState } from './relay/relay.ts';
export type { PartitionState, ReplaySpan } from './relay/source.ts';
