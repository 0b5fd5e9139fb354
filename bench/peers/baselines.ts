import { finishedRecord } from '../events.ts';
import { at, type Peer } from './peer.ts';

/** No products: what the others are measured against. */
export const BASELINES: readonly Peer[] = [
  {
    name: 'JSON.stringify of the finished record',
    needs: undefined,
    goesTo: 'nowhere',
    open: ({ events }) => {
      const records = events.map((event) => finishedRecord(event));
      let characters = 0;
      return {
        track: (index) => {
          characters += JSON.stringify(at(records, index)).length;
        },
        flush: async () => {
          if (characters === 0) throw new Error('nothing was made');
          return performance.now();
        },
        close: async () => undefined,
      };
    },
  },
  {
    name: 'no tracking',
    needs: undefined,
    goesTo: 'nowhere',
    open: () => ({
      track: () => undefined,
      flush: async () => performance.now(),
      close: async () => undefined,
    }),
  },
];
