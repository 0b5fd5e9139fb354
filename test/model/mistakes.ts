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
    mistake: 'a second batch goes out because the disk did not take the first',
    mutation: {
      file: 'worker/stream-pace',
      from: 'if (this.#mustSpool(spool) && this.#inFlight.moveToSpool(spool))',
      to: 'if (this.#mustSpool(spool) && (this.#inFlight.moveToSpool(spool), true))',
    },
  },
];
