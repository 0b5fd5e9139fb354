import type { Contestant, Entry } from '../arena.ts';
import type { ReceiverProcess } from '../receiver-process.ts';

/** One figure of each row. */
export interface Metric {
  readonly key: string;
  readonly title: string;
  /** Digits after the point. */
  readonly digits: number;
  readonly better: 'less' | 'more';
}

/** Figures of one contestant, or of one setting: one value a round for each metric. */
export interface Row {
  readonly name: string;
  readonly values: Readonly<Record<string, readonly number[]>>;
}

/** One table of a report, and how it is drawn. */
export interface Section {
  readonly key: string;
  readonly title: string;
  readonly note: string;
  readonly metrics: readonly Metric[];
  readonly rows: readonly Row[];
  /** Row that the others' first metric is compared with. */
  readonly against?: string;
  /** 'bars': a bar a row for the first metric. 'curve': the rows are settings of one knob, in order. */
  readonly chart: 'bars' | 'curve';
}

/** How much is run, and with what. */
export interface SuiteRun {
  readonly rounds: number;
  /** Length of a stretch of load. */
  readonly seconds: number;
  readonly isQuick: boolean;
  readonly receiver: ReceiverProcess;
  /** Contestants of these entries that are installed and not left out. Closed when the suite is over. */
  readonly enter: (entries: readonly Entry[]) => Promise<Contestant[]>;
}

/** Gives each section as soon as it is there: what is cut short has given something. */
export type Suite = (run: SuiteRun) => AsyncIterable<Section>;

/** Rows from one list of results a contestant. */
export function rowsOf<T>(
  contestants: readonly { readonly name: string }[],
  results: readonly (readonly T[])[],
  figures: Readonly<Record<string, (result: T) => number | undefined>>,
): Row[] {
  return contestants.map(({ name }, index) => ({
    name,
    values: Object.fromEntries(
      Object.entries(figures).map(([key, figure]) => [
        key,
        (results[index] ?? []).map(figure).filter((value) => value !== undefined),
      ]),
    ),
  }));
}
