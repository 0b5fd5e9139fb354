/** `millrace/sink`: records to a place of your own (docs/sinks.md). */
export { SinkConsumer, type SinkConsumerOptions } from './consumers/sink.ts';
export type { RecordSink, SinkContext } from './sink/custom.ts';
export type { SinkOutcome, SinkRetry } from './sink/outcomes.ts';
export { RecordBatch } from './sink/record-batch.ts';
export type { FailureReason } from './sink/sink.ts';
