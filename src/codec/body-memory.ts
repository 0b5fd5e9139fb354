/** Memory is taken in steps of this many bytes, so that bodies of about one size fit in each other's. */
const STEP_BYTES: number = 32 * 1024;
/** More than this is left to the collector, in bytes and in pieces. */
const KEPT_BYTES_MAX: number = 1024 * 1024;
const KEPT_MAX = 16;

/**
 * Memory of bodies that were sent, for the next ones. A body is larger than what V8 keeps in its heap: left to the
 * collector, tens of megabytes of them would wait for it.
 */
export class BodyMemory {
  readonly #kept: ArrayBuffer[] = [];
  readonly #ours = new WeakSet<ArrayBuffer>();

  /** A buffer of `bytes` bytes with any content. */
  take(bytes: number): Buffer<ArrayBuffer> {
    const index = this.#kept.findIndex(({ byteLength }) => byteLength >= bytes);
    const [kept] = index < 0 ? [] : this.#kept.splice(index, 1);
    return Buffer.from(kept ?? this.#allocate(bytes), 0, bytes);
  }

  #allocate(bytes: number): ArrayBuffer {
    const memory = new ArrayBuffer(Math.ceil(bytes / STEP_BYTES) * STEP_BYTES);
    this.#ours.add(memory);
    return memory;
  }

  /** Takes back what {@link take} gave, and nothing else. Nobody may look at `body` any more, the kernel included. */
  giveBack({ buffer }: Buffer<ArrayBuffer>): void {
    const isWanted = buffer.byteLength <= KEPT_BYTES_MAX && this.#kept.length < KEPT_MAX;
    if (isWanted && this.#ours.has(buffer)) this.#kept.push(buffer);
  }
}
