import { type Clock, systemClock } from '../base/clock.ts';
import { FileSink, type FileSinkConfig, type FileSinkEdge } from './file.ts';
import type { AttemptFacts, Batch, DiskWork, Outcome, Sink } from './sink.ts';

/** How long the folder proper is left alone after it failed, in ms. */
const REST_MS = 2000;

/** The sink that a configuration asks for: one folder, or one and another to spill to. */
export function openFileSink(config: FileSinkConfig, edge: FileSinkEdge = {}): Sink {
  const own = FileSink.open(config, edge);
  if (config.spillDirectory === undefined) return own;
  const { upkeep: _upkeep, ...rest } = config;
  const other = FileSink.open({ ...rest, directory: config.spillDirectory }, edge);
  return new SpillSink(own, {
    other,
    clock: edge.clock ?? systemClock,
    syncs: config.fsync !== 'never',
  });
}

/**
 * Writes to one folder, and while that is impossible (full, read-only, no permission), to another one; then to the first again.
 * What has been spilled stays where it is: it is a folder of log files like the first, to be shipped as well.
 */
class SpillSink implements Sink {
  readonly separator = '\n';
  readonly #own: FileSink;
  readonly #other: FileSink;
  readonly #clock: Clock;
  /** Whether a flush promises stable storage. */
  readonly #syncs: boolean;
  #restUntilMs = Number.NEGATIVE_INFINITY;
  #facts: AttemptFacts = { status: 0, durationMs: 0 };

  constructor(
    own: FileSink,
    { other, clock, syncs }: { other: FileSink; clock: Clock; syncs: boolean },
  ) {
    this.#own = own;
    this.#syncs = syncs;
    this.#other = other;
    this.#clock = clock;
  }

  get lastAttempt(): AttemptFacts {
    return this.#facts;
  }

  async deliver(batch: Batch, signal: AbortSignal): Promise<Outcome> {
    const startMs = this.#clock.monotonicMs();
    const outcome = await this.#deliver(batch, signal);
    this.#facts = { status: 0, durationMs: this.#clock.monotonicMs() - startMs };
    return outcome;
  }

  async #deliver(batch: Batch, signal: AbortSignal): Promise<Outcome> {
    if (this.#clock.monotonicMs() < this.#restUntilMs) {
      const spilled = await this.#other.deliver(batch, signal);
      // Neither takes it: the first may again by now.
      if (spilled.kind === 'retry') this.#restUntilMs = Number.NEGATIVE_INFINITY;
      return spilled;
    }
    const outcome = await this.#own.deliver(batch, signal);
    if (outcome.kind === 'delivered') return outcome;
    this.#restUntilMs = this.#clock.monotonicMs() + REST_MS;
    const done = outcome.kind === 'partial' ? outcome : { count: 0, sentBytes: 0 };
    const rest = await this.#other.deliver(restOf(batch, done.count), signal);
    return joined(done, rest);
  }

  takeDiskWork(): DiskWork {
    const own = this.#own.takeDiskWork();
    const other = this.#other.takeDiskWork();
    return {
      writtenBytes: own.writtenBytes + other.writtenBytes,
      rotations: [...own.rotations, ...other.rotations],
      syncsMs: [...own.syncsMs, ...other.syncsMs],
      // Only the folder proper is looked after.
      upkeepFailures: own.upkeepFailures,
      upkeepNews: own.upkeepNews,
    };
  }

  async flush(): Promise<void> {
    if (this.#clock.monotonicMs() < this.#restUntilMs) return this.#other.flush();
    if (this.#other.isOpen) await this.#other.flush();
    try {
      await this.#own.flush();
    } catch (error) {
      // What was to be synced may be lost; without that, only the next write is concerned, and it has the other folder.
      if (this.#syncs) throw error;
      this.#restUntilMs = this.#clock.monotonicMs() + REST_MS;
    }
  }

  async close(): Promise<void> {
    await this.#other.close();
    await this.#own.close();
  }
}

function restOf({ count, text, starts, ends }: Batch, from: number): Batch {
  return { count: count - from, text, starts: starts.subarray(from), ends: ends.subarray(from) };
}

/** The first `count` records are in; the rest is as `rest` says. */
function joined(
  { count, sentBytes }: { readonly count: number; readonly sentBytes: number },
  rest: Outcome,
): Outcome {
  if (rest.kind === 'delivered') return { ...rest, sentBytes: rest.sentBytes + sentBytes };
  if (rest.kind === 'partial') {
    return { ...rest, count: rest.count + count, sentBytes: rest.sentBytes + sentBytes };
  }
  return count === 0 ? rest : { kind: 'partial', count, sentBytes, rest };
}
