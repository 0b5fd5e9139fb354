/** What the guard measures, and keeps as its baseline. */
export interface GuardFigures {
  readonly node: string;
  /** Processor time, as shares of a known work's. */
  readonly times: Readonly<Record<string, number>>;
  /** Instructions, as shares of a known work's; only where they can be counted. */
  readonly instructions?: Readonly<Record<string, number>>;
  /** Bytes of a record. */
  readonly bytes: Readonly<Record<string, number>>;
}

export interface Verdict {
  readonly name: string;
  readonly before: number;
  readonly now: number;
  readonly changePercent: number;
  readonly allowedPercent: number;
  readonly isWorse: boolean;
}

/** How much more is no matter, in percent: instructions repeat exactly but for another Node, times are at the machine's mood. */
const ALLOWED_PERCENT = { instructions: 8, times: 35, bytes: 3 } as const;

/** Compares all figures that both have; less is better for each. */
export function judge(baseline: GuardFigures, figures: GuardFigures): Verdict[] {
  return (['instructions', 'times', 'bytes'] as const).flatMap((kind) => {
    const before = baseline[kind] ?? {};
    const allowedPercent = ALLOWED_PERCENT[kind];
    return Object.entries(figures[kind] ?? {})
      .filter(([name]) => before[name] !== undefined)
      .map(([name, now]): Verdict => {
        const was = before[name] ?? now;
        const changePercent = (100 * (now - was)) / was;
        const isWorse = changePercent > allowedPercent;
        const full = `${kind}: ${name}`;
        return { name: full, before: was, now, changePercent, allowedPercent, isWorse };
      });
  });
}
