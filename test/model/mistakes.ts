import type { Mutation } from './subject.ts';

export interface ModelMistake {
  readonly mistake: string;
  readonly mutation: Mutation;
}

/** Mistakes that only show when several things go wrong at once; each was made once. */
export const MODEL_MISTAKES: readonly ModelMistake[] = [
  {
    mistake: 'records that gave way in a dead worker’s hands are forgotten',
    mutation: {
      file: 'engine/seat',
      from: 'state.add(OVERFLOW_OLDEST, state.count(IN_HAND));',
      to: '',
    },
  },
  {
    mistake: 'a refusal does not tell that the receiver is back',
    mutation: { file: 'worker/delivery', from: 'this.#parts.gate.succeed();', to: '' },
  },
  {
    mistake: 'batches in the spool are settled in the order of their answers',
    mutation: {
      file: 'worker/in-flight',
      from: 'this.spool.settled < batch.spoolBase + from',
      to: 'false',
    },
  },
  {
    mistake: 'what a dead worker appended and did not commit counts',
    mutation: { file: 'worker/lane-spool', from: 'end: lane.count(SPOOL_END),', to: '' },
  },
  {
    mistake: 'a spool that can not be read is taken for empty',
    mutation: {
      file: 'worker/lane-spool',
      from: 'this.#end = parts.lane.count(SPOOL_END);',
      to: 'this.#end = parts.lane.count(SPOOL_SETTLED);',
    },
  },
  {
    mistake: 'the rest of a batch that the disk took a part of is not held while it is sent',
    mutation: {
      file: 'worker/in-flight',
      from: 'batch.moved < batch.count ? this.#holdInRing(batch) : batch.firstOpen',
      to: 'batch.firstOpen',
    },
  },
  {
    mistake: 'what gives way in the moment of a release is forgotten',
    mutation: { file: 'worker/in-flight', from: 'state.add(IN_HAND, from - to);', to: '' },
  },
  {
    mistake: 'records on disk are never tried alone',
    mutation: {
      file: 'worker/disk-delivery',
      from: 'lane.spoolSettled < care.aloneBelowOnDisk',
      to: 'false',
    },
  },
  {
    mistake: 'a record on disk that workers die of is not given up',
    mutation: {
      file: 'worker/disk-delivery',
      from: 'killer?.settled === lane.spoolSettled',
      to: 'false',
    },
  },
  {
    mistake: 'a turn gives the first record of the ring up, whichever it is',
    mutation: {
      file: 'worker/ring-delivery',
      from: 'firstSeq === this.#parts.care?.killerInRing',
      to: 'this.#parts.care?.killerInRing !== undefined',
    },
  },
  {
    mistake: 'a turn gives the first record from disk up, whichever it is',
    mutation: {
      file: 'worker/disk-delivery',
      from: 'killer?.settled === lane.spoolSettled && isSameRecord(killer, record)',
      to: 'killer !== undefined',
    },
  },
  {
    mistake: 'any of several records from disk is taken for the one that kills',
    mutation: {
      file: 'engine/triage',
      from: 'return records === 1 ? `disk',
      to: 'return records > 0 ? `disk',
    },
  },
  {
    mistake: 'a record that was given up is counted under one of its two reasons',
    mutation: {
      file: 'lane/settlement',
      from: 'if (counter === CORRUPT || counter === CRASHED)',
      to: 'if (counter === CORRUPT)',
    },
  },
  {
    mistake: 'the death of a process is noted when it has been survived',
    mutation: {
      file: 'spool/replay-note',
      from: 'this.#change({ suspect: record, deaths: isSame ? deaths + 1 : 1 });',
      to: 'this.#state = { ...this.#state, suspect: record, deaths: isSame ? deaths + 1 : 1 };',
    },
  },
  {
    mistake: 'what a process has survived counts as its death',
    mutation: {
      file: 'spool/replay-note',
      from: 'deaths: this.#state.deaths - 1 }',
      to: 'deaths: this.#state.deaths }',
    },
  },
  {
    mistake: 'the record that processes die of is whichever comes first',
    mutation: {
      file: 'spool/replay-note',
      from: 'if (!isSameRecord(suspect, record))\n            return false;',
      to: '',
    },
  },
  {
    mistake: 'a second batch goes out because the disk did not take the first',
    mutation: {
      file: 'worker/stream-pace',
      from: 'if (this.#mustSpool(spool) && this.#inFlight.moveToSpool(spool))',
      to: 'if (this.#mustSpool(spool) && (this.#inFlight.moveToSpool(spool), true))',
    },
  },
  {
    mistake: 'what threads left half done when they were ended stays on disk',
    mutation: { file: 'worker/spool-mending', from: 'spool.open();', to: '' },
  },
];
