import { MillraceError } from '../base/errors.ts';
import type { SettledOutcome } from '../record/types.ts';

type Listener = (outcome: SettledOutcome) => void;

interface Waiting {
  readonly seq: number;
  readonly listener: Listener;
}

/** Callers that want to hear how their records were settled: one list a lane, in the order of the lane. */
export class SettledListeners {
  readonly #lanes = new Map<string, Waiting[]>();
  readonly #onError: (error: MillraceError) => void;

  constructor(onError: (error: MillraceError) => void) {
    this.#onError = onError;
  }

  add(lane: string, seq: number, listener: Listener): void {
    const list = this.#lanes.get(lane);
    if (list === undefined) this.#lanes.set(lane, [{ seq, listener }]);
    else list.push({ seq, listener });
  }

  /** Tells those whose record is in `[fromSeq, toSeq)`. */
  settle(
    lane: string,
    { fromSeq, toSeq }: { fromSeq: number; toSeq: number },
    outcome: SettledOutcome,
  ): void {
    const list = this.#lanes.get(lane) ?? [];
    // In the order of the lane, so that all who are told stand together, usually at the front.
    const from = list.findIndex(({ seq }) => ((seq - fromSeq) | 0) >= 0);
    if (from < 0) return;
    let to = from;
    while (to < list.length && (((list[to]?.seq ?? 0) - toSeq) | 0) < 0) to += 1;
    for (const { listener } of list.splice(from, to - from)) this.tell(listener, outcome);
  }

  /** Tells everybody who still waits: there is nobody left to settle anything. */
  settleAll(outcome: SettledOutcome): void {
    const left = [...this.#lanes.values()].flat();
    this.#lanes.clear();
    for (const { listener } of left) this.tell(listener, outcome);
  }

  /** Tells one caller; what it throws goes to onError, never up. */
  tell(listener: Listener, outcome: SettledOutcome): void {
    try {
      listener(outcome);
    } catch (error) {
      this.#onError(
        new MillraceError('MILLRACE_INVALID_VALUE', `an onSettled function threw: ${error}`, error),
      );
    }
  }
}
