/** Middle and ends of some figures. */
export interface Spread {
  readonly median: number;
  readonly min: number;
  readonly max: number;
}

export interface Quantiles {
  readonly p50: number;
  readonly p99: number;
  readonly max: number;
}

export function spreadOf(values: readonly number[]): Spread {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length >> 1;
  const upper = sorted[middle] ?? Number.NaN;
  const isOdd = sorted.length % 2 === 1;
  return {
    median: isOdd ? upper : (upper + (sorted[middle - 1] ?? upper)) / 2,
    min: sorted[0] ?? Number.NaN,
    max: sorted.at(-1) ?? Number.NaN,
  };
}

export function quantilesOf(values: readonly number[]): Quantiles {
  const sorted = values.toSorted((a, b) => a - b);
  const at = (share: number) => sorted[Math.floor(share * (sorted.length - 1))] ?? 0;
  return { p50: at(0.5), p99: at(0.99), max: at(1) };
}

/** Runs each once a round, in turn, so that whatever else the machine does hits all alike; `warmUps` rounds don't count. */
export async function interleave<T>(
  runs: readonly (() => T | Promise<T>)[],
  { rounds, warmUps }: { rounds: number; warmUps: number },
): Promise<T[][]> {
  const results: T[][] = runs.map(() => []);
  for (let round = -warmUps; round < rounds; round += 1) {
    for (const [index, run] of runs.entries()) {
      const result = await run();
      if (round >= 0) results[index]?.push(result);
    }
  }
  return results;
}
