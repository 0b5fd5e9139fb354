import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import type { Clock } from '../src/base/clock.ts';
import type { SpoolFileSystem } from '../src/spool/file-system.ts';
import { SpoolLane, type SpoolRecords } from '../src/spool/lane.ts';

const LIMITS = { maxRecords: 100, maxBytes: 1 << 20 };

/** Records as a batch has them: their texts in one buffer. */
export function recordsOf(texts: readonly string[], seq = 0): SpoolRecords {
  const parts = texts.map((text) => Buffer.from(text));
  const starts = new Uint32Array(texts.length);
  const ends = new Uint32Array(texts.length);
  let at = 1;
  for (const [index, part] of parts.entries()) {
    starts[index] = at;
    ends[index] = at + part.length;
    at += part.length + 1;
  }
  const text = new Uint8Array(at);
  for (const [index, part] of parts.entries()) text.set(part, starts[index]);
  return { text, starts, ends, from: 0, to: texts.length, stampMs: 1_700_000_000_000, seq };
}

/** A lane of the spool in a run's folder. */
export function openLane(
  directory: string,
  options: {
    readonly fileSystem?: SpoolFileSystem;
    readonly settled?: number;
    readonly segmentBytes?: number;
    readonly fsync?: 'never' | 'interval' | 'batch';
    readonly intervalMs?: number;
    readonly clock?: Clock;
  } = {},
): SpoolLane {
  const { fileSystem, clock, settled = 0, segmentBytes = 4096 } = options;
  const { fsync = 'never', intervalMs = 0 } = options;
  return SpoolLane.open(
    { directory, lane: 0, segmentBytes, fsync, intervalMs, settled },
    {
      ...(fileSystem === undefined ? {} : { fileSystem }),
      ...(clock === undefined ? {} : { clock }),
    },
  );
}

/** Everything a lane still holds, and how many records damage took. */
export function drain(lane: SpoolLane): { texts: string[]; lost: number } {
  const texts: string[] = [];
  let lost = 0;
  for (let batch = lane.peek(LIMITS); batch !== undefined; batch = lane.peek(LIMITS)) {
    lost += batch.lost;
    for (let index = 0; index < batch.count; index += 1) {
      texts.push(
        Buffer.from(batch.text.subarray(batch.starts[index], batch.ends[index])).toString(),
      );
    }
    lane.settle(batch);
  }
  return { texts, lost };
}

/** Files of the first lane, oldest first. */
export function segmentPaths(directory: string): string[] {
  const folder = join(directory, 'lane-000');
  return readdirSync(folder)
    .filter((name) => name.endsWith('.seg'))
    .sort()
    .map((name) => join(folder, name));
}
