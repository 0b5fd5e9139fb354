import { type MessagePort, parentPort, workerData } from 'node:worker_threads';
import { Analytics, MillraceError } from '../src/index.ts';

interface Job {
  readonly port: MessagePort;
  readonly id: number;
  readonly count: number;
  readonly ends: 'flush' | 'exit' | 'wait-for-close' | 'sign' | 'within';
  /** Set to 1 when all is tracked. */
  readonly signs?: Int32Array;
  /** Wrong calls at first. */
  readonly wrong?: number;
  /** Length of a text in each record; 0: there is none. */
  readonly text?: number;
}

/** A thread of the game: tracks through a port, and ends as it is told. */
const { port, id, count, ends, signs, wrong = 0, text = 0 } = workerData as Job;
const ta = Analytics.attach(port, wrong > 0 ? { onError: () => {} } : {});
for (let call = 0; call < wrong; call += 1)
  ta.track({ event: 'e' } as { event: string; accountId: string });
const more = text > 0 ? { text: 'x'.repeat(text) } : {};
if (ends === 'within') port.postMessage = () => process.exit();
let accepted = 0;
let outcomes = 0;
for (let index = 0; index < count; index += 1) {
  const isIn = ta.track({
    accountId: `t${id}u${index % 5}`,
    event: 'e',
    properties: { index, ...more },
    onSettled: () => {
      outcomes += 1;
    },
  });
  if (isIn) accepted += 1;
  if (index % 50 === 0 && ends !== 'sign') await new Promise((resolve) => setImmediate(resolve));
}
if (ends === 'exit') process.exit(0);
if (ends === 'sign' && signs !== undefined) {
  Atomics.store(signs, 0, 1);
  Atomics.notify(signs, 0);
}
if (ends === 'flush') {
  await ta.flush();
  while (outcomes < count) await new Promise((resolve) => setTimeout(resolve, 1));
  parentPort?.postMessage({ accepted, outcomes });
}
if (ends === 'wait-for-close') {
  parentPort?.postMessage('tracked');
  await new Promise((resolve) => parentPort?.once('message', resolve));
  try {
    ta.track({ accountId: 'u', event: 'late' });
  } catch (error) {
    parentPort?.postMessage(error instanceof MillraceError ? error.code : String(error));
  }
}
