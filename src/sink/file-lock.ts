/** Words of the lock: OWNER (thread id; 0: free), SINCE (ms of the machine's clock, modulo 2^32). */
const OWNER = 0;
const SINCE = 1;
/** A thread that holds the lock for so long is taken for dead: a write to a disk takes less, or fails. */
const STALE_MS = 10_000;
const LOOK_AGAIN_MS = 50;

/** Keeps the workers of one engine from rotating a file at the same moment. Blocks; for worker threads only. */
export class FileLock {
  readonly #words: Int32Array;
  readonly #at: number;
  readonly #threadId: number;

  constructor(
    memory: SharedArrayBuffer,
    { wordAt, threadId }: { wordAt: number; threadId: number },
  ) {
    this.#words = new Int32Array(memory);
    this.#at = wordAt;
    this.#threadId = threadId;
  }

  /** Runs `work` while no other thread is inside. */
  hold<T>(work: () => T): T {
    this.#take();
    try {
      return work();
    } finally {
      this.#release();
    }
  }

  #take(): void {
    const words = this.#words;
    for (;;) {
      const owner = Atomics.compareExchange(words, this.#at + OWNER, 0, this.#threadId);
      if (owner === 0 || this.#steal(owner)) {
        Atomics.store(words, this.#at + SINCE, nowMs());
        return;
      }
      Atomics.wait(words, this.#at + OWNER, owner, LOOK_AGAIN_MS);
    }
  }

  #steal(owner: number): boolean {
    const heldMs = (nowMs() - Atomics.load(this.#words, this.#at + SINCE)) | 0;
    if (heldMs < STALE_MS) return false;
    const words = this.#words;
    return Atomics.compareExchange(words, this.#at + OWNER, owner, this.#threadId) === owner;
  }

  #release(): void {
    const words = this.#words;
    // Whoever was taken for dead and came back must not free a lock that is another's by now.
    Atomics.compareExchange(words, this.#at + OWNER, this.#threadId, 0);
    Atomics.notify(words, this.#at + OWNER, 1);
  }
}

function nowMs(): number {
  return Number(process.hrtime.bigint() / 1_000_000n) | 0;
}
