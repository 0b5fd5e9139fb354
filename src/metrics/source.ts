import type { Trouble } from '../base/logger.ts';
import type { Readings } from '../lane/readings.ts';

/** What the collector reads at a scrape: one engine's numbers, all from shared memory, without waiting. */
export interface MetricsSource {
  /** Name of the client, label `client`; unique within a registry. */
  readonly client: string;
  /** Kind of consumer, label `consumer`. */
  readonly consumer: 'async' | 'batch' | 'debug' | 'logging' | 'sink' | 'nats' | 'kafka';
  readings(): Readings;
  /** What went wrong lately, oldest first. */
  troubles(): readonly Trouble[];
}
