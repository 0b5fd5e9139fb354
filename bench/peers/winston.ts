import { join } from 'node:path';
import { finishedRecord } from '../events.ts';
import { at, fileClient, loadPeer, type Peer } from './peer.ts';

interface Winston {
  readonly transports: { readonly File: new (options: object) => object };
  readonly format: { json(): object };
  createLogger(options: object): { info(record: object): void; close(): void };
}

export const WINSTON: readonly Peer[] = [
  {
    name: 'winston',
    needs: 'winston',
    goesTo: 'files',
    open: ({ directory, events }) => {
      const { createLogger, format, transports } = loadPeer('winston') as Winston;
      const file = new transports.File({ filename: join(directory, 'winston.log') });
      const logger = createLogger({ format: format.json(), transports: [file] });
      const records = events.map((event) => ({ message: '', ...finishedRecord(event) }));
      return fileClient(directory, {
        track: (index) => logger.info(at(records, index)),
        close: async () => logger.close(),
      });
    },
  },
];
