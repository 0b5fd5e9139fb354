import { readFileSync } from 'node:fs';
import type { MeasuredRatio, MeasuredStage, Span } from '../../bench/fleet/measured.ts';

/** One run of a stage. */
export interface Run {
  readonly recordsPerSecond: number;
  /** CPU time of a record in the stage's own process, all threads, in µs. */
  readonly cpuMicros: number;
  /** That of the broker, in µs. */
  readonly brokerMicros: number;
  /** Payload of a record in bytes. */
  readonly bytes: number;
}

export interface StageFacts {
  readonly id: string;
  readonly title: string;
  /** Ids of the stages it is compared with. */
  readonly against?: readonly string[];
}

export interface Stage extends StageFacts {
  readonly run: () => Promise<Run>;
}

const TICKS_PER_SECOND = 100;

/** CPU seconds a process has used, all threads; 0: there is no process. */
function cpuOf(pid: number | undefined): number {
  if (pid === undefined) return 0;
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]?.split(' ') ?? [];
  return (Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND;
}

/** Starts to measure a process and a broker; the function it gives says what `records` records took. */
export function stopwatch(
  records: number,
  { broker, process: pid }: { broker: number | undefined; process?: number | undefined },
): (bytes: number) => Run {
  // What an earlier stage left to the collector is not this one's cost.
  globalThis.gc?.();
  const seconds = () => (pid === undefined ? ownCpu() : cpuOf(pid));
  const [startMs, cpu, brokerCpu] = [performance.now(), seconds(), cpuOf(broker)];
  return (bytes) => ({
    recordsPerSecond: (records * 1000) / (performance.now() - startMs),
    cpuMicros: ((seconds() - cpu) * 1e6) / records,
    brokerMicros: ((cpuOf(broker) - brokerCpu) * 1e6) / records,
    bytes: bytes / records,
  });
}

function ownCpu(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1e6;
}

/** Works through a list, `width` at once. */
export async function sideBySide<T>(
  list: readonly T[],
  width: number,
  work: (each: T) => Promise<unknown>,
): Promise<void> {
  let next = 0;
  const go = async (): Promise<void> => {
    for (let each = list[next++]; each !== undefined; each = list[next++]) await work(each);
  };
  await Promise.all(Array.from({ length: width }, go));
}

/** Runs all stages in turn, so that what else the machine does falls on all of them; the first round only warms up. */
export async function measureInTurn(
  stages: readonly Stage[],
  rounds: number,
  say: (text: string) => void,
): Promise<MeasuredStage[]> {
  const runs = new Map<string, Run[]>(stages.map(({ id }) => [id, []]));
  for (let round = 0; round <= rounds; round += 1) {
    for (const { id, run } of stages) {
      const done = await run();
      if (round > 0) runs.get(id)?.push(done);
      say(`${round === 0 ? 'warm-up' : `round ${round}`} ${id}: ${done.cpuMicros.toFixed(2)} µs`);
    }
  }
  return stages.map(({ id, title, against = [] }) => {
    const own = runs.get(id) ?? [];
    return {
      id,
      title,
      recordsPerSecond: spanOf(own.map((each) => each.recordsPerSecond)),
      cpuMicros: spanOf(own.map((each) => each.cpuMicros)),
      brokerMicros: spanOf(own.map((each) => each.brokerMicros)),
      bytes: spanOf(own.map((each) => each.bytes)).median,
      ratios: against.map((other) => ratioOf(other, own, runs.get(other) ?? [])),
    };
  });
}

function ratioOf(to: string, own: readonly Run[], others: readonly Run[]): MeasuredRatio {
  const pairs = own.flatMap((each, round) => {
    const other = others[round];
    return other === undefined ? [] : [{ each, other }];
  });
  return {
    to,
    rate: spanOf(pairs.map(({ each, other }) => each.recordsPerSecond / other.recordsPerSecond)),
    cpu: spanOf(pairs.map(({ each, other }) => each.cpuMicros / other.cpuMicros)),
  };
}

/** Median, least and most. */
export function spanOf(values: readonly number[]): Span {
  const sorted = values.toSorted((one, other) => one - other);
  const at = (index: number) => Number((sorted[index] ?? 0).toPrecision(3));
  return { median: at(sorted.length >> 1), least: at(0), most: at(sorted.length - 1) };
}
