import { BASELINES } from './baselines.ts';
import { MILLRACE } from './millrace.ts';
import { type Peer, versionOf } from './peer.ts';
import { PINO } from './pino.ts';
import { POSTHOG_NODE } from './posthog-node.ts';
import { SA_SDK_NODE } from './sa-sdk-node.ts';
import { SEGMENT } from './segment.ts';
import { THINKINGDATA_NODE } from './thinkingdata-node.ts';
import { WINSTON } from './winston.ts';

const PEERS: readonly Peer[] = [
  ...BASELINES,
  ...MILLRACE,
  ...THINKINGDATA_NODE,
  ...SA_SDK_NODE,
  ...POSTHOG_NODE,
  ...SEGMENT,
  ...PINO,
  ...WINSTON,
];

/** @throws Error if there is no such contestant */
export function peerOf(name: string): Peer {
  const peer = PEERS.find((candidate) => candidate.name === name);
  if (peer === undefined) throw new Error(`there is no contestant ${name}`);
  return peer;
}

/** Whether the name of a contestant has this part. */
export function isPartOfPeer(part: string): boolean {
  return PEERS.some(({ name }) => name.includes(part));
}

/** Names of all contestants that deliver there. */
export function peersTo(target: Peer['goesTo']): string[] {
  return PEERS.filter(({ goesTo }) => goesTo === target).map(({ name }) => name);
}

/** Whether its package is there. */
export function isInstalled(name: string): boolean {
  const { needs } = peerOf(name);
  return needs === undefined || versionOf(needs) !== undefined;
}

/** Version of each package the contestants need; undefined: not installed. */
export function peerVersions(): Record<string, string | undefined> {
  const names = new Set(PEERS.flatMap(({ needs }) => (needs === undefined ? [] : [needs])));
  return Object.fromEntries([...names].map((name) => [name, versionOf(name)]));
}
