import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { gunzipSync } from 'node:zlib';
import fc from 'fast-check';
import { packBatch } from '../src/broker/messages.ts';
import { BodyMemory } from '../src/codec/body-memory.ts';
import { DefinitionLog, SuperSlots } from '../src/codec/definitions.ts';
import { FrameEncoder, NO_SUPER, type SuperProperties } from '../src/codec/encode.ts';
import { Machine } from '../src/codec/machine.ts';
import { PLAIN_BYTES, SPREAD_RECORDS_MAX, TEXT_AT } from '../src/codec/machine-places.ts';
import { RegionTranscoder } from '../src/codec/region-transcoder.ts';
import { encodeProperties } from '../src/codec/supers.ts';
import { resolveZone } from '../src/codec/time-text.ts';
import { TextBuffer, type TranscoderOptions } from '../src/codec/transcode.ts';
import { writeTarget } from '../src/codec/value-writer.ts';
import { LaneConsumer } from '../src/lane/consumer.ts';
import { LaneProducer } from '../src/lane/producer.ts';
import { Region } from '../src/lane/region.ts';
import { spellingsOf } from '../src/record/shapes.ts';
import type { Properties, RecordFields } from '../src/record/types.ts';
import { RecordBatch } from '../src/sink/record-batch.ts';
import { PendingBatch } from '../src/worker/batcher.ts';
import { compileModule, MODULES } from '../wasm/compiler.ts';
import { callArbitrary, superArbitrary, textArbitrary } from './record-arbitrary.ts';

import { layOut, repositoryRoot } from './support.ts';

const LIMITS = { recordsMax: 300, bytesMax: 1 << 20, lingerMs: 1 };
const KINDS: Readonly<Record<string, number>> = {
  track: 1,
  trackFirst: 1,
  trackUpdate: 2,
  trackOverwrite: 3,
  userSet: 4,
  userSetOnce: 5,
  userAdd: 6,
  userAppend: 8,
  userUniqAppend: 9,
};

function openMachine(): Machine {
  const machine = Machine.open();
  assert.ok(machine, 'this process can run WebAssembly');
  return machine;
}

/** One thread's region with one lane, and what writes records into it. */
class Writer {
  readonly region = Region.create({ lanes: 1, laneBytes: 1 << 22, id: 1, baseMs: 0 });
  readonly producer = new LaneProducer(this.region, 0);
  readonly #slots = new SuperSlots(this.region);
  readonly #encoder = new FrameEncoder({
    checks: 'none',
    uuid: true,
    definitions: new DefinitionLog(this.region),
    onDynamicError: () => {},
    onWarning: () => {},
  });
  readonly #target = writeTarget(this.region.memory as unknown as ArrayBuffer);

  supers(properties: Properties): SuperProperties {
    const { map, lifted } = encodeProperties(properties, 'none');
    const epoch = map === undefined ? 0 : this.#slots.publish(map);
    const inline = map !== undefined && epoch === 0 ? properties : undefined;
    return { epoch, inline, lifted, spellings: spellingsOf(Object.keys(properties)) };
  }

  write(
    kind: number,
    fields: RecordFields,
    { supers, dynamic }: { supers: SuperProperties; dynamic: Properties | undefined },
  ): void {
    const { writeAt, writeLimit } = this.producer;
    const nowMs = 1_760_000_000_000 + this.producer.seq * 137;
    const context = { kind, supers, dynamic, nowMs, stampMs: this.producer.seq };
    const place = { at: writeAt, limit: writeLimit };
    const length = this.#encoder.encode(this.#target, place, fields, context);
    if (length > 0) this.producer.publish(length);
  }
}

/** What a batch holds after all of the region's records went into it. */
function fill(region: Region, options: TranscoderOptions, machine: Machine | undefined): object {
  const lane = LaneConsumer.claim(region, { lane: 0, term: 0, owner: 1 });
  assert.ok(lane);
  const transcoder = new RegionTranscoder(region, options, machine);
  const batches: object[] = [];
  const tail = lane.loadTail();
  const batch = new PendingBatch(LIMITS, ',', new TextBuffer(1024));
  batch.reset(lane.head, lane.headSeq);
  for (;;) {
    const filled = batch.fill(lane, transcoder, { tail });
    batches.push({
      text: Buffer.from(batch.text.bytes.subarray(1, batch.text.at)).toString('utf8'),
      starts: [...batch.starts.subarray(0, batch.count)],
      ends: [...batch.ends.subarray(0, batch.count)],
      positions: [...batch.positions.subarray(0, batch.count)],
      stamps: [...batch.stamps.subarray(0, batch.count)],
      ...{ filled, position: batch.position, seq: batch.endSeq, broken: String(batch.broken) },
    });
    if (filled === 'broken') batch.takeBroken(lane, 3);
    if (batch.position === tail) return batches;
    batch.reset(batch.position, batch.endSeq);
  }
}

function optionsOf(timeZone: string | undefined): TranscoderOptions {
  return {
    presets: { lib: 'millrace', libVersion: '0' },
    zone: resolveZone(timeZone),
    addsZoneOffset: timeZone !== undefined,
  };
}

test('the WebAssembly module is what its source compiles to', async () => {
  const root = repositoryRoot();
  for (const plan of MODULES) {
    const committed = readFileSync(join(root, plan.target), 'utf8');
    assert.equal(await compileModule(root, plan), committed, 'run npm run wasm');
  }
});

// Goal: numbers are written as JSON.stringify writes them, to the last digit. Method: doubles of all magnitudes by their bits,
// decimals with few digits, powers of two and of ten with their neighbours.
const seed = Date.now();
test(`any number reads as JSON.stringify prints it (seed ${seed})`, () => {
  const machine = openMachine();
  const memory = Buffer.from(machine.bytes.buffer);
  const float = new Float64Array(1);
  const bits = new BigUint64Array(float.buffer);
  const check = (value: number) => {
    if (!Number.isFinite(value)) return;
    const length = machine.calls.doubleText(value);
    const text = memory.toString('latin1', TEXT_AT, TEXT_AT + length);
    if (text !== JSON.stringify(value)) assert.equal(text, JSON.stringify(value));
  };
  let state = BigInt(seed) | 1n;
  const random = () => {
    state = (state * 6364136223846793005n + 1442695040888963407n) & 0xffff_ffff_ffff_ffffn;
    return state ^ (state >> 29n);
  };
  for (let round = 0; round < 150_000; round += 1) {
    bits[0] = random();
    check(float[0] ?? 0);
    check(Number(random() % 10n ** (random() % 19n)) / 10 ** Number(random() % 12n));
  }
  for (let power = -1074; power < 1024; power += 1) {
    float[0] = 2 ** power;
    const middle = bits[0] ?? 0n;
    for (const value of [middle - 1n, middle, middle + 1n]) {
      bits[0] = value;
      check(float[0] ?? 0);
    }
    if (power > -324 && power < 309) check(Number(`1e${power}`));
  }
  for (const value of [0, -0, 5e-324, 1.7976931348623157e308, 1e21, 1e-6, 1e-7, 123456.789]) {
    check(value);
    check(-value);
  }
});

const scenarios = fc.record({
  calls: fc.array(fc.tuple(callArbitrary, superArbitrary, fc.boolean()), { maxLength: 60 }),
  supers: fc.array(superArbitrary, { minLength: 1, maxLength: 3 }),
  timeZone: fc.constantFrom(undefined, 'UTC', '+05:45', 'America/New_York', 'Australia/Lord_Howe'),
  shift: fc.nat(),
});

test('the machine and the reference turn any records into the same bytes', () => {
  const machine = openMachine();
  fc.assert(
    fc.property(scenarios, ({ calls, supers, timeZone }) => {
      const writer = new Writer();
      const epochs = supers.map((properties) => writer.supers(properties as Properties));
      calls.forEach(([{ method, argument }, dynamic, isDynamic], index) => {
        const kind = KINDS[method];
        if (kind === undefined) return;
        writer.write(kind, argument as RecordFields, {
          supers: epochs[index % epochs.length] ?? NO_SUPER,
          dynamic: isDynamic ? (dynamic as Properties) : undefined,
        });
      });
      const options = optionsOf(timeZone);
      assert.deepEqual(
        fill(writer.region, options, machine),
        fill(writer.region, options, undefined),
      );
    }),
    { numRuns: 150 },
  );
});

// Goal: a frame with any damage neither harms the machine nor comes out other than by the reference. Method: bytes of good
// frames are overwritten; the lengths that lead from frame to frame stay.
test('of damaged frames the machine takes only those that the reference reads alike', () => {
  const machine = openMachine();
  const damages = fc.array(fc.tuple(fc.double({ min: 0, max: 1 }), fc.nat(255)), {
    minLength: 1,
    maxLength: 30,
  });
  fc.assert(
    fc.property(scenarios, damages, ({ calls, timeZone }, hits) => {
      const writer = new Writer();
      const frames: number[] = [];
      for (const [{ method, argument }] of calls) {
        const place = writer.producer.writeAt;
        const options = { supers: NO_SUPER, dynamic: undefined };
        writer.write(KINDS[method] ?? 1, argument as RecordFields, options);
        if (writer.producer.writeAt > place) frames.push(place);
      }
      const { region } = writer;
      for (const [where, byte] of hits) {
        const frameAt = frames[Math.floor(where * frames.length)] ?? region.framesAt(0);
        const length = region.view.getInt32(frameAt, true);
        const offset = 16 + Math.floor(((where * frames.length) % 1) * Math.max(0, length - 16));
        if (length > offset) region.bytes[frameAt + offset] = byte;
      }
      const transcoder = new RegionTranscoder(region, optionsOf(timeZone), machine);
      frames.forEach((from, index) => {
        const length = region.view.getInt32(from, true);
        const span = { from, to: from + length, position: 0, seq: index };
        const table = new PendingBatch(LIMITS, ',', new TextBuffer(1024));
        table.reset(0, index);
        const limits = { recordsMax: 1, bytesMax: 1 << 20, separator: 44 };
        if (transcoder.appendSpan(span, table.text, table, limits) === 0) return;
        const expected = new TextBuffer(1024);
        expected.at = 1;
        transcoder.append(from, expected);
        assert.deepEqual(
          Buffer.from(table.text.bytes.subarray(1, table.text.at - 1)).toString('latin1'),
          Buffer.from(expected.bytes.subarray(1, expected.at)).toString('latin1'),
        );
      });
    }),
    { numRuns: 300 },
  );
});

test('definitions that outgrow the memory of the machine are brought anew', () => {
  const machine = openMachine();
  const writer = new Writer();
  const epochs = Array.from({ length: 20 }, (_, index) =>
    writer.supers({ long: 'x'.repeat(4000), turn: index }),
  );
  for (let index = 0; index < 2000; index += 1) {
    const properties = { [`only_${index % 97}`]: index, other: 'y' };
    const supers = epochs[index % epochs.length] ?? NO_SUPER;
    writer.write(1, { accountId: 'a', event: 'e', properties }, { supers, dynamic: undefined });
  }
  const options = optionsOf('UTC');
  const before = machine.generation;
  const both = fill(writer.region, options, machine);
  assert.ok(machine.generation > before, 'the memory was used up');
  assert.deepEqual(both, fill(writer.region, options, undefined));
});

test('dynamic properties of ever new names come out as by the reference', () => {
  const machine = openMachine();
  const writer = new Writer();
  const supers = writer.supers({ server: 'eu', level: 7 });
  for (let index = 0; index < 3000; index += 1) {
    const own = index % 2 === 0 ? { a: index } : { b: 'x', LEVEL: index };
    const dynamic = {
      [`only_${index % 700}`]: index,
      ...(index % 3 === 0 ? { server: 'us' } : {}),
    };
    const fields = { accountId: 'a', event: 'e', properties: own };
    writer.write(1, fields, { supers, dynamic });
  }
  const options = optionsOf('Asia/Shanghai');
  assert.deepEqual(fill(writer.region, options, machine), fill(writer.region, options, undefined));
});

test('the compressor refuses more than its place holds', () => {
  const machine = openMachine();
  assert.equal(machine.calls.deflate(PLAIN_BYTES + 1, 1), 0);
  assert.ok(machine.calls.deflate(PLAIN_BYTES, 1) > 0);
});

// Goal: a user's partition is one and the same, whoever finds it. Method: the machine against the reader of records' text, over all sorts of
// ids, in any order of fields, beside names and texts that look like them.
test('the machine puts each record into the partition, the place and the message it has without the machine', () => {
  const machine = openMachine();
  const nested = fc.record({ '#account_id': textArbitrary, list: fc.array(fc.jsonValue()) });
  const record = fc
    .record(
      {
        '#account_id': fc.oneof(textArbitrary, fc.integer()),
        '#distinct_id': textArbitrary,
        '#uuid': fc.uuid(),
        '#account_ix': textArbitrary,
        '#event_name': textArbitrary,
        properties: fc.oneof(fc.jsonValue(), nested),
      },
      { requiredKeys: [] },
    )
    .chain((fields) => fc.shuffledSubarray(Object.entries(fields)))
    .map((entries) => JSON.stringify(Object.fromEntries([['#type', 'track'], ...entries])));
  fc.assert(
    fc.property(
      fc.array(record, { minLength: 1, maxLength: 40 }),
      fc.constantFrom(1, 7, 16, 4096),
      (lines, partitions) => {
        const packing = {
          partitions,
          message: 'batch',
          level: 'none',
          memory: new BodyMemory(),
          bytesMax: 1 << 20,
        } as const;
        const batch = RecordBatch.of(lines);
        const told = ({ chains }: ReturnType<typeof packBatch>) =>
          chains
            .flat()
            .map(({ payload, ...facts }) => ({ ...facts, text: Buffer.from(payload).toString() }))
            .sort((one, other) => one.partition - other.partition);
        assert.deepEqual(
          told(packBatch(batch, { ...packing, machine })),
          told(packBatch(batch, { ...packing, machine: undefined })),
        );
      },
    ),
    { numRuns: 500 },
  );
});

test('more records or bytes than the machine has room for are spread all the same', () => {
  const machine = openMachine();
  const of = (count: number, pad: number) =>
    RecordBatch.of(
      Array.from({ length: count }, (_, n) =>
        JSON.stringify({ '#account_id': `u${n % 50}`, n, pad: 'x'.repeat(pad) }),
      ),
    );
  const memory = new BodyMemory();
  const packing = { partitions: 4, message: 'batch', level: 'none', machine, memory } as const;
  for (const batch of [of(SPREAD_RECORDS_MAX + 1, 0), of(300, 5000), of(600, 1000)]) {
    const bytesMax = 100_000;
    const messages = packBatch(batch, { ...packing, bytesMax }).chains.flat();
    assert.ok(messages.every(({ payload }) => payload.length <= bytesMax));
    const lines = messages.flatMap(({ payload }) =>
      Buffer.from(payload).toString().trimEnd().split('\n'),
    );
    assert.equal(new Set(lines).size, batch.count);
  }
});

// What lets the sinks of brokers read the engine's own memory.
test('messages do not change when the memory of their batch does', () => {
  const lines = Array.from({ length: 50 }, (_, n) =>
    JSON.stringify({ '#account_id': `u${n % 9}`, '#uuid': `${n}`, pad: 'x'.repeat(100) }),
  );
  const memory = new BodyMemory();
  for (const message of ['batch', 'record'] as const) {
    for (const level of ['none', 'fast'] as const) {
      for (const machine of [openMachine(), undefined]) {
        const { text, starts, ends } = layOut(lines, '\n');
        const batch = new RecordBatch({ count: lines.length, text, starts, ends }, 'borrowed');
        const packing = { partitions: 4, message, level, machine, memory, bytesMax: 2000 };
        const { chains, release } = packBatch(batch, packing);
        text.fill(0);
        const found = chains.flat().flatMap(({ payload, isPacked }) => {
          const plain = isPacked ? gunzipSync(payload) : Buffer.from(payload);
          return plain.toString().trimEnd().split('\n');
        });
        assert.deepEqual(found.toSorted(), lines.toSorted());
        release();
      }
    }
  }
});
