import { show } from '../base/errors.ts';
import { FAILURE_REASONS, type FailureReason, type Outcome } from './sink.ts';

/** What came of one attempt of a sink of your own. */
export type SinkOutcome =
  /** All records are in for good. `sentBytes`: for the metrics; default: the length of the records. */
  | { readonly kind: 'delivered'; readonly sentBytes?: number }
  /** May succeed later: the engine waits (back-off, or `afterMs` if the other side asked for it) and tries again. */
  | SinkRetry
  /** Too large as a whole: the engine sends halves; a single record is refused. */
  | { readonly kind: 'split'; readonly message: string }
  /** Refused for what is in it: the engine halves it until the culprits are found; a single record is refused. */
  | { readonly kind: 'bisect'; readonly message: string }
  /** Refused for good, all of it: dead letters. */
  | { readonly kind: 'rejected'; readonly message: string }
  /** The first `count` records are in for good (0 < count < the batch's), and `rest` says what is with the others. */
  | {
      readonly kind: 'partial';
      readonly count: number;
      readonly sentBytes?: number;
      readonly rest: Exclude<SinkOutcome, { kind: 'partial' | 'delivered' }>;
    };

export interface SinkRetry {
  readonly kind: 'retry';
  readonly message: string;
  /** Label of the retry counter; default 'network'. */
  readonly reason?: FailureReason;
  /** 'normal' (default): by the consumer's `retries`. 'config': a mistake that people mend; kept, and tried every 30 s. */
  readonly budget?: 'normal' | 'config';
  /** The other side asked to be left alone for so long, in ms; holds for all workers. */
  readonly afterMs?: number;
}

const MESSAGE_CHARACTERS_MAX = 512;
const AFTER_MS_MAX = 600_000;

/** Keeps the records, and tries slowly: people have to mend the cause. */
export function configTrouble(message: string): Outcome {
  return { kind: 'retry', reason: 'config', message: cut(message), budget: 'config' };
}

/**
 * An outcome as the engine wants it. One that breaks the contract keeps the records and says what is wrong with it: nobody
 * knows whether they arrived.
 *
 * @param value what a sink's `deliver` gave
 * @param batch of how many records, and bytes
 */
export function checkOutcome(value: unknown, batch: { count: number; bytes: number }): Outcome {
  const problem = problemOf(value, batch.count);
  if (problem !== undefined) return configTrouble(`the sink's outcome is wrong: ${problem}`);
  return complete(value as SinkOutcome, batch.bytes);
}

function problemOf(value: unknown, count: number): string | undefined {
  if (typeof value !== 'object' || value === null) {
    return `deliver gave ${show(value)}; it must be an object with a kind`;
  }
  const { kind, message } = value as { readonly kind?: unknown; readonly message?: unknown };
  switch (kind) {
    case 'delivered':
      return numberProblem(value, 'sentBytes');
    case 'split':
    case 'bisect':
    case 'rejected':
      return typeof message === 'string'
        ? undefined
        : `message is ${show(message)}; it must be a text`;
    case 'retry':
      return retryProblem(value);
    case 'partial':
      return partialProblem(value, count);
    default:
      return `kind is ${show(kind)}; it must be one of delivered, retry, split, bisect, rejected, partial`;
  }
}

function retryProblem(value: object): string | undefined {
  const { message, reason, budget } = value as Partial<Record<keyof SinkRetry, unknown>>;
  if (typeof message !== 'string') return `message is ${show(message)}; it must be a text`;
  if (reason !== undefined && !FAILURE_REASONS.some((known) => known === reason)) {
    return `reason is ${show(reason)}; it must be one of ${FAILURE_REASONS.join(', ')}`;
  }
  if (budget !== undefined && budget !== 'normal' && budget !== 'config') {
    return `budget is ${show(budget)}; it must be normal or config`;
  }
  return numberProblem(value, 'afterMs');
}

function partialProblem(value: object, count: number): string | undefined {
  const partial = value as { readonly count?: unknown; readonly rest?: unknown };
  const done = partial.count;
  if (typeof done !== 'number' || !Number.isInteger(done) || done <= 0 || done >= count) {
    return `count is ${show(done)}; of ${count} records it must be a whole number from 1 to ${count - 1}`;
  }
  const rest = partial.rest;
  const kind = typeof rest === 'object' && rest !== null && 'kind' in rest ? rest.kind : undefined;
  if (kind === 'partial' || kind === 'delivered') return `rest is ${kind}; it must say why not`;
  const problem = problemOf(rest, count - done);
  return problem === undefined ? numberProblem(value, 'sentBytes') : `in rest, ${problem}`;
}

function numberProblem(value: object, name: 'sentBytes' | 'afterMs'): string | undefined {
  const number = (value as Readonly<Record<string, unknown>>)[name];
  if (number === undefined) return undefined;
  if (typeof number === 'number' && Number.isFinite(number) && number >= 0) return undefined;
  return `${name} is ${show(number)}; it must be a number, not negative`;
}

function complete(outcome: SinkOutcome, bytes: number): Outcome {
  switch (outcome.kind) {
    case 'delivered':
      return { kind: 'delivered', sentBytes: outcome.sentBytes ?? bytes };
    case 'retry': {
      const { message, reason = 'network', budget = 'normal', afterMs } = outcome;
      const pause = afterMs === undefined ? {} : { afterMs: Math.min(afterMs, AFTER_MS_MAX) };
      return { kind: 'retry', reason, message: cut(message), budget, ...pause };
    }
    case 'partial': {
      const { kind, count, sentBytes = 0, rest } = outcome;
      return { kind, count, sentBytes, rest: complete(rest, 0) };
    }
    default:
      return { kind: outcome.kind, message: cut(outcome.message) };
  }
}

function cut(message: string): string {
  return message.slice(0, MESSAGE_CHARACTERS_MAX);
}
