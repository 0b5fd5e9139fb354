import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { Analytics, AsyncBatchConsumer, LoggingConsumer, type Stats } from '../../src/index.ts';
import { SUPER_PROPERTIES } from '../events.ts';
import { at, type Peer, type PeerClient, type PeerSetting } from './peer.ts';

type AsyncOptions = ConstructorParameters<typeof AsyncBatchConsumer>[0];
type FileOptions = Exclude<ConstructorParameters<typeof LoggingConsumer>[0], string>;

/** More than anything here should need. */
const FLUSH_MS = 60_000;

function open(consumer: AsyncBatchConsumer | LoggingConsumer, { events }: PeerSetting): PeerClient {
  // What goes wrong shows in what arrives, and in the account.
  const ta = new Analytics(consumer, { onError: () => undefined });
  ta.setSuperProperties(SUPER_PROPERTIES);
  return {
    track: (index) => {
      ta.track(at(events, index));
    },
    flush: async () => {
      await ta.flush({ timeoutMs: FLUSH_MS });
      // A flush is content with the disk.
      while (ta.stats().spooled > 0) await delay(1);
      assertBalanced(ta.stats());
      return performance.now();
    },
    close: async () => {
      assertBalanced(await ta.close());
    },
  };
}

function assertBalanced({ imbalance }: Stats): void {
  if (imbalance !== 0) throw new Error(`the account is out of balance by ${imbalance}`);
}

function httpOptions({ url, batchSize, lingerMs, options }: PeerSetting): AsyncOptions {
  return {
    url,
    appId: 'A',
    batchSize,
    overflow: 'block',
    ...(lingerMs === undefined ? {} : { lingerMs }),
    ...options,
  };
}

export const MILLRACE: readonly Peer[] = [
  {
    name: 'millrace http',
    needs: undefined,
    goesTo: 'http',
    open: (setting) => open(new AsyncBatchConsumer(httpOptions(setting)), setting),
  },
  {
    name: 'millrace spool-first',
    needs: undefined,
    goesTo: 'http',
    open: (setting) => {
      const options: AsyncOptions = {
        ...httpOptions(setting),
        overflow: 'spool',
        durability: 'spool-first',
        spool: { directory: join(setting.directory, 'spool') },
      };
      return open(new AsyncBatchConsumer(options), setting);
    },
  },
  {
    name: 'millrace files',
    needs: undefined,
    goesTo: 'files',
    open: (setting) => {
      const { directory, options } = setting;
      const all: FileOptions = { directory, overflow: 'block', ...options };
      return open(new LoggingConsumer(all), setting);
    },
  },
];
