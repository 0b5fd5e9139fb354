import { availableParallelism, cpus, totalmem } from 'node:os';
import { Contestant, type Entry } from './arena.ts';
import { isInstalled, peerOf, peerVersions } from './peers/registry.ts';
import { ReceiverProcess } from './receiver-process.ts';
import { benchCaller } from './suites/caller.ts';
import { benchCodec } from './suites/codec.ts';
import { benchLatency } from './suites/latency.ts';
import { benchMemory } from './suites/memory.ts';
import { benchPipeline } from './suites/pipeline.ts';
import { benchScaling } from './suites/scaling.ts';
import type { Section, Suite } from './suites/suite.ts';
import { benchTick } from './suites/tick.ts';

/** By name, in the order they are run. */
export const SUITES: Readonly<Record<string, Suite>> = {
  caller: benchCaller,
  codec: benchCodec,
  pipeline: benchPipeline,
  tick: benchTick,
  memory: benchMemory,
  latency: benchLatency,
  scaling: benchScaling,
};

export interface BenchOptions {
  readonly suites: readonly string[];
  readonly rounds: number;
  readonly seconds: number;
  readonly isQuick: boolean;
  /** Parts of names: only contestants with one of them enter, and the baselines. Empty: all. */
  readonly only: readonly string[];
  /** Hears of each section as soon as it is there, and of all so far. */
  readonly onSection: (section: Section, report: BenchReport) => void;
  /** Hears what is run at the moment, and the share of the suites that are over, from 0 to 1. */
  readonly onRun: (share: number, words: string) => void;
}

/** Everything a run found, as it is written to JSON. */
export interface BenchReport {
  readonly machine: string;
  readonly node: string;
  readonly startedAt: string;
  readonly rounds: number;
  readonly seconds: number;
  /** By package; null: not installed, so its contestants did not take part. */
  readonly peers: Readonly<Record<string, string | null>>;
  readonly sections: readonly Section[];
}

/**
 * Runs suites one after the other.
 *
 * @throws Error when a suite fails, records of ours are missing included: no figure of it is given then
 */
export async function runBench(options: BenchOptions): Promise<BenchReport> {
  const { rounds, seconds } = options;
  const versions = Object.entries(peerVersions()).map(([name, version]) => [name, version ?? null]);
  const sections: Section[] = [];
  const report: BenchReport = {
    machine: machine(),
    node: process.version,
    startedAt: new Date().toISOString(),
    rounds,
    seconds,
    peers: Object.fromEntries(versions) as Record<string, string | null>,
    sections,
  };
  const receiver = await ReceiverProcess.start();
  try {
    for (const name of options.suites) {
      await runSuite(name, receiver, {
        ...options,
        onSection: (section) => {
          sections.push(section);
          options.onSection(section, report);
        },
      });
    }
  } finally {
    await receiver.stop();
  }
  return report;
}

/** Processor, cores and memory. */
export function machine(): string {
  const model = cpus()[0]?.model ?? 'unknown processor';
  return `${model}, ${availableParallelism()} cores, ${Math.round(totalmem() / 2 ** 30)} GiB`;
}

function takesPart(peer: string, { only }: BenchOptions): boolean {
  if (!isInstalled(peer)) return false;
  if (only.length === 0 || peerOf(peer).goesTo === 'nowhere') return true;
  return only.some((part) => peer.includes(part));
}

async function runSuite(
  name: string,
  receiver: ReceiverProcess,
  options: BenchOptions & { readonly onSection: (section: Section) => void },
): Promise<void> {
  const suite = SUITES[name];
  if (suite === undefined) throw new Error(`there is no suite ${name}`);
  const { rounds, seconds, isQuick } = options;
  const entered: Contestant[] = [];
  const share = options.suites.indexOf(name) / options.suites.length;
  const onRun = (contestant: string) => options.onRun(share, `${name}: ${contestant}`);
  const enter = async (entries: readonly Entry[]) => {
    const from = entered.length;
    for (const entry of entries) {
      if (takesPart(entry.peer, options))
        entered.push(await Contestant.open(entry, receiver, onRun));
    }
    return entered.slice(from);
  };
  try {
    const run = { rounds, seconds, isQuick, receiver, enter };
    for await (const section of suite(run)) options.onSection(section);
    for (const contestant of entered) await contestant.close();
  } finally {
    for (const contestant of entered) await contestant.abort();
  }
}
