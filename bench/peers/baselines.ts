import { Machine } from '../../src/codec/machine.ts';
import { finishedRecord } from '../events.ts';
import { FilledLane, LANE_RECORDS } from '../filled-lane.ts';
import { at, type Peer } from './peer.ts';

/** What an HTTP worker has to compute, without calls, threads and network: the most that one core could deliver. */
export const COMPUTING_ALONE = 'frames → JSON → gzip alone, one core';

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
    name: COMPUTING_ALONE,
    needs: undefined,
    goesTo: 'nowhere',
    open: () => {
      const machine = Machine.open();
      const lane = new FilledLane();
      const read = lane.reader(machine);
      return {
        track: (index) => {
          if (index % LANE_RECORDS !== 0) return;
          read();
          lane.gzip('fast', machine);
        },
        flush: async () => performance.now(),
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
