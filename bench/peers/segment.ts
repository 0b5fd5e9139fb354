import { SUPER_PROPERTIES } from '../events.ts';
import { at, loadPeer, Outstanding, PATIENCE_MS, type Peer } from './peer.ts';

interface Client {
  track(message: object, callback: (error?: unknown) => void): void;
  flush(options: object): Promise<void>;
  closeAndFlush(options: object): Promise<void>;
}
interface Sdk {
  readonly Analytics: new (options: object) => Client;
}

const NAME = '@segment/analytics-node';

export const SEGMENT: readonly Peer[] = [
  {
    name: NAME,
    needs: NAME,
    goesTo: 'http',
    open: ({ url, batchSize, lingerMs, events }) => {
      const { Analytics } = loadPeer(NAME) as Sdk;
      const client = new Analytics({
        writeKey: 'A',
        host: url,
        flushAt: batchSize,
        flushInterval: lingerMs ?? 10_000,
      });
      const way = new Outstanding();
      const callback = () => way.settle(1);
      return {
        track: (index) => {
          way.tracked += 1;
          const { accountId, distinctId, event, properties } = at(events, index);
          const all = { ...properties, ...SUPER_PROPERTIES };
          client.track(
            { userId: accountId, anonymousId: distinctId, event, properties: all },
            callback,
          );
        },
        outstanding: () => way.count,
        flush: async () => {
          await client.flush({ timeout: 5 * PATIENCE_MS }).catch(() => {
            // What it could not send is missing at the receiver.
          });
          return way.wait(PATIENCE_MS);
        },
        close: () => client.closeAndFlush({ timeout: 1000 }),
      };
    },
  },
];
