import type { ChildProcess } from 'node:child_process';
import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { once } from 'node:events';
import { randomFrom } from '../random.ts';
import { ANSWER_DRILLS } from './answer-drills.ts';
import { DISK_DRILLS } from './disk-drills.ts';
import type { Drill, DrillTools, Finding, Length } from './drill.ts';
import { FILE_DRILLS } from './file-drills.ts';
import { LIFE_DRILLS } from './life-drills.ts';
import { NETWORK_DRILLS } from './network-drills.ts';
import { OUTAGE_DRILLS } from './outage-drills.ts';
import { RING_DRILLS } from './ring-drills.ts';
import { closeLeft } from './stage.ts';
import { WATCH_DRILLS } from './watch-drills.ts';
import { WORKER_DRILLS } from './worker-drills.ts';

/** All drills, in the order of the fault table. */
export const DRILLS: readonly Drill[] = [
  ...ANSWER_DRILLS,
  ...NETWORK_DRILLS,
  ...WORKER_DRILLS,
  ...RING_DRILLS,
  ...LIFE_DRILLS,
  ...DISK_DRILLS,
  ...FILE_DRILLS,
  ...OUTAGE_DRILLS,
  ...WATCH_DRILLS,
].toSorted((a, b) => a.id.localeCompare(b.id, 'en', { numeric: true }));

export interface Run {
  readonly drill: Drill;
  /** Undefined: it failed. */
  readonly finding: Finding | undefined;
  readonly error?: unknown;
  readonly tookMs: number;
}

/** Runs one drill. Its random choices follow from the seed. */
export async function runDrill(
  drill: Drill,
  { seed, length }: { readonly seed: number; readonly length: Length },
): Promise<Run> {
  const tools: DrillTools = {
    random: randomFrom(seed),
    length,
    pick: (choices) => choices[length],
  };
  const startMs = performance.now();
  const tookMs = () => performance.now() - startMs;
  const children = new ChildWatch();
  try {
    const finding = await drill.run(tools);
    return { drill, finding, tookMs: tookMs() };
  } catch (error) {
    return { drill, finding: undefined, error, tookMs: tookMs() };
  } finally {
    await children.end();
    closeLeft();
  }
}

/** The processes that this one starts, to end those that a drill that failed has left. */
class ChildWatch {
  readonly #children = new Set<ChildProcess>();
  readonly #hear = (message: unknown) => {
    const { process: child } = message as { process: ChildProcess };
    this.#children.add(child);
    child.once('exit', () => this.#children.delete(child));
  };

  constructor() {
    subscribe('child_process', this.#hear);
  }

  async end(): Promise<void> {
    unsubscribe('child_process', this.#hear);
    const ends = [...this.#children].map((child) => {
      const ended = once(child, 'exit');
      // A receiver keeps nobody waiting by itself.
      child.ref();
      child.kill('SIGKILL');
      return ended;
    });
    await Promise.all(ends);
  }
}

/** The command that runs a drill again as it ran. */
export function commandFor(
  { id }: Drill,
  { seed, length }: { readonly seed: number; readonly length: Length },
): string {
  const flag = length === 'usual' ? '' : ` --${length}`;
  return `npm run test:faults -- --only ${id} --seed ${seed}${flag}`;
}
