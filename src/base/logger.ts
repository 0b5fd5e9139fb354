import type { MillraceErrorCode } from './errors.ts';

/** What pino and its kin have: facts first, then words. */
export interface Logger {
  debug(facts: object, message: string): void;
  info(facts: object, message: string): void;
  warn(facts: object, message: string): void;
  error(facts: object, message: string): void;
  fatal(facts: object, message: string): void;
}

export type LogLevel = keyof Logger;

export const LOG_LEVELS: readonly LogLevel[] = ['debug', 'info', 'warn', 'error', 'fatal'];

/** Codes of log lines that are no errors. Codes are added, never renamed; docs/observability.md explains each. */
export const LOG_CODES = [
  'MILLRACE_OPENED',
  'MILLRACE_ENDED',
  'MILLRACE_DROPPED',
  'MILLRACE_CIRCUIT_OPEN',
  'MILLRACE_CIRCUIT_CLOSED',
  'MILLRACE_SPOOL_IN_USE',
  'MILLRACE_SPOOL_EMPTY',
  'MILLRACE_WORKER_STARTED',
  'MILLRACE_IMBALANCE',
] as const;

export type LogCode = MillraceErrorCode | (typeof LOG_CODES)[number];

/** Something worth knowing that happened lately. */
export interface Trouble {
  /** Of the latest time, in ms since 1970. */
  readonly timeMs: number;
  readonly level: LogLevel;
  readonly code: LogCode;
  readonly message: string;
  /** How often it was said. */
  readonly times: number;
}
