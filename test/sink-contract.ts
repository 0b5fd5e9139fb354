import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { after, before, describe, test } from 'node:test';
import type { Sink } from '../src/sink/sink.ts';
import { layOut } from './support.ts';

/** What a sink's test brings along. */
export interface SinkStage {
  /** A sink whose place is there. */
  readonly sink: Sink;
  /** One whose place is not. */
  readonly lost: Sink;
  /** Uuids of the records in the place of `sink`, in order of arrival. */
  readonly uuids: () => Promise<readonly string[]>;
  readonly stop: () => Promise<void>;
}

function recordsOf(count: number): { lines: string[]; uuids: string[] } {
  const uuids = Array.from({ length: count }, () => randomUUID());
  const lines = uuids.map((uuid, n) =>
    JSON.stringify({
      '#type': 'track',
      '#time': '2026-03-08 12:00:00.000',
      '#event_name': 'e',
      '#account_id': `user${n % 3}`,
      '#uuid': uuid,
      properties: { n, text: 'ü"\\\n云' },
    }),
  );
  return { lines, uuids };
}

const never = new AbortController().signal;

/** What the delivery relies on; every sink passes it. */
export function sinkContract(
  name: string,
  open: () => Promise<SinkStage>,
  skip: string | false = false,
): void {
  describe(`the sink contract: ${name}`, { skip }, () => {
    let stage: SinkStage;
    before(async () => {
      stage = await open();
    });
    after(async () => {
      await stage.sink.close();
      await stage.lost.close();
      await stage.stop();
    });

    test('a batch arrives whole, each user in order, and the text is as before', async () => {
      const { lines, uuids } = recordsOf(60);
      const batch = layOut(lines, stage.sink.separator);
      const before = Buffer.from(batch.text);
      const outcome = await stage.sink.deliver(batch, never);
      assert.ok(outcome.kind === 'delivered' && outcome.sentBytes > 0, JSON.stringify(outcome));
      assert.ok(stage.sink.lastAttempt.durationMs >= 0);
      assert.deepEqual(Buffer.from(batch.text), before);
      const arrived = (await stage.uuids()).filter((uuid) => uuids.includes(uuid));
      for (const user of [0, 1, 2]) {
        const ofUser = (uuid: string) => uuids.indexOf(uuid) % 3 === user;
        assert.deepEqual(arrived.filter(ofUser), uuids.filter(ofUser));
      }
    });

    test('a part of a batch arrives as that part', async () => {
      const { lines, uuids } = recordsOf(9);
      const { text, starts, ends } = layOut(lines, stage.sink.separator);
      const part = { count: 4, text, starts: starts.subarray(3, 7), ends: ends.subarray(3, 7) };
      const outcome = await stage.sink.deliver(part, never);
      assert.equal(outcome.kind, 'delivered', JSON.stringify(outcome));
      const arrived = new Set(await stage.uuids());
      assert.deepEqual(
        uuids.filter((uuid) => arrived.has(uuid)),
        uuids.slice(3, 7),
      );
    });

    test('several batches may be under way at once', async () => {
      const loads = Array.from({ length: 5 }, () => recordsOf(20));
      const outcomes = await Promise.all(
        loads.map(({ lines }) => stage.sink.deliver(layOut(lines, stage.sink.separator), never)),
      );
      for (const outcome of outcomes) assert.equal(outcome.kind, 'delivered');
      const arrived = new Set(await stage.uuids());
      for (const { uuids } of loads) for (const uuid of uuids) assert.ok(arrived.has(uuid));
    });

    test('a place that is not there is no throw, but a retry with a reason', async () => {
      const { lines } = recordsOf(3);
      const signal = AbortSignal.timeout(2000);
      const outcome = await stage.lost.deliver(layOut(lines, stage.lost.separator), signal);
      assert.ok(outcome.kind === 'retry' && outcome.message !== '', JSON.stringify(outcome));
    });

    test('an attempt whose signal is aborted ends, without a throw', async () => {
      const { lines } = recordsOf(3);
      const outcome = await stage.sink.deliver(
        layOut(lines, stage.sink.separator),
        AbortSignal.abort(),
      );
      assert.match(outcome.kind, /^(retry|delivered)$/);
    });

    test('flush resolves', async () => {
      await stage.sink.flush();
    });
  });
}
