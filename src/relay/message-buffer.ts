import { within } from '../base/event-loop.ts';
import type { SourceMessage, TakeLimits } from './source.ts';

/** Longest wait for a first message: whoever takes has to look now and then whether it still should. */
const IDLE_MS = 200;

/** Messages of one partition that were read ahead, between whoever reads them and whoever takes them. */
export class MessageBuffer {
  readonly #messages: SourceMessage[] = [];
  #bytes = 0;
  #isEnded = false;
  #wake: () => void = () => undefined;

  get length(): number {
    return this.#messages.length;
  }

  get bytes(): number {
    return this.#bytes;
  }

  push(message: SourceMessage): void {
    this.#messages.push(message);
    this.#bytes += message.payload.length;
    this.#wake();
  }

  /** Nothing more comes: nobody waits any longer. What is in the buffer may still be taken. */
  end(): void {
    this.#isEnded = true;
    this.#wake();
  }

  /** The next messages; empty after a moment without any. */
  async take({ messagesMax, bytesMax, lingerMs }: TakeLimits): Promise<readonly SourceMessage[]> {
    if (this.length === 0) await this.#news(IDLE_MS);
    if (this.length === 0) return [];
    const endMs = performance.now() + lingerMs;
    while (this.length < messagesMax && this.#bytes < bytesMax && !this.#isEnded) {
      const leftMs = endMs - performance.now();
      if (leftMs <= 0) break;
      await this.#news(leftMs);
    }
    let bytes = 0;
    let count = 0;
    for (const { payload } of this.#messages) {
      if (count === messagesMax || (count > 0 && bytes + payload.length > bytesMax)) break;
      bytes += payload.length;
      count += 1;
    }
    this.#bytes -= bytes;
    return this.#messages.splice(0, count);
  }

  /** Resolves with the next message, at the end, or after a while. */
  async #news(ms: number): Promise<void> {
    if (this.#isEnded) return;
    const arrival = new Promise<void>((resolve) => {
      this.#wake = resolve;
    });
    await within(arrival, ms, 'late');
  }
}
