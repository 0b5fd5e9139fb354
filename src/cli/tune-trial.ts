import { gameSample, readSample } from '../tune/sample.ts';
import type { Load, Setting } from '../tune/setting.ts';
import { type Target, TrialRun } from '../tune/trial.ts';

/** One trial of `millrace tune`, in a process of its own: its processor time is the trial's alone. */
export interface TrialJob {
  readonly setting: Setting;
  readonly load: Load;
  readonly target: Target;
  /** File of the sample. */
  readonly sample: string | undefined;
}

process.once('message', ({ setting, load, target, sample }: TrialJob) => {
  const calls = () => (sample === undefined ? gameSample() : readSample(sample));
  Promise.resolve()
    .then(() => TrialRun.measure(setting, { calls: calls(), target, load }))
    .then(
      (found) => process.send?.({ found }),
      (error: unknown) => process.send?.({ error: String(error) }),
    );
});
process.on('disconnect', () => process.exit(0));
