import assert from 'node:assert/strict';
import type { DeathReason } from '../../src/lane/readings.ts';
import { CRASHED, IN_HAND, REJECTED } from '../../src/lane/settlement.ts';
import { MemoryDisk } from '../memory-disk.ts';
import { ModelProcess, type Weather } from './lane-world.ts';
import { ModelReceiver } from './model-receiver.ts';
import type { Subject } from './subject.ts';
import { type Actor, type Dice, Killed, World } from './world.ts';

/** How one run of the model ends: by itself, by a death of the process, or of the machine. */
type Ending = 'close' | 'save' | 'kill' | 'power';

/**
 * When the rest of the rings is dropped: 'patient': turns have ended; 'at once': without looking at them; 'exit': as soon as none is in
 * the middle of an append, and what they leave on disk is not looked at afterwards.
 */
type Stop = 'patient' | 'at once' | 'exit';

export interface ModelResult {
  readonly seed: number;
  readonly records: number;
  readonly taken: number;
  readonly dropped: number;
  /** Those of them that were given up for what they kill. */
  readonly crashed: number;
  readonly processes: number;
  readonly kills: number;
  readonly takeovers: number;
  readonly events: number;
  /** Accesses of turns to shared words and to the disk. */
  readonly accesses: number;
}

/** What happens at a certain access of a turn, and nothing else goes wrong; access 0 is none. */
export interface Strike {
  readonly access: number;
  readonly what: 'kill' | 'take over';
}

const RUNS_MAX = 3;
const SPOOL_PLENTY = 1e9;
const CROWDING_MAX = 0.1;
const EVENTS_MAX = 40_000;
/** Accesses of turns that save what is left, within which they are told to stop. */
const STOP_ACCESSES = 150;
/** One record in so many is refused by the receiver. */
const POISON_EVERY = 61;
/** One in so many kills whoever sends it. */
const KILLER_EVERY = { thread: 97, process: 397 };
/** Processes that may die one after the other. */
const PROCESSES_MAX = 150;
/** Number of the lane in a record's number: record `n` of lane `l` has `n * LANES + l`. */
const LANES = 4;

/** Runs the model once. Throws what is wrong, with the seed. */
export async function runModel(
  subject: Subject,
  { seed, strike }: { readonly seed: number; readonly strike?: Strike },
): Promise<ModelResult> {
  const model = new Model(subject, seed, strike);
  try {
    return await model.run();
  } catch (error) {
    throw new Error(
      `seed ${seed}${strike === undefined ? '' : ` ${JSON.stringify(strike)}`}: ${error instanceof Error ? error.message : error}\n${model.describe()}`,
      { cause: error },
    );
  }
}

class Model {
  readonly #seed: number;
  readonly #subject: Subject;
  readonly #world: World;
  readonly #dice: Dice;
  readonly #weather: Weather;
  readonly #receiver: ModelReceiver;
  readonly #disk = new MemoryDisk();
  readonly #strike: Strike | undefined;
  /** Records that may be lost: they were only in memory when the process died. */
  readonly #inMemory = new Set<number>();
  /** Count of the first record of each run. */
  readonly #starts: number[] = [];
  #process: ModelProcess | undefined;
  #next = 0;
  #accesses = 0;
  #kills = 0;
  #takeovers = 0;
  /** Processes that ended at once. */
  #deaths = 0;
  #dropped = 0;
  #rejected = 0;
  /** Records that a process which died at once may have lost from its account. */
  #uncounted = 0;
  /** Records that were given up for what they kill. */
  #crashed = 0;
  #stop: Stop = 'patient';
  /** Accesses of turns until they are told to stop in the middle of one; 0: they are not. */
  #stopIn = 0;
  /** Records that were counted as dropped by the end of their process, and the run that was. */
  readonly #shutDown = new Map<number, number>();
  /** Those of them that were sent by a later run. */
  readonly #risen = new Set<number>();
  #isEnded = false;
  #accepted: number[] = [];
  #mayKill = true;
  #isInside = false;

  constructor(subject: Subject, seed: number, strike: Strike | undefined) {
    this.#seed = seed;
    this.#subject = subject;
    this.#strike = strike;
    this.#world = new World(seed);
    this.#dice = this.#world.dice;
    this.#weather = weatherOf(this.#dice, strike !== undefined);
    this.#receiver = new ModelReceiver(this.#world, (id) => id % POISON_EVERY === 7);
    this.#world.onAccess = (actor) => this.#onAccess(actor);
    this.#receiver.onSend = (ids, actor) => this.#onSend(ids, actor);
  }

  async run(): Promise<ModelResult> {
    await this.#world.live(async () => {
      const runs = this.#weather.spool === 'none' ? 1 : 1 + this.#dice.below(RUNS_MAX);
      for (let run = 1; run < runs; run += 1)
        await this.#oneProcess(run, 'busy', this.#drawEnding());
      await this.#oneProcess(runs, 'busy', 'close');
      for (let run = runs + 1; this.#isEnded; run += 1) {
        assert.ok(run < PROCESSES_MAX, 'every process dies');
        await this.#oneProcess(run, 'quiet', 'close');
      }
    });
    this.#checkAll();
    return {
      seed: this.#seed,
      records: this.#accepted.length,
      taken: new Set(this.#receiver.taken).size,
      dropped: this.#dropped,
      crashed: this.#crashed,
      processes: this.#starts.length,
      kills: this.#kills,
      takeovers: this.#takeovers,
      events: this.#world.events,
      accesses: this.#accesses,
    };
  }

  describe(): string {
    return `${JSON.stringify(this.#weather)}\n${this.#process?.describe() ?? ''}`;
  }

  async #oneProcess(run: number, game: 'busy' | 'quiet', ending: Ending): Promise<void> {
    const process = new ModelProcess(
      {
        world: this.#world,
        subject: this.#subject,
        weather: this.#weather,
        receiver: this.#receiver,
        disk: this.#disk,
      },
      run,
    );
    this.#process = process;
    this.#starts.push(this.#next);
    this.#mayKill = game === 'busy';
    this.#isEnded = false;
    for (let step = 0; game === 'busy' && step < 30 && !this.#isEnded; step += 1) {
      this.#act(process);
      const untilMs = this.#world.nowMs + this.#dice.below(60);
      await this.#pass(process, () => this.#world.nowMs >= untilMs);
    }
    if (!this.#isEnded) await this.#end(process, ending);
    this.#accepted.push(...process.accepted.flat());
    this.#dropped += process.dropped;
    this.#rejected += process.sum(REJECTED);
    this.#crashed += process.sum(CRASHED);
  }

  /** A record that kills is about to be sent. */
  #onSend(ids: readonly number[], actor: Actor): void {
    const { killers } = this.#weather;
    for (const id of ids) {
      // Not thrown here: whoever delivers would take it for a fault of the network.
      if ((this.#shutDown.get(id) ?? Number.POSITIVE_INFINITY) < this.#starts.length) {
        this.#risen.add(id);
      }
    }
    if (!ids.some((id) => this.#isKiller(id))) return;
    if (killers === 'late') {
      this.#world.at(0, actor, () => this.#kill(actor, 'uncaught'));
      return;
    }
    if (killers === 'process') this.#inside(() => this.#endProcess());
    else this.#kill(actor, 'exit');
    throw new Killed();
  }

  #isKiller(id: number): boolean {
    const { killers } = this.#weather;
    if (killers === 'none') return false;
    return id % (killers === 'process' ? KILLER_EVERY.process : KILLER_EVERY.thread) === 5;
  }

  #kill(actor: Actor, reason: DeathReason): void {
    this.#kills += 1;
    actor.isDead = true;
    this.#process?.noteDeath(actor, reason);
  }

  /** Ends the process at once. */
  #endProcess(): void {
    const process = this.#process;
    if (process === undefined) return;
    this.#isEnded = true;
    this.#deaths += 1;
    if (this.#weather.spoolBytesMax < SPOOL_PLENTY) this.#uncounted = Number.POSITIVE_INFINITY;
    for (const id of process.kill()) this.#inMemory.add(id);
    this.#uncounted += process.sum(IN_HAND);
  }

  #drawEnding(): Ending {
    const endings: readonly Ending[] = [
      'save',
      'kill',
      this.#weather.fsync === 'batch' ? 'power' : 'kill',
    ];
    return endings[this.#dice.below(endings.length)] ?? 'save';
  }

  /** What the game and the world do meanwhile. */
  #act(process: ModelProcess): void {
    const dice = this.#dice;
    const draw = dice.below(10);
    if (draw < 6) {
      const count = dice.below(12);
      for (let index = 0; index < count; index += 1) this.#track(process);
    } else if (draw === 6) process.flush();
    else if (draw === 7)
      this.#receiver.mood = (['well', 'dead', 'moody'] as const)[dice.below(3)] ?? 'well';
    else if (draw === 8) for (let index = 0; index < 60; index += 1) this.#track(process);
    else this.#world.wallShiftMs += (dice.next() - 0.5) * 7_200_000;
  }

  #track(process: ModelProcess, lane: number = this.#dice.below(this.#weather.lanes)): void {
    process.track(lane, this.#next * LANES + lane);
    this.#next += 1;
  }

  async #end(process: ModelProcess, ending: Ending): Promise<void> {
    // Whoever dies last may have been about to count what it had just removed for room.
    const removes = this.#weather.spoolBytesMax < SPOOL_PLENTY && ending !== 'close';
    if (removes) this.#uncounted = Number.POSITIVE_INFINITY;
    if (ending === 'kill' || ending === 'power') {
      this.#endProcess();
      this.#isEnded = false;
      if (ending === 'power') this.#disk.losePower(() => this.#dice.next());
      return;
    }
    if (ending === 'close') {
      // Calm: the receiver is well, nobody dies any more. Then everything must come to its end.
      this.#mayKill = false;
      this.#receiver.mood = 'well';
      process.flush();
      assert.ok(await this.#pass(process, () => process.isDrained), 'something is stuck');
      if (this.#isEnded) return;
    } else {
      process.save();
      this.#mayKill = false;
      this.#stop = this.#drawStop();
      if (this.#stop !== 'patient') this.#stopIn = 1 + this.#dice.below(STOP_ACCESSES);
      const untilMs = this.#world.nowMs + this.#dice.below(200);
      await this.#pass(process, () => this.#world.nowMs >= untilMs);
    }
    this.#mayKill = false;
    process.stop();
    await this.#pass(process, () => process.isStopped);
    this.#cut(process);
    if (this.#stop === 'exit') process.exit();
    else process.leave();
  }

  #drawStop(): Stop {
    const stops = ['patient', 'at once', 'exit'] as const;
    const { kills, takeovers, killers, diskFailures } = this.#weather;
    const isCalm = kills + takeovers + diskFailures === 0 && killers === 'none';
    // What threads have left half done before is mended when the last of them is gone, which an exit does not wait for.
    return stops[this.#dice.below(isCalm ? 3 : 2)] ?? 'patient';
  }

  /** A turn gets on, and is about to be told to stop in the middle of what it does. */
  #approachStop(process: ModelProcess): void {
    this.#stopIn -= 1;
    if (this.#stopIn > 0) return;
    process.stop();
    if (this.#stop === 'exit' && !process.endSpooling()) this.#stopIn = 1;
    else this.#cut(process);
  }

  /** What is left in the rings is dropped. */
  #cut(process: ModelProcess): void {
    this.#stopIn = 0;
    for (const id of process.dropRest()) this.#shutDown.set(id, this.#starts.length);
  }

  /** Lets time pass, and looks at the accounts after every event. */
  #pass(process: ModelProcess, isDone: () => boolean): Promise<boolean> {
    let events = 0;
    const look = () => {
      events += 1;
      process.check();
      if (events % 20 === 0) process.look();
      return this.#isEnded || isDone();
    };
    const tick = () => {
      if (process !== this.#process) return;
      this.#world.at(100, this.#world.main, tick);
    };
    tick();
    return this.#world.run(look, { eventsMax: EVENTS_MAX });
  }

  /** What may happen between any two accesses of a turn. */
  #onAccess(actor: Actor): void {
    if (this.#isInside || this.#process === undefined) return;
    if (this.#stopIn > 0) {
      const process = this.#process;
      this.#inside(() => this.#approachStop(process));
    }
    if (!this.#mayKill) return;
    this.#accesses += 1;
    if (this.#strike !== undefined) {
      if (this.#strike.access === this.#accesses) this.#strikeAt(actor, this.#strike.what);
      return;
    }
    const { kills, takeovers } = this.#weather;
    const draw = this.#dice.next();
    if (draw < kills) this.#strikeAt(actor, 'kill');
    else if (draw < kills + takeovers) this.#strikeAt(actor, 'take over');
    else if (draw < kills + takeovers + CROWDING_MAX) {
      this.#inside(() => this.#crowd(draw - kills - takeovers));
    }
  }

  /** The game tracks a record in the middle of what a turn does, more often where that makes others give way. */
  #crowd(draw: number): void {
    const { tracks, crowding, lanes } = this.#weather;
    const process = this.#process;
    if (process === undefined) return;
    const lane = this.#dice.below(lanes);
    if (draw < (process.isFull(lane) ? crowding : tracks)) this.#track(process, lane);
  }

  #strikeAt(actor: Actor, what: Strike['what']): void {
    const process = this.#process;
    if (process === undefined) return;
    if (what === 'take over') {
      this.#takeovers += 1;
      const lane = this.#dice.below(this.#weather.lanes + 1);
      this.#inside(() => process.takeOver(lane));
      return;
    }
    this.#kill(actor, 'exit');
  }

  /** The engine's thread does something while a turn is in the middle of what it does. */
  #inside(run: () => void): void {
    this.#isInside = true;
    try {
      this.#world.as(this.#world.main, run);
    } finally {
      this.#isInside = false;
    }
  }

  /** No loss that is not accounted for, and the order of each lane. */
  #checkAll(): void {
    const { taken } = this.#receiver;
    const known = new Set(this.#accepted);
    const arrived = new Set(taken);
    const risen = [...this.#risen];
    assert.deepEqual(risen, [], 'counted as dropped by the shutdown, and sent by a later run');
    for (const id of arrived) assert.ok(known.has(id), `${id} was never accepted`);
    const missing = this.#accepted.filter((id) => !arrived.has(id) && !this.#inMemory.has(id));
    const poison = missing.filter((id) => id % POISON_EVERY === 7).length;
    const killers = missing.filter((id) => this.#isKiller(id)).length;
    const lost = missing.filter((id) => id % POISON_EVERY !== 7 && !this.#isKiller(id)).length;
    const dropped = this.#dropped - this.#crashed;
    // Turns are taken for hung here that are healthy: three times while they are at one record, and it is given up for that.
    const mistaken = this.#takeovers >= 3 ? this.#crashed : 0;
    assert.ok(
      lost <= dropped + this.#uncounted + mistaken,
      `${lost} records are lost, ${dropped} are accounted for`,
    );
    assert.ok(
      killers <= this.#dropped + this.#rejected + this.#uncounted,
      'killers are accounted for',
    );
    assert.ok(
      poison <= this.#rejected + this.#dropped + this.#uncounted,
      'poison is accounted for',
    );
    // The request of a turn that lost its lane may arrive when its records have been given up, and later ones sent; and a process that
    // dies at once may not have noted on disk what it gave up.
    const hasEchoes = dropped > 0 && this.#kills + this.#takeovers + this.#deaths > 0;
    if (this.#weather.inFlightMax === 1 && !hasEchoes) this.#checkOrder();
  }

  #checkOrder(): void {
    const seen = new Set<number>();
    const lasts = new Map<number, number>();
    for (const id of this.#receiver.taken) {
      if (seen.has(id) || this.#isKiller(id)) continue;
      seen.add(id);
      const lane = id % LANES;
      const last = lasts.get(lane) ?? -1;
      assert.ok(
        id > last || this.#isEarlierRun(id, last),
        `lane ${lane}: ${id} came after ${last}`,
      );
      lasts.set(lane, Math.max(last, id));
    }
  }

  /** Records of an earlier run are replayed beside those of the present one. */
  #isEarlierRun(id: number, last: number): boolean {
    return this.#runOf(id) < this.#runOf(last);
  }

  #runOf(id: number): number {
    return this.#starts.findLastIndex((start) => Math.floor(id / LANES) >= start);
  }
}

function weatherOf(dice: Dice, isCalm: boolean): Weather {
  const pick = <T>(values: readonly [T, ...T[]]): T =>
    values[dice.below(values.length)] ?? values[0];
  return {
    lanes: 1 + dice.below(2),
    inFlightMax: pick([1, 1, 3]),
    overflow: pick(['drop-newest', 'drop-oldest']),
    spool: pick(['none', 'pressure', 'pressure', 'always']),
    fsync: pick(['interval', 'batch']),
    retries: pick(['forever', 'forever', 3] as const),
    spoolBytesMax: pick([SPOOL_PLENTY, SPOOL_PLENTY, 8 * 1024]),
    killers: isCalm ? 'none' : pick(['none', 'none', 'exit', 'late', 'process']),
    kills: isCalm ? 0 : pick([0, 0.0005, 0.002]),
    takeovers: isCalm ? 0 : pick([0, 0.001]),
    tracks: 0.002,
    crowding: pick([0.002, 0.02, CROWDING_MAX]),
    diskFailures: isCalm ? 0 : pick([0, 0, 0.02, 0.1]),
    keepsDeadLetters: pick([false, true]),
    bytesBefore: pick([0, 2 ** 31 + 4096]),
  };
}
