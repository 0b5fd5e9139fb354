import type { IncomingHttpHeaders } from 'node:http';
import { REPLY_BYTES_MAX } from './reply.ts';

/** What undici hands out so that a request can be given up. */
interface Controller {
  abort(reason: Error): void;
}

/**
 * A request on its way, until its whole reply is here: the handler of one undici dispatch. undici's own `request` makes a stream of
 * each reply, which costs a worker as much again as the rest of the request.
 */
export class Exchange {
  /** The reply's body, cut at REPLY_BYTES_MAX. Rejects when there is none, or `signal` ends the wait for it. */
  readonly body: Promise<string>;
  /** 0: no reply so far. */
  status = 0;
  headers: IncomingHttpHeaders = {};
  readonly #signal: AbortSignal;
  readonly #onAbort: () => void;
  readonly #parts: Buffer[] = [];
  #bytes = 0;
  #controller: Controller | undefined;
  #resolve: (body: string) => void = () => {};
  #reject: (reason: unknown) => void = () => {};

  constructor(signal: AbortSignal) {
    this.body = new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
    this.#signal = signal;
    this.#onAbort = () => this.#giveUp();
    signal.addEventListener('abort', this.#onAbort);
  }

  #giveUp(): void {
    const reason = new Error('no answer in time');
    this.#end();
    this.#controller?.abort(reason);
    this.#reject(reason);
  }

  #end(): void {
    this.#signal.removeEventListener('abort', this.#onAbort);
  }

  onRequestStart(controller: Controller): void {
    this.#controller = controller;
    // It waited for a connection until nobody waited for it any more.
    if (this.#signal.aborted) controller.abort(new Error('no answer in time'));
  }

  onResponseStart(_controller: Controller, status: number, headers: IncomingHttpHeaders): void {
    this.status = status;
    this.headers = headers;
  }

  onResponseData(_controller: Controller, part: Buffer): void {
    // What is too long is read all the same, and dropped, for the connection's sake.
    if (this.#bytes < REPLY_BYTES_MAX) {
      this.#parts.push(part.subarray(0, REPLY_BYTES_MAX - this.#bytes));
    }
    this.#bytes += part.length;
  }

  onResponseEnd(): void {
    this.#end();
    this.#resolve(Buffer.concat(this.#parts).toString('utf8'));
  }

  onResponseError(_controller: Controller, error: Error): void {
    this.#end();
    this.#reject(error);
  }
}
