import { beginAttendance, bellState, ring, UNATTENDED } from '../lane/doorbell.ts';
import {
  ACCEPTED_FLOAT,
  BELL_WORD,
  CLAIMED_TERM_WORD,
  FLUSH_POSITION_WORD,
  FLUSH_ROUND_WORD,
  LENGTH_AT,
  MAIL_BYTES_AT,
  MAIL_LENGTH_WORD,
  OVERFLOW_NEWEST_FLOAT,
  OWNER_WORD,
  ROUND_CODE_WORD,
  ROUND_DONE_WORD,
  STAMP_AT,
  TAIL_SEQ_WORD,
  TAIL_WORD,
} from '../lane/layout.ts';
import type { Region } from '../lane/region.ts';
import {
  IN_HAND,
  OVERFLOW_OLDEST,
  RELEASED,
  Settlement,
  SettlementWords,
  SHUTDOWN,
  SPOOL_END,
  SPOOL_SETTLED,
} from '../lane/settlement.ts';
import { Patience } from './patience.ts';

/** Records `[fromSeq, toSeq)` of a lane. */
export interface SeqSpan {
  readonly fromSeq: number;
  readonly toSeq: number;
}

/** A lane as the engine's thread sees it: who attends it, how far it is, what to do when that one is gone. */
export class Seat {
  readonly region: Region;
  readonly lane: number;
  readonly name: string;
  readonly settlement: SettlementWords;
  /** Term of the turn posted last. */
  term = 0;
  /** When that turn was posted, monotonic ms. */
  postedMs = 0;
  /** Instead of a lane: folders of earlier runs that a turn is to replay. */
  backlogs: readonly string[] | undefined = undefined;
  /** How long the oldest record of the ring, and of the disk, has been that. */
  readonly queuePatience: Patience = new Patience();
  readonly diskPatience: Patience = new Patience();
  /** Turns that died in a row without settling anything. */
  crashes = 0;
  readonly #committer: 'supervisor' | 'producer';
  readonly #words: Int32Array;
  readonly #floats: Float64Array;
  readonly #at: number;
  readonly #state: Settlement = new Settlement();
  #headAtCrash = 0;

  /** @param committer in whose name this thread changes the settlement */
  constructor(region: Region, lane: number, committer: 'supervisor' | 'producer') {
    this.#committer = committer;
    this.region = region;
    this.lane = lane;
    this.name = `${region.id}/${lane}`;
    this.settlement = new SettlementWords(region, lane);
    this.#words = region.words;
    this.#floats = region.floats;
    this.#at = region.controlAt(lane) / 4;
  }

  get tail(): number {
    return Atomics.load(this.#words, this.#at + TAIL_WORD);
  }

  get tailSeq(): number {
    return Atomics.load(this.#words, this.#at + TAIL_SEQ_WORD);
  }

  /** Records that entered the lane. */
  get accepted(): number {
    return this.#floats[this.#at / 2 + ACCEPTED_FLOAT] ?? 0;
  }

  /** Records that the full ring kept out of the lane. */
  get overflowNewest(): number {
    return this.#floats[this.#at / 2 + OVERFLOW_NEWEST_FLOAT] ?? 0;
  }

  /** Whether all before `position` is settled. */
  isSettledUpTo(position: number): boolean {
    return ((this.settlement.readHead() - position) | 0) >= 0 && this.inHand === 0;
  }

  get inHand(): number {
    return this.read().count(IN_HAND);
  }

  /** Records that a worker has pinned to send them. */
  get inFlight(): number {
    const { pinSeq, headSeq } = this.read();
    return (pinSeq - headSeq) >>> 0;
  }

  /** Records in the lane's spool. */
  get spooled(): number {
    const state = this.read();
    return state.count(SPOOL_END) - state.count(SPOOL_SETTLED);
  }

  /** The present settlement; valid until the next call. */
  read(): Settlement {
    return this.settlement.read(this.#state);
  }

  get isAttended(): boolean {
    return bellState(Atomics.load(this.#words, this.#at + BELL_WORD)) !== UNATTENDED;
  }

  /** Thread that claimed the lane under the present term; 0: the turn has not begun. */
  get owner(): number {
    return Atomics.load(this.#words, this.#at + CLAIMED_TERM_WORD) === this.term
      ? Atomics.load(this.#words, this.#at + OWNER_WORD)
      : 0;
  }

  /** Wakes whoever attends the lane. True: nobody does, and the caller must post a turn. */
  wake(): boolean {
    return ring(this.#words, this.#at, 'force');
  }

  /** Asks that everything accepted so far goes out. True: the caller must post a turn. */
  requestFlush(): boolean {
    Atomics.store(this.#words, this.#at + FLUSH_POSITION_WORD, this.tail);
    return this.wake();
  }

  /** Asks for a round and returns its number; {@link wake} has to follow. */
  requestRound(): number {
    Atomics.store(this.#words, this.#at + FLUSH_POSITION_WORD, this.tail);
    return Atomics.add(this.#words, this.#at + FLUSH_ROUND_WORD, 1) + 1;
  }

  isRoundDone(round: number): boolean {
    return ((Atomics.load(this.#words, this.#at + ROUND_DONE_WORD) - round) | 0) >= 0;
  }

  /** Result of the latest round. */
  roundResult(): { code: number; message: string } {
    const at = this.region.controlAt(this.lane) + MAIL_BYTES_AT;
    const length = Atomics.load(this.#words, this.#at + MAIL_LENGTH_WORD);
    return {
      code: Atomics.load(this.#words, this.#at + ROUND_CODE_WORD),
      message: Buffer.from(this.region.bytes.slice(at, at + length)).toString('utf8'),
    };
  }

  /** Word to wait on for the end of a round. */
  get roundDoneAt(): number {
    return this.#at + ROUND_DONE_WORD;
  }

  /** Starts a new term: whoever attended the lane before can settle nothing any more. */
  beginTerm(nowMs: number): number {
    this.#commit((state) => {
      state.term = (state.term + 1) | 0;
      state.pin = state.head;
      state.pinSeq = state.headSeq;
      // What had given way while its worker was sending it is gone with that worker.
      state.add(OVERFLOW_OLDEST, state.count(IN_HAND));
      state.counters[IN_HAND] = 0;
    });
    this.term = this.#state.term;
    this.postedMs = nowMs;
    beginAttendance(this.#words, this.#at, this.term);
    return this.term;
  }

  /** Settles everything left as dropped by the shutdown. Returns the numbers of those records. */
  dropRest(): SeqSpan {
    let fromSeq = 0;
    const tail = this.tail;
    const toSeq = this.tailSeq;
    this.#commit((state) => {
      fromSeq = state.headSeq;
      const left = (toSeq - state.headSeq) >>> 0;
      const inHand = state.count(IN_HAND);
      state.term = (state.term + 1) | 0;
      state.add(SHUTDOWN, left + inHand);
      state.add(RELEASED, left);
      state.counters[IN_HAND] = 0;
      state.head = tail;
      state.headSeq = toSeq;
      state.pin = tail;
      state.pinSeq = toSeq;
    });
    this.term = this.#state.term;
    return { fromSeq, toSeq };
  }

  /**
   * Lets the oldest records give way for as long as `isTooMuch` says so. Records a worker is sending keep counting
   * as queued until it has settled them. Only the producing thread may call this.
   *
   * @returns numbers of the records that are dropped for good
   */
  dropOldest(isTooMuch: (left: { usedBytes: number; records: number }) => boolean): SeqSpan {
    const tail = this.tail;
    const tailSeq = this.tailSeq;
    let fromSeq = 0;
    this.#commit((state) => {
      fromSeq = ((state.pinSeq - state.headSeq) | 0) > 0 ? state.pinSeq : state.headSeq;
      while (state.headSeq !== tailSeq) {
        const left = {
          usedBytes: (tail - state.head) | 0,
          records: (tailSeq - state.headSeq) >>> 0,
        };
        if (!isTooMuch(left)) break;
        const isInHand = ((state.headSeq - state.pinSeq) | 0) < 0;
        state.add(isInHand ? IN_HAND : OVERFLOW_OLDEST, 1);
        state.add(RELEASED, 1);
        state.head = this.#positionAfter(state.head);
        state.headSeq = (state.headSeq + 1) | 0;
      }
      if (((state.head - state.pin) | 0) > 0) {
        state.pin = state.head;
        state.pinSeq = state.headSeq;
      }
    });
    const toSeq = this.#state.headSeq;
    return ((toSeq - fromSeq) | 0) > 0 ? { fromSeq, toSeq } : { fromSeq, toSeq: fromSeq };
  }

  #positionAfter(position: number): number {
    const { view, laneBytes } = this.region;
    const framesAt = this.region.framesAt(this.lane);
    const length = view.getInt32(framesAt + (position & (laneBytes - 1)) + LENGTH_AT, true);
    if (length >= 0) return (position + length) | 0;
    return (position - length + view.getInt32(framesAt + LENGTH_AT, true)) | 0;
  }

  /**
   * Takes back what a thread counted that was ended in the middle of publishing: a record is published by the store of the tail,
   * and its number and the count of accepted records go before it. Only for the lane of a producer that is gone.
   */
  takeBackUnpublished(): void {
    const { head, headSeq } = this.read();
    const tail = this.tail;
    let seq = headSeq;
    for (let at = head; at !== tail; at = this.#positionAfter(at)) seq = (seq + 1) | 0;
    Atomics.store(this.#words, this.#at + TAIL_SEQ_WORD, seq);
    const accepted = this.accepted;
    this.#floats[this.#at / 2 + ACCEPTED_FLOAT] = accepted - ((accepted - seq) | 0);
  }

  /** Notes that a turn died; returns how many did so in a row without getting anything done. */
  noteCrash(): number {
    const head = this.settlement.readHead();
    this.crashes = head === this.#headAtCrash ? this.crashes + 1 : 1;
    this.#headAtCrash = head;
    return this.crashes;
  }

  /** When the oldest record was accepted, wall time in ms; undefined: there is none. */
  oldestMs(): number | undefined {
    const head = this.read().head;
    if (head === this.tail) return undefined;
    const { view, laneBytes, baseMs } = this.region;
    const framesAt = this.region.framesAt(this.lane);
    const at = framesAt + (head & (laneBytes - 1));
    const frameAt = view.getInt32(at + LENGTH_AT, true) < 0 ? framesAt : at;
    return baseMs + view.getUint32(frameAt + STAMP_AT, true);
  }

  #commit(change: (state: Settlement) => void): void {
    do change(this.read());
    while (!this.settlement.commit(this.#state, this.#committer));
  }
}
