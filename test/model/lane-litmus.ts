import assert from 'node:assert/strict';
import type { LaneConsumer } from '../../src/lane/consumer.ts';
import { type Control, GATE_SHUT_UNTIL, GATE_STATE } from '../../src/lane/control.ts';
import type { SleepMark } from '../../src/lane/doorbell.ts';
import {
  BELL_WORD,
  COMMIT_WORD,
  FLUSH_POSITION_WORD,
  FRAME_HEADER_BYTES,
  SLOT_WORDS,
  SLOTS,
  SLOTS_AT_WORD,
  SPOOLING_WORD,
  TAIL_SEQ_WORD,
  TAIL_WORD,
  WAKE_POSITION_WORD,
  WAKE_SEQ_WORD,
} from '../../src/lane/layout.ts';
import type { Region } from '../../src/lane/region.ts';
import {
  DELIVERED,
  HEAD_SEQ,
  OVERFLOW_OLDEST,
  RELEASED,
  SHUTDOWN,
  SPOOLED,
} from '../../src/lane/settlement.ts';
import {
  AGAIN,
  type Litmus,
  type LitmusEnd,
  type LitmusThread,
  type LitmusViews,
} from './interleave.ts';
import type { Subject } from './subject.ts';

/** What a lane's threads do with each other, small enough that every order of their steps can be tried. */

const LANE_BYTES = 512;
const FRAME_BYTES: number = FRAME_HEADER_BYTES;
const CONTROL_WORDS: number = SLOTS_AT_WORD + SLOTS * SLOT_WORDS;
/** Words of the test itself, behind the lane's: turns posted, then the term of each. */
const POSTED_WORD: number = CONTROL_WORDS;
const TERMS_WORD: number = CONTROL_WORDS + 1;
/** 1: the record is on disk. */
const DISK_WORD: number = CONTROL_WORDS + 8;
const FRAMES_AT: number = (CONTROL_WORDS + 16) * 4;
const MEMORY_BYTES: number = FRAMES_AT + LANE_BYTES;

const BELL_WORDS: readonly number[] = [BELL_WORD, TAIL_WORD, FLUSH_POSITION_WORD];
/** What matters only while somebody sleeps. */
const SLEEP_WORDS: readonly number[] = [TAIL_SEQ_WORD, WAKE_POSITION_WORD, WAKE_SEQ_WORD];

/** One lane as a region. Its frames are all zero but for the words that publishing writes. */
function laneOf(views: LitmusViews, memory: SharedArrayBuffer): Region {
  const region = {
    ...views,
    memory,
    view: new DataView(memory),
    bytes: { set: () => undefined },
    id: 1,
    lanes: 1,
    laneBytes: LANE_BYTES,
    baseMs: 0,
    controlAt: () => 0,
    framesAt: () => FRAMES_AT,
  };
  return region as unknown as Region;
}

class LaneCast {
  readonly memory = new SharedArrayBuffer(MEMORY_BYTES);
  readonly #subject: Subject;

  constructor(subject: Subject) {
    this.#subject = subject;
  }

  region(views: LitmusViews): Region {
    return laneOf(views, this.memory);
  }

  /** A lane that a worker attends: its first turn has been posted. */
  begin(): this {
    const words = new Int32Array(this.memory);
    this.#post({ words, floats: new Float64Array(this.memory) });
    return this;
  }

  #post(views: LitmusViews): void {
    const seat = new this.#subject.seat.Seat(this.region(views), 0, 'supervisor');
    const { term } = seat.beginTerm(0);
    const number = views.words[POSTED_WORD] ?? 0;
    views.words[TERMS_WORD + number] = term;
    views.words[POSTED_WORD] = number + 1;
  }

  /** Records that are there from the beginning. */
  publish(records: number): void {
    const views = { words: new Int32Array(this.memory), floats: new Float64Array(this.memory) };
    const producer = new this.#subject.producer.LaneProducer(this.region(views), 0);
    for (let index = 0; index < records; index += 1) {
      assert.ok(producer.offer(new Uint8Array(FRAME_BYTES)));
    }
  }

  /** A turn that settles what is in the lane, one record a commit. */
  settlesAll(number: number): LitmusThread {
    return {
      name: `worker ${number}`,
      isStarted: isPosted(number),
      run: (views) => {
        const lane = this.#claim(views, number);
        if (lane === undefined || !lane.holds()) return 'fenced';
        if (lane.head === lane.loadTail()) return 'done';
        return this.#settle(lane, 1) ? AGAIN : 'fenced';
      },
    };
  }

  #claim(views: LitmusViews, number: number): LaneConsumer | undefined {
    return this.#subject.consumer.LaneConsumer.claim(this.region(views), {
      lane: 0,
      term: views.words[TERMS_WORD + number] ?? 0,
      owner: number + 1,
    });
  }

  /** Publishes records one by one, and posts a turn when nobody attends the lane. */
  producer(records: number, { flushes }: { readonly flushes: boolean }): LitmusThread {
    return {
      name: 'producer',
      run: (views) => {
        const producer = new this.#subject.producer.LaneProducer(this.region(views), 0);
        for (let index = 0; index < records; index += 1) {
          assert.ok(producer.offer(new Uint8Array(FRAME_BYTES)));
          if (producer.needsTurn()) this.#post(views);
        }
        if (flushes && producer.requestFlush()) this.#post(views);
        return 'done';
      },
    };
  }

  /** Takes the lane away from whoever attends it, as from one that is dead. */
  takesOver(): LitmusThread {
    return {
      name: 'supervisor',
      run: (views) => {
        this.#post(views);
        return 'done';
      },
    };
  }

  /**
   * One turn: settles what comes. `rest`: what it does when nothing comes: it sleeps until `marks` records are there; or it
   * also gives the lane up after that.
   */
  worker(
    number: number,
    { marks, rest }: { readonly marks: number; readonly rest: 'sleep' | 'leave' | 'both' },
  ): LitmusThread {
    return {
      name: `worker ${number}`,
      isStarted: isPosted(number),
      run: async (views) => {
        const lane = this.#claim(views, number);
        if (lane === undefined) return 'fenced';
        const tail = lane.loadTail();
        if (!lane.holds()) return 'fenced';
        const due = dueRecords(lane, { tail, marks });
        if (due > 0) return this.#settle(lane, due) ? AGAIN : 'fenced';
        const mark = markOf(lane, marks);
        if (rest !== 'leave') await lane.bell.sleep(mark, 1000);
        const isOver = rest !== 'sleep' && lane.loadTail() === tail && lane.bell.leave(mark);
        return isOver ? 'left' : AGAIN;
      },
    };
  }

  /** A turn that puts the record of the lane on disk, as far as it may. */
  spools(): LitmusThread {
    return {
      name: 'worker',
      run: (views) => {
        const lane = this.#claim(views, 0);
        if (lane?.beginSpooling() !== true) return 'refused';
        Atomics.store(views.words, DISK_WORD, 1);
        lane.commit((state) => {
          state.add(SPOOLED, 1);
          state.add(RELEASED, 1);
          Object.assign(state, { head: FRAME_BYTES, headSeq: 1, pin: FRAME_BYTES, pinSeq: 1 });
        });
        lane.endSpooling();
        return 'done';
      },
    };
  }

  /** The engine's end: drops what is left when no turn is in the middle of an append. */
  shutsDown(): LitmusThread {
    return {
      name: 'engine',
      run: (views) => {
        const seat = new this.#subject.seat.Seat(this.region(views), 0, 'supervisor');
        seat.term = views.words[TERMS_WORD] ?? 0;
        if (!seat.endSpooling('some')) return AGAIN;
        seat.dropRest(SHUTDOWN);
        return 'done';
      },
    };
  }

  #settle(lane: LaneConsumer, records: number): boolean {
    const position = (lane.head + records * FRAME_BYTES) | 0;
    const seq = (lane.headSeq + records) | 0;
    const gaveWayBefore = lane.count(OVERFLOW_OLDEST);
    return lane.commit((state) => {
      // The producer may have let some of them give way meanwhile; nobody else may have settled any.
      const left = records - (state.count(OVERFLOW_OLDEST) - gaveWayBefore);
      if (left <= 0) return;
      state.add(DELIVERED, left);
      state.add(RELEASED, left);
      Object.assign(state, { head: position, headSeq: seq, pin: position, pinSeq: seq });
    });
  }

  /** All records are settled, each once, and nobody was fenced unless somebody took over. */
  finish(
    records: number,
    { isTakenOver }: { readonly isTakenOver: boolean },
  ): (end: LitmusEnd) => void {
    return ({ words, floats, results }) => {
      const { Settlement, SettlementWords } = this.#subject.settlement;
      const region = this.region({ words, floats });
      const state = new SettlementWords(region, 0).read(new Settlement());
      const left = ((words[TAIL_WORD] ?? 0) - state.head) / FRAME_BYTES;
      assert.equal(left, 0, `${left} record(s) wait for nobody; ${results.join(', ')}`);
      assert.equal(state.count(DELIVERED), records, 'each record is settled once');
      if (!isTakenOver)
        assert.ok(!results.includes('fenced'), `a second turn was posted: ${results.join(', ')}`);
    };
  }
}

/** Whether the turn of that number has been posted. */
function isPosted(number: number): (words: Int32Array) => boolean {
  return (words) => (words[POSTED_WORD] ?? 0) > number;
}

/** Records a worker would send now: as many as there are, once there are enough or somebody flushes. */
function dueRecords(
  lane: LaneConsumer,
  { tail, marks }: { readonly tail: number; readonly marks: number },
): number {
  const there = ((tail - lane.head) | 0) / FRAME_BYTES;
  const isWanted = ((lane.loadFlushPosition() - lane.head) | 0) > 0;
  return there >= marks || isWanted ? there : 0;
}

/** Wakes with that many records. */
function markOf(lane: LaneConsumer, records: number): SleepMark {
  return {
    head: lane.head,
    wakePosition: (lane.head + records * FRAME_BYTES) | 0,
    wakeSeq: (lane.headSeq + records) | 0,
    round: 0,
  };
}

export interface DoorbellCase {
  readonly records: number;
  /** Records that a sleeping worker waits for. */
  readonly marks: number;
  readonly rest: 'sleep' | 'leave' | 'both';
  readonly flushes: boolean;
  readonly takesOver: boolean;
}

/** Producer, turns, and perhaps a supervisor that gives the lane to another turn. */
export function doorbellLitmus(
  subject: Subject,
  { records, marks, rest, flushes, takesOver }: DoorbellCase,
): Litmus {
  const cast = new LaneCast(subject).begin();
  const turns = rest === 'sleep' ? 1 : records + 2;
  const workers = Array.from({ length: turns + (takesOver ? 1 : 0) }, (_, number) =>
    cast.worker(number, { marks, rest }),
  );
  const shared = new Set(rest === 'leave' ? BELL_WORDS : [...BELL_WORDS, ...SLEEP_WORDS]);
  return {
    memory: cast.memory,
    isShared: (word) => shared.has(word),
    threads: [
      cast.producer(records, { flushes }),
      ...(takesOver ? [cast.takesOver()] : []),
      ...workers,
    ],
    timesOut: rest === 'both',
    finish: cast.finish(records, { isTakenOver: takesOver }),
  };
}

const SETTLED_WORDS: ReadonlySet<number> = settledWords();

/** What a settlement is checked by here: the commit, and of each slot the head's number and three counters. */
function settledWords(): ReadonlySet<number> {
  const slots = Array.from({ length: SLOTS }, (_, slot) => SLOTS_AT_WORD + slot * SLOT_WORDS);
  const counters = [RELEASED, DELIVERED, OVERFLOW_OLDEST];
  return new Set([
    COMMIT_WORD,
    ...slots.flatMap((at) => [at + HEAD_SEQ, ...counters.map((counter) => at + 2 * counter)]),
  ]);
}

/** A worker settles records, one by one, and meanwhile `other` does its part: no commit undoes another, none is seen half done. */
export function settlementLitmus(
  subject: Subject,
  { records, other }: { readonly records: number; readonly other: 'reader' | 'dropper' },
): Litmus {
  const cast = new LaneCast(subject).begin();
  cast.publish(records);
  const { Settlement, SettlementWords } = subject.settlement;
  const check = (views: LitmusViews) => {
    const state = new SettlementWords(cast.region(views), 0).read(new Settlement());
    const gone = state.count(DELIVERED) + state.count(OVERFLOW_OLDEST);
    assert.deepEqual([state.count(RELEASED), state.headSeq], [gone, gone], 'a mix of two commits');
    return gone;
  };
  const drop = (views: LitmusViews) => {
    const seat = new subject.seat.Seat(cast.region(views), 0, 'supervisor');
    let isFirst = true;
    seat.dropOldest(() => {
      const isTooMuch = isFirst;
      isFirst = false;
      return isTooMuch;
    });
  };
  return {
    memory: cast.memory,
    isShared: (word) => SETTLED_WORDS.has(word),
    threads: [cast.settlesAll(0), { name: other, run: other === 'reader' ? check : drop }],
    finish: (end) => assert.equal(check(end), records, 'every record is settled once'),
  };
}

/** The lane is given to another turn while the first one settles: each record is settled once, by one of them. */
export function fencingLitmus(subject: Subject, records: number): Litmus {
  const cast = new LaneCast(subject).begin();
  cast.publish(records);
  return {
    memory: cast.memory,
    isShared: (word) => word === COMMIT_WORD,
    threads: [cast.takesOver(), cast.settlesAll(0), cast.settlesAll(1)],
    finish: cast.finish(records, { isTakenOver: true }),
  };
}

/** The engine ends while a worker puts a record on disk: it is there if it counts as spooled, and not if it counts as dropped. */
export function shutdownLitmus(subject: Subject): Litmus {
  const cast = new LaneCast(subject).begin();
  cast.publish(1);
  return {
    memory: cast.memory,
    isShared: (word) => [SPOOLING_WORD, COMMIT_WORD, DISK_WORD].includes(word),
    threads: [cast.spools(), cast.shutsDown()],
    finish: (views) => {
      const { Settlement, SettlementWords } = subject.settlement;
      const state = new SettlementWords(cast.region(views), 0).read(new Settlement());
      const isOnDisk = views.words[DISK_WORD] ?? 0;
      assert.deepEqual(
        [state.count(SPOOLED), state.count(SHUTDOWN)],
        [isOnDisk, 1 - isOnDisk],
        'the record has another fate than its account',
      );
    },
  };
}

/** Several workers ask the gate of a dead receiver at once; `state` is what it says before. */
export function gateLitmus(
  subject: Subject,
  { workers, state }: { readonly workers: number; readonly state: number },
): Litmus {
  const memory = new SharedArrayBuffer(512);
  const words = new Int32Array(memory);
  words[GATE_STATE] = state;
  words[GATE_SHUT_UNTIL] = 1000;
  const ask = (index: number): LitmusThread => ({
    name: `worker ${index}`,
    run: async (views) => {
      const control = { words: views.words, mode: 0, nowMs: () => 2000 };
      const gate = new subject.gate.Gate(control as unknown as Control, 'breaker');
      return (await gate.pass(() => true)) ? 'probes' : 'stopped';
    },
  });
  return {
    memory,
    isShared: () => true,
    threads: Array.from({ length: workers }, (_, index) => ask(index)),
    finish: ({ results }) => {
      const probes = results.filter((result) => result === 'probes').length;
      assert.equal(probes, 1, `${probes} worker(s) probe the dead receiver at once`);
    },
  };
}
