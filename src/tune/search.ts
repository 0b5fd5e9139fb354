import { RING_BYTES_MAX } from '../engine/options.ts';
import type { Knob, Load, Measurement, Setting } from './setting.ts';

/** What the search is after, and what it may use. */
export interface Goal {
  /** Records a second. */
  readonly rate: number;
  /** Longest wait from a call to its acknowledgement that is still fine, p99 in ms. */
  readonly latencyMs: number;
  /** Processor seconds that a gigabyte of traffic is worth. */
  readonly trafficWeight: number;
  /** Processors of the machine. */
  readonly cores: number;
  /** How long the ring has to hold what comes while nothing leaves, in seconds. */
  readonly outageSeconds: number;
  /** No smaller ring is recommended, however little the outage needs, in bytes. */
  readonly ringBytesMin: number;
}

/** One trial, as it is shown. */
export interface Trial {
  readonly setting: Setting;
  readonly load: Load;
  readonly found: Measurement;
  /** Less is better. */
  readonly cost: number;
  readonly isBest: boolean;
}

export interface Search {
  readonly best: Setting;
  /** At full speed, with the best setting. */
  readonly most: Measurement;
  /** Whether time was left when no change of any knob was better. */
  readonly isComplete: boolean;
}

/** What the search needs of the world. */
export interface SearchHost {
  /** Measures a setting. */
  measure(setting: Setting, load: Load): Promise<Measurement>;
  /** Whether another trial still fits into the time. */
  hasTime(): boolean;
  /** Hears of each trial. */
  onTrial(trial: Trial): void;
}

/** Capacity to have above the rate, so that a queue gets shorter again. */
export const HEAD_ROOM = 1.25;
/** A setting has to be better by more than this to be taken: less is the machine's mood. */
const NOTICEABLE = 0.03;
const PASSES_MAX = 3;
const FRAME_BYTES_GUESS = 256;
const GB = 1e9;
/** What a setting costs that can't hold the rate: more than any that can, and less the more it holds. */
const UNFIT = 1e6;

/** In the order of how much usually depends on them. */
const ORDER: readonly Knob[] = ['workers', 'compress', 'batchSize', 'lanes', 'ringBytes'];
const LEVELS = [true, 1, 4, 6, 9] as const;
const BATCH_SIZES: readonly number[] = [100, 250, 500, 1000, 2000];
const LINGERS_MS: readonly number[] = [5, 20, 50, 100, 200];
const WORKERS: readonly number[] = [1, 2, 3, 4, 6, 8];
const LANES_A_WORKER: readonly number[] = [1, 2, 4, 8];

/**
 * Coordinate descent: from the defaults, with a ring that sits out the outage, one knob after the other is tried at full speed
 * and left where the cost is least, until a pass over all of them changes nothing or the time is over.
 */
export class Descent {
  readonly #goal: Goal;
  readonly #host: SearchHost;
  readonly #load: Load;
  readonly #tried = new Set<string>();
  #best: Setting;
  #found: Measurement | undefined;
  #cost = Number.POSITIVE_INFINITY;

  constructor(
    start: Setting,
    { goal, host, trialSeconds }: { goal: Goal; host: SearchHost; trialSeconds: number },
  ) {
    this.#best = start;
    this.#goal = goal;
    this.#host = host;
    this.#load = { kind: 'most', seconds: trialSeconds };
  }

  async run(): Promise<Search> {
    const first = await this.#try(this.#best);
    const ringBytes = ringBytesFor(this.#goal, first.frameBytes);
    if (ringBytes !== this.#best.ringBytes) {
      // Not a question of cost: what is too small for the outage is out.
      this.#cost = Number.POSITIVE_INFINITY;
      await this.#try({ ...this.#best, ringBytes });
    }
    let isComplete = false;
    for (let pass = 0; pass < PASSES_MAX && !isComplete && this.#host.hasTime(); pass += 1) {
      isComplete = (await this.#pass()) === 'unchanged';
    }
    return { best: this.#best, most: this.#found ?? first, isComplete };
  }

  /** Tries each knob once, as long as there is time. */
  async #pass(): Promise<'changed' | 'unchanged' | 'out of time'> {
    const before = this.#best;
    for (const knob of ORDER) {
      const found = this.#found;
      if (found === undefined) break;
      for (const setting of variantsOf(this.#best, knob, { goal: this.#goal, found })) {
        if (this.#tried.has(JSON.stringify(setting))) continue;
        if (!this.#host.hasTime()) return 'out of time';
        await this.#try(setting);
      }
    }
    return this.#best === before ? 'unchanged' : 'changed';
  }

  async #try(setting: Setting): Promise<Measurement> {
    this.#tried.add(JSON.stringify(setting));
    const found = await this.#host.measure(setting, this.#load);
    const cost = costOf(found, this.#goal);
    const isBest = !(cost >= this.#cost * (1 - NOTICEABLE));
    this.#host.onTrial({ setting, load: this.#load, found, cost, isBest });
    if (isBest) [this.#best, this.#found, this.#cost] = [setting, found, cost];
    return found;
  }
}

/** The longest linger is the cheapest; the latency decides. Tried at the goal's rate, from the longest down to the first that is fine. */
export async function searchLinger(
  setting: Setting,
  goal: Goal,
  host: SearchHost,
  trialSeconds: number,
): Promise<Setting> {
  const load: Load = { kind: 'rate', seconds: trialSeconds, rate: goal.rate };
  let best = setting;
  let bestMs = Number.POSITIVE_INFINITY;
  for (const lingerMs of LINGERS_MS.filter((ms) => ms < goal.latencyMs).reverse()) {
    if (!host.hasTime()) break;
    const next = { ...setting, lingerMs };
    const found = await host.measure(next, load);
    const isBest = found.latencyMs.p99 < bestMs;
    host.onTrial({ setting: next, load, found, cost: costOf(found, goal), isBest });
    if (!isBest) continue;
    [best, bestMs] = [next, found.latencyMs.p99];
    if (bestMs <= goal.latencyMs) break;
  }
  return best;
}

/**
 * Processor seconds of a million records, and what their traffic is worth. A setting without head room costs more than any with,
 * by how much it lacks.
 */
function costOf(found: Measurement, { rate, trafficWeight }: Goal): number {
  if (found.rate < rate * HEAD_ROOM) return (UNFIT * rate * HEAD_ROOM) / found.rate;
  return found.cpuPerMillion + ((found.wireBytes * 1e6) / GB) * trafficWeight;
}

/** The settings that differ in this knob, in the order to try. */
function variantsOf(
  setting: Setting,
  knob: Knob,
  { goal, found }: { goal: Goal; found: Measurement },
): Setting[] {
  const vary = <K extends Knob>(name: K, values: readonly Setting[K][]): Setting[] =>
    values
      .filter((value) => value !== setting[name])
      .map((value) => ({ ...setting, [name]: value }));
  switch (knob) {
    case 'workers': {
      // Lanes follow the workers, as they do by default.
      const lanesEach = setting.lanes / setting.workers;
      return vary(
        'workers',
        WORKERS.filter((workers) => workers <= goal.cores),
      ).map((next) => ({
        ...next,
        lanes: Math.max(1, Math.round(next.workers * lanesEach)),
      }));
    }
    case 'lanes':
      return vary(
        'lanes',
        LANES_A_WORKER.map((lanes) => lanes * setting.workers),
      );
    case 'compress':
      return vary('compress', LEVELS);
    case 'batchSize':
      return vary('batchSize', BATCH_SIZES);
    case 'ringBytes': {
      const least = ringBytesFor(goal, found.frameBytes);
      return vary('ringBytes', [least, Math.min(RING_BYTES_MAX, 2 * least)]);
    }
    case 'lingerMs':
      return vary('lingerMs', LINGERS_MS);
  }
}

/** The least power of two that holds what comes in an outage and is allowed, in bytes. */
export function ringBytesFor(
  { rate, outageSeconds, ringBytesMin }: Goal,
  frameBytes: number,
): number {
  const bytes = rate * outageSeconds * (frameBytes > 0 ? frameBytes : FRAME_BYTES_GUESS);
  const rounded = 2 ** Math.ceil(Math.log2(bytes));
  return Math.min(RING_BYTES_MAX, Math.max(ringBytesMin, rounded));
}
