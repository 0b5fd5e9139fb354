import type { EventFields } from '../../src/index.ts';
import { SUPER_PROPERTIES } from '../events.ts';
import { at, fileClient, loadPeer, Outstanding, PATIENCE_MS, type Peer } from './peer.ts';

interface Client {
  registerSuperProperties(properties: object): void;
  track(distinctId: string, event: string, properties: object): void;
  inBatch(options: object): { subscribe(next: (batch: readonly unknown[]) => void): void };
  initLoggingConsumer(path: string): void;
  close(): void;
  onCompleted(): void;
}
interface Submitter {
  onNext(batch: unknown): void;
  subscribe(next: () => void, error: () => void): void;
}
interface Sdk {
  new (): Client;
  readonly Submitter: new (options: object) => Submitter;
}

const NAME = 'sa-sdk-node';
/** Longest wait of a record unless one is asked for, in ms: it has no flush. */
const TIME_SPAN_MS = 200;

export const SA_SDK_NODE: readonly Peer[] = [
  {
    name: NAME,
    needs: NAME,
    goesTo: 'http',
    open: ({ url, batchSize, lingerMs, events }) => {
      const sdk = loadPeer(NAME) as Sdk;
      const client = newClient(sdk);
      const submitter = new sdk.Submitter({ url });
      const way = new Outstanding();
      const sizes: number[] = [];
      const settle = () => way.settle(sizes.shift() ?? 0);
      submitter.subscribe(settle, settle);
      const timeSpan = lingerMs ?? TIME_SPAN_MS;
      client.inBatch({ count: batchSize, timeSpan }).subscribe((batch) => {
        sizes.push(batch.length);
        submitter.onNext(batch);
      });
      return {
        track: (index) => {
          way.tracked += 1;
          track(client, at(events, index));
        },
        outstanding: () => way.count,
        flush: () => way.wait(PATIENCE_MS),
        close: async () => client.onCompleted(),
      };
    },
  },
  {
    name: `${NAME} logging`,
    needs: NAME,
    goesTo: 'files',
    open: ({ directory, events }) => {
      const client = newClient(loadPeer(NAME) as Sdk);
      client.initLoggingConsumer(directory);
      return fileClient(directory, {
        track: (index) => track(client, at(events, index)),
        close: async () => client.close(),
      });
    },
  },
];

function newClient(sdk: Sdk): Client {
  const client = new sdk();
  client.registerSuperProperties(SUPER_PROPERTIES);
  return client;
}

function track(client: Client, { distinctId, event, properties }: EventFields): void {
  client.track(distinctId ?? '', event, properties ?? {});
}
