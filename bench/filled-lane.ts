import { type BodyLevel, jsonBody } from '../src/codec/gzip.ts';
import type { Machine } from '../src/codec/machine.ts';
import { RegionTranscoder } from '../src/codec/region-transcoder.ts';
import { resolveZone } from '../src/codec/time-text.ts';
import { TextBuffer } from '../src/codec/transcode.ts';
import { Recorder, type RecorderHost } from '../src/engine/recorder.ts';
import { LaneConsumer } from '../src/lane/consumer.ts';
import { Region } from '../src/lane/region.ts';
import { DELIVERED, RELEASED } from '../src/lane/settlement.ts';
import { TRACK } from '../src/record/types.ts';
import { makeEvents } from '../src/tune/game-events.ts';
import { PendingBatch } from '../src/worker/batcher.ts';
import { SUPER_PROPERTIES } from './events.ts';

export const LANE_RECORDS = 500;

const LANE_BYTES: number = 1 << 20;
const HOST: RecorderHost = {
  post: () => undefined,
  makeRoom: () => {
    throw new Error('the lane is full');
  },
  addListener: () => undefined,
  tellListener: () => undefined,
  afterRecord: undefined,
  onError: (error) => {
    throw error;
  },
};

/** One lane without threads, with both of its ends: written by the code of a client's calls, read by that of a worker. */
export class FilledLane {
  readonly #region = Region.create({ lanes: 1, laneBytes: LANE_BYTES, id: 1, baseMs: Date.now() });
  readonly #recorder: Recorder;
  readonly #lane: LaneConsumer;
  readonly #events = makeEvents(LANE_RECORDS);
  readonly #batch = new PendingBatch(
    { recordsMax: LANE_RECORDS, bytesMax: LANE_BYTES, lingerMs: 1 },
    ',',
    new TextBuffer(LANE_BYTES),
  );

  constructor() {
    const options = {
      validation: 'throw',
      uuid: true,
      queueRecordsMax: 1e9,
      sheds: false,
    } as const;
    this.#recorder = new Recorder(this.#region, options, HOST);
    this.#recorder.setSuperProperties(SUPER_PROPERTIES);
    const lane = LaneConsumer.claim(this.#region, { lane: 0, term: 0, owner: 1 });
    if (lane === undefined) throw new Error('the lane could not be claimed');
    this.#lane = lane;
    this.#write();
  }

  /** A batch of calls, into a lane whose records are settled. Returns the bytes of its frames. */
  refill(): number {
    const tail = this.#lane.loadTail();
    const seq = (this.#lane.headSeq + LANE_RECORDS) | 0;
    this.#lane.commit((state) => {
      Object.assign(state, { head: tail, headSeq: seq, pin: tail, pinSeq: seq });
      state.add(DELIVERED, LANE_RECORDS);
      state.add(RELEASED, LANE_RECORDS);
    });
    this.#write();
    return (this.#lane.loadTail() - tail) | 0;
  }

  #write(): void {
    for (const event of this.#events) this.#recorder.record(TRACK, event);
  }

  /** Turns all frames into the text of a JSON array without its brackets, again and again. */
  reader(machine: Machine | undefined): () => Buffer {
    const presets = { lib: 'millrace', libVersion: '0.1.0' };
    const options = { presets, zone: resolveZone(undefined), addsZoneOffset: false };
    const transcoder = new RegionTranscoder(this.#region, options, machine);
    const batch = this.#batch;
    return () => {
      this.#lane.holds();
      batch.reset(this.#lane.head, this.#lane.headSeq);
      batch.fill(this.#lane, transcoder, { tail: this.#lane.loadTail() });
      if (batch.count !== LANE_RECORDS) throw new Error(`${batch.count} records were read`);
      return Buffer.from(batch.text.bytes.buffer, 1, batch.text.at - 2);
    };
  }

  /** Compresses what the latest reader left; returns the bytes. */
  gzip(level: BodyLevel, machine: Machine | undefined): number {
    const { count, starts, ends, text } = this.#batch;
    return jsonBody({ count, starts, ends, text: text.bytes }, level, { machine }).length;
  }
}
