import assert from 'node:assert/strict';
import type { RegionTranscoder } from '../../src/codec/region-transcoder.ts';
import type { TextBuffer } from '../../src/codec/transcode.ts';
import type { Seat } from '../../src/engine/seat.ts';
import type { Triage } from '../../src/engine/triage.ts';
import { type Control, GATE_WORD } from '../../src/lane/control.ts';
import {
  FLUSH_POSITION_WORD,
  FRAME_HEADER_BYTES,
  STAMP_AT,
  TAIL_WORD,
} from '../../src/lane/layout.ts';
import type { LaneProducer } from '../../src/lane/producer.ts';
import type { DeathReason } from '../../src/lane/readings.ts';
import type { Region } from '../../src/lane/region.ts';
import {
  BACKLOGS_DONE,
  DELIVERED,
  EXPIRED,
  IN_HAND,
  OVERFLOW_OLDEST,
  RECOVERED,
  REJECTED,
  RELEASED,
  Settlement,
  SettlementWords,
  SHUTDOWN,
  SPOOL_END,
  SPOOL_SETTLED,
  SPOOLED,
  UNSPOOLED,
} from '../../src/lane/settlement.ts';
import type { Sink } from '../../src/sink/sink.ts';
import type { SpoolFileSystem } from '../../src/spool/file-system.ts';
import type { TurnCare, TurnEnd, WorkerConfig } from '../../src/worker/contract.ts';
import type { TurnTools } from '../../src/worker/turn-tools.ts';
import type { MemoryDisk } from '../memory-disk.ts';
import type { ModelReceiver } from './model-receiver.ts';
import type { Subject } from './subject.ts';
import { type Actor, Killed, type World } from './world.ts';

/** What is possible in one run of the model; drawn from the seed. */
export interface Weather {
  readonly lanes: number;
  readonly inFlightMax: number;
  readonly overflow: 'drop-newest' | 'drop-oldest';
  readonly spool: 'none' | 'pressure' | 'always';
  readonly fsync: 'interval' | 'batch';
  readonly retries: number | 'forever';
  readonly spoolBytesMax: number;
  /** What records do that kill: end the thread that sends them, at once or later, or the process. */
  readonly killers: 'none' | 'exit' | 'late' | 'process';
  /** Whether a worker gives the record up that kills, so that it could keep it. */
  readonly keepsDeadLetters: boolean;
  /** Bytes that have gone through each lane before: positions are compared modulo 2^32. */
  readonly bytesBefore: number;
  /** Share of the accesses of a worker at which its thread ends. */
  readonly kills: number;
  /** Share at which its lane is given to another turn, while it goes on. */
  readonly takeovers: number;
  /** Share of the accesses of a worker at which the game tracks a record meanwhile, while the lane has room and while it is full. */
  readonly tracks: number;
  readonly crowding: number;
  /** Share of the calls of the disk that fail. */
  readonly diskFailures: number;
}

const LANE_BYTES: number = 16 * 1024;
const FRAME_BYTES: number = FRAME_HEADER_BYTES + 8 + 128;
/** Bytes that the latest flush may be behind, at the most. */
const FLUSH_BEHIND: number = 2 ** 30 - 1;
const SPOOL = '/spool';
const RETRY_BASE_MS = 20;
const CRASH_NOTICE_MS = 20;
/** No lane is given up. */
const PATIENCE_MS = Number.POSITIVE_INFINITY;

/** One process of the model: its shared memory, its turns, and its part of the account. */
export class ModelProcess {
  readonly seats: readonly Seat[];
  readonly producers: readonly LaneProducer[];
  readonly control: Control;
  readonly #world: World;
  readonly #subject: Subject;
  readonly #weather: Weather;
  readonly #receiver: ModelReceiver;
  readonly #config: WorkerConfig;
  readonly #fileSystem: SpoolFileSystem;
  readonly #folder: ReturnType<Subject['folder']['SpoolFolder']['claim']> | undefined;
  readonly #backlogSeat: Seat;
  readonly #region: Region;
  readonly #triage: Triage;
  readonly #turns = new Set<Actor>();
  /** Numbers of the records accepted, by lane, in order. */
  readonly accepted: number[][];
  #isOver = false;
  #broken: string | undefined;

  constructor(
    parts: {
      readonly world: World;
      readonly subject: Subject;
      readonly weather: Weather;
      readonly receiver: ModelReceiver;
      readonly disk: MemoryDisk;
    },
    pid: number,
  ) {
    const { world, subject, weather, receiver, disk } = parts;
    this.#world = world;
    this.#subject = subject;
    this.#weather = weather;
    this.#receiver = receiver;
    this.control = subject.control.Control.create();
    this.#fileSystem = this.#watch(disk.fileSystem);
    const processes = {
      self: { pid, start: String(pid), place: 'here' },
      startOf: (other: number) => (other === pid ? String(pid) : undefined),
    };
    this.#folder =
      weather.spool === 'none'
        ? undefined
        : subject.folder.SpoolFolder.claim({ directory: SPOOL }, { ...this.#edge, processes });
    this.#region = subject.region.Region.create({
      lanes: weather.lanes,
      laneBytes: LANE_BYTES,
      id: 1,
      baseMs: Date.now(),
    });
    startLanesAt(this.#region, weather.bytesBefore);
    this.#config = this.#configOf(weather);
    this.#triage = new subject.triage.Triage({
      patienceMs: PATIENCE_MS,
      handRecordsMax: this.#config.batch.recordsMax * weather.inFlightMax,
      hasSpool: weather.spool !== 'none',
      keepsDeadLetters: weather.keepsDeadLetters,
      onError: () => {},
      onDropped: () => {},
      onGivenUp: ({ name }) => {
        this.#broken = `${name} was given up`;
      },
      onRelease: (seat) => this.#post(seat),
    });
    this.accepted = Array.from({ length: weather.lanes }, () => []);
    this.seats = this.accepted.map(
      (_, lane) => new subject.seat.Seat(this.#region, lane, 'supervisor'),
    );
    this.producers = this.accepted.map(
      (_, lane) => new subject.producer.LaneProducer(this.#region, lane),
    );
    const backlog = subject.region.Region.create({
      lanes: 1,
      laneBytes: LANE_BYTES,
      id: 0,
      baseMs: Date.now(),
    });
    this.#backlogSeat = new subject.seat.Seat(backlog, 0, 'supervisor');
    this.#backlogSeat.backlogs = this.#folder?.backlogs.map(({ directory }) => directory) ?? [];
    if (this.#backlogSeat.backlogs.length > 0 && this.#backlogSeat.wake()) {
      this.#post(this.#backlogSeat);
    }
  }

  #configOf(weather: Weather): WorkerConfig {
    const spool = {
      directory: this.#folder?.directory ?? '',
      segmentBytes: 1024,
      maxBytes: weather.spoolBytesMax,
      lanes: weather.lanes,
      fsync: weather.fsync,
      mode: 0o600,
      use: weather.spool === 'always' ? ('always' as const) : ('pressure' as const),
      laneRecords: 20,
    };
    return {
      control: this.control.memory,
      text: {} as WorkerConfig['text'],
      batch: { recordsMax: 5, bytesMax: 100_000, lingerMs: 5 },
      retry: { retries: weather.retries, baseMs: RETRY_BASE_MS, capMs: 200 },
      pace: 'stream',
      onExhausted: 'expire',
      inFlightMax: weather.inFlightMax,
      attemptTimeoutMs: 300,
      idleMs: 30,
      spool: weather.spool === 'none' ? undefined : spool,
      deadLetter: undefined,
      sink: undefined,
    };
  }

  get #edge(): { fileSystem: SpoolFileSystem; clock: { nowMs(): number; monotonicMs(): number } } {
    const clock = { nowMs: () => Date.now(), monotonicMs: () => performance.now() };
    return { fileSystem: this.#fileSystem, clock };
  }

  /** The disk as this process's threads see it: it may fail, write a part only, and be cut off by a death. */
  #watch(disk: SpoolFileSystem): SpoolFileSystem {
    const { dice } = this.#world;
    const watched: Record<string, unknown> = { ...disk };
    const mayFail = new Set([
      'write',
      'sync',
      'create',
      'open',
      'syncDirectory',
      'truncate',
      'read',
    ]);
    for (const [name, run] of Object.entries(disk) as [string, (...args: never[]) => unknown][]) {
      watched[name] = (...args: never[]) => {
        this.#world.access();
        const isWorker = this.#world.actor !== this.#world.main;
        if (isWorker && mayFail.has(name) && dice.isBelow(this.#weather.diskFailures)) {
          // A file that can't be read three times in a row is given up, and how much was at its end is not known then.
          const isBad = name !== 'read' && name !== 'open' && dice.isBelow(0.5);
          throw Object.assign(new Error('made up'), { code: isBad ? 'EIO' : 'ENOSPC' });
        }
        return run(...args);
      };
    }
    const write = watched.write as SpoolFileSystem['write'];
    watched.write = (fd: number, bytes: Uint8Array, at: number) => {
      const isShort = bytes.length > 1 && dice.isBelow(0.05);
      return write(fd, isShort ? bytes.subarray(0, dice.below(bytes.length - 1) + 1) : bytes, at);
    };
    return watched as unknown as SpoolFileSystem;
  }

  /** One record of a lane. False: there was no room. */
  track(lane: number, id: number): boolean {
    const producer = this.producers[lane];
    const seat = this.seats[lane];
    const accepted = this.accepted[lane];
    assert.ok(producer !== undefined && seat !== undefined && accepted !== undefined);
    const frame = new Uint8Array(FRAME_BYTES);
    const view = new DataView(frame.buffer);
    view.setUint32(STAMP_AT, Date.now() - this.#region.baseMs, true);
    view.setUint32(FRAME_HEADER_BYTES, id, true);
    for (let tries = 0; !producer.offer(frame); tries += 1) {
      if (this.#weather.overflow === 'drop-newest' || tries > 3) {
        producer.countOverflow();
        return false;
      }
      seat.dropOldest(({ usedBytes }) => LANE_BYTES - usedBytes < 2 * FRAME_BYTES);
    }
    accepted.push(id);
    if (producer.needsTurn()) this.#post(seat);
    return true;
  }

  /** Whether the next record of a lane has to wait for room, or for others to give way. */
  isFull(lane: number): boolean {
    const seat = this.seats[lane];
    if (seat === undefined) return false;
    const used = (seat.tail - seat.settlement.readHead()) | 0;
    return LANE_BYTES - used < 2 * FRAME_BYTES;
  }

  flush(): void {
    for (const seat of this.seats) if (seat.requestFlush()) this.#post(seat);
  }

  /** Takes the lane of a turn away from it, as the supervisor does with one that seems to hang. The replay is the one after the last. */
  takeOver(lane: number): void {
    const seat = this.seats[lane] ?? this.#backlogSeat;
    if (!seat.isAttended || this.#triage.isWaiting(seat)) return;
    this.#triage.accuse([seat], 'hung');
    this.#triage.judge(seat, 'sole', new Error('it hangs'));
    this.#post(seat);
  }

  /** Puts what is left on disk, as close() does at the end of its time. */
  save(): void {
    this.control.mode = this.#subject.control.MODE_SAVE;
    for (const seat of this.seats) if (seat.wake()) this.#post(seat);
  }

  /** Ends in good order; whatever is left is counted. */
  stop(): void {
    this.control.mode = this.#subject.control.MODE_STOP;
    for (const seat of [...this.seats, this.#backlogSeat]) seat.wake();
  }

  get isStopped(): boolean {
    return this.#turns.size === 0;
  }

  /** Keeps what is in the rings from going to the disk. False: some of it is on its way. */
  endSpooling(): boolean {
    return this.seats.every((seat) => seat.endSpooling('some'));
  }

  /** Counts what is left in the rings, and keeps it there. Returns the numbers of those records. */
  dropRest(): number[] {
    this.#isOver = true;
    for (const seat of this.seats) seat.endSpooling('none');
    return this.seats.flatMap((seat, lane) => {
      if (seat.isSettledUpTo(seat.tail)) return [];
      const { fromSeq, toSeq } = seat.dropRest(SHUTDOWN);
      return this.accepted[lane]?.slice(fromSeq >>> 0, toSeq >>> 0) ?? [];
    });
  }

  /** Gives the spool back when no turn is left. */
  leave(): void {
    const { spool: plan } = this.#config;
    if (plan === undefined) return;
    const parts = { plan, control: this.control, onTrouble: () => {}, edge: this.#edge };
    for (const seat of this.seats) this.#subject.mending.mendSpool(seat, parts);
    this.#folder?.release();
  }

  /** Ends in the middle of whatever its turns do. */
  exit(): void {
    for (const turn of this.#turns) turn.isDead = true;
  }

  /** Ends at once: kill -9. Returns the numbers of the records that were only in memory. */
  kill(): number[] {
    for (const turn of this.#turns) turn.isDead = true;
    this.#isOver = true;
    return this.seats.flatMap((seat, lane) => {
      const { headSeq } = seat.read();
      return this.accepted[lane]?.slice(headSeq >>> 0) ?? [];
    });
  }

  #post(seat: Seat): void {
    if (this.#isOver) return;
    this.#world.as(this.#world.main, () => {
      if (this.#triage.mayRun(seat)) this.#begin(seat);
    });
  }

  #begin(seat: Seat): void {
    const { term } = seat.beginTerm(performance.now());
    const care = this.#triage.careOf(seat);
    const turn: Actor = { name: `${seat.name}#${term}`, accesses: 0, isDead: false };
    this.#turns.add(turn);
    this.#world.at(0, turn, () => {
      this.#attend(seat, { term, turn, care }).then(
        (end) => {
          this.#turns.delete(turn);
          if (seat.term === term) this.#noteEnd(seat, end);
        },
        (error: unknown) => this.#noteCrash(seat, { term, turn, error }),
      );
    });
  }

  /** A thread is gone; its lane gets another turn, as soon as that is noticed. */
  noteDeath(turn: Actor, reason: DeathReason): void {
    const [name, term] = turn.name.split('#');
    const seat = [...this.seats, this.#backlogSeat].find((one) => one.name === name);
    this.#turns.delete(turn);
    this.#world.at(CRASH_NOTICE_MS, this.#world.main, () => {
      this.#subject.gate.endProbe(this.control);
      if (seat === undefined || seat.term !== Number(term)) return;
      this.#triage.accuse([seat], reason);
      this.#triage.judge(seat, 'sole', new Error('its thread ended'));
      this.#post(seat);
    });
  }

  #noteEnd(seat: Seat, end: TurnEnd | undefined): void {
    if (end === 'hopeless') this.#broken = `${seat.name} is hopeless`;
    if (end === 'idle') this.#world.as(this.#world.main, () => this.#triage.discharge(seat));
  }

  #noteCrash(
    seat: Seat,
    { term, turn, error }: { term: number; turn: Actor; error: unknown },
  ): void {
    if (turn.isDead || error instanceof Killed) return;
    const words = error instanceof Error ? error.stack : error;
    this.#broken = `a turn of ${seat.name} (term ${term} of ${seat.term}) broke: ${words}`;
  }

  async #attend(
    seat: Seat,
    { term, turn, care }: { term: number; turn: Actor; care: TurnCare | undefined },
  ): Promise<TurnEnd | undefined> {
    const { consumer, turn: turns, backlogTurn } = this.#subject;
    const lane = consumer.LaneConsumer.claim(seat.region, {
      lane: seat.lane,
      term,
      owner: 1,
    });
    if (lane === undefined) return undefined;
    const tools = this.#toolsFor(turn, seat.region);
    const { spool } = this.#config;
    if (seat.backlogs !== undefined && spool !== undefined) {
      const replay = new backlogTurn.BacklogTurn(lane, tools, { plan: spool, care });
      return replay.run(seat.backlogs);
    }
    return new turns.Turn(lane, tools, care).run();
  }

  #toolsFor(turn: Actor, region: Region): TurnTools {
    const { gate: gates, ledger: ledgers, delivery: deliveries } = this.#subject;
    const gate = new gates.Gate(this.control, 'breaker');
    const ledger = new ledgers.LedgerWriter(this.control.floats, this.control.slotFloatAt(0));
    const sink: Sink = this.#receiver.sinkFor(turn);
    const delivery = new deliveries.Delivery({
      sink,
      gate,
      ledger,
      limits: this.#config.retry,
      attemptTimeoutMs: this.#config.attemptTimeoutMs,
      onExhausted: 'expire',
      deadLetter: undefined,
      onTrouble: () => {},
    });
    return {
      config: this.#config,
      control: this.control,
      ledger,
      transcoder: numbersOf(region),
      sink,
      delivery,
      gate,
      beat: () => {},
      onTrouble: () => {},
      onSettled: () => {},
      spoolEdge: this.#edge,
    };
  }

  /** Posts a turn for what nobody attends though it has something to do: what the supervisor's watch is for. */
  look(): void {
    this.#triage.tend();
    const backlogs = this.#backlogSeat.backlogs ?? [];
    const isReplayed = this.#backlogSeat.read().count(BACKLOGS_DONE) >= backlogs.length;
    if (!isReplayed && this.#backlogSeat.wake()) this.#post(this.#backlogSeat);
  }

  /** Whether nothing is left to be done, in memory or on disk. */
  get isDrained(): boolean {
    const backlogs = this.#backlogSeat.backlogs ?? [];
    if (this.#backlogSeat.read().count(BACKLOGS_DONE) < backlogs.length) return false;
    return this.seats.every((seat) => seat.isSettledUpTo(seat.tail) && seat.spooled === 0);
  }

  /** Adds up the counters of all lanes. */
  sum(counter: number): number {
    return [...this.seats, this.#backlogSeat].reduce(
      (total, seat) => total + seat.read().count(counter),
      0,
    );
  }

  /** Throws if a turn has broken, or the accounts of any lane do not add up. */
  check(): void {
    assert.equal(this.#broken, undefined);
    for (const seat of this.seats) this.#checkSeat(seat);
    const state = this.#backlogSeat.read();
    const onDisk = state.count(SPOOL_END) - state.count(SPOOL_SETTLED);
    assert.equal(onDisk, state.count(RECOVERED) - state.count(UNSPOOLED), 'the replay adds up');
    assert.equal(goneOf(state), state.count(UNSPOOLED), 'what the replay settled');
  }

  #checkSeat(seat: Seat): void {
    const state = seat.read();
    const { accepted, tail, tailSeq } = seat;
    const queued = (tailSeq - state.headSeq) >>> 0;
    assert.equal(
      state.count(RELEASED) + queued,
      accepted,
      `${seat.name}: accepted = left + queued`,
    );
    const onDisk = state.count(SPOOL_END) - state.count(SPOOL_SETTLED);
    assert.equal(
      state.count(RELEASED),
      goneOf(state) + onDisk + state.count(IN_HAND),
      `${seat.name}: what left the ring has one fate each`,
    );
    assert.ok(onDisk >= 0 && state.count(IN_HAND) >= 0, `${seat.name}: no level is negative`);
    assert.ok(
      ((state.pin - state.head) | 0) >= 0 && ((tail - state.pin) | 0) >= 0,
      'head <= pin <= tail',
    );
    assert.equal(state.count(SPOOLED) - state.count(UNSPOOLED), onDisk, `${seat.name}: spooled`);
  }

  /** Records that were given up, in whatever way, as the accounts say. */
  get dropped(): number {
    return this.sum(OVERFLOW_OLDEST) + this.sum(EXPIRED) + this.sum(SHUTDOWN);
  }

  describe(): string {
    const gate = Array.from(this.control.words.subarray(GATE_WORD, GATE_WORD + 6)).join(' ');
    const turns = [...this.#turns].map(
      ({ name, accesses }) => `${name} after ${accesses} accesses`,
    );
    const backlog = this.#backlogSeat.read();
    const left = backlog.count(SPOOL_END) - backlog.count(SPOOL_SETTLED);
    return `at ${this.#world.nowMs}; gate ${gate} at ${this.control.nowMs()}; turns: ${turns.join(', ')}; backlogs ${backlog.count(BACKLOGS_DONE)}/${this.#backlogSeat.backlogs?.length}, ${left} records\n${this.#lanes()}`;
  }

  #lanes(): string {
    return this.seats
      .map((seat) => {
        const state = seat.read();
        const counts = {
          DELIVERED,
          REJECTED,
          OVERFLOW_OLDEST,
          EXPIRED,
          SHUTDOWN,
          SPOOLED,
          UNSPOOLED,
          IN_HAND,
          SPOOL_END,
          SPOOL_SETTLED,
        };
        const shown = Object.entries(counts).map(
          ([name, counter]) => `${name} ${state.count(counter)}`,
        );
        return `${seat.name}: head ${state.headSeq} tail ${seat.tailSeq} ${shown.join(' ')}`;
      })
      .join('\n');
  }
}

function goneOf(state: Settlement): number {
  const fates = [DELIVERED, REJECTED, OVERFLOW_OLDEST, EXPIRED, SHUTDOWN];
  return fates.reduce((sum, counter) => sum + state.count(counter), 0);
}

/** Turns a frame of the model into its text: its number. */
function numbersOf(region: Region): RegionTranscoder {
  const transcoder = {
    append: (frameAt: number, text: TextBuffer) => {
      const line = Buffer.from(
        `{"id":${region.view.getUint32(frameAt + FRAME_HEADER_BYTES, true)}}`,
      );
      text.ensure(line.length + 1);
      text.bytes.set(line, text.at);
      text.at += line.length;
    },
    appendSpan: () => 0,
  };
  return transcoder as unknown as RegionTranscoder;
}

/** Moves all lanes of a new region on, as if so many bytes had gone through them, and no flush had been asked for since long before. */
function startLanesAt(region: Region, bytes: number): void {
  const position = bytes | 0;
  for (let lane = 0; lane < region.lanes; lane += 1) {
    const settlement = new SettlementWords(region, lane);
    const state = settlement.read(new Settlement());
    Object.assign(state, { head: position, pin: position });
    assert.ok(settlement.commit(state, 'supervisor'));
    const at = region.controlAt(lane) / 4;
    region.words[at + TAIL_WORD] = position;
    // Turns have it follow the head.
    region.words[at + FLUSH_POSITION_WORD] = (position - Math.min(bytes, FLUSH_BEHIND)) | 0;
  }
}
