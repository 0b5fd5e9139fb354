import { setTimeout as delay } from 'node:timers/promises';
import { textOfError } from '../base/errors.ts';
import { letOthersRun } from '../base/event-loop.ts';
import type { LaneConsumer } from '../lane/consumer.ts';
import { MODE_RUN, MODE_SAVE, MODE_STOP, REPLAY_FIRST_WORD } from '../lane/control.ts';
import type { SleepMark } from '../lane/doorbell.ts';
import { ROUND_DONE, ROUND_KEPT } from '../lane/layout.ts';
import { EXPIRED } from '../lane/settlement.ts';
import type { BatchTrigger, PendingBatch } from './batcher.ts';
import type { TurnCare, TurnEnd } from './contract.ts';
import { type DeliveryEnd, noteDiskWork, type SettleFacts } from './delivery.ts';
import { DiskDelivery } from './disk-delivery.ts';
import type { InFlight } from './in-flight.ts';
import type { Intake } from './intake.ts';
import { type LaneSpool, SPOOL_LINGER_MS } from './lane-spool.ts';
import type { Pace, PaceParts } from './pace.ts';
import { RingDelivery } from './ring-delivery.ts';
import type { Rounds } from './rounds.ts';
import type { TurnTools } from './turn-tools.ts';

/** How often a turn whose batches are all under way looks whether the ring fills up, in ms. */
const PRESSURE_LOOK_MS = 10;
const DISK_PAUSE_MS = 50;

/** Batches go out as they fill up; what can't be delivered goes to the spool, where there is one. */
export class StreamPace implements Pace {
  readonly #lane: LaneConsumer;
  readonly #tools: TurnTools;
  readonly #care: TurnCare | undefined;
  readonly #intake: Intake;
  readonly #inFlight: InFlight;
  readonly #rounds: Rounds;
  readonly #ring: RingDelivery;
  readonly #disk: DiskDelivery;
  readonly #underWay = new Set<Promise<DeliveryEnd>>();
  /** Delivery of what is in the spool, while there is something. */
  #unspooling: Promise<void> | undefined;

  constructor({ lane, tools, care, intake, inFlight, rounds }: PaceParts) {
    this.#lane = lane;
    this.#tools = tools;
    this.#care = care;
    this.#intake = intake;
    this.#inFlight = inFlight;
    this.#rounds = rounds;
    this.#ring = new RingDelivery({ tools, care, inFlight });
    this.#disk = new DiskDelivery({ lane, tools, care });
  }

  async quiesce(): Promise<void> {
    await Promise.all([...this.#underWay, this.#unspooling]);
  }

  async step(): Promise<TurnEnd | undefined> {
    const { spool } = this.#inFlight;
    if (spool !== undefined && this.#isSpooling(spool)) return this.#spoolStep(spool);
    const lane = this.#lane;
    const intake = this.#intake;
    const filled = intake.fill(lane.loadTail());
    if (filled === 'broken') return undefined;
    const round = this.#dueRound();
    if (round !== undefined) {
      await this.#syncSink(round);
      return undefined;
    }
    const trigger = filled ?? intake.dueTrigger;
    if (trigger !== undefined) {
      await this.#send(trigger);
      return undefined;
    }
    if (intake.batch.count === 0) return this.#rest();
    await lane.bell.sleep(intake.fullMark(this.#rounds.done), intake.lingerLeftMs);
    return undefined;
  }

  /** The round to answer: all that it waits for has been handed out, and what came behind it does not hold it up. */
  #dueRound(): number | undefined {
    const round = this.#rounds.asked;
    return this.#intake.isFlushWanted ? undefined : round;
  }

  /** Waits for the next record; after `idleMs` without one the lane is given up. */
  async #rest(): Promise<TurnEnd | undefined> {
    const lane = this.#lane;
    const { position } = this.#intake.batch;
    const mark = this.#intake.nextMark(this.#rounds.done);
    if (this.#underWay.size > 0) {
      await this.#restBusy(mark);
      return undefined;
    }
    await lane.bell.sleep(mark, this.#tools.config.idleMs);
    if (lane.loadTail() !== position || this.#rounds.asked !== undefined) return undefined;
    if (this.#tools.control.mode === MODE_STOP) return 'stopped';
    return lane.bell.leave(mark) ? 'idle' : undefined;
  }

  /** Waits for more records while some are under way, which may have to go to the spool before they are answered. */
  async #restBusy(mark: SleepMark): Promise<void> {
    const { spool } = this.#inFlight;
    const { idleMs } = this.#tools.config;
    await this.#lane.bell.sleep(mark, spool === undefined ? idleMs : PRESSURE_LOOK_MS);
    if (spool === undefined || this.#inFlight.isFenced) return;
    spool.tend();
    if (this.#mustSpool(spool)) this.#inFlight.moveToSpool(spool);
  }

  /** Sends the batch; with several in flight, waits only until there is room for the next. */
  async #send(trigger: BatchTrigger): Promise<void> {
    const inFlight = this.#inFlight;
    const batch = this.#intake.handOut();
    this.#tools.ledger.add(`batch_${trigger}`);
    inFlight.add(batch);
    const run = this.#ring.run(batch).then((end) => {
      this.#underWay.delete(run);
      if (end.kind === 'done') inFlight.finish(batch);
      else inFlight.breakOff();
      return end;
    });
    this.#underWay.add(run);
    await this.#awaitRoom(this.#intake.inFlightMax(batch.firstSeq));
    // A sink that never really waits (a file) would keep timers and the thread's other lanes out.
    await letOthersRun();
  }

  /** Waits until another batch may go out, or the spool has taken what there is. */
  async #awaitRoom(inFlightMax: number): Promise<void> {
    const { spool } = this.#inFlight;
    while (this.#underWay.size >= inFlightMax) {
      if (spool === undefined) {
        await Promise.race(this.#underWay);
        return;
      }
      await Promise.race([...this.#underWay, delay(PRESSURE_LOOK_MS)]);
      if (this.#inFlight.isFenced || this.#tools.control.mode === MODE_STOP) return;
      // As long as the disk takes nothing, what is under way keeps its place.
      spool.tend();
      if (this.#mustSpool(spool) && this.#inFlight.moveToSpool(spool)) return;
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
    const { control, config } = this.#tools;
    const lane = this.#lane;
    if (spool.isFailing || !lane.holds()) return false;
    // Where all goes to the disk first, something is under way from the ring only because the disk failed.
    if (control.mode === MODE_SAVE || config.spool?.use === 'always') return true;
    const isWanted = control.mode !== MODE_RUN || ((lane.loadFlushPosition() - lane.head) | 0) > 0;
    if (isWanted && spool.isInTrouble) return true;
    return spool.isUnderPressure({
      bytes: (lane.loadTail() - lane.head) | 0,
      records: (lane.loadTailSeq() - lane.headSeq) | 0,
    });
  }

  /** While the spool holds records, or is to hold all of them: the ring goes to the disk, the disk to the receiver. */
  async #spoolStep(spool: LaneSpool): Promise<TurnEnd | undefined> {
    const lane = this.#lane;
    const intake = this.#intake;
    const { done } = this.#rounds;
    const filled = intake.fill(lane.loadTail());
    if (filled === 'broken') return undefined;
    this.#unspool(spool);
    spool.tend();
    const round = this.#dueRound();
    if (round !== undefined) {
      // Records on disk are as safe as a flush makes them.
      if (spool.records > 0) this.#rounds.end(round, ROUND_DONE);
      else await this.#syncSink(round);
      return undefined;
    }
    if (intake.batch.count > 0) {
      const leftMs = SPOOL_LINGER_MS - intake.openMs;
      const isDue = filled !== undefined || leftMs <= 0 || intake.dueTrigger === 'flush';
      if (isDue) await this.#spoolBatch(spool, intake.batch);
      else await lane.bell.sleep(intake.fullMark(done), leftMs);
      return undefined;
    }
    const hasRest = spool.records === 0 || this.#care?.aim === 'save';
    if (hasRest && this.#unspooling === undefined) return this.#rest();
    await lane.bell.sleep(
      intake.nextMark(done),
      Math.min(this.#tools.config.idleMs, SPOOL_LINGER_MS),
    );
    return undefined;
  }

  async #spoolBatch(spool: LaneSpool, batch: PendingBatch): Promise<void> {
    const inFlight = this.#inFlight;
    inFlight.moveToSpool(spool);
    if (inFlight.isSettled && inFlight.putInSpool(spool, batch)) {
      this.#intake.renew();
      await letOthersRun();
      return;
    }
    // The disk takes nothing: the receiver may, as long as that keeps the order.
    const hasRoom = this.#underWay.size < this.#intake.inFlightMax(batch.firstSeq);
    if (spool.records === 0 && hasRoom && !this.#mustWait) {
      await this.#send('flush');
    } else {
      const waits = [...this.#underWay, delay(DISK_PAUSE_MS)];
      await Promise.race(this.#unspooling === undefined ? waits : [...waits, this.#unspooling]);
    }
  }

  /** Starts delivering what the spool holds, behind what is under way. */
  #unspool(spool: LaneSpool): void {
    if (this.#unspooling !== undefined || spool.records === 0 || this.#inFlight.isFenced) return;
    if (this.#mustWait) return;
    this.#unspooling = this.#deliverSpool(spool).finally(() => {
      this.#unspooling = undefined;
    });
  }

  async #deliverSpool(spool: LaneSpool): Promise<void> {
    const { control } = this.#tools;
    await Promise.all(this.#underWay);
    while (spool.records > 0 && !this.#inFlight.isFenced && control.mode !== MODE_STOP) {
      this.#tools.beat();
      const batch = spool.next(this.#disk.limits());
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
        countDeadLettered: (count: number) => this.#inFlight.countDeadLettered(count),
      };
      const end = await this.#disk.run(batch, home);
      if (end.kind !== 'done') return;
      // All of the batch may have given way before it was sent.
      spool.release();
      // A sink that never really waits would keep everything else out.
      await letOthersRun();
    }
  }

  /** Answers a flush that wants the sink flushed as well, once everything before it is settled. */
  async #syncSink(round: number): Promise<void> {
    await Promise.all(this.#underWay);
    try {
      await this.#tools.sink.flush();
      noteDiskWork(this.#tools);
      this.#rounds.end(round, ROUND_DONE);
    } catch (error) {
      const message = textOfError(error);
      this.#rounds.end(round, ROUND_KEPT, message);
    }
  }
}
