/** One death of a worker, as a lane that may be to blame for it sees it. */
export interface Crash {
  /** Monotonic, in ms. */
  readonly nowMs: number;
  /** When the turn that died was posted. */
  readonly postedMs: number;
  /** Records of the lane that workers have got done so far. */
  readonly done: number;
  /** Whether no other lane can have had to do with it. */
  readonly isSole: boolean;
  /** The one record that the worker certainly died of, by a name of its own; undefined: nobody knows of which. */
  readonly culprit: string | undefined;
}

/**
 * What to do after a crash: 'again': post another turn; 'alone': the same, and let it read one record at a time;
 * 'drop': the record kills whoever has it, so it has to go first; 'give-up': no worker survives this lane.
 */
export type Remedy = 'again' | 'alone' | 'drop' | 'give-up';

/** A turn that lived so long died of something else than the ones before, in ms. */
const STEADY_MS = 10_000;
/** Deaths without progress from which on records are read one at a time. */
const ALONE_CRASHES = 3;
/** Deaths of one record, read alone, that prove it. */
const CULPRIT_CRASHES = 3;
/** Records in a row that may be dropped for what they do: when the fourth kills, too, it isn't the records. */
const CULPRITS_MAX = 3;
/** A lane is not given up before so many deaths that no other lane can have to do with, however long they took. */
const SOLE_CRASHES_MIN = 8;

/**
 * Tells workers that die now and then (however often, as long as something gets done in between) from a record that kills whoever
 * reads it, and from a lane that no worker survives. One death is to be noted once, and only for lanes that may be to blame.
 */
export class CrashStreak {
  readonly #patienceMs: number;
  #crashes = 0;
  #soleCrashes = 0;
  #soleSinceMs = 0;
  #done = -1;
  #culprit = '';
  #culpritCrashes = 0;
  #culprits = 0;

  /** @param patienceMs how long workers may die without progress before the lane is given up */
  constructor(patienceMs: number) {
    this.#patienceMs = patienceMs;
  }

  /** Deaths in a row without progress. */
  get crashes(): number {
    return this.#crashes;
  }

  /** A turn ended in good order. */
  end(): void {
    this.#crashes = 0;
  }

  note(crash: Crash): Remedy {
    if (crash.done !== this.#done) {
      this.#done = crash.done;
      this.#culprits = 0;
      this.#crashes = 0;
    }
    if (crash.nowMs - crash.postedMs >= STEADY_MS) this.#crashes = 0;
    if (this.#crashes === 0) {
      this.#soleCrashes = 0;
      this.#culpritCrashes = 0;
    }
    this.#crashes += 1;
    if (crash.culprit !== undefined && this.#isProved(crash.culprit)) return 'drop';
    if (crash.isSole && this.#isHopeless(crash.nowMs)) return 'give-up';
    return this.#crashes >= ALONE_CRASHES ? 'alone' : 'again';
  }

  #isHopeless(nowMs: number): boolean {
    if (this.#soleCrashes === 0) this.#soleSinceMs = nowMs;
    this.#soleCrashes += 1;
    const isOver = nowMs - this.#soleSinceMs >= this.#patienceMs;
    return isOver && this.#soleCrashes >= SOLE_CRASHES_MIN;
  }

  #isProved(culprit: string): boolean {
    if (culprit !== this.#culprit) this.#culpritCrashes = 0;
    this.#culprit = culprit;
    this.#culpritCrashes += 1;
    if (this.#culpritCrashes < CULPRIT_CRASHES || this.#culprits >= CULPRITS_MAX) return false;
    this.#culprits += 1;
    this.#culpritCrashes = 0;
    return true;
  }
}
