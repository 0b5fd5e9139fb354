import type { ServerResponse } from 'node:http';

const FRAME_MS = 1000;
/** People who look at the same time; more are told to come back. */
const LISTENERS_MAX = 32;

/** Sends what `look` gives to everybody who listens, once a second, as server-sent events. Looks only while somebody does. */
export class EventStream {
  readonly #look: () => object;
  readonly #listeners = new Set<ServerResponse>();
  #timer: NodeJS.Timeout | undefined;

  constructor(look: () => object) {
    this.#look = look;
  }

  /** Takes a listener in, and sends the first frame at once. */
  join(reply: ServerResponse): void {
    if (this.#listeners.size >= LISTENERS_MAX) {
      reply.writeHead(503, { 'retry-after': '10' }).end('too many pages are open\n');
      return;
    }
    reply.writeHead(200, {
      'content-type': 'text/event-stream',
      'cache-control': 'no-store',
      'x-accel-buffering': 'no',
    });
    this.#listeners.add(reply);
    reply.on('close', () => this.#leave(reply));
    reply.on('error', () => this.#leave(reply));
    reply.write(this.#frame());
    if (this.#timer !== undefined) return;
    this.#timer = setInterval(() => this.#send(), FRAME_MS);
    this.#timer.unref();
  }

  #leave(reply: ServerResponse): void {
    this.#listeners.delete(reply);
    if (this.#listeners.size === 0) this.close();
  }

  #send(): void {
    const frame = this.#frame();
    // Whoever is too slow misses frames; nothing piles up for them.
    for (const reply of this.#listeners) if (!reply.writableNeedDrain) reply.write(frame);
  }

  #frame(): string {
    return `data: ${JSON.stringify(this.#look())}\n\n`;
  }

  /** Ends all streams. */
  close(): void {
    clearInterval(this.#timer);
    this.#timer = undefined;
    for (const reply of this.#listeners) reply.end();
    this.#listeners.clear();
  }
}
