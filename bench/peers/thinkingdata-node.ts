import { SUPER_PROPERTIES } from '../events.ts';
import {
  at,
  fileClient,
  loadPeer,
  Outstanding,
  PATIENCE_MS,
  type Peer,
  type PeerSetting,
} from './peer.ts';

interface Client {
  setSuperProperties(properties: object): void;
  track(fields: object): void;
  flush(callback?: (error?: Error) => void): void;
  close(): void;
}
interface Sdk {
  initWithAsyncBatchMode(appId: string, url: string, config: object): Client;
  initWithBatchMode(appId: string, url: string, config: object): Client;
  initWithLoggingMode(directory: string, config: object): Client;
}

const NAME = 'thinkingdata-node';
/** Its timer, out of the way unless a longest wait is asked for, in ms. */
const NO_INTERVAL_MS = 1e9;

function http(mode: 'initWithAsyncBatchMode' | 'initWithBatchMode'): Peer['open'] {
  return ({ url, batchSize, lingerMs, events }: PeerSetting) => {
    const sdk = loadPeer(NAME) as Sdk;
    const client = sdk[mode]('A', url, { batchSize, interval: lingerMs ?? NO_INTERVAL_MS });
    client.setSuperProperties(SUPER_PROPERTIES);
    const way = new Outstanding();
    // Only the call that fills a batch hears of it. What an error meets is gone.
    const callback = () => way.settle(batchSize);
    return {
      track: (index) => {
        way.tracked += 1;
        client.track({ ...at(events, index), callback });
      },
      // With its timer on, one can't tell which records a callback speaks for.
      ...(lingerMs === undefined ? { outstanding: () => way.count } : {}),
      flush: async () => {
        const rest = way.tracked % batchSize;
        // It doesn't call back if there is nothing to flush.
        if (rest > 0) client.flush(() => way.settle(rest));
        return way.wait(lingerMs === undefined ? PATIENCE_MS : 10 * lingerMs + 200);
      },
      close: async () => client.close(),
    };
  };
}

export const THINKINGDATA_NODE: readonly Peer[] = [
  { name: `${NAME} async`, needs: NAME, goesTo: 'http', open: http('initWithAsyncBatchMode') },
  { name: `${NAME} batch`, needs: NAME, goesTo: 'http', open: http('initWithBatchMode') },
  {
    name: `${NAME} logging`,
    needs: NAME,
    goesTo: 'files',
    open: ({ directory, events }) => {
      const client = (loadPeer(NAME) as Sdk).initWithLoggingMode(directory, {});
      client.setSuperProperties(SUPER_PROPERTIES);
      return fileClient(directory, {
        track: (index) => client.track({ ...at(events, index) }),
        close: async () => client.close(),
      });
    },
  },
];
