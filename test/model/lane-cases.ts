import { GATE_HALF_OPEN, GATE_OPEN } from '../../src/worker/gate.ts';
import type { Litmus } from './interleave.ts';
import {
  type DoorbellCase,
  doorbellLitmus,
  fencingLitmus,
  gateLitmus,
  settlementLitmus,
  shutdownLitmus,
} from './lane-litmus.ts';
import type { Mutation, Subject } from './subject.ts';

type Make = (subject: Subject) => Litmus;

export interface LaneLitmus {
  readonly rule: string;
  /** Whether it is small enough for every run of the tests. */
  readonly isQuick: boolean;
  readonly make: Make;
}

export interface LaneMistake {
  readonly mistake: string;
  readonly mutation: Mutation;
  readonly find: readonly Make[];
  readonly words: RegExp;
}

const BASE: DoorbellCase = {
  records: 1,
  marks: 1,
  rest: 'leave',
  flushes: false,
  takesOver: false,
};

function doorbell(more: Partial<DoorbellCase>): Make {
  return (subject) => doorbellLitmus(subject, { ...BASE, ...more });
}

const SLEEP = doorbell({ rest: 'sleep', records: 2 });
const MARK = doorbell({ rest: 'sleep', records: 2, marks: 2 });
const FLUSH = doorbell({ rest: 'sleep', marks: 5, flushes: true });
const LEAVE_TWICE = doorbell({ records: 2 });
const TAKEN_OVER = doorbell({ takesOver: true });
const READ: Make = (subject) => settlementLitmus(subject, { records: 3, other: 'reader' });
const DROP: Make = (subject) => settlementLitmus(subject, { records: 2, other: 'dropper' });
const FENCE: Make = (subject) => fencingLitmus(subject, 2);

export const LANE_LITMUSES: readonly LaneLitmus[] = [
  { rule: 'a sleeping worker is woken by the next record', isQuick: true, make: SLEEP },
  { rule: 'a worker that waits for two records is woken by the second', isQuick: true, make: MARK },
  { rule: 'a flush wakes a worker that waits for more', isQuick: true, make: FLUSH },
  {
    rule: 'a worker that gives its lane up leaves no record behind',
    isQuick: true,
    make: doorbell({}),
  },
  { rule: 'two records find one turn each at most', isQuick: false, make: LEAVE_TWICE },
  {
    rule: 'a worker that sleeps, then leaves, leaves no record behind',
    isQuick: true,
    make: doorbell({ rest: 'both' }),
  },
  {
    rule: 'the same with two records',
    isQuick: false,
    make: doorbell({ rest: 'both', records: 2 }),
  },
  {
    rule: 'a lane taken from its worker is attended by the next',
    isQuick: false,
    make: TAKEN_OVER,
  },
  {
    rule: 'the same when they sleep',
    isQuick: false,
    make: doorbell({ takesOver: true, rest: 'sleep' }),
  },
  { rule: 'a settlement is seen as a whole', isQuick: true, make: READ },
  { rule: 'no settlement undoes another', isQuick: true, make: DROP },
  { rule: 'a worker that lost its lane settles nothing', isQuick: true, make: FENCE },
  { rule: 'what counts as dropped by the end is not on disk', isQuick: true, make: shutdownLitmus },
  ...[GATE_OPEN, GATE_HALF_OPEN].map((state) => ({
    rule: `one of three workers probes a dead receiver (gate ${state})`,
    isQuick: true,
    make: (subject: Subject) => gateLitmus(subject, { workers: 3, state }),
  })),
];

const BELL = 'lane/doorbell';
const SETTLEMENT = 'lane/settlement';
const LOST = /wait for nobody/;

/** Mistakes of the kind that tests with real threads pass over for years. */
export const LANE_MISTAKES: readonly LaneMistake[] = [
  {
    mistake: 'a worker leaves without another look',
    mutation: {
      file: BELL,
      from: 'return !(this.#isDue(mark) && this.#swing(this.#unattended, this.#awake));',
      to: 'return true;',
    },
    find: [doorbell({})],
    words: LOST,
  },
  {
    mistake: 'a worker looks before it leaves, instead of afterwards',
    mutation: {
      file: BELL,
      from: 'if (!this.#swing(this.#awake, this.#unattended))\n            return true;\n        return !(this.#isDue(mark) && this.#swing(this.#unattended, this.#awake));',
      to: 'if (this.#isDue(mark)) return false; this.#swing(this.#awake, this.#unattended); return true;',
    },
    find: [doorbell({})],
    words: LOST,
  },
  {
    mistake: 'a worker falls asleep without another look',
    mutation: { file: BELL, from: 'if (!this.#isDue(mark)) {', to: '{' },
    find: [SLEEP],
    words: LOST,
  },
  {
    mistake: 'a worker keeps a lane that somebody else has been sent to',
    mutation: {
      file: BELL,
      from: 'this.#swing(this.#unattended, this.#awake));',
      to: '(this.#swing(this.#unattended, this.#awake), true));',
    },
    find: [LEAVE_TWICE],
    words: /./,
  },
  {
    mistake: 'a producer rings without waking',
    mutation: {
      file: BELL,
      from: 'Atomics.notify(words, bellAt);\n            return false;',
      to: 'return false;',
    },
    find: [SLEEP],
    words: LOST,
  },
  {
    mistake: 'the bell does not say whose it is',
    mutation: { file: BELL, from: 'return (term << STATE_BITS) | state;', to: 'return state;' },
    find: [TAKEN_OVER, LEAVE_TWICE],
    words: /wait for nobody|second turn/,
  },
  {
    mistake: 'a worker falls asleep without looking for a flush',
    mutation: { file: BELL, from: '((flush - mark.head) | 0) > 0 ||', to: '' },
    find: [FLUSH],
    words: LOST,
  },
  {
    mistake: 'a commit is stored, not exchanged',
    mutation: {
      file: SETTLEMENT,
      from: 'if (Atomics.compareExchange(this.#words, this.#commitAt, next.commit, commit) !== next.commit) {',
      to: 'if (Atomics.store(this.#words, this.#commitAt, commit) !== commit) {',
    },
    find: [DROP],
    words: /once|mix of two/,
  },
  {
    mistake: 'a commit is written over the one in force',
    mutation: {
      file: SETTLEMENT,
      from: '(next.commit & SLOT_MASK) === first ? first + 1 : first',
      to: 'first',
    },
    find: [READ],
    words: /mix of two/,
  },
  {
    mistake: 'an account is read without another look',
    mutation: {
      file: SETTLEMENT,
      from: 'if (Atomics.add(this.#words, this.#commitAt, 0) === commit)',
      to: '',
    },
    find: [READ],
    words: /mix of two/,
  },
  {
    mistake: 'a worker does not look at its term',
    mutation: {
      file: 'lane/consumer',
      from: 'return this.#settlement.read(this.#state).term === this.term;',
      to: 'return this.#settlement.read(this.#state) !== undefined;',
    },
    find: [FENCE],
    words: /./,
  },
  {
    mistake: 'a turn appends what has been dropped',
    mutation: {
      file: 'lane/spooling',
      from: 'if (present === OVER || ((present - term) | 0) > 0)',
      to: 'if (present !== OVER && ((present - term) | 0) > 0)',
    },
    find: [shutdownLitmus],
    words: /another fate/,
  },
  {
    mistake: 'what is being appended is dropped',
    mutation: { file: 'lane/spooling', from: 'present !== NOT && present === term', to: 'false' },
    find: [shutdownLitmus],
    words: /another fate/,
  },
  {
    mistake: 'every worker that finds the gate due takes itself for the one that probes',
    mutation: {
      file: 'worker/gate',
      from: 'return LOOK_AGAIN_MS;',
      to: 'return 0;',
    },
    find: [(subject) => gateLitmus(subject, { workers: 2, state: GATE_OPEN })],
    words: /probe the dead receiver/,
  },
];
