import type { LaneConsumer } from '../lane/consumer.ts';
import { MODE_STOP } from '../lane/control.ts';
import { BUSY_AT_DISK, BUSY_AT_HEAD, BUSY_NOT } from '../lane/layout.ts';
import {
  DEAD_LETTERED,
  DELIVERED,
  EXPIRED,
  IN_HAND,
  OVERFLOW_OLDEST,
  RAW_BYTES,
  REJECTED,
  RELEASED,
  SENT_BYTES,
  type Settlement,
  SPOOLED,
} from '../lane/settlement.ts';
import type { BatchPool, PendingBatch } from './batcher.ts';
import type { Notice } from './contract.ts';
import type { DeliveryJob, SettleFacts, Span } from './delivery.ts';
import { LaneSpool } from './lane-spool.ts';
import type { TurnTools } from './turn-tools.ts';

/** Records that were not delivered. */
export interface Shortfall {
  readonly kind: 'refused' | 'expired';
  readonly reason: string;
}

/** What became of records. */
interface Fate {
  readonly counter: number;
  readonly reason: string;
}

/**
 * The batches of one lane that have been read and are not settled, in the order of the lane, and the only place that settles
 * them: in memory, on disk, and in the lane's settlement, which moves on as far as nothing unsettled comes before.
 */
export class InFlight {
  /** Where records wait that can't be delivered now. */
  readonly spool: LaneSpool | undefined;
  readonly #lane: LaneConsumer;
  readonly #tools: TurnTools;
  readonly #pool: BatchPool;
  readonly #batches: PendingBatch[] = [];
  #isFenced = false;
  #shortfall: Shortfall | undefined;

  constructor(lane: LaneConsumer, tools: TurnTools, pool: BatchPool) {
    this.#lane = lane;
    this.#tools = tools;
    this.#pool = pool;
    this.spool = this.#makeSpool();
  }

  #makeSpool(): LaneSpool | undefined {
    const { config, control, gate, ledger, onTrouble, spoolEdge = {} } = this.#tools;
    if (config.spool === undefined) return undefined;
    const change = (step: (state: Settlement) => void) => this.#change(step);
    const onSync = (ms: number) => ledger.observe('fsync_spool', ms / 1000);
    const parts = {
      lane: this.#lane,
      plan: config.spool,
      control,
      gate,
      change,
      onSync,
      onFailure: (failed: 'disk_full' | 'disk') => ledger.add(`retries_${failed}`),
      onTrouble,
      edge: spoolEdge,
    };
    const spool = new LaneSpool(parts);
    // What an earlier turn put there comes first, and moves the head.
    spool.open();
    this.#lane.holds();
    return spool;
  }

  /** Whether the lane was taken away: nothing of this turn counts any more. */
  get isFenced(): boolean {
    return this.#isFenced;
  }

  /** Whether every record of every batch is settled, or on disk. */
  get isSettled(): boolean {
    return this.#batches.every(({ committed, count }) => committed >= count);
  }

  /** The gravest shortfall since {@link forgetShortfall}: a refusal before records whose attempts ran out. */
  get shortfall(): Shortfall | undefined {
    return this.#shortfall;
  }

  forgetShortfall(): void {
    this.#shortfall = undefined;
  }

  /** Takes a batch that goes out. */
  add(batch: PendingBatch): void {
    this.#observeClosed(batch);
    this.#batches.push(batch);
  }

  /** Takes a batch whose records all have their outcome. */
  addSettled(batch: PendingBatch): void {
    batch.isFinished = true;
    this.#batches.push(batch);
    this.#commit();
  }

  /** The delivery of the batch has ended with all of it settled. */
  finish(batch: PendingBatch): void {
    batch.isFinished = true;
    if (batch.moved > 0) {
      // Records that had to give way meanwhile are final now; this may settle later ones whose fate is known.
      this.spool?.release();
      this.#settleMoved();
    }
    this.#commit();
  }

  /** A delivery was broken off: the lane was taken away, or the engine stops. Only what has been settled counts. */
  breakOff(): void {
    this.#isFenced = true;
    this.#commit();
  }

  /** Nothing is under way any more: what is not settled stays in the lane, and the producer may bound how much that is. */
  abandon(batch: PendingBatch): void {
    batch.isFinished = true;
    this.#release(batch);
    this.#batches.length = 0;
  }

  /** Puts the batches that are under way into the spool; whoever works on them goes on with them there. True: all are in. */
  moveToSpool(spool: LaneSpool): boolean {
    for (const batch of [...this.#batches]) {
      const from = batch.firstOpen;
      if (from < batch.count && !this.putInSpool(spool, batch)) return false;
    }
    return true;
  }

  /** Appends what is open of the batch, and commits what is in. True: all of it is. */
  putInSpool(spool: LaneSpool, batch: PendingBatch): boolean {
    // Only what is in the ring: what is in the spool already is nobody's who sends it.
    if (this.#tools.control.mode === MODE_STOP || this.#holdInRing(batch) < 0) return false;
    const from = batch.firstOpen;
    if (from === batch.count) return true;
    if (!this.#lane.beginSpooling()) return false;
    const to = this.#appendTo(spool, batch, from);
    this.#lane.endSpooling();
    if (to > from) spool.keepBound();
    if (to < batch.count && !this.#batches.includes(batch)) this.#letGo(batch);
    return to === batch.count;
  }

  /** Appends and commits records from an index on; returns the index after those that are in. */
  #appendTo(spool: LaneSpool, batch: PendingBatch, from: number): number {
    const isUnderWay = this.#batches.includes(batch);
    const to = spool.append(batch, from);
    if (to === from) return to;
    batch.outcomes.fill(SPOOLED, from, to);
    if (batch.hasNotices) {
      this.#notify(batch, { from, to }, { counter: SPOOLED, reason: 'spooled' });
    }
    if (isUnderWay) this.#commit();
    else this.#commitUpTo(batch, to);
    return to;
  }

  /** Lets the overflow policy have the records of a batch; what it took while they were held is dropped in the same step. */
  #letGo(batch: PendingBatch): void {
    const from = batch.committed;
    let to = from;
    const isOurs = this.#change((state) => {
      const passed = (state.headSeq - batch.firstSeq) | 0;
      to = Math.min(Math.max(from, passed), batch.count);
      state.add(IN_HAND, from - to);
      state.add(OVERFLOW_OLDEST, to - from);
      state.passInHand((batch.firstSeq + to) | 0);
      const last = this.#batches.findLast((other) => other !== batch);
      const isPinned = last !== undefined && ((last.position - state.head) | 0) > 0;
      state.pin = isPinned ? last.position : state.head;
      state.pinSeq = isPinned ? last.endSeq : state.headSeq;
    });
    if (!isOurs) return;
    batch.outcomes.fill(OVERFLOW_OLDEST, from, to);
    batch.committed = to;
    batch.isHeld = false;
    if (batch.hasNotices && to > from) {
      this.#notify(batch, { from, to }, { counter: OVERFLOW_OLDEST, reason: 'overflow' });
    }
  }

  /** The batch as a job for the delivery. */
  jobOf(batch: PendingBatch): DeliveryJob {
    return {
      batch,
      lane: this.#number,
      hold: () => this.#hold(batch),
      release: () => this.#release(batch),
      enter: () => this.#lane.setBusy(batch.moved > 0 ? BUSY_AT_DISK : BUSY_AT_HEAD),
      leave: () => this.#lane.setBusy(BUSY_NOT),
      settle: (span, counter, facts) => this.#settle(batch, { span, counter, facts }),
      countDeadLettered: (count) => this.countDeadLettered(count),
    };
  }

  /** Counts records of the lane that also went into the dead-letter file. */
  countDeadLettered(count: number): void {
    this.#change((state) => state.add(DEAD_LETTERED, count));
  }

  #hold(batch: PendingBatch): number {
    if (this.#tools.control.mode === MODE_STOP) return -1;
    if (batch.moved === 0 || this.spool === undefined) return this.#holdInRing(batch);
    if (!this.#lane.holds()) return -1;
    const open = Math.max(0, this.spool.hold() - batch.spoolBase);
    // The disk may have taken a part only: the rest is sent with it, from the ring.
    const openInRing = batch.moved < batch.count ? this.#holdInRing(batch) : batch.firstOpen;
    return open < batch.moved && openInRing >= 0 ? open : openInRing;
  }

  #holdInRing(batch: PendingBatch): number {
    if (batch.isHeld) return this.#lane.holds() ? batch.firstOpen : -1;
    const isOurs = this.#change((state) => {
      if (((batch.position - state.pin) | 0) <= 0) return;
      state.pin = batch.position;
      state.pinSeq = batch.endSeq;
    });
    if (!isOurs) return -1;
    batch.isHeld = true;
    // Records that were dropped before they were pinned are accounted for already.
    const dropped = (this.#lane.headSeq - batch.firstSeq) | 0;
    batch.committed = Math.min(Math.max(batch.committed, dropped), batch.count);
    return batch.firstOpen;
  }

  /** Before a pause: what had to give way is dropped for good, and the rest may give way from now on. */
  #release(batch: PendingBatch): void {
    if (!this.#lane.holds()) return;
    this.spool?.release();
    for (let index = batch.firstOpen; index < batch.count; index += 1) {
      if (((batch.firstSeq + index - this.#lane.headSeq) | 0) >= 0) break;
      batch.outcomes[index] = OVERFLOW_OLDEST;
      if (batch.hasNotices) {
        const span = { from: index, to: index + 1 };
        this.#notify(batch, span, { counter: OVERFLOW_OLDEST, reason: 'overflow' });
      }
    }
    this.#commit();
    if (this.#batches.length <= 1) this.#letGo(batch);
  }

  #settle(
    batch: PendingBatch,
    { span: whole, counter, facts }: { span: Span; counter: number; facts: SettleFacts },
  ): void {
    if (whole.from < batch.moved) {
      const { sentBytes } = whole.to <= batch.moved ? facts : { sentBytes: 0 };
      const to = Math.min(whole.to, batch.moved);
      batch.fates.push({ from: whole.from, to, counter, sentBytes });
      this.#settleMoved();
      if (whole.to <= batch.moved) return;
    }
    const span = { from: Math.max(whole.from, batch.moved), to: whole.to };
    batch.outcomes.fill(counter, span.from, span.to);
    batch.sentBytes += facts.sentBytes;
    if (counter !== DELIVERED) this.#noteShortfall(counter, facts.reason);
    if (counter === DELIVERED) {
      this.#tools.ledger.observe('batch_sent_bytes', facts.sentBytes);
      this.#observeAges('delivery_seconds', batch, span);
    }
    // Before the commit: a thread that dies in between has told the truth and settles the rest of the batch again.
    if (batch.hasNotices) this.#notify(batch, span, { counter, reason: facts.reason });
    this.#tools.beat();
    this.#commit();
  }

  /** Settles what is known of batches that were moved to the spool, as far as nothing unsettled comes before it. */
  #settleMoved(): void {
    for (const batch of this.#batches) {
      for (let fate = batch.fates[0]; fate !== undefined; fate = batch.fates[0]) {
        const { from, to, counter, sentBytes } = fate;
        if (this.spool === undefined || this.spool.settled < batch.spoolBase + from) return;
        this.spool.settle(batch.spoolBase + to, { first: 0, counter, sentBytes });
        if (this.#isFenced) return;
        batch.fates.shift();
      }
    }
  }

  #noteShortfall(counter: number, reason: string): void {
    if (this.#shortfall?.kind === 'refused') return;
    this.#shortfall = { kind: counter === REJECTED ? 'refused' : 'expired', reason };
  }

  /** Number of the lane within the engine. */
  get #number(): number {
    return this.#lane.region.numberOf(this.#lane.lane);
  }

  /** Notes the shape of a batch that goes out, and how long its records have waited. */
  #observeClosed(batch: PendingBatch): void {
    const { ledger } = this.#tools;
    ledger.add('batches');
    ledger.observe('batch_records', batch.count);
    ledger.observe('batch_raw_bytes', batch.bytes);
    ledger.observe('encode_seconds', batch.encodeMs / 1000);
    this.#observeAges('queue_seconds', batch, { from: 0, to: batch.count });
  }

  /** Age of each record, those of one millisecond together; the oldest is the exemplar. */
  #observeAges(
    histogram: 'queue_seconds' | 'delivery_seconds',
    batch: PendingBatch,
    { from, to }: Span,
  ): void {
    const nowMs = this.#lane.region.nowMs();
    let lane = this.#number;
    let runFrom = from;
    for (let index = from + 1; index <= to; index += 1) {
      if (index < to && batch.stamps[index] === batch.stamps[runFrom]) continue;
      const ageMs = Math.max(0, (nowMs - (batch.stamps[runFrom] ?? 0)) | 0);
      this.#tools.ledger.observe(histogram, ageMs / 1000, { times: index - runFrom, lane });
      runFrom = index;
      lane = -1;
    }
  }

  #notify(batch: PendingBatch, { from, to }: Span, { counter, reason }: Fate): void {
    this.#tools.onSettled({
      region: this.#lane.region.id,
      lane: this.#lane.lane,
      fromSeq: (batch.firstSeq + from) | 0,
      toSeq: (batch.firstSeq + to) | 0,
      state: stateOf(counter),
      reason: counter === EXPIRED && reason === '' ? 'expired' : reason,
    });
  }

  /** Commits what is settled, as far as nothing unsettled comes before it. */
  #commit(): void {
    let index = 0;
    for (let batch = this.#batches[0]; batch !== undefined; batch = this.#batches[index]) {
      const to = batch.firstOpen;
      if (to > batch.committed && !this.#commitUpTo(batch, to)) return;
      if (batch.committed < batch.count) {
        this.#noteAhead(batch);
        return;
      }
      if (batch.isFinished && batch.fates.length === 0) {
        this.#batches.splice(index, 1);
        this.#pool.giveBack(batch);
      } else index += 1;
    }
  }

  /** What is known of batches behind one that has no answer yet. */
  #noteAhead(batch: PendingBatch): void {
    if (this.#batches.at(-1) === batch) return;
    this.#change((state) => this.#writeAhead(state, batch));
  }

  #writeAhead(state: Settlement, batch: PendingBatch): void {
    state.clearAhead();
    const index = this.#batches.indexOf(batch);
    if (index < 0) return;
    for (const later of this.#batches.slice(index + 1)) {
      const { committed, firstOpen, outcomes } = later;
      for (let at = committed; at < firstOpen; at += 1) state.addAhead(outcomes[at] ?? 0);
    }
  }

  #commitUpTo(batch: PendingBatch, to: number): boolean {
    const { committed, firstSeq, outcomes } = batch;
    const isOurs = this.#change((state) => {
      for (let index = committed; index < to; index += 1) {
        state.addFate(outcomes[index] ?? 0, 1);
        const gaveWay = ((firstSeq + index - state.headSeq) | 0) < 0;
        state.add(gaveWay ? IN_HAND : RELEASED, gaveWay ? -1 : 1);
      }
      state.passInHand((firstSeq + to) | 0);
      this.#writeAhead(state, batch);
      state.add(RAW_BYTES, batch.bytesOf(committed, to));
      state.add(SENT_BYTES, batch.sentBytes);
      moveHead(state, (firstSeq + to) | 0, batch.positions[to - 1] ?? 0);
      if (batch.moved > committed) this.spool?.noteAppended(state);
    });
    if (!isOurs) return false;
    batch.committed = to;
    batch.sentBytes = 0;
    return true;
  }

  /** Changes the lane's settlement. False: the lane was taken away. */
  #change(change: (state: Settlement) => void): boolean {
    if (this.#lane.commit(change)) return true;
    this.#isFenced = true;
    return false;
  }
}

function moveHead(state: Settlement, seq: number, position: number): void {
  if (((seq - state.headSeq) | 0) <= 0) return;
  state.headSeq = seq;
  state.head = position;
  if (((state.head - state.pin) | 0) <= 0) return;
  state.pin = state.head;
  state.pinSeq = state.headSeq;
}

function stateOf(counter: number): Notice['state'] {
  if (counter === DELIVERED) return 'delivered';
  if (counter === SPOOLED) return 'spooled';
  return counter === REJECTED ? 'rejected' : 'dropped';
}
