import { beginAttendance, bellState, ring, UNATTENDED } from '../lane/doorbell.ts';
import type { FromDisk } from '../lane/from-disk.ts';
import {
  ACCEPTED_FLOAT,
  BELL_WORD,
  BUSY_AT_DISK,
  BUSY_AT_HEAD,
  BUSY_WORD,
  CLAIMED_TERM_WORD,
  FLUSH_POSITION_WORD,
  FLUSH_ROUND_WORD,
  FROM_DISK_LANE_WORD,
  FROM_DISK_NUMBER_WORD,
  FROM_DISK_RECORDS_WORD,
  GIVEN_UP_WORD,
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
  BACKLOGS_DONE,
  CRASHED,
  DELIVERED,
  EXPIRED,
  IN_HAND,
  OVERFLOW_OLDEST,
  REJECTED,
  RELEASED,
  Settlement,
  SettlementWords,
  type SHUTDOWN,
  SPOOL_END,
  SPOOL_SETTLED,
  SPOOLED,
} from '../lane/settlement.ts';
import { Spooling } from '../lane/spooling.ts';
import { Patience } from './patience.ts';

/** Records `[fromSeq, toSeq)` of a lane. */
export interface SeqSpan {
  readonly fromSeq: number;
  readonly toSeq: number;
}

const NONE_GONE: SeqSpan = { fromSeq: 0, toSeq: 0 };

/** Records that gave way while a worker had them; some in between may be settled. */
function inHandOf(state: Settlement): SeqSpan {
  if (state.count(IN_HAND) === 0) return NONE_GONE;
  return { fromSeq: state.inHandSeq, toSeq: state.headSeq };
}

/** A lane as the engine's thread sees it: who attends it, how far it is, what to do when that one is gone. */
export class Seat {
  readonly region: Region;
  readonly lane: number;
  readonly name: string;
  readonly settlement: SettlementWords;
  readonly spooling: Spooling;
  /** Term of the turn posted last. */
  term = 0;
  /** Whether that turn has not ended. */
  hasTurn = false;
  /** When that turn was posted, monotonic ms. */
  postedMs = 0;
  /** Instead of a lane: folders of earlier runs that a turn is to replay. */
  backlogs: readonly string[] | undefined = undefined;
  /** How long the oldest record of the ring, and of the disk, has been that. */
  readonly queuePatience: Patience = new Patience();
  readonly diskPatience: Patience = new Patience();
  readonly #committer: 'supervisor' | 'producer';
  readonly #words: Int32Array;
  readonly #floats: Float64Array;
  readonly #at: number;
  readonly #state: Settlement = new Settlement();

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
    this.spooling = new Spooling(region.words, this.#at);
  }

  /** For texts: the number that metrics and the folders of the spool have. */
  get title(): string {
    if (this.backlogs !== undefined) return 'the backlog of earlier runs';
    return `lane ${this.region.numberOf(this.lane)}`;
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

  /**
   * Keeps what is in the ring from going to the disk, so that it can be dropped. `patience`: 'none': what is appended right now is void,
   * and will be dropped with the rest. False: it is being appended.
   */
  endSpooling(patience: 'some' | 'none'): boolean {
    if (this.spooling.close(this.term)) return true;
    if (patience === 'none') this.spooling.break();
    return patience === 'none';
  }

  /** What the worker that attends the lane is in the middle of: the records at the head, or some from disk. */
  get busyAt(): 'head' | 'disk' | 'nothing' {
    const busy = Atomics.load(this.#words, this.#at + BUSY_WORD);
    if (busy === BUSY_AT_HEAD) return 'head';
    return busy === BUSY_AT_DISK ? 'disk' : 'nothing';
  }

  /** Records from disk that a worker is sending, or died while it did. */
  get fromDisk(): FromDisk {
    const at = this.#at;
    return {
      records: Atomics.load(this.#words, at + FROM_DISK_RECORDS_WORD),
      lane: Atomics.load(this.#words, at + FROM_DISK_LANE_WORD),
      number: Atomics.load(this.#words, at + FROM_DISK_NUMBER_WORD),
    };
  }

  /** Whether there is anything that a worker could be at. */
  get isLoaded(): boolean {
    return this.read().head !== this.tail || this.hasDiskWork;
  }

  /** Whether records of the lane wait on disk, or of earlier runs. */
  get hasDiskWork(): boolean {
    return this.spooled > 0 || this.read().count(BACKLOGS_DONE) < (this.backlogs?.length ?? 0);
  }

  /** Records from disk that have their fate: the next one has this number, or, of earlier runs, is the one after so many. */
  get diskHead(): number {
    return this.read().count(SPOOL_SETTLED);
  }

  /** Records of the lane that workers have got done, whatever became of them. */
  get done(): number {
    const state = this.read();
    const settled = state.count(DELIVERED) + state.count(REJECTED) + state.count(EXPIRED);
    return settled - state.count(CRASHED) + state.count(SPOOLED) + state.count(BACKLOGS_DONE);
  }

  get headSeq(): number {
    return this.settlement.readHeadSeq();
  }

  /** Whether no worker will come to the lane any more. */
  get isGivenUp(): boolean {
    return Atomics.load(this.#words, this.#at + GIVEN_UP_WORD) !== 0;
  }

  giveUp(): void {
    Atomics.store(this.#words, this.#at + GIVEN_UP_WORD, 1);
    // Those who wait for a record's settlement, or for the end of a round, look again.
    Atomics.notify(this.#words, this.settlement.commitAt);
    Atomics.notify(this.#words, this.roundDoneAt);
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

  /** Result of the latest round, with the round's number. */
  roundResult(): { round: number; code: number; message: string } {
    const at = this.region.controlAt(this.lane) + MAIL_BYTES_AT;
    const length = Atomics.load(this.#words, this.#at + MAIL_LENGTH_WORD);
    return {
      round: Atomics.load(this.#words, this.#at + ROUND_DONE_WORD),
      code: Atomics.load(this.#words, this.#at + ROUND_CODE_WORD),
      message: Buffer.from(this.region.bytes.slice(at, at + length)).toString('utf8'),
    };
  }

  /** Word to wait on for the end of a round. */
  get roundDoneAt(): number {
    return this.#at + ROUND_DONE_WORD;
  }

  /**
   * Starts a new term: whoever attended the lane before can settle nothing any more.
   *
   * @returns the term, and the numbers of records that are dropped because they had given way before
   */
  beginTerm(nowMs: number): { readonly term: number; readonly gone: SeqSpan } {
    let gone: SeqSpan = NONE_GONE;
    this.#commit((state) => {
      gone = inHandOf(state);
      state.term = (state.term + 1) | 0;
      state.pin = state.head;
      state.pinSeq = state.headSeq;
      // What had given way while its worker was sending it is gone with that worker.
      state.add(OVERFLOW_OLDEST, state.count(IN_HAND));
      state.counters[IN_HAND] = 0;
      state.clearAhead();
    });
    this.term = this.#state.term;
    this.hasTurn = true;
    this.postedMs = nowMs;
    beginAttendance(this.#words, this.#at, this.term);
    return { term: this.term, gone };
  }

  /** Settles everything left as dropped: by the shutdown, or because no worker survives it. Returns the numbers of those records. */
  dropRest(why: typeof SHUTDOWN | typeof CRASHED): SeqSpan {
    return this.#drop(why, (state) => {
      const position = this.tail;
      const seq = this.#seqAt(position);
      return { position, seq, answered: state.settleAhead() };
    });
  }

  /** Settles the record at the head as one that no worker survives. */
  dropHead(): SeqSpan {
    return this.#drop(CRASHED, ({ head, headSeq }) =>
      head === this.tail
        ? { position: head, seq: headSeq, answered: 0 }
        : { position: this.#positionAfter(head), seq: (headSeq + 1) | 0, answered: 0 },
    );
  }

  /** Takes the lane from whoever attends it, and settles all below a mark. */
  #drop(
    why: number,
    /** `answered`: so many of the records below the mark have their fate already. */
    markOf: (state: Settlement) => { position: number; seq: number; answered: number },
  ): SeqSpan {
    let gone: SeqSpan = NONE_GONE;
    this.#commit((state) => {
      const { position, seq, answered } = markOf(state);
      const isInHand = state.count(IN_HAND) > 0;
      gone = { fromSeq: isInHand ? state.inHandSeq : state.headSeq, toSeq: seq };
      const left = (seq - state.headSeq) >>> 0;
      const dropped = left + state.count(IN_HAND) - answered;
      state.term = (state.term + 1) | 0;
      state.addFate(why, dropped);
      state.add(RELEASED, left);
      state.counters[IN_HAND] = 0;
      state.clearAhead();
      state.head = position;
      state.headSeq = seq;
      state.pin = position;
      state.pinSeq = seq;
    });
    this.term = this.#state.term;
    return gone;
  }

  /** Number of the record at `position`, counted from the head: the producer of another thread may be about to store the tail. */
  #seqAt(position: number): number {
    const { head, headSeq } = this.#state;
    let at = head;
    let seq = headSeq;
    while (((position - at) | 0) > 0) {
      const next = this.#positionAfter(at);
      // Only where the producer has made room meanwhile: then the head has moved, and nothing of this counts.
      if (((next - at) | 0) <= 0) break;
      at = next;
      seq = (seq + 1) | 0;
    }
    return seq;
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
        if (isInHand) state.addInHand(state.headSeq);
        else state.add(OVERFLOW_OLDEST, 1);
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
    this.read();
    const seq = this.#seqAt(this.tail);
    Atomics.store(this.#words, this.#at + TAIL_SEQ_WORD, seq);
    const accepted = this.accepted;
    this.#floats[this.#at / 2 + ACCEPTED_FLOAT] = accepted - ((accepted - seq) | 0);
  }

  /** When the oldest record was accepted, wall time in ms; undefined: there is none. */
  oldestMs(): number | undefined {
    const head = this.settlement.readHead();
    if (head === this.tail) return undefined;
    const { view, laneBytes, baseMs } = this.region;
    const framesAt = this.region.framesAt(this.lane);
    const at = framesAt + (head & (laneBytes - 1));
    const frameAt = view.getInt32(at + LENGTH_AT, true) < 0 ? framesAt : at;
    // Stamps are modulo 2^32: what lies in the past is at most half of that away.
    const nowMs = Date.now();
    return nowMs - ((nowMs - baseMs - view.getUint32(frameAt + STAMP_AT, true)) | 0);
  }

  #commit(change: (state: Settlement) => void): void {
    do change(this.read());
    while (!this.settlement.commit(this.#state, this.#committer));
  }
}
