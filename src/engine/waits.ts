/** Longest single wait: nothing is trusted to notify, so whoever waits looks again. */
const SLICE_MS = 100;
const HOLD_MS = 60_000;

/**
 * Blocks this thread until `isDone`, looking again whenever the word at `index` leaves its value, and at least every
 * `sliceMs`, default 100. `tend` runs before each wait: what must not depend on the event loop.
 *
 * @returns false when the time is over
 */
export function blockUntil(
  isDone: () => boolean,
  word: { readonly words: Int32Array; readonly index: number },
  {
    deadlineMs,
    tend,
    sliceMs = SLICE_MS,
  }: { deadlineMs: number; tend: () => void; sliceMs?: number },
): boolean {
  for (;;) {
    const value = Atomics.load(word.words, word.index);
    if (isDone()) return true;
    const leftMs = deadlineMs - performance.now();
    // Also where the caller's time is no number.
    if (!(leftMs > 0)) return false;
    tend();
    Atomics.wait(word.words, word.index, value, Math.min(leftMs, sliceMs));
  }
}

/** As {@link blockUntil}, but lets the event loop run. */
export async function resolveWhen(
  isDone: () => boolean,
  word: { readonly words: Int32Array; readonly index: number },
  { deadlineMs }: { deadlineMs: number },
): Promise<boolean> {
  for (;;) {
    const value = Atomics.load(word.words, word.index);
    if (isDone()) return true;
    const leftMs = deadlineMs - performance.now();
    if (!(leftMs > 0)) return false;
    const ms = Math.min(leftMs, SLICE_MS);
    const wait = Atomics.waitAsync(word.words, word.index, value, ms);
    if (wait.async) await wait.value;
  }
}

/** Runs `work` and keeps the process alive meanwhile: neither Atomics.waitAsync nor an ending thread does. */
export async function holdOpen<T>(work: () => Promise<T>): Promise<T> {
  const hold = setInterval(() => {}, HOLD_MS);
  try {
    return await work();
  } finally {
    clearInterval(hold);
  }
}
