import { setTimeout as delay } from 'node:timers/promises';
import { MillraceError, textOfError } from '../base/errors.ts';
import { letOthersRun } from '../base/event-loop.ts';
import type { LaneConsumer } from '../lane/consumer.ts';
import { BACKLOG_MIB_WORD, MODE_STOP, REPLAY_FIRST_WORD } from '../lane/control.ts';
import {
  BACKLOG_AT,
  BACKLOG_LANE,
  BACKLOGS_DONE,
  CORRUPT,
  DEAD_LETTERED,
  EXPIRED,
  OVERFLOW_OLDEST,
  RECOVERED,
  SENT_BYTES,
  type Settlement,
  SPOOL_BYTES,
  SPOOL_END,
  SPOOL_OLDEST_MS,
  SPOOL_SEGMENTS,
  SPOOL_SETTLED,
  UNSPOOLED,
} from '../lane/settlement.ts';
import { SpoolBacklog } from '../spool/backlog.ts';
import type { SpoolBatch } from '../spool/reader.ts';
import type { ReplayNote } from '../spool/replay-note.ts';
import type { SpoolPlan, TurnCare, TurnEnd } from './contract.ts';
import type { SettleFacts } from './delivery.ts';
import { DiskDelivery } from './disk-delivery.ts';
import type { TurnTools } from './turn-tools.ts';

const MIB: number = 1024 * 1024;
const RETRY_MS = 1000;

/**
 * Replays what earlier runs left, one batch at a time, beside the live lanes. Its lane has no producer: only the settlement
 * is used, which says how far the replay is. SPOOL_END and SPOOL_SETTLED count the records found and settled.
 */
export class BacklogTurn {
  readonly #lane: LaneConsumer;
  readonly #tools: TurnTools;
  readonly #plan: SpoolPlan;
  readonly #disk: DiskDelivery;
  #isFenced = false;

  /** @param care what turns before this one have died of */
  constructor(
    lane: LaneConsumer,
    tools: TurnTools,
    { plan, care }: { readonly plan: SpoolPlan; readonly care?: TurnCare | undefined },
  ) {
    this.#lane = lane;
    this.#tools = tools;
    this.#plan = plan;
    this.#disk = new DiskDelivery({ lane, tools, care });
  }

  async run(directories: readonly string[]): Promise<TurnEnd> {
    while (!this.#isFenced && this.#lane.holds()) {
      if (this.#isStopped) return 'stopped';
      const directory = directories[this.#lane.count(BACKLOGS_DONE)];
      if (directory !== undefined) {
        if ((await this.#replay(directory)) === 'hopeless') return 'hopeless';
      } else if (await this.#finishAll()) return 'idle';
    }
    return this.#isStopped ? 'stopped' : 'fenced';
  }

  get #isStopped(): boolean {
    return this.#tools.control.mode === MODE_STOP;
  }

  /** All is replayed: live records that waited for that may go. True: the lane is given up. */
  #finishAll(): Promise<boolean> {
    Atomics.store(this.#tools.control.words, REPLAY_FIRST_WORD, 0);
    return this.#rest();
  }

  async #rest(): Promise<boolean> {
    const { config } = this.#tools;
    const mark = {
      head: this.#lane.loadFlushPosition(),
      wakePosition: (this.#lane.head + 1) | 0,
      wakeSeq: (this.#lane.headSeq + 1) | 0,
      round: this.#lane.loadRound(),
    };
    await this.#lane.bell.sleep(mark, config.idleMs);
    return this.#lane.bell.leave(mark);
  }

  async #replay(directory: string): Promise<'hopeless' | undefined> {
    const backlog = this.#open(directory);
    if (backlog === undefined) {
      this.#tools.beat();
      await delay(RETRY_MS);
      return undefined;
    }
    const { recordsMax: inHand } = this.#tools.config.batch;
    const note = backlog.beginReplay({ inHand, nowMs: Date.now() });
    try {
      if (note?.isHeld === true) return 'hopeless';
      while (!this.#isFenced && !this.#isStopped && backlog.counts().records > 0) {
        const startMs = performance.now();
        this.#keepBound(backlog);
        await this.#step(backlog, note);
        this.#tools.ledger.add('recovery_ms', performance.now() - startMs);
        this.#tools.beat();
        await letOthersRun();
      }
    } finally {
      if (!this.#isFenced) {
        note?.end();
        backlog.close();
      }
    }
    if (this.#isFenced || backlog.counts().records > 0) return undefined;
    this.#change((state) => {
      state.add(BACKLOGS_DONE, 1);
      for (const level of [SPOOL_BYTES, SPOOL_SEGMENTS, SPOOL_OLDEST_MS]) state.counters[level] = 0;
      state.counters[BACKLOG_AT] = 0;
    });
    Atomics.store(this.#tools.control.words, BACKLOG_MIB_WORD, 0);
    return undefined;
  }

  #open(directory: string): SpoolBacklog | undefined {
    try {
      const known = {
        lane: this.#lane.count(BACKLOG_LANE),
        settled: this.#lane.count(BACKLOG_AT),
      };
      const backlog = SpoolBacklog.open(directory, this.#tools.spoolEdge ?? {}, known);
      this.#change((state) => {
        // After the death of a thread the files are the truth about what is left.
        const found =
          backlog.counts().records - (state.count(SPOOL_END) - state.count(SPOOL_SETTLED));
        state.add(SPOOL_END, found);
        state.add(RECOVERED, found);
        this.#write(state, backlog);
      });
      return backlog;
    } catch (error) {
      this.#tell(error);
      return undefined;
    }
  }

  async #step(backlog: SpoolBacklog, note: ReplayNote | undefined): Promise<void> {
    let batch: SpoolBatch | undefined;
    try {
      batch = backlog.peek(this.#disk.limits(note));
    } catch (error) {
      this.#tell(error);
      await delay(RETRY_MS);
      return;
    }
    if (batch === undefined) return;
    if (batch.count === 0) this.#settle(backlog, batch, { to: 0, counter: EXPIRED, sentBytes: 0 });
    else await this.#deliver(backlog, batch, note);
  }

  async #deliver(
    backlog: SpoolBacklog,
    batch: SpoolBatch,
    note: ReplayNote | undefined,
  ): Promise<void> {
    let open = batch.first;
    const home = {
      firstOpen: () => (this.#isStopped || this.#isLost() ? -1 : open),
      settle: (to: number, counter: number, { sentBytes }: SettleFacts) => {
        open = batch.first + to;
        this.#settle(backlog, batch, { to, counter, sentBytes });
      },
      countDeadLettered: (count: number) => {
        this.#change((state) => state.add(DEAD_LETTERED, count));
      },
    };
    await this.#disk.run(batch, home, note);
  }

  /** Settles the batch up to the index `to`, and what damage took before it. */
  #settle(
    backlog: SpoolBacklog,
    batch: SpoolBatch,
    {
      to,
      counter,
      sentBytes,
    }: { readonly to: number; readonly counter: number; readonly sentBytes: number },
  ): void {
    const settledBefore = this.#settledOf(batch);
    const position = batch.first + to;
    if (position <= settledBefore) return;
    const lost = Math.max(0, batch.first - settledBefore);
    const isOurs = this.#change((state) => {
      const records = position - settledBefore - lost;
      state.addFate(counter, records);
      state.addFate(CORRUPT, lost);
      state.add(UNSPOOLED, records + lost);
      state.add(SPOOL_SETTLED, records + lost);
      state.add(SENT_BYTES, sentBytes);
      state.counters[BACKLOG_LANE] = batch.lane;
      state.counters[BACKLOG_AT] = position;
      state.counters[SPOOL_OLDEST_MS] = batch.stamps[to] ?? batch.oldestMs;
    });
    if (!isOurs) return;
    backlog.settle(batch, to);
    // Another lane may be next, and the settlement remembers one: so this one's files must know by then.
    backlog.save();
    this.#change((state) => this.#write(state, backlog));
  }

  #settledOf(batch: SpoolBatch): number {
    const { lane, first, lost } = batch;
    const isSame = this.#lane.count(BACKLOG_LANE) === lane;
    return Math.max(first - lost, isSame ? this.#lane.count(BACKLOG_AT) : 0);
  }

  #keepBound(backlog: SpoolBacklog): void {
    let dropped = 0;
    for (let { segments, bytes } = backlog.counts(); segments > 1; ) {
      if (bytes <= this.#plan.maxBytes / 2) break;
      dropped += backlog.evictOldest();
      const before = segments;
      ({ segments, bytes } = backlog.counts());
      // A disk that removes nothing now is asked again with the next batch.
      if (segments === before) break;
    }
    if (dropped === 0) return;
    this.#tell(
      new MillraceError('MILLRACE_SPOOL', 'the spool is full: its oldest records are dropped'),
    );
    this.#change((state) => {
      state.add(OVERFLOW_OLDEST, dropped);
      state.add(UNSPOOLED, dropped);
      state.add(SPOOL_SETTLED, dropped);
      this.#write(state, backlog);
    });
  }

  #write(state: Settlement, backlog: SpoolBacklog): void {
    const { bytes, segments, oldestMs } = backlog.counts();
    state.counters[SPOOL_BYTES] = bytes;
    state.counters[SPOOL_SEGMENTS] = segments;
    state.counters[SPOOL_OLDEST_MS] = oldestMs;
    Atomics.store(this.#tools.control.words, BACKLOG_MIB_WORD, Math.ceil(bytes / MIB));
  }

  /** Whether the replay is another turn's by now: then nothing of it may be touched, its files included. */
  #isLost(): boolean {
    if (!this.#lane.holds()) this.#isFenced = true;
    return this.#isFenced;
  }

  #change(change: (state: Settlement) => void): boolean {
    if (this.#lane.commit(change)) return true;
    this.#isFenced = true;
    return false;
  }

  #tell(error: unknown): void {
    const message = textOfError(error);
    this.#tools.onTrouble(
      error instanceof MillraceError ? error : new MillraceError('MILLRACE_SPOOL', message, error),
    );
  }
}
