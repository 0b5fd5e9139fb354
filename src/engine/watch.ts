import type { Control } from '../lane/control.ts';
import { WATCH_ATTEMPTS, WATCH_WORD } from '../lane/control.ts';
import type { Readings } from '../lane/readings.ts';
import { isHeard, publish } from './channels.ts';
import type { Journal } from './journal.ts';

type Reason = keyof Readings['dropped'];

/** Reasons of dropped records that no other line tells of; wrong calls and damage have their own. */
const TOLD_REASONS: readonly Reason[] = [
  'overflow_newest',
  'overflow_oldest',
  'expired',
  'shutdown',
  'crashed',
];
const STATES = ['closed', 'half_open', 'open'] as const;
/** Looks in a row at which the account must be wrong before it is said: a port thread may be in the middle of a call. */
const IMBALANCES_MAX = 3;

/** Looks at the accounts now and then, and says what has changed since: what no single call can tell. */
export class Watch {
  readonly #journal: Journal;
  readonly #control: Control;
  #dropped: Readings['dropped'] | undefined;
  #isSpooling = false;
  #circuit: 0 | 1 | 2 = 0;
  #imbalances = 0;

  constructor(journal: Journal, control: Control) {
    this.#journal = journal;
    this.#control = control;
    this.listen();
  }

  /** Lets workers know whether anybody wants to hear of their attempts. */
  listen(): void {
    const wants = isHeard('batch') || isHeard('retry') ? WATCH_ATTEMPTS : 0;
    Atomics.store(this.#control.words, WATCH_WORD, wants);
  }

  look(readings: Readings): void {
    this.listen();
    this.#lookAtDrops(readings.dropped);
    this.#lookAtSpool(readings.spool.records);
    this.#lookAtCircuit(readings.breakerState);
    this.#lookAtBalance(readings.imbalance);
  }

  #lookAtDrops(dropped: Readings['dropped']): void {
    const before = this.#dropped;
    this.#dropped = dropped;
    for (const [reason, count] of Object.entries(dropped) as [Reason, number][]) {
      const records = count - (before?.[reason] ?? 0);
      if (records <= 0) continue;
      if (isHeard('drop')) publish('drop', { ...this.#journal.origin, reason, records });
      if (!TOLD_REASONS.includes(reason)) continue;
      const message = `${records} records were dropped: ${reason}`;
      const facts = { reason, records };
      this.#journal.log({ level: 'error', code: 'MILLRACE_DROPPED', message, facts });
    }
  }

  #lookAtSpool(records: number): void {
    const isSpooling = records > 0;
    if (isSpooling === this.#isSpooling) return;
    this.#isSpooling = isSpooling;
    const event = isSpooling ? 'in_use' : 'empty';
    if (isHeard('spool')) publish('spool', { ...this.#journal.origin, event, records });
    this.#journal.log({
      level: 'info',
      code: isSpooling ? 'MILLRACE_SPOOL_IN_USE' : 'MILLRACE_SPOOL_EMPTY',
      message: isSpooling ? `records wait on disk: ${records}` : 'no record is on disk any more',
      facts: { records },
    });
  }

  #lookAtCircuit(state: 0 | 1 | 2): void {
    const before = this.#circuit;
    if (state === before) return;
    this.#circuit = state;
    if (isHeard('circuit')) {
      publish('circuit', { ...this.#journal.origin, state: STATES[state] });
    }
    if (state === 0) {
      const message = 'the receiver answers again';
      this.#journal.log({ level: 'info', code: 'MILLRACE_CIRCUIT_CLOSED', message });
    } else if (before === 0) {
      const message = 'the receiver is taken for dead and only probed now and then';
      this.#journal.log({ level: 'warn', code: 'MILLRACE_CIRCUIT_OPEN', message });
    }
  }

  #lookAtBalance(imbalance: number): void {
    this.#imbalances = imbalance === 0 ? 0 : this.#imbalances + 1;
    if (this.#imbalances !== IMBALANCES_MAX) return;
    this.#journal.log({
      level: 'fatal',
      code: 'MILLRACE_IMBALANCE',
      message: `the account of records does not add up by ${imbalance}: a fault of millrace itself`,
      facts: { imbalance },
    });
  }
}
