interface Entry {
  readonly atMs: number;
  readonly serial: number;
  readonly run: () => void;
}

/** Events in the order of their time, those of one time in the order they were made: a binary heap. */
export class EventQueue {
  readonly #heap: Entry[] = [];
  #serial = 0;
  nowMs = 0;

  /** Has `run` called `delayMs` from now. */
  after(delayMs: number, run: () => void): void {
    this.#serial += 1;
    this.#heap.push({ atMs: this.nowMs + delayMs, serial: this.#serial, run });
    this.#rise(this.#heap.length - 1);
  }

  /** Runs all events up to a time. */
  runUntil(endMs: number): void {
    for (let first = this.#heap[0]; first !== undefined; first = this.#heap[0]) {
      if (first.atMs > endMs) break;
      this.#takeFirst();
      this.nowMs = first.atMs;
      first.run();
    }
    this.nowMs = endMs;
  }

  #takeFirst(): void {
    const last = this.#heap.pop();
    if (last === undefined || this.#heap.length === 0) return;
    this.#heap[0] = last;
    this.#sink();
  }

  #rise(from: number): void {
    for (let at = from; at > 0; ) {
      const parent = (at - 1) >> 1;
      if (!this.#isBefore(at, parent)) return;
      this.#swap(at, parent);
      at = parent;
    }
  }

  #sink(): void {
    for (let at = 0; ; ) {
      let first = at;
      for (const child of [2 * at + 1, 2 * at + 2]) if (this.#isBefore(child, first)) first = child;
      if (first === at) return;
      this.#swap(at, first);
      at = first;
    }
  }

  #isBefore(a: number, b: number): boolean {
    const [left, right] = [this.#heap[a], this.#heap[b]];
    if (left === undefined || right === undefined) return false;
    return left.atMs < right.atMs || (left.atMs === right.atMs && left.serial < right.serial);
  }

  #swap(a: number, b: number): void {
    const [left, right] = [this.#heap[a], this.#heap[b]];
    if (left === undefined || right === undefined) return;
    this.#heap[a] = right;
    this.#heap[b] = left;
  }
}
