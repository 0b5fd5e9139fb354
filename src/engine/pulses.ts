import type { Control } from '../lane/control.ts';

interface Pulse {
  /** Thread that beats; another one may have the slot at the next look. */
  readonly threadId: number;
  readonly beat: number;
  seenMs: number;
}

/** When worker threads last showed life, as far as somebody has looked. Times are monotonic, in ms. */
export class Pulses {
  readonly #control: Control;
  readonly #bySlot = new Map<number, Pulse>();

  constructor(control: Control) {
    this.#control = control;
  }

  /** For how long the thread of a slot has shown no life, as far as looks in between tell; 0 at the first one. */
  silentMs(slot: number, nowMs: number): number {
    const threadId = this.#control.threadOf(slot);
    const beat = this.#control.heartbeatOf(slot);
    const pulse = this.#bySlot.get(slot);
    if (pulse?.threadId === threadId && pulse.beat === beat) return nowMs - pulse.seenMs;
    this.#bySlot.set(slot, { threadId, beat, seenMs: nowMs });
    return 0;
  }

  /** For so long nobody could show life. */
  excuse(ms: number): void {
    for (const pulse of this.#bySlot.values()) pulse.seenMs += ms;
  }

  forget(slot: number): void {
    this.#bySlot.delete(slot);
  }
}
