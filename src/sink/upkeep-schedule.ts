import type { Clock } from '../base/clock.ts';
import type { DiskWork } from './sink.ts';
import type { Upkeep, UpkeepFailure } from './upkeep.ts';

/** How often finished files are looked after, in ms. */
const UPKEEP_MS = 30_000;

/** Has finished files looked after beside the writing, now and then and after each rotation, and keeps what failed for whoever asks. */
export class UpkeepSchedule {
  readonly #upkeep: Upkeep;
  readonly #clock: Clock;
  readonly #periodAt: (wallMs: number) => string;
  #isRunning = false;
  #isFailing = false;
  #ranAtMs = Number.NEGATIVE_INFINITY;
  #path: string | undefined;
  #failures: UpkeepFailure[] = [];
  #news: string | undefined;

  /** @param periodAt the day or hour of a wall time, as in names */
  constructor(
    upkeep: Upkeep,
    { clock, periodAt }: { clock: Clock; periodAt: (wallMs: number) => string },
  ) {
    this.#upkeep = upkeep;
    this.#clock = clock;
    this.#periodAt = periodAt;
  }

  /** @param path the file that is written to: another one than before means that one is finished */
  tick(path: string | undefined): void {
    const nowMs = this.#clock.monotonicMs();
    const isDue = path !== this.#path || nowMs - this.#ranAtMs >= UPKEEP_MS;
    if (this.#isRunning || !isDue) return;
    this.#path = path;
    this.#ranAtMs = nowMs;
    this.#isRunning = true;
    const wallMs = this.#clock.nowMs();
    this.#upkeep
      .run({ nowMs: wallMs, period: this.#periodAt(wallMs) })
      .then(({ failures, isAllDone }) => {
        this.#note(failures);
        if (isAllDone) this.#isFailing = false;
      })
      .finally(() => {
        this.#isRunning = false;
      });
  }

  /** Told once, until all is well again; counted each time. */
  #note(failures: readonly UpkeepFailure[]): void {
    this.#failures.push(...failures);
    const [first] = failures;
    if (first === undefined || this.#isFailing) return;
    this.#isFailing = true;
    const done = first.work === 'pack' ? 'packed' : 'removed';
    this.#news = `finished log files can't be ${done}, it is tried again: ${first.message}`;
  }

  /** What failed since the last call. */
  take(): Pick<DiskWork, 'upkeepFailures' | 'upkeepNews'> {
    const taken = { upkeepFailures: this.#failures, upkeepNews: this.#news };
    this.#failures = [];
    this.#news = undefined;
    return taken;
  }

  stop(): void {
    this.#upkeep.stop();
  }
}
