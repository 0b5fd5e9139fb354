import type { AsyncBatchConsumerOptions } from '../consumers/async-batch.ts';
import type { DebugConsumerOptions } from '../consumers/debug.ts';
import type { LoggingConsumerOptions } from '../consumers/logging.ts';

/**
 * Called once a record: without an error when the record is delivered or safe on disk. A function that takes an
 * `Error` without the question mark will do, too, as it does with `thinkingdata-node`.
 */
export type TDCallback = { call(error?: Error): void }['call'];

/** Properties, or the fields of a record, by name. */
export type Fields = Record<string, unknown>;

interface Identified {
  /** Either this or `distinctId` must be there. */
  readonly accountId?: string;
  readonly distinctId?: string;
  readonly callback?: TDCallback;
  readonly appId?: string;
  readonly uuid?: string;
  /** Default: now. */
  readonly time?: Date;
}

export interface TDTrackEvent extends Identified {
  readonly event: string;
  readonly ip?: string;
  readonly properties?: object;
}

export interface TDTrackFirstEvent extends TDTrackEvent {
  readonly firstCheckId: string;
}

export interface TDTrackUpdateEvent extends TDTrackEvent {
  readonly eventId: string;
}

export type TDTrackOverwriteEvent = TDTrackUpdateEvent;

export interface TDUserProfileEvent extends Identified {
  readonly properties?: object;
}

export interface TDUserUnsetEvent extends Identified {
  readonly property: string;
}

/** All that a call may carry, whatever its kind. */
export interface Params extends Identified {
  readonly event?: string;
  readonly ip?: string;
  readonly eventId?: string;
  readonly firstCheckId?: string;
  readonly properties?: object;
  readonly property?: string;
}

/** The verbs, by the `#type` of their records. */
export type RecordType =
  | 'track'
  | 'track_update'
  | 'track_overwrite'
  | 'user_set'
  | 'user_setOnce'
  | 'user_unset'
  | 'user_add'
  | 'user_append'
  | 'user_uniq_append'
  | 'user_del';

/** Where records go. The ones made here run on the engine; anything with these methods may be put in their place. */
export interface TDConsumer {
  add(record: Fields, callback: TDCallback): void;
  flush(callback?: TDCallback): void;
  close(callback?: TDCallback): void;
}

/** Beyond `thinkingdata-node`: options of the engine underneath, for instance `spool` or `workers`. */
interface EngineConfig<Options> {
  readonly millrace?: Partial<Options>;
}

export interface TDBatchConsumerConfig extends EngineConfig<AsyncBatchConsumerOptions> {
  /** Records of one request; default 20, at most 2000. */
  readonly batchSize?: number;
  /** gzip; default true. */
  readonly compress?: boolean;
}

export interface TDAsyncBatchConsumerConfig extends TDBatchConsumerConfig {
  /** Longest wait of a record in ms; default 3000. */
  readonly interval?: number;
}

export interface TDDebugConsumerConfig extends EngineConfig<DebugConsumerOptions> {
  /** Checks only; the receiver stores nothing. */
  readonly dryRun?: boolean;
  readonly deviceId?: string;
}

export interface TDLogConsumerConfig extends EngineConfig<LoggingConsumerOptions> {
  /** A file an hour instead of a day. */
  readonly rotateHourly?: boolean;
  readonly filePrefix?: string;
}
