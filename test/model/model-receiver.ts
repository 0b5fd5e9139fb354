import assert from 'node:assert/strict';
import type { Batch, Outcome, Sink } from '../../src/sink/sink.ts';
import type { Actor, World } from './world.ts';

/** How the receiver answers, drawn anew for each request. */
export type Mood = 'well' | 'dead' | 'moody';

const LATENCY_MS = 20;
const AFTER_MS = 100;

/** The other end: it remembers every record it took, in order. */
export class ModelReceiver {
  mood: Mood = 'well';
  /** Numbers of the records taken, in order, repeated ones included. */
  readonly taken: number[] = [];
  requests = 0;
  /** Longest time between two requests, in ms. */
  longestPauseMs = 0;
  #requestedMs: number | undefined;
  /** Called with what a turn's thread is about to send; may end it. */
  onSend: (ids: readonly number[], actor: Actor) => void = () => {};
  readonly #world: World;
  readonly #isPoison: (id: number) => boolean;
  readonly #network: Actor = { name: 'network', accesses: 0, isDead: false };

  constructor(world: World, isPoison: (id: number) => boolean) {
    this.#world = world;
    this.#isPoison = isPoison;
  }

  /** What a turn's thread sends through. Replies to a thread that is gone reach nobody. */
  sinkFor(actor: Actor): Sink {
    return {
      separator: ',',
      lastAttempt: { status: 200, durationMs: 1 },
      deliver: (batch: Batch, signal: AbortSignal) => this.#deliver(batch, { signal, actor }),
      flush: async () => {},
      close: async () => {},
    };
  }

  #deliver(
    batch: Batch,
    { signal, actor }: { signal: AbortSignal; actor: Actor },
  ): Promise<Outcome> {
    const ids = idsOf(batch);
    this.onSend(ids, actor);
    this.#noteRequest();
    return new Promise((resolve) => {
      signal.addEventListener('abort', () => resolve(retry('timeout')), { once: true });
      const { dice } = this.#world;
      this.#world.at(dice.next() * LATENCY_MS, this.#network, () => {
        const outcome = this.#answer(ids);
        if (outcome === undefined) return;
        this.#world.at(dice.next() * LATENCY_MS, actor, () => resolve(outcome));
      });
    });
  }

  #noteRequest(): void {
    const { nowMs } = this.#world;
    this.longestPauseMs = Math.max(this.longestPauseMs, nowMs - (this.#requestedMs ?? nowMs));
    this.#requestedMs = nowMs;
    this.requests += 1;
  }

  /** Undefined: it never answers. */
  #answer(ids: readonly number[]): Outcome | undefined {
    if (this.mood === 'dead') return retry('http_5xx');
    if (this.mood === 'moody') return this.#answerMoodily(ids);
    return this.#take(ids) ?? { kind: 'delivered', sentBytes: 10 };
  }

  #answerMoodily(ids: readonly number[]): Outcome | undefined {
    const { dice } = this.#world;
    switch (dice.below(12)) {
      case 0:
        return undefined;
      case 1:
        return { ...retry('http_429'), afterMs: dice.below(AFTER_MS) };
      case 2:
        return retry('http_5xx');
      case 3:
        return ids.length > 1 ? { kind: 'split', message: 'too large' } : retry('http_5xx');
      case 4:
        return this.#take(ids) ?? retry('reset');
      case 5:
        return this.#take(ids);
      default:
        return this.#take(ids) ?? { kind: 'delivered', sentBytes: 10 };
    }
  }

  /** Takes a batch as a whole, or refuses it. */
  #take(ids: readonly number[]): Outcome | undefined {
    if (ids.some((id) => this.#isPoison(id))) return { kind: 'bisect', message: 'poison' };
    this.taken.push(...ids);
    return undefined;
  }
}

function retry(reason: 'timeout' | 'http_5xx' | 'http_429' | 'reset'): Outcome & { kind: 'retry' } {
  return { kind: 'retry', reason, message: reason, budget: 'normal' };
}

function idsOf({ count, text, starts, ends }: Batch): number[] {
  return Array.from({ length: count }, (_, index) => {
    const record = Buffer.from(text.subarray(starts[index], ends[index])).toString('utf8');
    const { id } = JSON.parse(record) as { id: unknown };
    assert.ok(typeof id === 'number');
    return id;
  });
}
