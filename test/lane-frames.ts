import { isMainThread, parentPort, workerData } from 'node:worker_threads';
import { LaneConsumer } from '../src/lane/consumer.ts';
import { FRAME_HEADER_BYTES, LENGTH_AT } from '../src/lane/layout.ts';
import { Region } from '../src/lane/region.ts';
import { DELIVERED, RELEASED, Settlement, SettlementWords } from '../src/lane/settlement.ts';

/** A frame of `bytes` of payload that follow from `seed`; the producer fills in length and seq. */
export function makeFrame(seed: number, bytes: number): Uint8Array {
  const frame = new Uint8Array(Math.ceil((FRAME_HEADER_BYTES + bytes) / 8) * 8);
  for (let index = FRAME_HEADER_BYTES; index < FRAME_HEADER_BYTES + bytes; index += 1) {
    frame[index] = (seed * 31 + index * 7) & 0xff;
  }
  return frame;
}

/** A check-sum that depends on the order of all bytes so far. */
export function crc(sum: number, bytes: Uint8Array): number {
  let next = sum;
  for (const byte of bytes) next = (Math.imul(next, 31) + byte + 1) | 0;
  return next;
}

interface Job {
  readonly job: 'settle' | 'drain';
  readonly memory: SharedArrayBuffer;
  readonly times: number;
}

if (!isMainThread && workerData !== null) run(workerData as Job);

function run({ job, memory, times }: Job): void {
  const region = Region.attach(memory);
  const { term } = new SettlementWords(region, 0).read(new Settlement());
  const consumer = LaneConsumer.claim(region, { lane: 0, term, owner: 2 });
  if (consumer === undefined) throw new Error('the lane could not be claimed');
  if (job === 'settle') settle(consumer, times);
  else drain(consumer, times);
}

function settle(consumer: LaneConsumer, times: number): void {
  for (let count = 0; count < times; count += 1) {
    consumer.commit((state) => {
      state.add(DELIVERED, 1);
      state.add(RELEASED, 1);
    });
  }
}

function drain(consumer: LaneConsumer, frames: number): void {
  const { bytes, view, words } = consumer.region;
  const tailAt = consumer.region.controlAt(0) / 4;
  let sum = 0;
  let count = 0;
  while (count < frames) {
    const tail = consumer.loadTail();
    if (!consumer.holds()) throw new Error('the lane was taken away');
    if (consumer.head === tail) {
      Atomics.wait(words, tailAt, tail, 1);
      continue;
    }
    let position = consumer.head;
    let seq = consumer.headSeq;
    while (position !== tail) {
      const at = consumer.frameAt(position, tail);
      consumer.assertFrame(at, seq);
      const length = view.getInt32(at + LENGTH_AT, true);
      sum = crc(sum, bytes.subarray(at + FRAME_HEADER_BYTES, at + length));
      position = consumer.positionAfter(position);
      seq = (seq + 1) | 0;
      count += 1;
    }
    consumer.commit((state) => {
      state.head = position;
      state.headSeq = seq;
      state.pin = position;
      state.pinSeq = seq;
    });
  }
  parentPort?.postMessage({ count, sum });
}
