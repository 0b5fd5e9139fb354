import assert from 'node:assert/strict';
import { createServer } from 'node:net';
import type { AsyncBatchConsumerOptions } from '../../src/index.ts';
import type { Fault } from '../../src/receiver/index.ts';
import {
  assertNoLoss,
  type Drill,
  type DrillTools,
  delay,
  type Finding,
  optionsOf,
  Receiver,
  reconcile,
  Sender,
} from './drill.ts';

interface Trouble {
  readonly faults: readonly Fault[];
  readonly options?: Partial<AsyncBatchConsumerOptions>;
  readonly records?: number;
}

/** Sends at a steady rate while the receiver has these faults, which end by themselves. */
async function underTrouble({ faults, options, records = 20_000 }: Trouble): Promise<{
  finding: Finding;
  sender: Sender;
  requests: number;
}> {
  const receiver = await Receiver.start();
  await receiver.process.setFaults(faults);
  const sender = new Sender({
    options: optionsOf(receiver, options),
    from: 0,
    to: records,
    perTick: 200,
    tickMs: 10,
    end: 'close',
  });
  assert.equal(await sender.ended, 0);
  const { requests } = await receiver.process.snapshot();
  await receiver.stop();
  return { finding: reconcile(sender.account, receiver.numbers()), sender, requests };
}

function passing(id: string, fault: string, faults: readonly Fault[], forMs = 3000): Drill {
  return {
    id,
    fault,
    promise: 'all arrive',
    run: async ({ scale }) => {
      const timed = faults.map((one) => ({ ...one, forMs: one.forMs ?? forMs * scale }));
      return assertNoLoss((await underTrouble({ faults: timed })).finding);
    },
  };
}

async function throttled(_: DrillTools): Promise<Finding> {
  const receiver = await Receiver.start();
  await receiver.process.setFaults([
    { action: { kind: 'status', status: 429, headers: { 'retry-after': '2' } }, requests: 1 },
  ]);
  const job = { from: 0, to: 5000, perTick: 200, tickMs: 10, end: 'close' } as const;
  const sender = new Sender({ options: optionsOf(receiver), ...job });
  const requests = async () => (await receiver.process.snapshot()).requests;
  while ((await requests()) === 0) await delay(5);
  // Those that were under way when the answer came are not in the window.
  await delay(250);
  const before = await requests();
  await delay(1400);
  assert.equal(await requests(), before, 'nobody asks in the window');
  await sender.ended;
  await receiver.stop();
  return assertNoLoss(reconcile(sender.account, receiver.numbers()));
}

async function restarted({ random, scale }: DrillTools): Promise<Finding> {
  const receiver = await Receiver.start();
  const sender = new Sender({
    options: optionsOf(receiver),
    from: 0,
    to: 60_000 * scale,
    perTick: 100,
    tickMs: 10,
    end: 'close',
  });
  for (let round = 0; round < 20 * scale; round += 1) {
    await delay(random(200));
    await receiver.stop();
    await delay(random(100));
    await receiver.start();
  }
  assert.equal(await sender.ended, 0);
  await receiver.stop();
  return assertNoLoss(reconcile(sender.account, receiver.numbers()));
}

/** The other host must never see a record; people mend the cause, and then all goes out. */
async function redirected(): Promise<Finding> {
  const other = await Receiver.start();
  const location = `${other.url}/sync_server`;
  const faults = [{ action: { kind: 'redirect', location }, requests: 2 }] as const;
  const { finding } = await underTrouble({ faults, records: 2000 });
  assert.equal((await other.process.snapshot()).requests, 0);
  await other.stop();
  return assertNoLoss(finding);
}

async function tooLarge(): Promise<Finding> {
  const faults = [{ action: { kind: 'too-large', bytes: 2000 } }] as const;
  const { finding } = await underTrouble({ faults, records: 3000 });
  return assertNoLoss(finding);
}

async function poisoned(): Promise<Finding> {
  const faults = [{ action: { kind: 'poison', text: '"index":1777,' } }] as const;
  const { finding, sender } = await underTrouble({ faults, records: 5000 });
  assert.equal(sender.account.rejected, 1);
  assert.equal(finding.arrived, 4999);
  return finding;
}

async function blackHole({ scale }: DrillTools): Promise<Finding> {
  const sockets = new Set<unknown>();
  const server = createServer((socket) => {
    sockets.add(socket);
    // Reads on, so that it notices when the sender gives up; it never answers.
    socket.resume();
    socket.on('error', () => {
      // The sender gives the connection up; that is what is wanted.
    });
    socket.on('close', () => sockets.delete(socket));
  }).listen(0, '127.0.0.1');
  await new Promise((resolve) => server.once('listening', resolve));
  const { port } = server.address() as { port: number };
  const options = optionsOf(
    { url: `http://127.0.0.1:${port}` },
    { connections: 2, ringBytes: 4 * 1024 * 1024, queueSize: 10_000 },
  );
  const job = { from: 0, perTick: 200, tickMs: 10, end: 'stay' } as const;
  const sender = new Sender({ options, ...job });
  await delay(4000);
  const startBytes = sender.rssBytes;
  let most = 0;
  const endMs = Date.now() + 20_000 * scale;
  while (Date.now() < endMs) {
    most = Math.max(most, sockets.size);
    await delay(50);
  }
  const grown = sender.rssBytes - startBytes;
  const stats = sender.account;
  await sender.kill();
  server.close();
  assert.ok(most <= 2 * 2, `${most} sockets`);
  assert.ok(grown < 32 * 1024 * 1024, `memory grew by ${grown} bytes`);
  return {
    ...reconcile(stats, []),
    note: `${(grown / 1024 / 1024).toFixed(0)} MB grown, ${most} sockets`,
  };
}

/** What becomes of the receiver's answers. */
export const RECEIVER_DRILLS: readonly Drill[] = [
  passing('F1', 'answers 503 for a while', [{ action: { kind: 'status', status: 503 } }]),
  {
    id: 'F2',
    fault: '429 with Retry-After',
    promise: 'all arrive; no request in the window',
    run: throttled,
  },
  {
    id: 'F6',
    fault: 'redirects to another host',
    promise: 'not followed; all arrive when it ends',
    run: redirected,
  },
  { id: 'F3', fault: '413 above 2000 bytes', promise: 'all arrive, split', run: tooLarge },
  {
    id: 'F4',
    fault: 'refuses batches with one poison record',
    promise: 'all others arrive',
    run: poisoned,
  },
  passing(
    'F5',
    'wrong JSON, empty and unknown answers',
    [
      { action: { kind: 'wrong-json' }, probability: 0.3 },
      { action: { kind: 'empty' }, probability: 0.3 },
      { action: { kind: 'code', code: -7 }, probability: 0.3 },
    ],
    300,
  ),
  {
    id: 'F7',
    fault: 'takes connections and never answers',
    promise: 'bounded memory and sockets; all accounted for',
    run: blackHole,
  },
  passing('F8', 'connections cut before, in and after the body', [
    { action: { kind: 'reset', when: 'start' }, probability: 0.2 },
    { action: { kind: 'reset', when: 'body' }, probability: 0.2 },
    { action: { kind: 'reset', when: 'after' }, probability: 0.2 },
  ]),
  passing('F9', 'half answers, slow answers, none', [
    { action: { kind: 'half' }, probability: 0.2 },
    { action: { kind: 'slow', byteMs: 1000 }, probability: 0.1 },
    { action: { kind: 'hang' }, probability: 0.1 },
  ]),
  { id: 'F1b', fault: 'killed and started again 20 times', promise: 'all arrive', run: restarted },
];
