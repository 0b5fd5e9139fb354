import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { test } from 'node:test';
import { gunzipSync, gzipSync } from 'node:zlib';
import fc from 'fast-check';
import { finishedRecord } from '../bench/events.ts';
import { BodyMemory } from '../src/codec/body-memory.ts';
import { gzip, jsonBody } from '../src/codec/gzip.ts';
import { Machine } from '../src/codec/machine.ts';
import { PACKED_SPARE_BYTES, PLAIN_BYTES } from '../src/codec/machine-places.ts';
import { makeEvents } from '../src/tune/game-events.ts';

const machine = Machine.open();

function assertReturns(plain: Uint8Array): Buffer {
  const packed = gzip(plain, 'fast', { machine });
  const pieces = Math.ceil(plain.length / PLAIN_BYTES) || 1;
  assert.ok(packed.length <= plain.length + pieces * PACKED_SPARE_BYTES);
  // Not deepEqual, which compares byte by byte and is slow for a megabyte.
  assert.ok(Buffer.compare(gunzipSync(packed), plain) === 0, `${plain.length} bytes come back`);
  return packed;
}

/** Text that copies itself from near and far, with noise in between. */
const selfSimilar = fc
  .tuple(
    fc.uint8Array({ minLength: 1, maxLength: 300 }),
    fc.array(fc.tuple(fc.nat(70_000), fc.nat(600), fc.uint8Array({ maxLength: 9 }), fc.boolean()), {
      maxLength: 200,
    }),
  )
  .map(([start, copies]) => {
    const parts = [Buffer.from(start)];
    let text = Buffer.concat(parts);
    for (const [back, length, noise, isNear] of copies) {
      const from = Math.max(0, text.length - 1 - (isNear ? back % 300 : back));
      const copy = text.subarray(from, from + length);
      text = Buffer.concat([text, copy, noise]);
    }
    return text;
  });

const plainTexts: fc.Arbitrary<Uint8Array> = fc.oneof(
  fc.uint8Array({ maxLength: 2000 }),
  selfSimilar,
  fc.json({ maxDepth: 4 }).map((text) => Buffer.from(text.repeat(20))),
  fc.string({ unit: 'grapheme', maxLength: 3000 }).map((text) => Buffer.from(text)),
  fc
    .array(fc.constantFrom(...'ab', 'abc', '","key":', ' ', '{', '龙之谷'), { maxLength: 3000 })
    .map((words) => Buffer.from(words.join(''))),
);

test('whatever is compressed comes back', () => {
  fc.assert(
    fc.property(plainTexts, (plain) => void assertReturns(plain)),
    { numRuns: 1500 },
  );
});

test('texts at every limit come back', () => {
  const noise = Uint8Array.from({ length: PLAIN_BYTES }, () => Math.random() * 256);
  for (const length of [0, 1, 2, 3, 4, 31, 32, 33, 257, 258, 259, 65_535, 65_536, 200_000]) {
    assertReturns(noise.subarray(0, length));
    assertReturns(new Uint8Array(length).fill(0x61));
    assertReturns(Buffer.from('{"a":1},'.repeat(length / 8 + 1).slice(0, length)));
  }
  assertReturns(noise);
  const same = assertReturns(new Uint8Array(PLAIN_BYTES).fill(0x61));
  assert.ok(same.length < 10_000, `a megabyte of one letter takes ${same.length} bytes`);
  // More short matches than one block has room for, and repeats that are just out of reach.
  const short = Array.from({ length: 200_000 }, (_, index) => `,${(index * 7919) % 1000}`);
  assertReturns(Buffer.from(short.join('')).subarray(0, PLAIN_BYTES));
  for (const gap of [32_700, 32_768, 32_769, 40_000]) {
    const half = noise.subarray(0, gap);
    assertReturns(Buffer.concat([half, half, half]));
  }
});

test('the same text gives the same bytes, whatever was compressed before', () => {
  const text = Buffer.from(JSON.stringify(makeEvents(300)));
  const first = assertReturns(text);
  for (let round = 0; round < 50; round += 1) assertReturns(text.subarray(round * 31));
  assert.deepEqual(assertReturns(text), first);
});

test('a text longer than the place it is compressed in comes back as one', () => {
  const noise = Uint8Array.from({ length: 2 * PLAIN_BYTES + 1 }, () => Math.random() * 256);
  const events = Buffer.from(JSON.stringify(makeEvents(1000)).repeat(6));
  for (const length of [
    PLAIN_BYTES + 1,
    2 * PLAIN_BYTES - 1,
    2 * PLAIN_BYTES,
    2 * PLAIN_BYTES + 1,
  ]) {
    assertReturns(noise.subarray(0, length));
    const packed = assertReturns(events.subarray(0, length));
    assert.ok(packed.length < length / 5, `${length} bytes of events take ${packed.length}`);
  }
});

test('without a machine, or at a level of its own, zlib does it', () => {
  const text = Buffer.from('[{"a":1}]');
  assert.deepEqual(gunzipSync(gzip(text, 'fast', { machine: undefined })), text);
  assert.deepEqual(gunzipSync(gzip(text, 9, { machine })), text);
});

test('the memory of a body that came back serves the next one, and no other memory does', () => {
  const memory = new BodyMemory();
  const first = gzip(Buffer.from('first'), 'fast', { machine, memory });
  const second = gzip(Buffer.from('second'), 'fast', { machine, memory });
  assert.notEqual(first.buffer, second.buffer);
  memory.giveBack(first);
  const third = gzip(Buffer.from('third'), 'fast', { machine, memory });
  assert.equal(third.buffer, first.buffer);
  assert.equal(gunzipSync(third).toString(), 'third');
  assert.equal(gunzipSync(second).toString(), 'second');
  const foreign = Buffer.from('of the pool that all small buffers share');
  memory.giveBack(foreign);
  assert.notEqual(memory.take(10).buffer, foreign.buffer);
  const large = memory.take(third.buffer.byteLength + 1);
  assert.ok(large.buffer.byteLength > third.buffer.byteLength);
  memory.giveBack(third);
  assert.notEqual(memory.take(large.length).buffer, third.buffer);
});

test('the compressor is no larger than level 2 of zlib on events', () => {
  const events = makeEvents(500).map((event) => finishedRecord(event, randomUUID()));
  const plain = Buffer.from(JSON.stringify(events));
  const packed = assertReturns(plain);
  const level2 = gzipSync(plain, { level: 2 });
  assert.ok(packed.length <= level2.length, `${packed.length} against ${level2.length} bytes`);
});

test('a body is the array of its records, and the text around them stays', () => {
  const text = Buffer.from('x{"a":1},{"b":2},{"c":3},');
  const run = {
    count: 2,
    text,
    starts: Uint32Array.of(9, 17),
    ends: Uint32Array.of(16, 24),
  };
  const before = Buffer.from(text);
  for (const level of ['none', 'fast', 6] as const) {
    const body = jsonBody(run, level, { machine });
    const plain = level === 'none' ? body : gunzipSync(body);
    assert.equal(plain.toString(), '[{"b":2},{"c":3}]');
    assert.deepEqual(text, before);
  }
});
