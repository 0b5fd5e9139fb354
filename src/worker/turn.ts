import { setTimeout as delay } from 'node:timers/promises';
import { MillraceError } from '../base/errors.ts';
import { TextBuffer } from '../codec/transcode.ts';
import type { LaneConsumer } from '../lane/consumer.ts';
import { MODE_RUN, MODE_SAVE, MODE_STOP, REPLAY_FIRST_WORD } from '../lane/control.ts';
import type { SleepMark } from '../lane/doorbell.ts';
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
import { type BatchTrigger, PendingBatch } from './batcher.ts';
import type { Notice, TurnCare, TurnEnd } from './contract.ts';
import {
  type DeliveryEnd,
  type DeliveryJob,
  noteDiskWork,
  type SettleFacts,
  type Span,
} from './delivery.ts';
import { LaneSpool, SPOOL_LINGER_MS } from './lane-spool.ts';
import { spoolJob } from './spool-job.ts';
import type { TurnTools } from './turn-tools.ts';

/** Results of a round, as the producer reads them. */
export const ROUND_DONE = 0;
/** Attempts ran out; the records are still in the lane, or expired, as the plan says. */
export const ROUND_KEPT = 1;
/** Some records were refused for good. */
export const ROUND_REJECTED = 2;

const TEXT_SPARE_BYTES: number = 64 * 1024;
/** Frames are about half as long as their text; a wake-up a little early is harmless. */
const FRAME_SHARE = 0.5;
/** How often a turn whose batches are all under way looks whether the ring fills up, in ms. */
const PRESSURE_LOOK_MS = 10;
const DISK_PAUSE_MS = 50;

/** One attendance of one lane, from claim to idleness. */
export class Turn {
  readonly #lane: LaneConsumer;
  readonly #tools: TurnTools;
  readonly #care: TurnCare | undefined;
  readonly #free: PendingBatch[] = [];
  /** Batches on their way, in the order of the lane. */
  readonly #inFlight: PendingBatch[] = [];
  readonly #underWay = new Set<Promise<DeliveryEnd>>();
  readonly #spool: LaneSpool | undefined;
  /** Delivery of what is in the spool, while there is something. */
  #unspooling: Promise<void> | undefined;
  #batch: PendingBatch;
  #openedMs = 0;
  #roundDone: number;
  #roundCode = ROUND_DONE;
  #roundMessage = '';
  #isFenced = false;

  /** @param care what turns before this one have died of */
  constructor(lane: LaneConsumer, tools: TurnTools, care?: TurnCare) {
    this.#lane = lane;
    this.#tools = tools;
    this.#care = care;
    this.#spool = this.#makeSpool();
    this.#batch = this.#takeBatch();
    this.#batch.reset(lane.head, lane.headSeq);
    this.#roundDone = lane.loadRoundDone();
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
      onTrouble,
      edge: spoolEdge,
    };
    const spool = new LaneSpool(parts);
    // What an earlier turn put there comes first, and moves the head.
    spool.open();
    this.#lane.holds();
    return spool;
  }

  /** Attends the lane until it has been idle for a while, is taken away, or the engine stops. */
  async run(): Promise<TurnEnd> {
    for (;;) {
      this.#tools.beat();
      if (this.#tools.control.mode === MODE_STOP) return this.#end('stopped');
      if (this.#isFenced || !this.#lane.holds()) return this.#end('fenced');
      const end =
        this.#tools.config.pace === 'rounds' ? await this.#roundStep() : await this.#streamStep();
      if (end !== undefined) return this.#end(end);
    }
  }

  /** Nothing of this turn is left when it returns. */
  async #end(end: TurnEnd): Promise<TurnEnd> {
    await Promise.all([...this.#underWay, this.#unspooling]);
    if (this.#lane.holds()) this.#spool?.close();
    else this.#spool?.leave();
    return end;
  }

  async #streamStep(): Promise<TurnEnd | undefined> {
    const lane = this.#lane;
    if (this.#spool !== undefined && this.#isSpooling(this.#spool)) {
      return this.#spoolStep(this.#spool);
    }
    const batch = this.#batch;
    const wasEmpty = batch.count === 0;
    const filled = this.#fill(lane.loadTail());
    if (filled === 'broken') return undefined;
    if (wasEmpty && batch.count > 0) this.#openedMs = performance.now();
    const trigger = filled ?? this.#dueTrigger();
    if (trigger !== undefined) {
      await this.#send(trigger);
      return undefined;
    }
    if (batch.count > 0) {
      await lane.bell.sleep(this.#mark(batch), this.#lingerLeftMs());
      return undefined;
    }
    if (lane.loadRound() !== this.#roundDone) {
      await this.#syncSink();
      return undefined;
    }
    return this.#rest();
  }

  /** Reads what there is. What the producer dropped meanwhile to make room is taken out again. */
  #fill(tail: number): 'full' | 'bytes' | 'broken' | undefined {
    const lane = this.#lane;
    const batch = this.#batch;
    let filled: 'full' | 'bytes' | 'broken' | undefined;
    const startMs = performance.now();
    // Stays so where reading throws: then that is what the turn dies of.
    lane.setBusy(BUSY_AT_HEAD);
    try {
      filled = batch.fill(lane, this.#tools.transcoder, {
        tail,
        recordsMax: this.#isAlone(batch.firstSeq) ? 1 : this.#tools.config.batch.recordsMax,
      });
    } catch (error) {
      // A frame that gave way while it was read looks like a broken promise of the producer.
      if (!lane.holds() || ((lane.headSeq - batch.endSeq) | 0) <= 0) throw error;
    }
    lane.setBusy(BUSY_NOT);
    batch.encodeMs += performance.now() - startMs;
    if (!lane.holds()) return 'broken';
    if (((lane.headSeq - batch.endSeq) | 0) > 0) {
      batch.reset(lane.head, lane.headSeq);
      return 'broken';
    }
    if (filled === 'broken' && batch.count === 0) this.#settleBroken();
    return filled === 'broken' && batch.count > 0 ? 'full' : filled;
  }

  /** Whether the record is to be read and sent by itself. */
  #isAlone(seq: number): boolean {
    return this.#care !== undefined && ((seq - this.#care.aloneBelow) | 0) < 0;
  }

  /** Batches that may be under way at once, that of the record included. */
  #inFlightMax(seq: number): number {
    return this.#isAlone(seq) ? 1 : this.#tools.config.inFlightMax;
  }

  /** A frame that can't be turned into text is our mistake; its record is counted, its neighbours go on. */
  #settleBroken(): void {
    const batch = this.#batch;
    this.#tools.onTrouble(
      new MillraceError('MILLRACE_WORKER', `a record could not be read: ${batch.broken}`),
    );
    batch.takeBroken(this.#lane, REJECTED);
    batch.isFinished = true;
    this.#inFlight.push(batch);
    this.#startBatch(batch);
    this.#commit();
  }

  #dueTrigger(): BatchTrigger | undefined {
    const batch = this.#batch;
    if (batch.count === 0) return undefined;
    if (((this.#lane.loadFlushPosition() - batch.startPosition) | 0) > 0) return 'flush';
    if (this.#tools.control.mode !== MODE_RUN) return 'flush';
    return this.#lingerLeftMs() <= 0 ? 'linger' : undefined;
  }

  #lingerLeftMs(): number {
    const { lingerMs } = this.#tools.config.batch;
    const seenMs = performance.now() - this.#openedMs;
    // By the stamp, unless the wall clock was set back meanwhile; never longer than lingerMs from now.
    const ageMs = (this.#nowMs() - (this.#batch.stamps[0] ?? 0)) | 0;
    return Math.min(lingerMs, lingerMs - Math.max(ageMs, seenMs));
  }

  /** Wall time in ms since the region's base. */
  #nowMs(): number {
    return Date.now() - this.#lane.region.baseMs;
  }

  #mark(batch: PendingBatch): SleepMark {
    const { recordsMax, bytesMax } = this.#tools.config.batch;
    const bytes = Math.min(bytesMax * FRAME_SHARE, this.#lane.region.laneBytes / 2);
    return {
      head: batch.startPosition,
      wakePosition: (batch.startPosition + Math.max(8, bytes)) | 0,
      wakeSeq: (batch.firstSeq + recordsMax) | 0,
      round: this.#roundDone,
    };
  }

  /** Wakes with the next record. */
  #nextMark(): SleepMark {
    const batch = this.#batch;
    return {
      head: batch.position,
      wakePosition: (batch.position + 1) | 0,
      wakeSeq: (batch.endSeq + 1) | 0,
      round: this.#roundDone,
    };
  }

  /** Waits for the next record; after `idleMs` without one the lane is given up. */
  async #rest(): Promise<TurnEnd | undefined> {
    const lane = this.#lane;
    const batch = this.#batch;
    const mark = this.#nextMark();
    await Promise.all(this.#underWay);
    await lane.bell.sleep(mark, this.#tools.config.idleMs);
    if (lane.loadTail() !== batch.position || lane.loadRound() !== this.#roundDone)
      return undefined;
    if (this.#tools.control.mode === MODE_STOP) return 'stopped';
    return lane.bell.leave(mark) ? 'idle' : undefined;
  }

  /** Sends the batch; with several in flight, waits only until there is room for the next. */
  async #send(trigger: BatchTrigger): Promise<void> {
    const { ledger, delivery } = this.#tools;
    const batch = this.#batch;
    ledger.add(`batch_${trigger}`);
    this.#observeClosed(batch);
    this.#inFlight.push(batch);
    this.#startBatch(batch);
    const run = delivery.run(this.#jobOf(batch)).then((end) => {
      this.#underWay.delete(run);
      batch.isFinished = end.kind === 'done';
      if (end.kind !== 'done') this.#isFenced = true;
      this.#commit();
      return end;
    });
    this.#underWay.add(run);
    if (this.#underWay.size >= this.#inFlightMax(batch.firstSeq)) {
      await this.#awaitRoom(this.#inFlightMax(batch.firstSeq));
    }
    // A sink that never really waits (a file) would keep timers and the thread's other lanes out.
    await new Promise((resolve) => setImmediate(resolve));
  }

  /** Waits until another batch may go out, or the spool has taken what there is. */
  async #awaitRoom(inFlightMax: number): Promise<void> {
    const spool = this.#spool;
    while (this.#underWay.size >= inFlightMax) {
      if (spool === undefined) {
        await Promise.race(this.#underWay);
        return;
      }
      await Promise.race([...this.#underWay, delay(PRESSURE_LOOK_MS)]);
      if (this.#isFenced || this.#tools.control.mode === MODE_STOP) return;
      // As long as the disk takes nothing, what is under way keeps its place.
      if (this.#mustSpool(spool) && this.#moveToSpool(spool)) return;
    }
  }

  #isSpooling(spool: LaneSpool): boolean {
    if (spool.isInUse || this.#mustWait) return true;
    return this.#tools.control.mode === MODE_SAVE && !spool.isFailing;
  }

  /** Whether records wait on disk: for those of earlier runs, or because workers die of sending them. */
  get #mustWait(): boolean {
    if (this.#care?.aim === 'save') return true;
    return Atomics.load(this.#tools.control.words, REPLAY_FIRST_WORD) !== 0;
  }

  /** Whether what is under way has to make room, or somebody waits for it longer than the receiver lets us hope. */
  #mustSpool(spool: LaneSpool): boolean {
    const { control } = this.#tools;
    const lane = this.#lane;
    if (spool.isFailing || !lane.holds()) return false;
    if (control.mode === MODE_SAVE) return true;
    const isWanted = control.mode !== MODE_RUN || ((lane.loadFlushPosition() - lane.head) | 0) > 0;
    if (isWanted && spool.isInTrouble) return true;
    return spool.isUnderPressure({
      bytes: (lane.loadTail() - lane.head) | 0,
      records: (lane.loadTailSeq() - lane.headSeq) | 0,
    });
  }

  /** Puts the batches that are under way into the spool; whoever works on them goes on with them there. True: all are in. */
  #moveToSpool(spool: LaneSpool): boolean {
    for (const batch of [...this.#inFlight]) {
      const from = batch.firstOpen;
      if (from < batch.count && !this.#spoolRecords(spool, batch)) return false;
    }
    return true;
  }

  /** Appends what is open of the batch, and commits what is in. True: all of it is. */
  #spoolRecords(spool: LaneSpool, batch: PendingBatch): boolean {
    if (this.#hold(batch) < 0) return false;
    const from = batch.firstOpen;
    if (from === batch.count) return true;
    const isUnderWay = this.#inFlight.includes(batch);
    const to = spool.append(batch, from);
    if (to > from) {
      batch.outcomes.fill(SPOOLED, from, to);
      if (batch.hasNotices) {
        this.#notify(batch, { from, to }, { counter: SPOOLED, reason: 'spooled' });
      }
      if (isUnderWay) this.#commit();
      else this.#commitUpTo(batch, to);
      spool.keepBound();
    }
    if (to < batch.count && !isUnderWay) this.#letGo(batch);
    return to === batch.count;
  }

  /** Lets the overflow policy have records that nobody works on: more may be read behind them. */
  #letGo(batch: PendingBatch): void {
    const from = batch.committed;
    let to = from;
    const isOurs = this.#change((state) => {
      const passed = (state.headSeq - batch.firstSeq) | 0;
      to = Math.min(Math.max(from, passed), batch.count);
      state.add(IN_HAND, from - to);
      state.add(OVERFLOW_OLDEST, to - from);
      const last = this.#inFlight.at(-1);
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

  /** While the spool holds records, or is to hold all of them: the ring goes to the disk, the disk to the receiver. */
  async #spoolStep(spool: LaneSpool): Promise<TurnEnd | undefined> {
    const lane = this.#lane;
    const batch = this.#batch;
    const wasEmpty = batch.count === 0;
    const filled = this.#fill(lane.loadTail());
    if (filled === 'broken') return undefined;
    if (wasEmpty && batch.count > 0) this.#openedMs = performance.now();
    this.#unspool(spool);
    spool.tend();
    if (batch.count > 0) {
      const leftMs = SPOOL_LINGER_MS - (performance.now() - this.#openedMs);
      const isDue = filled !== undefined || leftMs <= 0 || this.#dueTrigger() === 'flush';
      if (isDue) await this.#spoolBatch(spool, batch);
      else await lane.bell.sleep(this.#mark(batch), leftMs);
      return undefined;
    }
    if (lane.loadRound() !== this.#roundDone) {
      // Records on disk are as safe as a flush makes them.
      if (spool.records > 0) this.#endRound(lane.loadRound(), ROUND_DONE, '');
      else await this.#syncSink();
      return undefined;
    }
    const hasRest = spool.records === 0 || this.#care?.aim === 'save';
    if (hasRest && this.#unspooling === undefined) return this.#rest();
    await lane.bell.sleep(this.#nextMark(), Math.min(this.#tools.config.idleMs, SPOOL_LINGER_MS));
    return undefined;
  }

  async #spoolBatch(spool: LaneSpool, batch: PendingBatch): Promise<void> {
    this.#moveToSpool(spool);
    const isNext = this.#inFlight.every(({ committed, count }) => committed >= count);
    if (isNext && this.#spoolRecords(spool, batch)) {
      this.#startBatch(batch);
      this.#free.push(batch);
      await new Promise((resolve) => setImmediate(resolve));
      return;
    }
    // The disk takes nothing: the receiver may, as long as that keeps the order.
    const hasRoom = this.#underWay.size < this.#inFlightMax(batch.firstSeq);
    if (spool.records === 0 && hasRoom && !this.#mustWait) {
      await this.#send('flush');
    } else {
      const waits = [...this.#underWay, delay(DISK_PAUSE_MS)];
      await Promise.race(this.#unspooling === undefined ? waits : [...waits, this.#unspooling]);
    }
  }

  /** Starts delivering what the spool holds, behind what is under way. */
  #unspool(spool: LaneSpool): void {
    if (this.#unspooling !== undefined || spool.records === 0 || this.#isFenced) return;
    if (this.#mustWait) return;
    this.#unspooling = this.#deliverSpool(spool).finally(() => {
      this.#unspooling = undefined;
    });
  }

  async #deliverSpool(spool: LaneSpool): Promise<void> {
    const { config, control, delivery, ledger } = this.#tools;
    const { recordsMax: maxRecords, bytesMax: maxBytes } = config.batch;
    await Promise.all(this.#underWay);
    while (spool.records > 0 && !this.#isFenced && control.mode !== MODE_STOP) {
      this.#tools.beat();
      const batch = spool.next({ maxRecords, maxBytes });
      if (batch === undefined) {
        await delay(DISK_PAUSE_MS);
        continue;
      }
      const { first } = batch;
      if (batch.count === 0) {
        spool.settle(first, { first, counter: EXPIRED, sentBytes: 0 });
        continue;
      }
      const home = {
        firstOpen: () => (control.mode === MODE_STOP || !this.#lane.holds() ? -1 : spool.hold()),
        release: () => spool.release(),
        settle: (to: number, counter: number, { sentBytes }: SettleFacts) => {
          spool.settle(first + to, { first, counter, sentBytes });
        },
        countDeadLettered: (count: number) => {
          this.#change((state) => state.add(DEAD_LETTERED, count));
        },
        setBusy: (busy: number) => this.#lane.setBusy(busy),
      };
      ledger.add('batches');
      const end = await delivery.run(spoolJob(batch, home, this.#tools));
      if (end.kind !== 'done') return;
      // A sink that never really waits would keep everything else out.
      await new Promise((resolve) => setImmediate(resolve));
    }
  }

  /** Opens the next batch behind `previous`. */
  #startBatch(previous: PendingBatch): void {
    this.#batch = this.#takeBatch();
    this.#batch.reset(previous.position, previous.endSeq);
  }

  #takeBatch(): PendingBatch {
    const { config, sink } = this.#tools;
    const bytes = Math.min(config.batch.bytesMax, 8 * TEXT_SPARE_BYTES) + TEXT_SPARE_BYTES;
    return (
      this.#free.pop() ?? new PendingBatch(config.batch, sink.separator, new TextBuffer(bytes))
    );
  }

  #jobOf(batch: PendingBatch): DeliveryJob {
    return {
      batch,
      lane: this.#number,
      hold: () => this.#hold(batch),
      release: () => this.#release(batch),
      enter: () => this.#lane.setBusy(batch.moved > 0 ? BUSY_AT_DISK : BUSY_AT_HEAD),
      leave: () => this.#lane.setBusy(BUSY_NOT),
      settle: (span, counter, facts) => this.#settle(batch, { span, counter, facts }),
      countDeadLettered: (count) => {
        this.#change((state) => state.add(DEAD_LETTERED, count));
      },
    };
  }

  #hold(batch: PendingBatch): number {
    if (this.#tools.control.mode === MODE_STOP) return -1;
    if (batch.moved > 0 && this.#spool !== undefined) {
      if (!this.#lane.holds()) return -1;
      const open = Math.max(0, this.#spool.hold() - batch.spoolBase);
      if (open < batch.moved) return open;
    }
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
    this.#spool?.release();
    for (let index = batch.firstOpen; index < batch.count; index += 1) {
      if (((batch.firstSeq + index - this.#lane.headSeq) | 0) >= 0) break;
      batch.outcomes[index] = OVERFLOW_OLDEST;
      if (batch.hasNotices) {
        const span = { from: index, to: index + 1 };
        this.#notify(batch, span, { counter: OVERFLOW_OLDEST, reason: 'overflow' });
      }
    }
    this.#commit();
    if (this.#inFlight.length > 1) return;
    batch.isHeld = !this.#change((state) => {
      state.pin = state.head;
      state.pinSeq = state.headSeq;
    });
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
    if (counter !== DELIVERED) this.#roundTrouble(counter, facts.reason);
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
    for (const batch of this.#inFlight) {
      for (let fate = batch.fates[0]; fate !== undefined; fate = batch.fates[0]) {
        const { from, to, counter, sentBytes } = fate;
        if (this.#spool === undefined || this.#spool.settled < batch.spoolBase + from) return;
        this.#spool.settle(batch.spoolBase + to, { first: 0, counter, sentBytes });
        if (this.#isFenced) return;
        batch.fates.shift();
      }
    }
  }

  /** Keeps the gravest trouble of a round: a refusal before a time-out. */
  #roundTrouble(counter: number, reason: string): void {
    if (this.#roundCode === ROUND_REJECTED) return;
    this.#roundCode = counter === REJECTED ? ROUND_REJECTED : ROUND_KEPT;
    this.#roundMessage = reason;
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
    const nowMs = this.#nowMs();
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

  #notify(
    batch: PendingBatch,
    { from, to }: Span,
    { counter, reason }: { counter: number; reason: string },
  ): void {
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
    for (let batch = this.#inFlight[0]; batch !== undefined; batch = this.#inFlight[index]) {
      const to = batch.firstOpen;
      if (to > batch.committed && !this.#commitUpTo(batch, to)) return;
      if (batch.committed < batch.count) return;
      if (batch.isFinished && batch.fates.length === 0) {
        this.#inFlight.splice(index, 1);
        this.#free.push(batch);
      } else index += 1;
    }
  }

  #commitUpTo(batch: PendingBatch, to: number): boolean {
    const { committed, firstSeq, outcomes } = batch;
    const isOurs = this.#change((state) => {
      for (let index = committed; index < to; index += 1) {
        state.add(outcomes[index] ?? 0, 1);
        const gaveWay = ((firstSeq + index - state.headSeq) | 0) < 0;
        state.add(gaveWay ? IN_HAND : RELEASED, gaveWay ? -1 : 1);
      }
      state.add(RAW_BYTES, batch.bytesOf(committed, to));
      state.add(SENT_BYTES, batch.sentBytes);
      moveHead(state, (firstSeq + to) | 0, batch.positions[to - 1] ?? 0);
      if (batch.moved > committed) this.#spool?.noteAppended(state);
    });
    if (!isOurs) return false;
    batch.committed = to;
    batch.sentBytes = 0;
    return true;
  }

  #change(change: (state: Settlement) => void): boolean {
    if (this.#lane.commit(change)) return true;
    this.#isFenced = true;
    return false;
  }

  /** Answers a flush that wants the sink flushed as well, once everything before it is settled. */
  async #syncSink(): Promise<void> {
    const round = this.#lane.loadRound();
    await Promise.all(this.#underWay);
    try {
      await this.#tools.sink.flush();
      noteDiskWork(this.#tools);
      this.#endRound(round, ROUND_DONE, '');
    } catch (error) {
      this.#endRound(round, ROUND_KEPT, error instanceof Error ? error.message : String(error));
    }
  }

  #endRound(round: number, code: number, message: string): void {
    if (!this.#lane.holds()) return;
    this.#lane.endRound(round, code, message);
    this.#roundDone = round;
  }

  /** Sends what was there when the producer asked, and tells it how that went. */
  async #roundStep(): Promise<TurnEnd | undefined> {
    const lane = this.#lane;
    const round = lane.loadRound();
    if (round === this.#roundDone) return this.#restBetweenRounds();
    const until = lane.loadFlushPosition();
    this.#roundCode = ROUND_DONE;
    this.#roundMessage = '';
    this.#batch.reset(lane.head, lane.headSeq);
    while (((until - this.#batch.position) | 0) > 0) {
      if (this.#fill(until) === 'broken') continue;
      const batch = this.#batch;
      this.#inFlight.push(batch);
      this.#startBatch(batch);
      this.#observeClosed(batch);
      const end = await this.#tools.delivery.run(this.#jobOf(batch));
      batch.isFinished = true;
      if (end.kind !== 'done') {
        // The records stay in the lane, out of our hands: the producer may bound how many it keeps.
        this.#release(batch);
        this.#inFlight.length = 0;
        if (end.kind === 'kept') this.#endRound(round, ROUND_KEPT, end.message);
        return end.kind === 'stopped' ? 'stopped' : undefined;
      }
      this.#commit();
    }
    this.#endRound(round, this.#roundCode, this.#roundMessage);
    return undefined;
  }

  async #restBetweenRounds(): Promise<TurnEnd | undefined> {
    const lane = this.#lane;
    const tail = lane.loadTail();
    const mark = {
      head: lane.loadFlushPosition(),
      wakePosition: (tail + lane.region.laneBytes) | 0,
      wakeSeq: (lane.loadTailSeq() + 0x4000_0000) | 0,
      round: this.#roundDone,
    };
    await lane.bell.sleep(mark, this.#tools.config.idleMs);
    if (lane.loadRound() !== this.#roundDone) return undefined;
    return lane.bell.leave(mark) ? 'idle' : undefined;
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
