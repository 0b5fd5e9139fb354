import type { EventFields } from '../../src/index.ts';
import { SUPER_PROPERTIES } from '../events.ts';
import { at, loadPeer, Outstanding, type Peer } from './peer.ts';

interface Client {
  capture(message: object): void;
  on(event: 'flush', listener: (messages: unknown) => void): void;
  flush(): Promise<void>;
  shutdown(timeoutMs: number): Promise<void>;
}
interface Sdk {
  readonly PostHog: new (key: string, options: object) => Client;
}

const NAME = 'posthog-node';
/** What it takes into its queue; by default 1000, and what comes then pushes out the oldest. */
const QUEUE_MAX = 50_000;

/** After its flush, until the rest is taken to be dropped, in ms. */
const SILENCE_MS = 300;

export const POSTHOG_NODE: readonly Peer[] = [
  { name: NAME, needs: NAME, goesTo: 'http', open: open(QUEUE_MAX) },
  { name: `${NAME}, its own queue of 1000`, needs: NAME, goesTo: 'http', open: open(undefined) },
];

function open(maxQueueSize: number | undefined): Peer['open'] {
  return ({ url, batchSize, lingerMs, events }) => {
    const { PostHog } = loadPeer(NAME) as Sdk;
    const client = new PostHog('A', {
      host: url,
      flushAt: batchSize,
      maxBatchSize: batchSize,
      flushInterval: lingerMs ?? 10_000,
      preloadFeatureFlags: false,
      ...(maxQueueSize === undefined ? {} : { maxQueueSize }),
    });
    const way = new Outstanding();
    client.on('flush', (messages) => way.settle(Array.isArray(messages) ? messages.length : 0));
    return {
      track: (index) => {
        way.tracked += 1;
        client.capture(messageOf(at(events, index)));
      },
      // With its own queue as in a game server that knows nothing of it.
      ...(maxQueueSize === undefined ? {} : { outstanding: () => way.count }),
      flush: async () => {
        await client.flush().catch(() => {
          // What it could not send is missing at the receiver.
        });
        return way.wait(SILENCE_MS);
      },
      close: () => client.shutdown(1000),
    };
  };
}

function messageOf({ distinctId, event, properties }: EventFields): object {
  return {
    distinctId,
    event,
    // Without it each event also makes a person's profile.
    properties: { ...properties, ...SUPER_PROPERTIES, $process_person_profile: false },
  };
}
