import {
  BELL_WORD,
  FLUSH_POSITION_WORD,
  FLUSH_ROUND_WORD,
  TAIL_SEQ_WORD,
  TAIL_WORD,
  WAKE_POSITION_WORD,
  WAKE_SEQ_WORD,
} from './layout.ts';
import type { Region } from './region.ts';

/**
 * Who attends a lane, and who is to be woken: one word, `term << 2 | state`.
 *
 * ```
 *              producer: CAS, posts a turn                    worker: CAS, then looks at the tail again
 *  UNATTENDED ────────────────────────────▶ AWAKE ──────────────────────────────────────────▶ ASLEEP
 *      ▲                                    │  ▲                                                 │
 *      └────────────────────────────────────┘  └─────────────────────────────────────────────────┘
 *        worker: CAS, then looks at the          producer: CAS + notify, once the wake-up mark is passed;
 *        tail again, CAS back if it won          worker: CAS, when its time-out ran off
 * ```
 *
 *   B1  the producer stores the tail before it loads the bell; the worker changes the bell before it loads the
 *       tail: at least one of them sees the other's store, so no record waits for nobody
 *   B2  only the winner of the exchange UNATTENDED → AWAKE posts a turn: a lane has at most one attendant
 *   B3  every sleep has a time-out and looks again after it
 *   B4  a worker changes the bell only under its own term, which begins with AWAKE: one that was held up while its lane went to
 *       other turns can't make the bell say that somebody attends it, or that nobody does
 *
 * Every order of these steps, for a few records, is tried by the model test.
 */
export const UNATTENDED = 0;
export const AWAKE = 1;
const ASLEEP = 2;

const STATE_BITS = 2;
const STATE_MASK = 3;

/** What a bell says, whatever its term. */
export function bellState(bell: number): number {
  return bell & STATE_MASK;
}

/** The worker's side of the bell of one lane, for one turn. */
export class Doorbell {
  readonly #words: Int32Array;
  readonly #at: number;
  readonly #unattended: number;
  readonly #awake: number;
  readonly #asleep: number;

  constructor(region: Region, { lane, term }: { readonly lane: number; readonly term: number }) {
    this.#words = region.words;
    this.#at = region.controlAt(lane) / 4;
    this.#unattended = bellOf(term, UNATTENDED);
    this.#awake = bellOf(term, AWAKE);
    this.#asleep = bellOf(term, ASLEEP);
  }

  /**
   * Sleeps until `wakeSeq` records or `wakePosition` bytes are there, a flush reaches beyond `head`, or the time is over.
   * Spurious returns are possible, and it returns at once when the lane belongs to another turn: look again.
   */
  async sleep(mark: SleepMark, timeoutMs: number): Promise<void> {
    const words = this.#words;
    const at = this.#at;
    Atomics.store(words, at + WAKE_POSITION_WORD, mark.wakePosition);
    Atomics.store(words, at + WAKE_SEQ_WORD, mark.wakeSeq);
    if (!this.#swing(this.#awake, this.#asleep)) return;
    if (!this.#isDue(mark)) {
      const wait = Atomics.waitAsync(words, at + BELL_WORD, this.#asleep, timeoutMs);
      if (wait.async) await wait.value;
    }
    this.#swing(this.#asleep, this.#awake);
  }

  /** Gives the lane up if nothing came meanwhile. False: something did, and this worker keeps the lane. */
  leave(mark: SleepMark): boolean {
    if (!this.#swing(this.#awake, this.#unattended)) return true;
    return !(this.#isDue(mark) && this.#swing(this.#unattended, this.#awake));
  }

  #swing(from: number, to: number): boolean {
    return Atomics.compareExchange(this.#words, this.#at + BELL_WORD, from, to) === from;
  }

  #isDue(mark: SleepMark): boolean {
    const tail = Atomics.load(this.#words, this.#at + TAIL_WORD);
    const seq = Atomics.load(this.#words, this.#at + TAIL_SEQ_WORD);
    const flush = Atomics.load(this.#words, this.#at + FLUSH_POSITION_WORD);
    return (
      ((tail - mark.wakePosition) | 0) >= 0 ||
      ((seq - mark.wakeSeq) | 0) >= 0 ||
      ((flush - mark.head) | 0) > 0 ||
      Atomics.load(this.#words, this.#at + FLUSH_ROUND_WORD) !== mark.round
    );
  }
}

export interface SleepMark {
  /** Position from which a flush concerns this worker. */
  readonly head: number;
  readonly wakePosition: number;
  readonly wakeSeq: number;
  /** Latest round known; a later one concerns this worker. */
  readonly round: number;
}

/**
 * Rings for a lane after something was published. True: nobody attends the lane, and the caller, having won
 * the exchange, must post a turn. `force` wakes the worker whatever its mark (flush, close).
 */
export function ring(words: Int32Array, controlWordAt: number, force: 'force' | 'mark'): boolean {
  const bellAt = controlWordAt + BELL_WORD;
  const bell = Atomics.load(words, bellAt);
  const state = bellState(bell);
  if (state === AWAKE) return false;
  const unattended = bell - state;
  const awake = unattended + AWAKE;
  if (state === ASLEEP) {
    if (force === 'mark' && !isMarkPassed(words, controlWordAt)) return false;
    if (Atomics.compareExchange(words, bellAt, bell, awake) === bell) {
      Atomics.notify(words, bellAt);
      return false;
    }
  }
  // Else the worker woke up or left in between. Awake: it looks at the tail by itself. Gone: take the lane.
  return Atomics.compareExchange(words, bellAt, unattended, awake) === unattended;
}

/** Says that the turn of a new term attends the lane; whoever slept there is told. */
export function beginAttendance(words: Int32Array, controlWordAt: number, term: number): void {
  Atomics.store(words, controlWordAt + BELL_WORD, bellOf(term, AWAKE));
  Atomics.notify(words, controlWordAt + BELL_WORD);
}

function bellOf(term: number, state: number): number {
  return (term << STATE_BITS) | state;
}

function isMarkPassed(words: Int32Array, at: number): boolean {
  const tail = words[at + TAIL_WORD] ?? 0;
  const seq = words[at + TAIL_SEQ_WORD] ?? 0;
  return (
    ((tail - Atomics.load(words, at + WAKE_POSITION_WORD)) | 0) >= 0 ||
    ((seq - Atomics.load(words, at + WAKE_SEQ_WORD)) | 0) >= 0
  );
}
