import type { Control } from '../lane/control.ts';
import {
  ENGINE_SLOT,
  GATE_STATE,
  GATE_SUCCESS,
  REFERENCE_CODEC_WORD,
  WORKER_SLOTS,
} from '../lane/control.ts';
import { LedgerReader, type LedgerSlot, WORKER_COUNTERS } from '../lane/ledger.ts';
import { ProducerCounts } from '../lane/producer-counts.ts';
import type { LaneReading, Readings, ThreadReading } from '../lane/readings.ts';
import type { Region } from '../lane/region.ts';
import {
  BACKLOGS_DONE,
  CORRUPT,
  COUNTERS_END,
  CRASHED,
  DEAD_LETTERED,
  DELIVERED,
  EXPIRED,
  IN_HAND,
  OVERFLOW_OLDEST,
  RAW_BYTES,
  RECOVERED,
  REJECTED,
  RELEASED,
  SENT_BYTES,
  type Settlement,
  SHUTDOWN,
  SPOOL_BYTES,
  SPOOL_END,
  SPOOL_OLDEST_MS,
  SPOOL_SEGMENTS,
  SPOOL_SETTLED,
  SPOOLED,
  UNSPOOLED,
} from '../lane/settlement.ts';
import type { Inlet } from './inlet.ts';
import type { EnginePlan } from './plan.ts';
import type { Seat } from './seat.ts';
import type { Stats } from './stats.ts';
import type { Supervisor } from './supervisor.ts';
import { LIBRARY_VERSION } from './version.ts';

export interface AccountParts {
  readonly plan: EnginePlan;
  readonly inlet: Inlet;
  /** Lanes that other threads fill. */
  readonly portSeats: () => readonly Seat[];
  /** Where the replay of earlier runs is accounted for. */
  readonly backlogSeat: Seat | undefined;
  readonly control: Control;
  readonly supervisor: Supervisor;
}

/** Sums over lanes, each lane read in one atomic look. */
interface Totals {
  accepted: number;
  overflowNewest: number;
  readonly counters: Float64Array;
  readonly lanes: readonly LaneReading[];
  queued: number;
  queuedBytes: number;
  inFlight: number;
  /** Age of the oldest record in the ring, and on disk, in ms; 0: none. */
  queueAgeMs: number;
  spoolAgeMs: number;
}

function buildWith(codec: 'wasm' | 'js'): Readings['build'] {
  return Object.freeze({ version: LIBRARY_VERSION, node: process.version, codec });
}

const BUILDS = { wasm: buildWith('wasm'), js: buildWith('js') };
const RETRY_COUNTERS = WORKER_COUNTERS.filter((name) => name.startsWith('retries_'));

/** Every number a user sees, read from shared memory at the moment of asking; no worker is asked. */
export class Accounts {
  readonly #parts: AccountParts;
  readonly #ledger: LedgerReader;
  readonly #engineSlot: LedgerSlot;
  /** What lanes that are gone have left. */
  readonly #retired: Float64Array = new Float64Array(COUNTERS_END);
  #retiredAccepted = 0;
  #retiredOverflow = 0;
  readonly #retiredCounts = ProducerCounts.none();

  constructor(parts: AccountParts) {
    this.#parts = parts;
    const { control } = parts;
    this.#engineSlot = { worker: -1, floatAt: control.slotFloatAt(ENGINE_SLOT) };
    this.#ledger = new LedgerReader(control.floats);
  }

  stats(): Stats {
    this.#ledger.slots = this.#slots();
    return this.#statsOf(this.#totals(), this.#producers());
  }

  /** Slots that ever counted something: those of workers, and the engine's own. */
  #slots(): LedgerSlot[] {
    const { control } = this.#parts;
    const slots = [this.#engineSlot];
    for (let slot = 0; slot < WORKER_SLOTS && control.wasUsed(slot); slot += 1) {
      slots.push({ worker: slot, floatAt: control.slotFloatAt(slot) });
    }
    return slots;
  }

  /** What all producing threads count together, those that are gone included. */
  #producers(): ProducerCounts {
    const sum = ProducerCounts.none().add(this.#retiredCounts);
    for (const region of regionsOf(this.#seats())) sum.add(ProducerCounts.of(region));
    return sum;
  }

  #statsOf(totals: Totals, producers: ProducerCounts): Stats {
    const { supervisor } = this.#parts;
    const { counters } = totals;
    const settled = (counter: number) => counters[counter] ?? 0;
    const { accepted, overflowNewest } = totals;
    const queued = totals.queued + settled(IN_HAND);
    const gone = GONE.reduce((sum, counter) => sum + settled(counter), 0);
    const spooled = settled(SPOOL_END) - settled(SPOOL_SETTLED);
    const recovered = settled(RECOVERED);
    return {
      accepted,
      delivered: settled(DELIVERED),
      rejected: settled(REJECTED),
      dropped: {
        overflow_newest: overflowNewest,
        overflow_oldest: settled(OVERFLOW_OLDEST),
        invalid: sumOf(producers.invalid),
        expired: settled(EXPIRED),
        shutdown: settled(SHUTDOWN),
        corrupt: settled(CORRUPT),
        crashed: settled(CRASHED),
      },
      queued,
      spooled,
      retries: RETRY_COUNTERS.reduce((sum, counter) => sum + this.#ledger.total(counter), 0),
      recovered,
      bytesQueued: totals.queuedBytes,
      bytesRaw: settled(RAW_BYTES),
      bytesSent: settled(SENT_BYTES),
      oldestAgeMs: Math.max(totals.queueAgeMs, totals.spoolAgeMs),
      imbalance: accepted + recovered - gone - queued - spooled,
      workers: { alive: supervisor.alive, restarts: sumOf(supervisor.deaths) },
    };
  }

  /** What a scrape reads: the same accounts, and what else there is to see. */
  readings(): Readings {
    const { plan, control, supervisor } = this.#parts;
    this.#ledger.slots = this.#slots();
    const totals = this.#totals();
    const producers = this.#producers();
    const stats = this.#statsOf(totals, producers);
    const threads = this.#threads();
    const settled = (counter: number) => totals.counters[counter] ?? 0;
    return {
      build: BUILDS[codecOf(control)],
      accepted: stats.accepted,
      delivered: stats.delivered,
      rejected: stats.rejected,
      // One record, one reason.
      dropped: {
        ...stats.dropped,
        expired: stats.dropped.expired - stats.dropped.corrupt - stats.dropped.crashed,
      },
      invalid: producers.invalid,
      deadLettered: settled(DEAD_LETTERED),
      recovered: stats.recovered,
      queued: stats.queued,
      inFlight: totals.inFlight + settled(IN_HAND),
      inFlightRequests: threads.reduce((sum, thread) => sum + thread.requestsInFlight, 0),
      queuedBytes: stats.bytesQueued,
      capacityBytes: plan.lanes * plan.laneBytes,
      rawBytes: stats.bytesRaw,
      sentBytes: stats.bytesSent,
      oldestQueuedAgeMs: totals.queueAgeMs,
      oldestSpooledAgeMs: totals.spoolAgeMs,
      imbalance: stats.imbalance,
      warnings: producers.warnings,
      shed: producers.shed,
      blockedMs: producers.blockedMs,
      spool: {
        records: stats.spooled,
        bytes: settled(SPOOL_BYTES),
        segments: settled(SPOOL_SEGMENTS),
        capacityBytes: plan.spool?.maxBytes ?? 0,
        spooledTotal: settled(SPOOLED) + stats.recovered,
        unspooledTotal: settled(UNSPOOLED),
        corruptFrames: settled(CORRUPT),
      },
      workers: {
        alive: stats.workers.alive,
        restarts: stats.workers.restarts,
        deaths: supervisor.deaths,
        configured: plan.workers,
      },
      breakerState: breakerState(Atomics.load(control.words, GATE_STATE)),
      lastSuccessMs: (Atomics.load(control.words, GATE_SUCCESS) >>> 0) * 1000,
      lanes: totals.lanes,
      threads,
      callSeconds: producers.callSeconds,
      counter: (name) => this.#ledger.total(name),
      histogram: (name) => this.#ledger.histogram(name),
    };
  }

  /** Keeps the totals of lanes that are empty and will not be filled again. */
  retire(seats: readonly Seat[]): void {
    for (const seat of seats) {
      addCounters(this.#retired, seat.read());
      this.#retiredAccepted += seat.accepted;
      this.#retiredOverflow += seat.overflowNewest;
    }
    for (const region of regionsOf(seats)) this.#retiredCounts.add(ProducerCounts.of(region));
  }

  #seats(): readonly Seat[] {
    return [...this.#parts.inlet.seats, ...this.#parts.portSeats()];
  }

  #totals(): Totals {
    const counters = this.#retired.slice();
    const lanes: LaneReading[] = [];
    const totals = {
      counters,
      lanes,
      accepted: this.#retiredAccepted,
      overflowNewest: this.#retiredOverflow,
      queued: 0,
      queuedBytes: 0,
      inFlight: 0,
      queueAgeMs: 0,
      spoolAgeMs: 0,
    };
    const { backlogSeat } = this.#parts;
    if (backlogSeat !== undefined) addLane(totals, backlogSeat, backlogSeat.read());
    for (const seat of this.#seats()) {
      const { state, accepted, tailSeq } = lookAt(seat);
      totals.accepted += accepted;
      totals.overflowNewest += seat.overflowNewest;
      addLane(totals, seat, state);
      const lane = laneReading(seat, { state, tailSeq });
      lanes.push(lane);
      totals.queued += lane.queued;
      totals.queuedBytes += lane.queuedBytes;
      totals.inFlight += lane.inFlight;
      totals.queueAgeMs = Math.max(totals.queueAgeMs, lane.oldestAgeMs);
    }
    return totals;
  }

  #threads(): ThreadReading[] {
    const { supervisor } = this.#parts;
    const ages = supervisor.heartbeatAges();
    return this.#ledger.slots
      .filter(({ worker }) => worker >= 0)
      .map((slot) => ({
        worker: slot.worker,
        busyMs: this.#ledger.of(slot, 'busy_ms'),
        turns: this.#ledger.of(slot, 'turns'),
        batches: this.#ledger.of(slot, 'batches'),
        // What a dead thread had under way is under way no more.
        requestsInFlight: ages.has(slot.worker) ? this.#ledger.of(slot, 'inflight_requests') : 0,
        heartbeatAgeMs: ages.get(slot.worker),
      }));
  }
}

function regionsOf(seats: readonly Seat[]): Set<Region> {
  return new Set(seats.map(({ region }) => region));
}

function laneReading(
  seat: Seat,
  { state, tailSeq }: { readonly state: Settlement; readonly tailSeq: number },
): LaneReading {
  const { region } = seat;
  const reading = {
    lane: region.numberOf(seat.lane),
    queued: (tailSeq - state.headSeq) >>> 0,
    queuedBytes: (seat.tail - state.head) >>> 0,
    inFlight: (state.pinSeq - state.headSeq) >>> 0,
    delivered: state.count(DELIVERED),
    spooled: state.count(SPOOL_END) - state.count(SPOOL_SETTLED),
  };
  const isEmpty = reading.queued === 0 && state.count(IN_HAND) === 0;
  const waitedMs = isEmpty ? 0 : seat.queuePatience.waitedMs(state.headSeq);
  // Reads the settlement anew, so it comes last.
  const oldestMs = seat.oldestMs() ?? Number.POSITIVE_INFINITY;
  return { ...reading, oldestAgeMs: Math.max(waitedMs, Date.now() - oldestMs) };
}

/** Adds the counters of a lane, and looks how old what it has on disk is. */
function addLane(
  totals: { readonly counters: Float64Array; spoolAgeMs: number },
  seat: Seat,
  state: Settlement,
): void {
  addCounters(totals.counters, state);
  const settled = state.count(SPOOL_SETTLED);
  const replayed = state.count(BACKLOGS_DONE);
  const isEmpty = state.count(SPOOL_END) === settled && (seat.backlogs?.length ?? 0) <= replayed;
  if (isEmpty) return;
  const oldestMs = state.count(SPOOL_OLDEST_MS) || Number.POSITIVE_INFINITY;
  const waitedMs = seat.diskPatience.waitedMs(settled + replayed);
  totals.spoolAgeMs = Math.max(totals.spoolAgeMs, waitedMs, Date.now() - oldestMs);
}

function addCounters(counters: Float64Array, state: Settlement): void {
  for (let counter = RELEASED; counter < COUNTERS_END; counter += 1) {
    counters[counter] = (counters[counter] ?? 0) + state.count(counter);
  }
}

/** A lane's settlement with what its producer counts: both of the same moment, even if that is another thread. */
function lookAt(seat: Seat): { state: Settlement; accepted: number; tailSeq: number } {
  for (;;) {
    const accepted = seat.accepted;
    const tailSeq = seat.tailSeq;
    const state = seat.read();
    // The producer counts first and moves the tail afterwards; in between the two do not belong together.
    if (seat.accepted === accepted && seat.tailSeq === tailSeq) return { state, accepted, tailSeq };
  }
}

/** What a record can have become in the end. */
const GONE: readonly number[] = [DELIVERED, REJECTED, OVERFLOW_OLDEST, EXPIRED, SHUTDOWN];

function sumOf(counts: Readonly<Record<string, number>>): number {
  return Object.values(counts).reduce((sum, count) => sum + count, 0);
}

/** What turns frames into text: WebAssembly, unless some thread can't run it. */
function codecOf({ words }: Control): 'wasm' | 'js' {
  return Atomics.load(words, REFERENCE_CODEC_WORD) === 0 ? 'wasm' : 'js';
}

function breakerState(word: number): 0 | 1 | 2 {
  if (word === 0) return 0;
  return word === 1 ? 1 : 2;
}
