import { MillraceError } from '../base/errors.ts';
import { type Control, REPLAY_FIRST_WORD } from '../lane/control.ts';
import { LANE_BYTES_MIN } from '../lane/layout.ts';
import { Region } from '../lane/region.ts';
import { BACKLOGS_DONE } from '../lane/settlement.ts';
import { type FoundBacklog, SpoolFolder } from '../spool/folder.ts';
import type { SpoolPlan } from '../worker/contract.ts';
import { mendSpool } from '../worker/spool-mending.ts';
import type { EnginePlan, SpoolOptionsPlan } from './plan.ts';
import { Seat } from './seat.ts';

/** How often other processes are told that this one lives, in ms. */
const BEAT_MS = 10_000;
const BACKLOG_REGION = 0;

export interface SpoolKeeperHost {
  /** Nobody attends the replay: a turn must be posted. */
  post(seat: Seat): void;
  onError(error: MillraceError): void;
  readonly control: Control;
}

/** The engine's hold on its part of the spool folder, and the lane in whose name earlier runs are replayed. */
export class SpoolKeeper {
  readonly plan: SpoolPlan;
  /** Its lane has no records; its settlement tells of the replay. */
  readonly seat: Seat;
  readonly #spool: SpoolOptionsPlan;
  readonly #host: SpoolKeeperHost;
  readonly #timer: NodeJS.Timeout;
  #folder: SpoolFolder;

  /** @throws MillraceError MILLRACE_SPOOL: the folder can't be used */
  constructor(plan: EnginePlan, spool: SpoolOptionsPlan, host: SpoolKeeperHost) {
    this.#spool = spool;
    this.#host = host;
    this.#folder = SpoolFolder.claim(spool);
    this.plan = {
      directory: this.#folder.directory,
      // A lane gives way by segments: its share has to hold some.
      segmentBytes: Math.min(spool.segmentBytes, Math.floor(spool.maxBytes / plan.lanes / 2)),
      maxBytes: spool.maxBytes,
      lanes: plan.lanes,
      fsync: spool.fsync,
      mode: spool.mode,
      use: spool.use,
      laneRecords: Math.floor(plan.queueRecordsMax / plan.lanes / 2),
    };
    const region = Region.create({
      lanes: 1,
      laneBytes: LANE_BYTES_MIN,
      id: BACKLOG_REGION,
      baseMs: Date.now(),
    });
    this.seat = new Seat(region, 0, 'supervisor');
    this.seat.backlogs = [];
    this.#timer = setInterval(() => this.#beat(), BEAT_MS);
    this.#timer.unref();
  }

  /** Starts the replay of what was found. */
  start(): void {
    if (this.#spool.replay === 'first' && this.#folder.backlogs.length > 0) {
      Atomics.store(this.#host.control.words, REPLAY_FIRST_WORD, 1);
    }
    this.#add(this.#folder.backlogs);
  }

  /** Whether nothing of earlier runs is left to replay. */
  get isReplayed(): boolean {
    return this.seat.read().count(BACKLOGS_DONE) >= (this.seat.backlogs ?? []).length;
  }

  /** What earlier runs left can't be delivered by this one: live records don't wait for it any longer. */
  noteGivenUp(seat: Seat): void {
    if (seat === this.seat) Atomics.store(this.#host.control.words, REPLAY_FIRST_WORD, 0);
  }

  #add(found: readonly FoundBacklog[]): void {
    if (found.length === 0) return;
    this.seat.backlogs = [
      ...(this.seat.backlogs ?? []),
      ...found.map(({ directory }) => directory),
    ];
    this.#post();
  }

  #post(): void {
    // A turn that is under way has an older list; then the next beat comes back to this.
    if (!this.isReplayed && this.seat.wake()) this.#host.post(this.seat);
  }

  #beat(): void {
    try {
      const { state, backlogs } = this.#folder.beat();
      this.#add(backlogs);
      this.#post();
      if (state === 'held') return;
      this.#host.onError(
        new MillraceError(
          'MILLRACE_SPOOL',
          `the spool folder ${this.#spool.directory} was taken over by another process, because this one was silent for too long`,
        ),
      );
      clearInterval(this.#timer);
    } catch (error) {
      if (error instanceof MillraceError) this.#host.onError(error);
      else throw error;
    }
  }

  /** No thread is left: what one of them was in the middle of is made whole, so that the next start finds what the account says. */
  mend(seats: readonly Seat[]): void {
    const { control, onError: onTrouble } = this.#host;
    for (const seat of seats) {
      if (seat.hasTurn || seat.isGivenUp) mendSpool(seat, { plan: this.plan, control, onTrouble });
    }
  }

  /** Gives the folder back; with workers that have not ended yet, only the end of the process does. */
  leave(workers: 'ended' | 'late'): void {
    clearInterval(this.#timer);
    if (workers === 'ended') this.#folder.release();
  }
}
