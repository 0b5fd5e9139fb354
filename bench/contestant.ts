import { makeEvents } from '../src/tune/game-events.ts';
import { run, type Task } from './exercises.ts';
import type { PeerSetting } from './peers/peer.ts';
import { peerOf } from './peers/registry.ts';

/** A contestant in a process of its own, so that CPU time and memory are its alone: opens, then does one exercise a message. */
export interface ContestantStart {
  readonly peer: string;
  readonly setting: Omit<PeerSetting, 'events'>;
  /** Different events, used again and again; default 1000. */
  readonly events?: number;
}

const { peer, setting, events: count } = JSON.parse(process.argv[2] ?? '{}') as ContestantStart;
const events = makeEvents(count);

process.on('disconnect', () => process.exit(0));
// Some products' threads don't keep the process alive by themselves.
setInterval(() => {}, 60_000);

async function main(): Promise<void> {
  const client = await peerOf(peer).open({ ...setting, events });
  process.on('message', (message: Task | { readonly exercise: 'close' }) => {
    if (message.exercise === 'close') client.close().then(() => process.send?.({}), fail);
    else run({ client, events }, message).then((outcome) => process.send?.(outcome), fail);
  });
  process.send?.({ ready: peer });
}

function fail(error: unknown): void {
  process.send?.({ error: error instanceof Error ? error.stack : String(error) });
}

main().catch(fail);
