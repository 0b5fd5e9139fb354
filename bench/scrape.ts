import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Analytics, LoggingConsumer } from '../src/index.ts';

const ROUNDS = 2000;

/** What one scrape costs the game's thread, by lanes. Prints microseconds: median and 99th percentile. */
for (const lanes of [4, 16, 64]) {
  const directory = mkdtempSync(join(tmpdir(), 'millrace-scrape-'));
  const ta = new Analytics(new LoggingConsumer({ directory, lanes }));
  for (let index = 0; index < 1000; index += 1) ta.track({ accountId: `u${index}`, event: 'e' });
  await ta.flush();
  const times: number[] = [];
  let text = '';
  for (let round = 0; round < ROUNDS; round += 1) {
    const startMs = performance.now();
    text = await ta.register.metrics();
    times.push((performance.now() - startMs) * 1000);
  }
  const sorted = times.toSorted((a, b) => a - b);
  const at = (share: number) => Math.round(sorted[Math.floor(share * (ROUNDS - 1))] ?? 0);
  const samples = text.split('\n').filter((line) => line !== '' && !line.startsWith('#')).length;
  const stats = await ta.close();
  rmSync(directory, { recursive: true });
  if (stats.delivered !== 1000 || stats.imbalance !== 0) throw new Error(JSON.stringify(stats));
  console.log(
    `${lanes} lanes: ${samples} samples, ${text.length} bytes, ${at(0.5)} µs median, ${at(0.99)} µs p99`,
  );
}
