import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import { join } from 'node:path';
import type { AsyncBatchConsumerOptions } from '../../src/index.ts';
import type { Fault, FaultAction } from '../../src/receiver/index.ts';
import { metricIn, newDirectory, until } from '../support.ts';
import {
  assertNoLoss,
  type Drill,
  type DrillTools,
  delay,
  type Finding,
  MIB,
  optionsOf,
  quantile,
  reconcile,
  watchPauses,
} from './drill.ts';
import type { SenderJob } from './sender.ts';
import { Receiver, Sender } from './stage.ts';
import { Tap, type TapNote } from './tap.ts';

interface Trouble {
  readonly faults: readonly Fault[];
  readonly options?: Partial<AsyncBatchConsumerOptions>;
  readonly job?: Partial<SenderJob>;
  /** 'read': the tap notes the numbers of the records, too. */
  readonly tap?: 'count' | 'read';
}

interface Outcome {
  readonly finding: Finding;
  readonly sender: Sender;
  readonly notes: readonly TapNote[];
  readonly numbers: readonly number[];
}

const STEADY = { from: 0, to: 20_000, perTick: 200, tickMs: 10, end: 'close' } as const;

/** Sends at a steady rate while the receiver has these faults, which end by themselves. */
async function underTrouble({ faults, options, job, tap: how }: Trouble): Promise<Outcome> {
  const receiver = await Receiver.start();
  const tap = how === undefined ? undefined : await Tap.before(receiver, how);
  await receiver.process.setFaults(faults);
  const sender = new Sender({ options: optionsOf(tap ?? receiver, options), ...STEADY, ...job });
  const stats = await sender.finish();
  await tap?.stop();
  await receiver.stop();
  const numbers = receiver.numbers();
  return { finding: reconcile(stats, numbers), sender, notes: tap?.notes ?? [], numbers };
}

const DEAD_STATUSES: readonly number[] = [500, 502, 503, 504];
/** Ends of the pauses between probes of a dead receiver: docs/delivery.md. */
const PROBE_PAUSE_MIN_MS = 250;
const PROBE_PAUSE_MAX_MS = 15_000;
const FAILURES_BEFORE_PROBES = 5;
/** Requests that are under way when the circuit opens: one a lane. */
const LANES = 4;

/** Sends for so long into a receiver that fails, and lets it recover at the end. */
async function serverErrors({ pick }: DrillTools): Promise<Finding> {
  const outageMs = pick({ quick: 1500, usual: 20_000, full: 60_000 });
  const receiver = await Receiver.start();
  const tap = await Tap.before(receiver);
  await receiver.process.setFaults(
    DEAD_STATUSES.map((status, index) => ({
      action: { kind: 'status', status },
      probability: 1 / (DEAD_STATUSES.length - index),
    })),
  );
  const records = (outageMs / 10) * 20;
  const job = { from: 0, to: records, perTick: 20, tickMs: 10, end: 'close' } as const;
  const sender = new Sender({ options: optionsOf(tap), ...job });
  await sender.untilAccepted(records);
  const pauses = pausesIn(tap.notes);
  await receiver.process.setFaults([]);
  const recoveredMs = Date.now();
  const stats = await sender.finish();
  const drainedMs = Date.now() - recoveredMs;
  await tap.stop();
  await receiver.stop();
  // All that was offered in the outage has half of that time: twice the offered rate, and the longest pause between probes.
  assert.ok(drainedMs <= 30_000, `drained after ${drainedMs} ms`);
  const [shortest = 0, longest = 0] = [Math.min(...pauses), Math.max(...pauses)];
  if (pauses.length > 0) {
    assert.ok(shortest >= PROBE_PAUSE_MIN_MS * 0.9, `a pause of ${shortest} ms`);
    assert.ok(longest <= PROBE_PAUSE_MAX_MS * 1.1, `a pause of ${longest} ms`);
  }
  const words =
    pauses.length > 0
      ? `; ${pauses.length} pauses between probes, ${seconds(shortest)} to ${seconds(longest)}`
      : '';
  const measured = `drained ${seconds(drainedMs)} after an outage of ${seconds(outageMs)}${words}`;
  return { ...assertNoLoss(reconcile(stats, receiver.numbers())), measured };
}

function pausesIn(notes: readonly TapNote[]): number[] {
  const probes = notes.slice(FAILURES_BEFORE_PROBES + LANES);
  return probes.slice(1).map(({ startMs }, index) => startMs - (probes[index]?.startMs ?? 0));
}

function seconds(ms: number): string {
  return `${(ms / 1000).toFixed(1)} s`;
}

const WINDOW_SLACK_MS = 250;

/** 429 once, with Retry-After in one of its two forms. */
async function throttled(form: 'seconds' | 'date', { pick }: DrillTools): Promise<Finding> {
  const afterMs = pick({ quick: 2000, usual: 5000, full: 5000 });
  const until = new Date(Math.ceil((Date.now() + afterMs) / 1000) * 1000 + 1000);
  const value = form === 'seconds' ? String(afterMs / 1000) : until.toUTCString();
  const answer = { kind: 'status', status: 429, headers: { 'retry-after': value } } as const;
  const { finding, notes } = await underTrouble({
    faults: [{ action: answer, requests: 1 }],
    tap: 'count',
    job: { to: 5000 },
  });
  const refusal = notes.find(({ status }) => status === 429);
  assert.equal(refusal?.retryAfter, value);
  const openMs = form === 'seconds' ? refusal.endMs + afterMs : until.getTime();
  const [from, to] = [refusal.endMs + WINDOW_SLACK_MS, openMs - WINDOW_SLACK_MS];
  const inWindow = notes.filter(({ startMs }) => startMs > from && startMs < to);
  assert.deepEqual(inWindow, [], 'nobody asks in the window');
  const first = notes.find(({ startMs }) => startMs >= to);
  const measured = `Retry-After: ${value}; no request for ${seconds(to - from)}, the next ${Math.round((first?.startMs ?? 0) - openMs)} ms after its end`;
  return { ...assertNoLoss(finding), measured };
}

const LIMIT_BYTES: number = 200 * 1024;

function mostRequests(records: number): number {
  return 2 * Math.ceil(Math.log2(records)) + 1;
}

/** One record of each batch is too large by itself; its neighbours are small. */
async function oversized(): Promise<Finding> {
  const deadLetter = join(newDirectory(), 'dead.jsonl');
  const { finding, sender, notes, numbers } = await underTrouble({
    faults: [{ action: { kind: 'too-large', bytes: LIMIT_BYTES } }],
    options: { compress: false, deadLetter, lanes: 1, batchBytes: MIB },
    job: { to: 1000, perTick: 100, large: { every: 100, bytes: 250_000 } },
    tap: 'read',
  });
  assert.deepEqual([finding.arrived, finding.dropped], [990, { rejected: 10 }]);
  assert.ok(numbers.every((index) => index % 100 !== 0));
  const kept = readFileSync(deadLetter, 'utf8').trimEnd().split('\n');
  assert.equal(kept.length, 10);
  const tooLarge = 'reason="too_large"';
  const counted = metricIn(sender.metrics, 'millrace_records_dead_lettered_total', tooLarge);
  assert.equal(counted, 10);
  let most = 0;
  for (let culprit = 0; culprit < 1000; culprit += 100) {
    const tries = notes.filter((note) => note.numbers.includes(culprit));
    const span = tries[0]?.numbers ?? [];
    // The halves beside the culprit belong to its split, too.
    const requests = notes.filter(({ numbers: [first = -1] }) => span.includes(first));
    assert.ok(requests.length <= mostRequests(span.length), `${requests.length} of ${span.length}`);
    most = Math.max(most, requests.length);
  }
  const measured = `10 in K with too_large; at most ${most} requests for a batch of 100 (bound ${mostRequests(100)})`;
  return { ...finding, measured };
}

/** Batches are too large as a whole, no record is. */
async function tooLarge(tools: DrillTools): Promise<Finding> {
  const limit = 1000 + tools.random(4000);
  const { finding, notes } = await underTrouble({
    faults: [{ action: { kind: 'too-large', bytes: limit } }],
    options: { compress: false },
    job: { to: 3000 },
    tap: 'count',
  });
  const refused = notes.filter(({ status }) => status === 413).length;
  const taken = notes.filter(({ status }) => status === 200).length;
  // Every split makes two of one, so a batch that ends as n pieces has cost n - 1 refusals: never a loop.
  assert.ok(refused < taken, `${refused} refused, ${taken} taken`);
  return {
    ...assertNoLoss(finding),
    measured: `limit ${limit} bytes: ${refused} bodies refused, ${taken} taken`,
  };
}

async function poisoned({ pick }: DrillTools): Promise<Finding> {
  const records = pick({ quick: 3000, usual: 20_000, full: 100_000 });
  const deadLetter = join(newDirectory(), 'dead.jsonl');
  const started = Date.now();
  const { finding, notes, numbers } = await underTrouble({
    faults: [{ action: { kind: 'poison', text: '"poison":true' } }],
    options: { deadLetter },
    job: { to: records, perTick: 100, poisonEvery: 1000 },
    tap: 'read',
  });
  const poison = records / 1000;
  assert.deepEqual([finding.arrived, finding.dropped], [records - poison, { rejected: poison }]);
  assert.ok(numbers.every((index) => index % 1000 !== 999));
  const kept = readFileSync(deadLetter, 'utf8').trimEnd().split('\n');
  assert.equal(kept.length, poison);
  for (const line of kept) assert.match(line, /code -1/);
  const delays = delaysOf(notes, records);
  const longest = Math.max(...delays);
  assert.ok(longest <= 5000, `a healthy neighbour waited ${longest} ms`);
  const measured = `${poison} in K with the receiver's code; a healthy neighbour was at most ${Math.round(longest)} ms later than the first try (run of ${seconds(Date.now() - started)})`;
  return { ...finding, measured };
}

/** By record that arrived: from the first request it was in to the one that was taken, in ms. */
function delaysOf(notes: readonly TapNote[], records: number): number[] {
  const firstMs = new Float64Array(records);
  const delays: number[] = [];
  const taken = new Set<number>();
  for (const { numbers, startMs } of notes.toSorted((a, b) => a.startMs - b.startMs)) {
    for (const index of numbers) firstMs[index] ||= startMs;
  }
  for (const { numbers, endMs, status } of notes) {
    if (status !== 200) continue;
    for (const index of numbers) {
      if (taken.has(index)) continue;
      taken.add(index);
      delays.push(endMs - (firstMs[index] ?? 0));
    }
  }
  return delays;
}

/** The receiver answers so, for good: nothing counts as delivered, and nothing is lost without a word. */
async function misunderstood(action: FaultAction): Promise<Finding> {
  const receiver = await Receiver.start();
  await receiver.process.setFaults([{ action }]);
  const deadLetter = join(newDirectory(), 'dead.jsonl');
  const job = { from: 0, to: 200, perTick: 200, tickMs: 10, end: 'stay' } as const;
  const options = optionsOf(receiver, { deadLetter, lanes: 2, retries: 4 });
  const sender = new Sender({ options, ...job });
  const givenUp = () => (sender.stats?.rejected ?? 0) + (sender.stats?.dropped.expired ?? 0);
  await until(() => givenUp() === 200, 'all are given up when their attempts are used up');
  const stats = sender.account;
  await sender.kill();
  await receiver.stop();
  assert.equal(stats.delivered, 0);
  assert.equal(readFileSync(deadLetter, 'utf8').trimEnd().split('\n').length, 200);
  return reconcile(stats, receiver.numbers());
}

async function unexplained({ pick }: DrillTools): Promise<Finding> {
  const kinds: readonly FaultAction[] = [
    { kind: 'wrong-json' },
    { kind: 'empty' },
    { kind: 'code', code: -7 },
  ];
  for (const action of kinds) await misunderstood(action);
  const forMs = pick({ quick: 100, usual: 300, full: 300 });
  const faults = kinds.map((action) => ({ action, probability: 0.3, forMs }));
  const { finding } = await underTrouble({ faults });
  const measured =
    'each of the three for good, `retries: 4`: 200 of 200 in K, none delivered; now and then: all arrive';
  return { ...assertNoLoss(finding), measured };
}

/** The other host must never see a record; people mend the cause, and then all goes out. */
async function redirected(): Promise<Finding> {
  const other = await Receiver.start();
  const location = `${other.url}/sync_server`;
  const findings = await Promise.all(
    [301, 302, 307, 308].map((status) => redirectedBy(status, location)),
  );
  assert.equal((await other.process.snapshot()).requests, 0);
  await other.stop();
  const sum = (key: 'enqueued' | 'arrived' | 'duplicates') =>
    findings.reduce((total, finding) => total + finding[key], 0);
  return {
    enqueued: sum('enqueued'),
    arrived: sum('arrived'),
    duplicates: sum('duplicates'),
    dropped: {},
    measured: `the other host saw no request; counted as redirect: ${findings.map(({ measured }) => measured).join(', ')}`,
  };
}

async function redirectedBy(status: number, location: string): Promise<Finding> {
  const receiver = await Receiver.start();
  await receiver.process.setFaults([{ action: { kind: 'status', status, headers: { location } } }]);
  const job = { from: 0, to: 500, perTick: 500, tickMs: 5, end: 'close' } as const;
  const sender = new Sender({ options: optionsOf(receiver), ...job });
  await until(() => (sender.stats?.retries ?? 0) > 0, 'the redirect is noticed');
  assert.equal(sender.account.delivered, 0);
  await receiver.process.setFaults([]);
  const stats = await sender.finish();
  await receiver.stop();
  const redirects = metricIn(sender.metrics, 'millrace_retries_total', 'reason="redirect"');
  assert.ok(redirects > 0, 'counted as redirect');
  const finding = assertNoLoss(reconcile(stats, receiver.numbers()));
  return { ...finding, measured: `${status} ${redirects} times` };
}

const SETTLE_MS = 200;

/** A host that takes connections, and what it notices of each request. */
class BlackHole {
  readonly url: string;
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  /** Most sockets that were open for longer than a moment. */
  socketsMax = 0;
  #fresh = 0;
  /** From the first byte of each request until the sender gave it up, in ms. */
  readonly patienceMs: number[] = [];

  private constructor(server: Server, answer: 'none' | 'slow') {
    const { port } = server.address() as { port: number };
    this.url = `http://127.0.0.1:${port}`;
    this.#server = server;
    server.on('connection', (socket) => this.#keep(socket, answer));
  }

  static async open(answer: 'none' | 'slow'): Promise<BlackHole> {
    const server = createServer().listen(0, '127.0.0.1');
    await new Promise((resolve) => server.once('listening', resolve));
    return new BlackHole(server, answer);
  }

  #keep(socket: Socket, answer: 'none' | 'slow'): void {
    this.#sockets.add(socket);
    // One that the sender has closed already may not have been heard of.
    setTimeout(() => {
      this.socketsMax = Math.max(this.socketsMax, this.#sockets.size - this.#fresh);
      this.#fresh -= 1;
    }, SETTLE_MS);
    this.#fresh += 1;
    let startMs = Number.NaN;
    const text = 'HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n{"code":0}';
    let at = 0;
    const timer = setInterval(() => {
      if (answer === 'slow' && !Number.isNaN(startMs)) socket.write(text.charAt(at++));
    }, 1000);
    socket.once('data', () => {
      startMs = performance.now();
    });
    socket.on('data', () => {
      // Read and forgotten, so that it is noticed when the sender gives up.
    });
    socket.on('error', () => {
      // The sender gives the connection up; that is what is wanted.
    });
    socket.on('close', () => {
      clearInterval(timer);
      this.#sockets.delete(socket);
      if (!Number.isNaN(startMs)) this.patienceMs.push(performance.now() - startMs);
    });
  }

  close(): void {
    for (const socket of this.#sockets) socket.destroy();
    this.#server.close();
  }
}

const TIMEOUT_MS = 3000;
const CONNECTIONS = 2;
const WORKERS = 2;

async function unanswered(answer: 'none' | 'slow', { pick }: DrillTools): Promise<Finding> {
  const hole = await BlackHole.open(answer);
  const endWatch = watchPauses();
  const options = optionsOf(hole, {
    connections: CONNECTIONS,
    workers: WORKERS,
    ringBytes: 4 * MIB,
    queueSize: 10_000,
    timeoutMs: TIMEOUT_MS,
  });
  const job = { from: 0, perTick: 200, tickMs: 10, end: 'stay' } as const;
  const sender = new Sender({ options, ...job });
  await delay(4000);
  const startBytes = sender.rssBytes;
  const forMs = pick({ quick: 3000, usual: 20_000, full: 600_000 });
  await delay(forMs);
  const grown = sender.rssBytes - startBytes;
  const stats = sender.account;
  await sender.kill();
  // Those that end with the sender were not given up.
  const patience = hole.patienceMs.splice(0);
  hole.close();
  const machineMs = endWatch();
  assert.ok(patience.length > 0, 'requests were given up');
  for (const ms of patience) {
    // What the hole hears late it takes for shorter or longer than it was.
    const isInTime = Math.abs(ms - TIMEOUT_MS) <= TIMEOUT_MS / 10 + machineMs;
    assert.ok(isInTime, `given up after ${ms} ms, the timeout is ${TIMEOUT_MS}`);
  }
  assert.ok(hole.socketsMax <= CONNECTIONS * WORKERS, `${hole.socketsMax} sockets`);
  assert.ok(grown < 32 * MIB, `memory grew by ${grown} bytes`);
  const measured = `${patience.length} requests given up after ${Math.round(Math.min(...patience))} to ${Math.round(Math.max(...patience))} ms (timeout ${TIMEOUT_MS}; longest pause of the process that measures: ${Math.round(machineMs)}), at most ${hole.socketsMax} sockets of ${CONNECTIONS * WORKERS}, ${(grown / MIB).toFixed(0)} MB grown in ${forMs / 1000} s`;
  return { ...reconcile(stats, []), measured };
}

/** Cut in each of three places, a known number of times. */
async function reset(when: 'start' | 'body' | 'after'): Promise<Finding> {
  const cuts = 20;
  const batch = 100;
  // With answers in between, so that the circuit stays closed.
  const faults = [{ action: { kind: 'reset', when }, requests: cuts, probability: 0.3 }] as const;
  const { finding } = await underTrouble({ faults, job: { to: 10_000 } });
  // A copy is sent only of what was in flight: one batch for each connection that was cut after it was taken.
  const most = when === 'after' ? cuts * batch : 0;
  assert.ok(finding.duplicates <= most, `${finding.duplicates} repeated, in flight were ${most}`);
  const measured = `${cuts} cuts: ${finding.duplicates} of at most ${most} records in flight came twice`;
  return { ...assertNoLoss(finding), measured };
}

function statusDrill(
  id: string,
  fault: string,
  { faults, forMs }: { faults: readonly Fault[]; forMs: number },
): Drill {
  return {
    row: 'F9',
    id,
    fault,
    promise: 'all arrive',
    run: async ({ pick }) => {
      const ms = pick({ quick: forMs / 3, usual: forMs, full: forMs * 10 });
      const timed = faults.map((one) => ({ ...one, forMs: ms }));
      return assertNoLoss((await underTrouble({ faults: timed })).finding);
    },
  };
}

async function restarted({ random, pick }: DrillTools): Promise<Finding> {
  const receiver = await Receiver.start();
  const rounds = pick({ quick: 3, usual: 20, full: 200 });
  const job = { from: 0, to: rounds * 3000, perTick: 100, tickMs: 10, end: 'close' } as const;
  const sender = new Sender({ options: optionsOf(receiver), ...job });
  for (let round = 0; round < rounds; round += 1) {
    await delay(random(200));
    await receiver.stop();
    await delay(random(100));
    await receiver.start();
  }
  const stats = await sender.finish();
  await receiver.stop();
  return assertNoLoss(reconcile(stats, receiver.numbers()));
}

/** What becomes of the receiver's answers. */
export const ANSWER_DRILLS: readonly Drill[] = [
  {
    row: 'F1',
    id: 'F1a',
    fault: 'answers 500, 502, 503, 504 for a while',
    promise: 'all arrive',
    run: serverErrors,
  },
  {
    row: 'F1',
    id: 'F1b',
    fault: 'the receiver is killed and started again 20 times',
    promise: 'all arrive',
    run: restarted,
  },
  {
    row: 'F2',
    id: 'F2a',
    fault: '429 with Retry-After in seconds',
    promise: 'all arrive; no request in the window',
    run: (tools) => throttled('seconds', tools),
  },
  {
    row: 'F2',
    id: 'F2b',
    fault: '429 with Retry-After as a date',
    promise: 'all arrive; no request in the window',
    run: (tools) => throttled('date', tools),
  },
  {
    row: 'F3',
    id: 'F3a',
    fault: '413 above 200 KB, with a record in each batch that is larger',
    promise: 'the others arrive; those too large are dead letters',
    run: oversized,
  },
  {
    row: 'F3',
    id: 'F3b',
    fault: '413 above a random size',
    promise: 'all arrive, split',
    run: tooLarge,
  },
  {
    row: 'F4',
    id: 'F4',
    fault: 'one poison record in 1000: its batch is refused',
    promise: 'all others arrive; poison is in the dead letters',
    run: poisoned,
  },
  {
    row: 'F5',
    id: 'F5',
    fault: '200 with wrong JSON, nothing, or an unknown code',
    promise: 'never counted as delivered; all arrive when it ends',
    run: unexplained,
  },
  {
    row: 'F6',
    id: 'F6',
    fault: '301, 302, 307, 308 to another host',
    promise: 'not followed; all arrive when it ends',
    run: redirected,
  },
  {
    row: 'F7',
    id: 'F7',
    fault: 'takes connections and never answers, 20 000 records a second',
    promise: 'bounded memory and sockets; all accounted for',
    run: (tools) => unanswered('none', tools),
  },
  {
    row: 'F8',
    id: 'F8a',
    fault: 'connections reset before the body',
    promise: 'all arrive',
    run: () => reset('start'),
  },
  {
    row: 'F8',
    id: 'F8b',
    fault: 'connections reset in the middle of the body',
    promise: 'all arrive',
    run: () => reset('body'),
  },
  {
    row: 'F8',
    id: 'F8c',
    fault: 'connections reset after the records were taken',
    promise: 'all arrive; copies have the same #uuid',
    run: () => reset('after'),
  },
  {
    row: 'F9',
    id: 'F9a',
    fault: 'answers of one byte a second, 20 000 records a second',
    promise: 'bounded memory and sockets; all accounted for',
    run: (tools) => unanswered('slow', tools),
  },
  statusDrill('F9b', 'half answers, slow answers and none, now and then', {
    faults: [
      { action: { kind: 'half' }, probability: 0.2 },
      { action: { kind: 'slow', byteMs: 1000 }, probability: 0.1 },
      { action: { kind: 'hang' }, probability: 0.1 },
    ],
    forMs: 3000,
  }),
  {
    row: 'F9',
    id: 'F9c',
    fault: 'every answer stalls for 10 s, then comes',
    promise: 'all arrive',
    run: stalledAnswers,
  },
];

/** Longer than the time-out of the request, so that the answer is for nobody. */
async function stalledAnswers({ pick }: DrillTools): Promise<Finding> {
  const ms = pick({ quick: 1500, usual: 10_000, full: 10_000 });
  const faults = [{ action: { kind: 'delay', ms }, requests: 8 }] as const;
  const { finding, notes } = await underTrouble({ faults, tap: 'count' });
  const times = notes.map(({ startMs, endMs }) => endMs - startMs);
  return {
    ...assertNoLoss(finding),
    measured: `the median answer took ${Math.round(quantile(times, 0.5))} ms`,
  };
}
