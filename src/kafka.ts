/** `millrace/kafka`: records to Kafka (docs/fleet.md). */
export { KafkaConsumer, type KafkaConsumerOptions } from './consumers/kafka.ts';
