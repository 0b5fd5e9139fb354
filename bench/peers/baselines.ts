import { Machine } from '../../src/codec/machine.ts';
import { finishedRecord } from '../events.ts';
import { FilledLane, LANE_RECORDS } from '../filled-lane.ts';
import { BusyCore } from './busy-core.ts';
import { at, type Peer, type PeerClient } from './peer.ts';

/** What an HTTP worker has to compute, without calls, threads and network: the most that one core could deliver. */
export const COMPUTING_ALONE = 'frames → JSON → gzip alone, one core';
/** The same, while a receiver's work keeps the other core busy: cores share caches, and often more. */
export const COMPUTING_BESIDE = 'frames → JSON → gzip, the other core busy';

function compute(other: BusyCore | undefined): PeerClient {
  const machine = Machine.open();
  const lane = new FilledLane();
  const read = lane.reader(machine);
  return {
    track: (index) => {
      other?.start();
      if (index % LANE_RECORDS !== 0) return;
      read();
      lane.gzip('fast', machine);
    },
    flush: async () => {
      other?.stop();
      return performance.now();
    },
    close: async () => other?.close(),
  };
}

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
    open: () => compute(undefined),
  },
  {
    name: COMPUTING_BESIDE,
    needs: undefined,
    goesTo: 'nowhere',
    open: () => compute(new BusyCore()),
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
