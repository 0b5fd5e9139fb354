import { pathToFileURL } from 'node:url';
import { MillraceError } from '../base/errors.ts';
import type { Sink } from './sink.ts';

/** What a custom sink is opened with: plain data. */
export interface CustomSinkConfig {
  readonly kind: 'custom';
  /** URL or path of a module that exports `open(options)`. */
  readonly module: string;
  /** What the consumer's own sink would have been opened with. */
  readonly options: unknown;
}

/**
 * Loads a user's sink: a module with `export function open(options): Sink | Promise<Sink>`.
 *
 * @throws MillraceError MILLRACE_OPTIONS when the module is no sink
 */
export async function openCustomSink(config: CustomSinkConfig): Promise<Sink> {
  const url = /^[a-z]+:/i.test(config.module) ? config.module : pathToFileURL(config.module).href;
  const module: unknown = await import(url);
  const sink = hasOpen(module) ? await module.open(config.options) : undefined;
  if (isSink(sink)) return sink;
  throw new MillraceError(
    'MILLRACE_OPTIONS',
    `sink: ${config.module} must export open(options) that gives a sink with deliver, flush and close`,
  );
}

function hasOpen(module: unknown): module is { open: (options: unknown) => unknown } {
  return typeof module === 'object' && module !== null && 'open' in module
    ? typeof module.open === 'function'
    : false;
}

function isSink(value: unknown): value is Sink {
  if (typeof value !== 'object' || value === null) return false;
  const { deliver, flush, close } = value as Partial<Sink>;
  return [deliver, flush, close].every((method) => typeof method === 'function');
}
