import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Worker } from 'node:worker_threads';
import fc from 'fast-check';
import { Seat } from '../src/engine/seat.ts';
import { LaneConsumer } from '../src/lane/consumer.ts';
import {
  ACCEPTED_FLOAT,
  FRAME_HEADER_BYTES,
  LANE_BYTES_MIN,
  LENGTH_AT,
  SEQ_AT,
  TAIL_SEQ_WORD,
} from '../src/lane/layout.ts';
import { LaneProducer } from '../src/lane/producer.ts';
import { Region } from '../src/lane/region.ts';
import {
  DELIVERED,
  EXPIRED,
  OVERFLOW_OLDEST,
  REJECTED,
  RELEASED,
  Settlement,
  SettlementWords,
  SHUTDOWN,
  SPOOLED,
} from '../src/lane/settlement.ts';
import { crc, makeFrame } from './lane-frames.ts';

function newRegion(laneBytes = LANE_BYTES_MIN): Region {
  return Region.create({ lanes: 1, laneBytes, id: 1, baseMs: 0 });
}

/** Moves all positions of an empty lane, so that a test also crosses the changes of sign. */
function startAt(region: Region, position: number, seq: number): void {
  const settlement = new SettlementWords(region, 0);
  const state = settlement.read(new Settlement());
  Object.assign(state, { head: position, headSeq: seq, pin: position, pinSeq: seq });
  assert.ok(settlement.commit(state, 'supervisor'));
  region.words[region.controlAt(0) / 4] = position;
  region.words[region.controlAt(0) / 4 + 1] = seq;
}

function claim(region: Region): LaneConsumer {
  const settlement = new SettlementWords(region, 0);
  const state = settlement.read(new Settlement());
  state.term += 1;
  assert.ok(settlement.commit(state, 'supervisor'));
  const consumer = LaneConsumer.claim(region, { lane: 0, term: state.term, owner: 1 });
  assert.ok(consumer);
  return consumer;
}

type Step =
  | { readonly kind: 'offer'; readonly bytes: number }
  | { readonly kind: 'publish'; readonly bytes: number }
  | { readonly kind: 'drain'; readonly records: number };

const steps: fc.Arbitrary<readonly Step[]> = fc.array(
  fc.oneof(
    fc.record({ kind: fc.constant('offer' as const), bytes: fc.integer({ min: 0, max: 4000 }) }),
    fc.record({ kind: fc.constant('publish' as const), bytes: fc.integer({ min: 0, max: 600 }) }),
    fc.record({ kind: fc.constant('drain' as const), records: fc.integer({ min: 0, max: 40 }) }),
  ),
  { minLength: 50, maxLength: 400 },
);

// Goal: L1, L3, L4 and order hold under any sequence of sizes, wraps and slow drains. Method: random steps against an array,
// from positions just below 2^31 and 2^32.
test('a lane behaves as a bounded queue of frames', () => {
  const start = fc.constantFrom(0, 0x7fff_f000, 0xffff_f000 | 0, 0x7fff_fff8);
  fc.assert(
    fc.property(steps, start, (made, position) => {
      const region = newRegion();
      startAt(region, position, position);
      const producer = new LaneProducer(region, 0);
      const consumer = claim(region);
      const model: Uint8Array[] = [];
      for (const step of made) {
        if (step.kind === 'drain') drain(consumer, step.records, model);
        else put(region, { producer, step, model });
        const used = (producer.tail - consumer.head) | 0;
        assert.ok(used >= 0 && used <= region.laneBytes, `L1 broken: ${used} bytes used`);
        assert.equal(producer.queued(), model.length);
      }
      drain(consumer, model.length, model);
      assert.equal(model.length, 0);
      assert.equal(consumer.head, producer.tail);
    }),
    { numRuns: 200, endOnFailure: true },
  );
});

function put(
  region: Region,
  {
    producer,
    step,
    model,
  }: { producer: LaneProducer; step: Step & { bytes: number }; model: Uint8Array[] },
): void {
  const frame = makeFrame(model.length + step.bytes, step.bytes);
  if (step.kind === 'offer') {
    if (producer.offer(frame)) model.push(frame.slice(FRAME_HEADER_BYTES));
    return;
  }
  producer.refresh();
  if (producer.writeAt + frame.length > producer.writeLimit) return;
  region.bytes.set(frame, producer.writeAt);
  producer.publish(frame.length);
  model.push(frame.slice(FRAME_HEADER_BYTES));
}

function drain(consumer: LaneConsumer, records: number, model: Uint8Array[]): void {
  assert.ok(consumer.holds());
  let position = consumer.head;
  let seq = consumer.headSeq;
  const tail = consumer.loadTail();
  for (let count = 0; count < records && position !== tail; count += 1) {
    const at = consumer.frameAt(position, tail);
    consumer.assertFrame(at, seq);
    const length = consumer.region.view.getInt32(at + LENGTH_AT, true);
    const payload = consumer.region.bytes.slice(at + FRAME_HEADER_BYTES, at + length);
    assert.deepEqual(payload, model.shift());
    position = consumer.positionAfter(position);
    seq = (seq + 1) | 0;
  }
  const settled = (seq - consumer.headSeq) | 0;
  assert.ok(
    consumer.commit((state) => {
      state.head = position;
      state.headSeq = seq;
      state.pin = position;
      state.pinSeq = seq;
      state.add(DELIVERED, settled);
      state.add(RELEASED, settled);
    }),
  );
}

test('a frame of exactly a quarter of the lane fits, wherever the lane stands', () => {
  const region = newRegion();
  const producer = new LaneProducer(region, 0);
  const consumer = claim(region);
  const model: Uint8Array[] = [];
  const largest = producer.frameBytesMax - FRAME_HEADER_BYTES;
  for (let round = 0; round < 500; round += 1) {
    for (const bytes of [largest, round % 700]) {
      const frame = makeFrame(round, bytes);
      assert.ok(producer.offer(frame), `round ${round}`);
      model.push(frame.slice(FRAME_HEADER_BYTES));
    }
    drain(consumer, 2, model);
  }
});

// Positions are compared modulo 2^32: one that stays where it is looks as if it were ahead after half of that.
test('a flush that nobody asks for never seems to be wanted, however much goes through a lane', () => {
  const region = newRegion();
  const producer = new LaneProducer(region, 0);
  for (let gib = 0; gib < 9; gib += 1) {
    startAt(region, (gib * 2 ** 29) | 0, 0);
    const consumer = claim(region);
    consumer.renewFlushPosition();
    assert.ok(((consumer.loadFlushPosition() - consumer.head) | 0) <= 0, `${gib / 2} GiB`);
  }
  producer.requestFlush();
  const asked = claim(region);
  asked.renewFlushPosition();
  assert.equal(asked.loadFlushPosition(), producer.tail);
});

test('a worker whose term is over can settle nothing', () => {
  const region = newRegion();
  const producer = new LaneProducer(region, 0);
  assert.ok(producer.offer(makeFrame(1, 10)));
  const first = claim(region);
  const second = claim(region);
  const settle = (state: Settlement) => state.add(DELIVERED, 1);
  assert.equal(first.commit(settle), false);
  assert.equal(first.holds(), false);
  assert.equal(LaneConsumer.claim(region, { lane: 0, term: first.term, owner: 1 }), undefined);
  assert.ok(second.commit(settle));
  assert.equal(new SettlementWords(region, 0).read(new Settlement()).count(DELIVERED), 1);
});

test('S5 holds in every commit that any thread reads, while three parties commit', async () => {
  const region = newRegion();
  claim(region);
  const worker = new Worker(new URL('./lane-frames.js', import.meta.url), {
    workerData: { job: 'settle', memory: region.memory, times: 200_000 },
  });
  const ended = new Promise((resolve, reject) => {
    worker.once('exit', resolve);
    worker.once('error', reject);
  });
  const settlement = new SettlementWords(region, 0);
  const state = new Settlement();
  let mine = 0;
  let isRunning = true;
  void ended.then(() => {
    isRunning = false;
  });
  while (isRunning) {
    for (let look = 0; look < 2000; look += 1) {
      settlement.read(state);
      const sum = [DELIVERED, REJECTED, OVERFLOW_OLDEST, EXPIRED, SHUTDOWN, SPOOLED].reduce(
        (all, counter) => all + state.count(counter),
        0,
      );
      assert.equal(state.count(RELEASED), sum);
      state.add(OVERFLOW_OLDEST, 1);
      state.add(RELEASED, 1);
      if (settlement.commit(state, look % 2 === 0 ? 'producer' : 'supervisor')) mine += 1;
    }
    await new Promise((resolve) => setImmediate(resolve));
  }
  await ended;
  settlement.read(state);
  assert.equal(state.count(OVERFLOW_OLDEST), mine);
  assert.equal(state.count(DELIVERED), 200_000);
});

// Goal: nothing is lost, doubled, reordered or changed between real threads. Method: two million frames of random size through
// a small lane, a check-sum on each side.
test('two million frames cross from thread to thread unharmed', async () => {
  const region = newRegion(64 * 1024);
  claim(region);
  const frames = 2_000_000;
  const worker = new Worker(new URL('./lane-frames.js', import.meta.url), {
    workerData: { job: 'drain', memory: region.memory, times: frames },
  });
  const sums = new Promise<{ count: number; sum: number }>((resolve, reject) => {
    worker.once('message', resolve);
    worker.once('error', reject);
  });
  const producer = new LaneProducer(region, 0);
  let sum = 0;
  for (let index = 0; index < frames; index += 1) {
    const frame = makeFrame(index, (index * 7919) % 97);
    sum = crc(sum, frame.subarray(FRAME_HEADER_BYTES));
    while (!producer.offer(frame)) {
      const word = producer.settlement.commitAt;
      Atomics.wait(region.words, word, Atomics.load(region.words, word), 1);
    }
  }
  assert.deepEqual(await sums, { count: frames, sum });
  assert.equal(region.view.getInt32(region.framesAt(0) + SEQ_AT, true) >= 0, true);
  await worker.terminate();
});

// Goal: a thread that ends between the stores of one publishing leaves no record that is counted and can't be had. Method: the
// stores that come before the tail's, by hand, each state they can be left in.
test('what a producer counted and did not publish is taken back, once it is gone', () => {
  for (const [ahead, accepted] of [
    [0, 0],
    [0, 1],
    [1, 1],
  ] as const) {
    const region = Region.create({ lanes: 1, laneBytes: LANE_BYTES_MIN, id: 1, baseMs: 0 });
    const producer = new LaneProducer(region, 0);
    for (let index = 0; index < 5; index += 1) assert.ok(producer.offer(makeFrame(index, 40)));
    const seat = new Seat(region, 0, 'supervisor');
    const seqAt = region.controlAt(0) / 4 + TAIL_SEQ_WORD;
    region.words[seqAt] = (region.words[seqAt] ?? 0) + ahead;
    const acceptedAt = region.controlAt(0) / 8 + ACCEPTED_FLOAT;
    region.floats[acceptedAt] = (region.floats[acceptedAt] ?? 0) + accepted;
    seat.takeBackUnpublished();
    assert.deepEqual([seat.tailSeq, seat.accepted], [5, 5]);
  }
});
