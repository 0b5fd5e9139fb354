/** Figures of one contestant, one a round. */
export interface Series {
  readonly name: string;
  readonly values: readonly number[];
}

export interface Summary {
  readonly name: string;
  readonly median: number;
  readonly min: number;
  readonly max: number;
}

export function summarize({ name, values }: Series): Summary {
  const sorted = values.toSorted((a, b) => a - b);
  return {
    name,
    median: medianOf(values),
    min: sorted[0] ?? Number.NaN,
    max: sorted.at(-1) ?? Number.NaN,
  };
}

export function medianOf(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length >> 1;
  const upper = sorted[middle] ?? Number.NaN;
  return sorted.length % 2 === 1 ? upper : (upper + (sorted[middle - 1] ?? upper)) / 2;
}

/** Runs each contestant once a round, in turn, so that whatever else the machine does hits all alike. */
export async function interleave(
  contestants: Readonly<Record<string, () => number | Promise<number>>>,
  { rounds, warmUps }: { rounds: number; warmUps: number },
): Promise<Series[]> {
  const values = new Map<string, number[]>(Object.keys(contestants).map((name) => [name, []]));
  for (let round = -warmUps; round < rounds; round += 1) {
    for (const [name, run] of Object.entries(contestants)) {
      const value = await run();
      if (round >= 0) values.get(name)?.push(value);
    }
  }
  return [...values].map(([name, list]) => ({ name, values: list }));
}
