import { Analytics, AsyncBatchConsumer, type AsyncBatchConsumerOptions } from '../../src/index.ts';

/** What a sending process does: plain data on its command line. */
export interface SenderJob {
  readonly options: AsyncBatchConsumerOptions;
  /** Number of the first record, and the number after the last one; undefined: until it is killed. */
  readonly from: number;
  readonly to?: number;
  readonly perTick: number;
  readonly tickMs: number;
  /** Number of a record at which the main thread stands still, and for how long in ms. */
  readonly stall?: { readonly at: number; readonly ms: number };
  /** Tells after each tick which records are on disk for certain. */
  readonly tellsDurable?: boolean;
  /** Ends at SIGTERM in this time, in ms. */
  readonly signalTimeoutMs?: number;
  /** How the sender ends after its last record. */
  readonly end: 'close' | 'exit' | 'throw' | 'stay';
}

export type SenderMessage =
  | { readonly durable: number }
  | { readonly rssBytes: number; readonly stats: ReturnType<Analytics['stats']> };

/** A record's uuid follows from its number, so that a record is known wherever it turns up. */
export function uuidOf(index: number): string {
  return `00000000-0000-4000-8000-${String(index).padStart(12, '0')}`;
}

const SETTLE_MS = 90_000;

async function main(job: SenderJob): Promise<void> {
  const ta = new Analytics(new AsyncBatchConsumer(job.options), {
    onError: () => {
      // The account tells.
    },
  });
  if (job.signalTimeoutMs !== undefined) ta.closeOnSignals({ timeoutMs: job.signalTimeoutMs });
  const send = (message: SenderMessage) => process.send?.(message);
  const report = () => send({ rssBytes: process.memoryUsage.rss(), stats: ta.stats() });
  const end = job.to ?? Number.MAX_SAFE_INTEGER;
  for (let index = job.from; index < end; ) {
    for (let burst = 0; burst < job.perTick && index < end; burst += 1, index += 1) {
      if (index === job.stall?.at) stand(job.stall.ms);
      ta.track({
        accountId: `u${index % 50}`,
        event: 'fault',
        uuid: uuidOf(index),
        properties: { index, text: 'a little something to carry along' },
      });
    }
    if (job.tellsDurable === true) {
      await ta.flush();
      send({ durable: index });
    }
    report();
    await new Promise((resolve) => setTimeout(resolve, job.tickMs));
  }
  if (job.end !== 'close') {
    leave(job.end);
    return;
  }
  const deadline = Date.now() + SETTLE_MS;
  while (ta.stats().queued + ta.stats().spooled > 0 && Date.now() < deadline) {
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  await ta.close();
  report();
  process.disconnect();
}

function leave(end: 'exit' | 'throw' | 'stay'): void {
  if (end === 'exit') process.exit(0);
  if (end === 'throw') throw new Error('the game server has a bug');
}

function stand(ms: number): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms);
}

const [text] = process.argv.slice(2);
if (process.argv[1]?.endsWith('sender.js') === true && text !== undefined) {
  await main(JSON.parse(text) as SenderJob);
}
