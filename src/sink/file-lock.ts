const LOOK_AGAIN_MS = 50;

/**
 * Keeps the workers of one engine from rotating a file at the same moment. One word: the id of the thread that is inside; 0: none.
 * Waiting blocks no thread, so whoever waits goes on showing life. The lock of a thread that dies inside is freed with its slot (lane/control.ts).
 */
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

  /** Runs `work` while nobody else is inside. */
  async hold<T>(work: () => T): Promise<T> {
    await this.#take();
    try {
      return work();
    } finally {
      this.#release();
    }
  }

  async #take(): Promise<void> {
    const words = this.#words;
    for (;;) {
      const owner = Atomics.compareExchange(words, this.#at, 0, this.#threadId);
      if (owner === 0) return;
      const wait = Atomics.waitAsync(words, this.#at, owner, LOOK_AGAIN_MS);
      if (wait.async) await wait.value;
    }
  }

  #release(): void {
    // Whoever was given up for dead and lives on must not free a lock that is another's by now.
    Atomics.compareExchange(this.#words, this.#at, this.#threadId, 0);
    Atomics.notify(this.#words, this.#at, 1);
  }
}
