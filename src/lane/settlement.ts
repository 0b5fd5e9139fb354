import {
  COMMIT_WORD,
  SLOT_FLOATS,
  SLOT_WORDS,
  SLOTS,
  SLOTS_AT_FLOAT,
  SLOTS_AT_WORD,
} from './layout.ts';
import type { Region } from './region.ts';

/**
 * How the head of a lane moves, together with every count that must agree with it.
 *
 * Head, pin and the counters of settled records change in one atomic step: the writer fills a slot that
 * nobody reads and then swings COMMIT to it by compare-exchange.
 *
 * ```
 * COMMIT = version << 4 | slot        slots 0,1: the producing thread's; 2,3: the supervisor's;
 *                                     4 + 2t, 5 + 2t: the worker's whose term ≡ t (mod 6)
 * slot     i32 HEAD  HEAD_SEQ  PIN  PIN_SEQ  TERM  IN_HAND_SEQ, then float64 counters
 * ```
 *
 *   S1  a writer fills only its own slots, and never the one COMMIT names
 *   S2  a commit succeeds only on the state it was computed from (compare-exchange on the version)
 *   S3  TERM grows by one whenever a lane is taken from a worker; a worker commits only under its own term,
 *       so one that was presumed dead and wakes up again cannot settle anything
 *   S4  head <= pin <= tail: records in [head, pin) are in a worker's hands
 *   S5  released + unspooled = delivered + rejected + oldest + expired + shutdown + spooled + in hand, of one slot, always
 *   S6  a producer that makes room (drop-oldest) may move head past pinned records: a worker has their text and may be
 *       sending it. They are counted as in hand until that worker, or whoever takes the lane from it, settles them
 *
 *       (IN_HAND_SEQ is the number of the first of them)
 *   S7  what happens to spooled records is committed here before the spool's own files say so (worker/lane-spool.ts)
 *
 *   S8  batches that overtake others have their fate before the head gets there: until then their records are in AHEAD_…, and still
 *       in the ring. Whoever drops the rest of the ring counts them as what they are; whoever sends them again forgets it
 *
 * A thread that dies between filling and swinging has changed nothing.
 */

/** Int32 words of a slot. */
export const HEAD = 0;
export const HEAD_SEQ = 1;
const PIN = 2;
const PIN_SEQ = 3;
const TERM = 4;
const IN_HAND_SEQ = 5;

/** Float64 counters of a slot, by index from the slot's start. All count records, but for the two byte counters. */
export const RELEASED = 4;
export const DELIVERED = 5;
export const REJECTED = 6;
export const OVERFLOW_OLDEST = 7;
export const EXPIRED = 8;
export const SHUTDOWN = 9;
export const SPOOLED = 10;
export const RAW_BYTES = 11;
export const SENT_BYTES = 12;
export const DEAD_LETTERED = 13;
/** Records whose bytes gave way while a worker was sending them; a level, not a total. */
export const IN_HAND = 14;
/** Records that have left the spool, whatever became of them. */
export const UNSPOOLED = 15;
/** Numbers in the lane's spool: of the next record to come, and of the first that is not settled. */
export const SPOOL_END = 16;
export const SPOOL_SETTLED = 17;
/** Levels of the lane's spool. */
export const SPOOL_BYTES = 18;
export const SPOOL_SEGMENTS = 19;
/** When the oldest record in the spool was accepted, in ms since 1970; 0: there is none. */
export const SPOOL_OLDEST_MS = 20;
/** Records found in the spool of an earlier run. */
export const RECOVERED = 21;
/** Records that damage took from the spool; they are in EXPIRED, too. */
export const CORRUPT = 22;
/** Backlogs of earlier runs that are done with; then, of the present one, a lane and how far it is settled. */
export const BACKLOGS_DONE = 23;
export const BACKLOG_LANE = 24;
export const BACKLOG_AT = 25;
/** Records that no worker survived, or that nobody was left to deliver; they are in EXPIRED, too. */
export const CRASHED = 26;
/** Records behind the head whose fate is known; levels, one for each fate that records of the ring have by an answer. */
const AHEAD: ReadonlyMap<number, number> = new Map([
  [DELIVERED, 27],
  [REJECTED, 28],
  [OVERFLOW_OLDEST, 29],
  [EXPIRED, 30],
]);
export const COUNTERS_END = 31;

const SLOT_BITS = 4;
const SLOT_MASK: number = SLOTS - 1;
const WORKER_GROUPS = 6;

/** Who commits: each writes to a pair of slots of its own. */
export type Committer = 'producer' | 'supervisor' | 'worker';

/** A copy of a lane's settlement, as of one commit. */
export class Settlement {
  commit = 0;
  head = 0;
  headSeq = 0;
  pin = 0;
  pinSeq = 0;
  term = 0;
  /** Number of the first record in hand; without meaning if there is none. */
  inHandSeq = 0;
  /** Counters by the indices above; entries below RELEASED are unused. */
  readonly counters: Float64Array = new Float64Array(COUNTERS_END);

  count(counter: number): number {
    return this.counters[counter] ?? 0;
  }

  add(counter: number, amount: number): void {
    this.counters[counter] = (this.counters[counter] ?? 0) + amount;
  }

  /** A record of the ring has this fate, though others before it have none yet. */
  addAhead(counter: number): void {
    const level = AHEAD.get(counter);
    if (level !== undefined) this.add(level, 1);
  }

  /** Nothing is known of records behind the head. */
  clearAhead(): void {
    for (const level of AHEAD.values()) this.counters[level] = 0;
  }

  /** The ring is given up: records behind the head get the fate that is known of them. Returns how many those are. */
  settleAhead(): number {
    let records = 0;
    for (const [counter, level] of AHEAD) {
      this.add(counter, this.count(level));
      records += this.count(level);
    }
    this.clearAhead();
    return records;
  }

  /** A record gives way while a worker has it. */
  addInHand(seq: number): void {
    if (this.count(IN_HAND) === 0) this.inHandSeq = seq;
    this.add(IN_HAND, 1);
  }

  /** A worker has lost, or settled, the records in hand below a number. */
  passInHand(seq: number): void {
    if (((seq - this.inHandSeq) | 0) > 0) this.inHandSeq = seq;
  }

  /** Counts the fate of records; a reason that is told apart from others like it is in theirs as well. */
  addFate(counter: number, records: number): void {
    this.add(counter, records);
    if (counter === CORRUPT || counter === CRASHED) this.add(EXPIRED, records);
  }
}

/** Reads and commits the settlement of one lane for one thread. */
export class SettlementWords {
  readonly #words: Int32Array;
  readonly #floats: Float64Array;
  readonly #commitAt: number;
  readonly #slotsWordAt: number;
  readonly #slotsFloatAt: number;

  constructor(region: Region, lane: number) {
    const controlAt = region.controlAt(lane);
    this.#words = region.words;
    this.#floats = region.floats;
    this.#commitAt = controlAt / 4 + COMMIT_WORD;
    this.#slotsWordAt = controlAt / 4 + SLOTS_AT_WORD;
    this.#slotsFloatAt = controlAt / 8 + SLOTS_AT_FLOAT;
  }

  /** Word index of COMMIT, for waiting until it changes. */
  get commitAt(): number {
    return this.#commitAt;
  }

  /** Copies the present settlement into `into`: always one commit's, never a mix. */
  read(into: Settlement): Settlement {
    for (;;) {
      const commit = Atomics.load(this.#words, this.#commitAt);
      const slot = commit & SLOT_MASK;
      const wordAt = this.#slotsWordAt + slot * SLOT_WORDS;
      into.commit = commit;
      into.head = this.#words[wordAt + HEAD] ?? 0;
      into.headSeq = this.#words[wordAt + HEAD_SEQ] ?? 0;
      into.pin = this.#words[wordAt + PIN] ?? 0;
      into.pinSeq = this.#words[wordAt + PIN_SEQ] ?? 0;
      into.term = this.#words[wordAt + TERM] ?? 0;
      into.inHandSeq = this.#words[wordAt + IN_HAND_SEQ] ?? 0;
      const floatAt = this.#slotsFloatAt + slot * SLOT_FLOATS;
      for (let index = RELEASED; index < COUNTERS_END; index += 1) {
        into.counters[index] = this.#floats[floatAt + index] ?? 0;
      }
      // A read-modify-write, because a plain load would not keep the reads above it on every processor.
      if (Atomics.add(this.#words, this.#commitAt, 0) === commit) return into;
    }
  }

  /** Only the head's position: what a producer asks for when it believes the lane is full. */
  readHead(): number {
    return this.#readWord(HEAD);
  }

  /** Only the number of the record at the head: what a producer asks for when it believes the queue is full. */
  readHeadSeq(): number {
    return this.#readWord(HEAD_SEQ);
  }

  #readWord(word: number): number {
    for (;;) {
      const commit = Atomics.load(this.#words, this.#commitAt);
      const at = this.#slotsWordAt + (commit & SLOT_MASK) * SLOT_WORDS + word;
      const value = Atomics.load(this.#words, at);
      if (Atomics.load(this.#words, this.#commitAt) === commit) return value;
    }
  }

  /**
   * Commits `next`, which was read earlier and changed since. False: somebody was faster, nothing happened;
   * read again (a worker looks at the term, too).
   */
  commit(next: Settlement, committer: Committer): boolean {
    const first = 2 * groupOf(committer, next.term);
    return this.#commit(next, (next.commit & SLOT_MASK) === first ? first + 1 : first);
  }

  #commit(next: Settlement, slot: number): boolean {
    const wordAt = this.#slotsWordAt + slot * SLOT_WORDS;
    this.#words[wordAt + HEAD] = next.head;
    this.#words[wordAt + HEAD_SEQ] = next.headSeq;
    this.#words[wordAt + PIN] = next.pin;
    this.#words[wordAt + PIN_SEQ] = next.pinSeq;
    this.#words[wordAt + TERM] = next.term;
    this.#words[wordAt + IN_HAND_SEQ] = next.inHandSeq;
    const floatAt = this.#slotsFloatAt + slot * SLOT_FLOATS;
    for (let index = RELEASED; index < COUNTERS_END; index += 1) {
      this.#floats[floatAt + index] = next.counters[index] ?? 0;
    }
    const commit = (((next.commit >>> SLOT_BITS) + 1) << SLOT_BITS) | slot;
    if (Atomics.compareExchange(this.#words, this.#commitAt, next.commit, commit) !== next.commit) {
      return false;
    }
    next.commit = commit;
    Atomics.notify(this.#words, this.#commitAt);
    return true;
  }
}

function groupOf(committer: Committer, term: number): number {
  if (committer === 'producer') return 0;
  if (committer === 'supervisor') return 1;
  return 2 + ((term >>> 0) % WORKER_GROUPS);
}
