import { createRequire } from 'node:module';
import { Analytics, AsyncBatchConsumer } from '../src/index.ts';
import { finishedRecord, makeEvents, SUPER_PROPERTIES } from './events.ts';
import { interleave, type Series } from './measure.ts';

const CALLS = 20_000;
const WARM_UPS = 5;
const UUID = '3f2b8c1e-9a47-4d6e-8b15-7c0d9e2f1a34';

interface TdClient {
  setSuperProperties(properties: object): void;
  track(params: object): void;
  close(): void;
}
interface TdNode {
  initWithAsyncBatchMode(appId: string, url: string, config: object): TdClient;
}

/** Cost of one call to its caller, in ns: checks on, uuid on, super properties set. */
export async function benchCaller(url: string, rounds: number): Promise<Series[]> {
  const events = makeEvents(1000);
  const records = events.map((event) => finishedRecord(event, UUID));
  const ta = new Analytics(new AsyncBatchConsumer({ url, appId: 'A', workers: 1 }));
  ta.setSuperProperties(SUPER_PROPERTIES);
  const sdk = createRequire(import.meta.url)('thinkingdata-node') as TdNode;
  const td = sdk.initWithAsyncBatchMode('A', url, { batchSize: 500, interval: 1e9 });
  td.setSuperProperties(SUPER_PROPERTIES);
  let bytes = 0;
  const series = await interleave(
    {
      'JSON.stringify of the finished record': () =>
        timed((index) => {
          bytes += JSON.stringify(records[index]).length;
        }),
      'millrace track()': async () => {
        const ns = timed((index) => {
          const event = events[index];
          if (event === undefined || !ta.track(event)) throw new Error('a record was dropped');
        });
        // What the worker does afterwards is not the caller's, and must not run into the next contestant.
        await ta.flush();
        return ns;
      },
    },
    { rounds, warmUps: WARM_UPS },
  );
  // Apart from the others: what it does in the background after its calls would run into theirs.
  const official = await interleave(
    {
      'thinkingdata-node track()': async () => {
        const ns = timed((index) => td.track({ ...events[index] }));
        await new Promise((resolve) => setTimeout(resolve, 300));
        return ns;
      },
    },
    { rounds, warmUps: WARM_UPS },
  );
  td.close();
  const stats = await ta.close();
  if (stats.delivered !== CALLS * (rounds + WARM_UPS) || bytes === 0)
    throw new Error('records are missing');
  return [...series, ...official];
}

function timed(call: (index: number) => void): number {
  const startMs = performance.now();
  for (let index = 0; index < CALLS; index += 1) call(index % 1000);
  return ((performance.now() - startMs) * 1e6) / CALLS;
}
