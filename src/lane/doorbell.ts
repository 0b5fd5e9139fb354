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
 * Who attends a lane, and who is to be woken: one word.
 *
 * ```
 *              producer: CAS, posts a turn                    worker: store, then looks at the tail again
 *  UNATTENDED ────────────────────────────▶ AWAKE ──────────────────────────────────────────▶ ASLEEP
 *      ▲                                    │  ▲                                                 │
 *      └────────────────────────────────────┘  └─────────────────────────────────────────────────┘
 *        worker: store, then looks at the        producer: CAS + notify, once the wake-up mark is passed;
 *        tail again, CAS back if it won           worker: store, when its time-out ran off
 * ```
 *
 *   B1  the producer stores the tail before it loads the bell; the worker stores the bell before it loads the
 *       tail: at least one of them sees the other's store, so no record waits for nobody
 *   B2  only the winner of the exchange UNATTENDED → AWAKE posts a turn: a lane has at most one attendant
 *   B3  every sleep has a time-out and looks again after it
 */
export const UNATTENDED = 0;
export const AWAKE = 1;
export const ASLEEP = 2;

/** The worker's side of the bell of one lane. */
export class Doorbell {
  readonly #words: Int32Array;
  readonly #at: number;

  constructor(region: Region, lane: number) {
    this.#words = region.words;
    this.#at = region.controlAt(lane) / 4;
  }

  /**
   * Sleeps until `wakeSeq` records or `wakePosition` bytes are there, a flush reaches beyond `head`, or the time is over.
   * Spurious returns are possible: look again.
   */
  async sleep(mark: SleepMark, timeoutMs: number): Promise<void> {
    const words = this.#words;
    const at = this.#at;
    Atomics.store(words, at + WAKE_POSITION_WORD, mark.wakePosition);
    Atomics.store(words, at + WAKE_SEQ_WORD, mark.wakeSeq);
    Atomics.store(words, at + BELL_WORD, ASLEEP);
    if (!this.#isDue(mark)) {
      const wait = Atomics.waitAsync(words, at + BELL_WORD, ASLEEP, timeoutMs);
      if (wait.async) await wait.value;
    }
    Atomics.store(words, at + BELL_WORD, AWAKE);
  }

  /** Gives the lane up if nothing came meanwhile. False: something did, and this worker keeps the lane. */
  leave(mark: SleepMark): boolean {
    Atomics.store(this.#words, this.#at + BELL_WORD, UNATTENDED);
    if (!this.#isDue(mark)) return true;
    return (
      Atomics.compareExchange(this.#words, this.#at + BELL_WORD, UNATTENDED, AWAKE) !== UNATTENDED
    );
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
  if (bell === AWAKE) return false;
  if (bell === UNATTENDED) {
    return Atomics.compareExchange(words, bellAt, UNATTENDED, AWAKE) === UNATTENDED;
  }
  if (force === 'mark' && !isMarkPassed(words, controlWordAt)) return false;
  if (Atomics.compareExchange(words, bellAt, ASLEEP, AWAKE) === ASLEEP) {
    Atomics.notify(words, bellAt);
    return false;
  }
  // The worker woke up or left in between. Awake: it looks at the tail by itself. Gone: take the lane.
  return Atomics.compareExchange(words, bellAt, UNATTENDED, AWAKE) === UNATTENDED;
}

function isMarkPassed(words: Int32Array, at: number): boolean {
  const tail = words[at + TAIL_WORD] ?? 0;
  const seq = words[at + TAIL_SEQ_WORD] ?? 0;
  return (
    ((tail - Atomics.load(words, at + WAKE_POSITION_WORD)) | 0) >= 0 ||
    ((seq - Atomics.load(words, at + WAKE_SEQ_WORD)) | 0) >= 0
  );
}
