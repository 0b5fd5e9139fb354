export {
  Analytics,
  type AnalyticsOptions,
  type AttachedAnalytics,
  type Consumer,
} from './analytics.ts';
export { type ErrorReport, MillraceError, type MillraceErrorCode } from './base/errors.ts';
export type { LogCode, Logger } from './base/logger.ts';
export { AsyncBatchConsumer, type AsyncBatchConsumerOptions } from './consumers/async-batch.ts';
export { BatchConsumer, type BatchConsumerOptions } from './consumers/batch.ts';
export { DebugConsumer, type DebugConsumerOptions } from './consumers/debug.ts';
export { LoggingConsumer, type LoggingConsumerOptions } from './consumers/logging.ts';
export type { EngineOptions, HttpOptions } from './consumers/options.ts';
export {
  type ConvertOptions,
  type ConvertReport,
  convert,
  type RowProblem,
} from './convert-loader.ts';
export type { ChannelMessages } from './engine/channels.ts';
export type { Deadline } from './engine/inlet.ts';
export type { Stats } from './engine/stats.ts';
export type {
  DeleteFields,
  EventFields,
  EventName,
  EventProperties,
  FirstEventFields,
  TrackingPlan,
  UnsetUserFields,
  UpdatableEventFields,
  UserFields,
  UserProperties,
} from './plan.ts';
export type {
  CommonFields,
  Identity,
  Properties,
  PropertyValue,
  SettledOutcome,
} from './record/types.ts';
export { type CheckOptions, type CheckReport, check, type LineProblem } from './ship/check.ts';
export { type ShipAccount, type ShipOptions, ship } from './ship/ship.ts';
