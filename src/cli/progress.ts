import { createLogUpdate } from 'log-update';

const BAR_CHARACTERS = 30;
const SHOW_MS = 200;

/** A bar on standard error, drawn over itself; without a terminal there is none. */
export class Progress {
  readonly #draw = process.stderr.isTTY ? createLogUpdate(process.stderr) : undefined;
  #shownMs = 0;

  /** @param share how much is done, from 0 to 1; not finite: nobody knows */
  show(share: number, words: string): void {
    if (this.#draw === undefined || performance.now() - this.#shownMs < SHOW_MS) return;
    this.#shownMs = performance.now();
    if (!Number.isFinite(share)) {
      this.#draw(words);
      return;
    }
    const done = Math.round(Math.min(1, Math.max(0, share)) * BAR_CHARACTERS);
    const bar = '#'.repeat(done).padEnd(BAR_CHARACTERS, '.');
    this.#draw(`[${bar}] ${(share * 100).toFixed(1)} %  ${words}`);
  }

  /** Takes the bar away. */
  end(): void {
    this.#draw?.clear();
    this.#draw?.done();
  }
}
