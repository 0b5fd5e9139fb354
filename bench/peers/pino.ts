import { join } from 'node:path';
import { finishedRecord } from '../events.ts';
import { at, fileClient, loadPeer, type Peer, resolvePeer } from './peer.ts';

interface Pino {
  (options: object, transport: unknown): { info(record: object): void };
  transport(options: object): { end(): void };
}

/** Its worker transport, with the file target of its own, or with the one that rotates. */
function open(target: 'pino/file' | 'pino-roll'): Peer['open'] {
  return ({ directory, events }) => {
    const pino = loadPeer('pino') as Pino;
    const file = join(directory, 'pino.log');
    const transport = pino.transport(
      target === 'pino/file'
        ? { target, options: { destination: file } }
        : { target: resolvePeer(target), options: { file, frequency: 'daily' } },
    );
    const logger = pino({ base: null, timestamp: false }, transport);
    const records = events.map((event) => finishedRecord(event));
    return fileClient(directory, {
      track: (index) => logger.info(at(records, index)),
      close: async () => transport.end(),
    });
  };
}

export const PINO: readonly Peer[] = [
  { name: 'pino, worker transport', needs: 'pino', goesTo: 'files', open: open('pino/file') },
  { name: 'pino + pino-roll', needs: 'pino-roll', goesTo: 'files', open: open('pino-roll') },
];
