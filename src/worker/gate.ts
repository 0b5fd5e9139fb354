import {
  type Control,
  GATE_FAILURES,
  GATE_PAUSE_UNTIL,
  GATE_SHUT_UNTIL,
  GATE_STATE,
  GATE_SUCCESS,
  GATE_TROUBLE,
  MODE_STOP,
  MODE_WORD,
} from '../lane/control.ts';
import { FAILURE_REASONS, type FailureReason } from '../sink/sink.ts';

const GATE_CLOSED = 0;
export const GATE_HALF_OPEN = 1;
export const GATE_OPEN = 2;

/** Failed attempts in a row before the receiver is taken for dead. */
const FAILURES_MAX = 5;
const OPEN_BASE_MS = 500;
const OPEN_CAP_MS = 15_000;
/** A probe that has not come back by then (its thread died) is taken for failed. */
const PROBE_MS_MAX = 60_000;
const LOOK_AGAIN_MS = 1000;

/** A thread has died, perhaps while it probed the receiver: another one may do so at once. */
export function endProbe(control: Control): void {
  const { words } = control;
  if (Atomics.load(words, GATE_STATE) !== GATE_HALF_OPEN) return;
  Atomics.store(words, GATE_SHUT_UNTIL, control.nowMs());
}

/**
 * What all workers of an engine know about their receiver: a pause it asked for, and whether it answers at all.
 *
 * ```
 *   CLOSED ── FAILURES_MAX failures in a row ──▶ OPEN ── pause over, one worker wins the exchange ──▶ HALF-OPEN
 *      ▲                                          ▲                                                      │
 *      └───────────────── success ────────────────│──────────────── success ─────────────────────────────┤
 *                                                 └──────────────── failure, longer pause ───────────────┘
 * ```
 * So a dead receiver sees one request per pause, whatever the number of workers and lanes.
 */
export class Gate {
  readonly #control: Control;
  readonly #breaks: boolean;
  readonly #openCapMs: number;

  /**
   * @param style 'breaker', or 'pauses': only pauses the receiver asked for are kept
   * @param capMs longest time without any attempt
   */
  constructor(control: Control, style: 'breaker' | 'pauses', capMs: number = OPEN_CAP_MS) {
    this.#control = control;
    this.#breaks = style === 'breaker';
    this.#openCapMs = Math.min(OPEN_CAP_MS, capMs);
  }

  /**
   * Waits until an attempt is allowed. False: the engine stops, or it is not wanted any more.
   *
   * @param untilMs when to look again at the latest, by `performance.now()`
   */
  async pass(
    isWanted: () => boolean,
    untilMs: number = Number.POSITIVE_INFINITY,
  ): Promise<boolean> {
    for (;;) {
      if (this.#control.mode === MODE_STOP || !isWanted()) return false;
      const waitMs = this.#claimOrWaitMs();
      if (waitMs <= 0) return true;
      await this.wait(Math.min(waitMs, LOOK_AGAIN_MS, untilMs - performance.now()));
    }
  }

  /** Gives up what {@link pass} allowed, without an attempt. */
  giveBack(): void {
    if (this.#breaks) endProbe(this.#control);
  }

  /** Waits, but not longer than until the engine's mode changes. */
  async wait(ms: number): Promise<void> {
    const words = this.#control.words;
    const mode = this.#control.mode;
    if (mode === MODE_STOP || ms <= 0) return;
    const wait = Atomics.waitAsync(words, MODE_WORD, mode, ms);
    if (wait.async) await wait.value;
  }

  /** Nobody is to try before `ms` are over: the receiver asked for it. Returns by how many ms that is later than before. */
  pause(ms: number): number {
    const until = (this.#control.nowMs() + ms) | 0;
    const words = this.#control.words;
    for (;;) {
      const present = Atomics.load(words, GATE_PAUSE_UNTIL);
      const leftMs = Math.max(0, this.#msUntil(present));
      if (leftMs > 0 && ((until - present) | 0) <= 0) return 0;
      if (Atomics.compareExchange(words, GATE_PAUSE_UNTIL, present, until) === present) {
        return ms - leftMs;
      }
    }
  }

  /** Notes a success. True: it ends a time of trouble. */
  succeed(): boolean {
    const words = this.#control.words;
    Atomics.store(words, GATE_SUCCESS, (Date.now() / 1000) | 0);
    if (Atomics.load(words, GATE_FAILURES) !== 0) Atomics.store(words, GATE_FAILURES, 0);
    if (Atomics.load(words, GATE_STATE) !== GATE_CLOSED) {
      Atomics.store(words, GATE_STATE, GATE_CLOSED);
      Atomics.notify(words, MODE_WORD);
    }
    return Atomics.exchange(words, GATE_TROUBLE, 0) !== 0;
  }

  /** Whether the latest attempt of any worker failed. */
  get isInTrouble(): boolean {
    return Atomics.load(this.#control.words, GATE_TROUBLE) !== 0;
  }

  /** Notes a failure. True: this kind of trouble is new. */
  fail(reason: FailureReason): boolean {
    const words = this.#control.words;
    const failures = Atomics.add(words, GATE_FAILURES, 1) + 1;
    if (this.#breaks && failures >= FAILURES_MAX) this.#open(failures);
    const trouble = FAILURE_REASONS.indexOf(reason) + 1;
    return Atomics.exchange(words, GATE_TROUBLE, trouble) !== trouble;
  }

  #open(failures: number): void {
    const longest = Math.min(
      this.#openCapMs,
      OPEN_BASE_MS * 2 ** Math.min(failures - FAILURES_MAX, 16),
    );
    // Half of the pause is fixed, half is drawn, so that processes do not come back all at once.
    this.#shut(longest / 2 + Math.random() * (longest / 2));
    Atomics.store(this.#control.words, GATE_STATE, GATE_OPEN);
  }

  #shut(ms: number): void {
    Atomics.store(this.#control.words, GATE_SHUT_UNTIL, (this.#control.nowMs() + ms) | 0);
  }

  /** Ms until a mark; not above 0 for a mark so old that it looks like the future. */
  #msUntil(mark: number): number {
    const left = (mark - this.#control.nowMs()) | 0;
    return left > 2 ** 30 ? 0 : left;
  }

  /**
   * Ms until it makes sense to ask again. Not above 0: an attempt is allowed, and where the receiver is taken for dead, the probe
   * is the caller's from now on.
   */
  #claimOrWaitMs(): number {
    const words = this.#control.words;
    const pauseMs = this.#msUntil(Atomics.load(words, GATE_PAUSE_UNTIL));
    if (pauseMs > 0 || !this.#breaks) return pauseMs;
    const state = Atomics.load(words, GATE_STATE);
    if (state === GATE_CLOSED) return 0;
    const shutUntil = Atomics.load(words, GATE_SHUT_UNTIL);
    const shutMs = this.#msUntil(shutUntil);
    if (shutMs > 0) return shutMs;
    // Open and the pause is over, or half-open and the probe never came back: of those who ask, the one that shuts the gate probes.
    const probeUntil = (this.#control.nowMs() + PROBE_MS_MAX) | 0;
    if (Atomics.compareExchange(words, GATE_SHUT_UNTIL, shutUntil, probeUntil) !== shutUntil) {
      return LOOK_AGAIN_MS;
    }
    Atomics.compareExchange(words, GATE_STATE, GATE_OPEN, GATE_HALF_OPEN);
    return 0;
  }
}
