import { SPOOLING_WORD } from './layout.ts';

/**
 * Whether records are on their way from the ring of a lane to the disk: one word, changed by compare-exchange.
 *
 * ```
 *        turn, before it appends                       turn, when it has committed what it appended
 *  NOT ──────────────────────────▶ term of that turn ──────────────────────────────────────────────▶ NOT
 *   │
 *   └──▶ OVER: for good. By a turn that stops, or by whoever is about to drop the rest of the ring
 * ```
 *
 *   W1  whoever drops the rest of the ring has made it OVER before, or has waited for the turn in vain: so no record is
 *       dropped, and appended afterwards
 *   W2  the term of a turn that has lost its lane counts as NOT: what it appends is void, because it can't commit it
 */
const NOT = 0;
/** No term is negative before 2^31 turns. */
const OVER = -1;

/** The word of one lane. */
export class Spooling {
  readonly #words: Int32Array;
  readonly #at: number;

  /** @param controlWordAt word index of the lane's control */
  constructor(words: Int32Array, controlWordAt: number) {
    this.#words = words;
    this.#at = controlWordAt + SPOOLING_WORD;
  }

  /** Word index, for waiting until it changes. */
  get wordAt(): number {
    return this.#at;
  }

  get isOver(): boolean {
    return Atomics.load(this.#words, this.#at) === OVER;
  }

  /** The turn of `term` is about to append. False: it must not, or a later turn does. */
  begin(term: number): boolean {
    for (;;) {
      const present = Atomics.load(this.#words, this.#at);
      if (present === OVER || ((present - term) | 0) > 0) return false;
      if (this.#swing(present, term)) return true;
    }
  }

  /** The turn of `term` has committed what it appended, or could not. */
  end(term: number): void {
    this.#swing(term, NOT);
  }

  /** Nothing is appended any more. False: the turn of `term` is in the middle of it, and nothing has changed. */
  close(term: number): boolean {
    for (;;) {
      const present = Atomics.load(this.#words, this.#at);
      if (present === OVER) return true;
      if (present !== NOT && present === term) return false;
      if (this.#swing(present, OVER)) return true;
    }
  }

  /** As {@link close}, whoever is in the middle of it: what that one appends is void. */
  break(): void {
    Atomics.store(this.#words, this.#at, OVER);
    Atomics.notify(this.#words, this.#at);
  }

  #swing(from: number, to: number): boolean {
    if (Atomics.compareExchange(this.#words, this.#at, from, to) !== from) return false;
    Atomics.notify(this.#words, this.#at);
    return true;
  }
}
