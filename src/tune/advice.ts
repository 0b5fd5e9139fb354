import { type Goal, HEAD_ROOM } from './search.ts';
import type { Measurement, Setting } from './setting.ts';
import { batchBytesOf, type Target } from './trial.ts';

/** What a tuning run comes to. */
export interface Advice {
  readonly isMet: boolean;
  /** What gives out first above the rate. */
  readonly bottleneck: 'workers' | 'cores' | 'receiver' | 'caller';
  /** Most records a second, against the rate. */
  readonly headRoom: number;
  /** Rate that leaves the head room, in records a second. */
  readonly safeRate: number;
  /** In words, a sentence a line. */
  readonly words: readonly string[];
  /** Options to paste. */
  readonly code: string;
}

const BUSY = 0.85;
const ALL_CORES = 0.9;
const MIB: number = 1024 * 1024;
/** Of the rate: a stretch of load begins and ends slowly. */
const NEARLY = 0.9;

/** Judges what was measured at full speed, and at the rate, with the best setting. */
export function adviseOn(
  setting: Setting,
  {
    most,
    steady,
    goal,
    target,
  }: {
    most: Measurement;
    steady: Measurement;
    goal: Goal;
    target: Target;
  },
): Advice {
  const isHeld = steady.lostShare === 0 && steady.rate >= goal.rate * NEARLY;
  const mostRate = isHeld ? most.rate : Math.min(most.rate, steady.rate);
  const headRoom = mostRate / goal.rate;
  const isMet = headRoom >= NEARLY;
  const bottleneck = bottleneckOf(most, goal.cores);
  const safeRate = Math.floor(mostRate / HEAD_ROOM);
  const words = [
    isMet
      ? `${show(goal.rate)} records a second can be met: the most is ${show(mostRate)}, ${headRoom.toFixed(1)} times as many.`
      : `${show(goal.rate)} records a second can NOT be met here: the most is ${show(mostRate)}. With room to catch up after a pause, plan for ${show(safeRate)} a second.`,
    ...(isMet && headRoom < HEAD_ROOM
      ? [
          `That leaves less than ${HEAD_ROOM} times the rate: after an outage the queue gets shorter very slowly.`,
        ]
      : []),
    BOTTLENECKS[bottleneck],
    ...costWords(setting, { steady, goal }),
  ];
  return { isMet, bottleneck, headRoom, safeRate, words, code: codeOf(setting, target) };
}

const BOTTLENECKS: Readonly<Record<Advice['bottleneck'], string>> = {
  workers:
    'Above that the workers give out first: they are busy all the time with JSON and gzip. More workers help while there are cores; a lower compress level does at once.',
  cores:
    'Above that the processor gives out first: all cores are in use. Only a lower compress level or another machine helps.',
  receiver:
    'Above that the receiver (or the way to it) gives out first: workers wait for its answers. Larger batches, more lanes or a faster receiver help; more workers do not.',
  caller:
    'Above that the calling thread gives out first: it can make no more calls. Other threads can track through ports of their own.',
};

function costWords(
  { workers, ringBytes, lingerMs }: Setting,
  { steady, goal }: { steady: Measurement; goal: Goal },
): string[] {
  const share = (steady.callNs * goal.rate) / 1e7;
  const seconds = ringBytes / (steady.frameBytes * goal.rate);
  const megabit = (steady.wireBytes * goal.rate * 8) / 1e6;
  return [
    `At the rate: a call costs its thread ${show(steady.callNs)} ns, ${share.toFixed(1)} % of its time; the whole process uses ${steady.cores.toFixed(2)} cores, ${workers} ${workers === 1 ? 'worker is' : 'workers are'} busy ${Math.round(100 * steady.workersBusy)} % of the time.`,
    `A record has ${Math.round(steady.textBytes)} bytes of JSON and ${Math.round(steady.wireBytes)} on the wire: ${megabit.toFixed(1)} Mbit/s.`,
    Number.isFinite(seconds)
      ? `The ring of ${ringBytes / MIB} MiB holds ${seconds.toFixed(0)} s of records while nothing leaves.`
      : `The ring has ${ringBytes / MIB} MiB.`,
    `With lingerMs ${lingerMs} half of the records are acknowledged within ${steady.latencyMs.p50.toFixed(0)} ms, 99 % within ${steady.latencyMs.p99.toFixed(0)} ms${steady.latencyMs.p99 > goal.latencyMs ? `: more than the ${goal.latencyMs} ms asked for` : ''}.`,
  ];
}

function bottleneckOf({ workersBusy, cores }: Measurement, all: number): Advice['bottleneck'] {
  if (workersBusy >= BUSY) return 'workers';
  if (cores >= all * ALL_CORES) return 'cores';
  return cores >= 1 && workersBusy < BUSY / 2 ? 'caller' : 'receiver';
}

function codeOf(setting: Setting, { url, appId }: Target): string {
  const { workers, lanes, ringBytes, batchSize, lingerMs, compress } = setting;
  return `new AsyncBatchConsumer({
  url: ${JSON.stringify(url)},
  appId: ${JSON.stringify(appId)},
  workers: ${workers},
  lanes: ${lanes},
  ringBytes: ${ringBytes / MIB} * 1024 * 1024,
  queueSize: 1_000_000_000, // the ring's bytes are the bound
  batchSize: ${batchSize},
  batchBytes: ${batchBytesOf(setting) / 1024} * 1024,
  lingerMs: ${lingerMs},
  compress: ${compress},
});`;
}

function show(value: number): string {
  return Math.round(value).toLocaleString('en-US');
}
