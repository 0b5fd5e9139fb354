import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

/** Median, least and most of several rounds. */
export interface Span {
  readonly median: number;
  readonly least: number;
  readonly most: number;
}

/** What a stage of a fleet took: `npm run measure:fleet`. */
export interface MeasuredStage {
  readonly id: string;
  readonly title: string;
  readonly recordsPerSecond: Span;
  /** CPU time of a record, in µs. */
  readonly cpuMicros: Span;
  /** That of the broker. */
  readonly brokerMicros: Span;
  /** Payload of a record, in bytes. */
  readonly bytes: number;
  readonly ratios: readonly MeasuredRatio[];
}

/** A stage by another one, round by round: its rate, and its CPU time. */
export interface MeasuredRatio {
  /** Id of the other stage. */
  readonly to: string;
  readonly rate: Span;
  readonly cpu: Span;
}

/** What a call of `track()` took, by the place its records go to, in µs. */
export interface MeasuredCaller {
  readonly consumer: string;
  readonly micros: Span;
  /** By that with HTTP, round by round. */
  readonly toHttp: Span;
}

export interface Measured {
  readonly how: string;
  readonly stages: readonly MeasuredStage[];
  readonly callers: readonly MeasuredCaller[];
}

/** Compiled to dist/bench/fleet, three levels below the root. */
export const MEASURED_FILE: string = fileURLToPath(
  new URL('../../../bench/fleet/measured.json', import.meta.url),
);

/** The latest run that was kept. */
export function readMeasured(): Measured {
  return JSON.parse(readFileSync(MEASURED_FILE, 'utf8')) as Measured;
}
