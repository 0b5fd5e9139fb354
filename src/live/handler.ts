import type { IncomingMessage, ServerResponse } from 'node:http';
import { livePage, type PageKind } from './page.ts';
import { EventStream } from './stream.ts';

/** What a page shows: a look at the numbers, once a second while somebody listens. */
export interface LiveSource {
  readonly kind: PageKind;
  look(): object;
}

/**
 * Serves one live page wherever it is mounted: the page itself, and its stream at `events` below it. All paths that do not end in
 * `/events` are the page.
 */
export class LiveHandler {
  readonly #kind: PageKind;
  readonly #stream: EventStream;

  constructor({ kind, look }: LiveSource) {
    this.#kind = kind;
    // A page that was connected before the process started anew must not take the difference for a rate.
    const started = Date.now();
    this.#stream = new EventStream(() => ({ timeMs: Date.now(), started, ...look() }));
  }

  /** Answers a request. Never throws. */
  handle(request: IncomingMessage, reply: ServerResponse): void {
    if (request.method !== 'GET' && request.method !== 'HEAD') {
      reply.writeHead(405, { allow: 'GET, HEAD' }).end('GET\n');
      return;
    }
    const path = (request.url ?? '').split('?')[0] ?? '';
    if (path.endsWith('/events')) this.#stream.join(reply);
    else this.#sendPage(reply);
  }

  #sendPage(reply: ServerResponse): void {
    try {
      const { html, policy } = livePage(this.#kind);
      reply
        .writeHead(200, {
          'content-type': 'text/html; charset=utf-8',
          'content-security-policy': policy,
          'cache-control': 'no-store',
          'x-content-type-options': 'nosniff',
          'referrer-policy': 'no-referrer',
        })
        .end(html);
    } catch (error) {
      reply.writeHead(500).end(`the page's files are missing: ${error}\n`);
    }
  }

  /** Ends all streams. */
  close(): void {
    this.#stream.close();
  }
}
