import type { RequestListener, Server } from 'node:http';
import { type MetricsRegistry, textOf } from './collector.ts';

export interface MetricsEndpointOptions {
  readonly registry: MetricsRegistry;
  /** Default 0: any free one. */
  readonly port?: number;
  /** Default 127.0.0.1. */
  readonly host?: string;
  /** Answers `/` and `/events`: the live page. */
  readonly livePage?: RequestListener;
}

const RECENT_MS = 100;

/** A registry's text, written ten times a second at most: whoever asks in between gets the same, so that a storm costs next to nothing. */
class RecentExposition {
  readonly #registry: MetricsRegistry;
  #body: Promise<Buffer> | undefined;
  #madeMs = Number.NEGATIVE_INFINITY;

  constructor(registry: MetricsRegistry) {
    this.#registry = registry;
  }

  async body(): Promise<Buffer> {
    const now = performance.now();
    if (now - this.#madeMs >= RECENT_MS) this.#body = undefined;
    if (this.#body === undefined) {
      this.#madeMs = now;
      this.#body = textOf(this.#registry).then((text) => Buffer.from(text));
    }
    try {
      return await this.#body;
    } catch (error) {
      // What failed is asked for anew by the next.
      this.#body = undefined;
      throw error;
    }
  }
}

/** `GET /metrics` of one registry, and the live page if there is one. Never keeps the process alive. */
export class MetricsEndpoint {
  readonly #server: Server;
  readonly #host: string;

  private constructor(server: Server, host: string) {
    this.#server = server;
    this.#host = host;
  }

  /** Listens, then resolves. */
  static async open(options: MetricsEndpointOptions): Promise<MetricsEndpoint> {
    const { port = 0, host = '127.0.0.1' } = options;
    // Loaded here only: with it comes an HTTP client of Node's own, and on Node 22 that ends a process without WebAssembly.
    const { createServer } = await import('node:http');
    const server = createServer(listenerOf(options)).unref();
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen(port, host, resolve);
    });
    return new MetricsEndpoint(server, host);
  }

  /** Where the metrics are. */
  get url(): string {
    return new URL('metrics', this.rootUrl).href;
  }

  /** Where the live page is, if there is one. */
  get rootUrl(): string {
    const address = this.#server.address();
    const port = typeof address === 'object' && address !== null ? address.port : 0;
    return `http://${this.#host}:${port}/`;
  }

  async close(): Promise<void> {
    if (!this.#server.listening) return;
    const closed = new Promise((resolve) => this.#server.close(resolve));
    this.#server.closeAllConnections();
    await closed;
  }
}

function listenerOf({ registry, livePage }: MetricsEndpointOptions): RequestListener {
  const exposition = new RecentExposition(registry);
  return (request, reply) => {
    const path = (request.url ?? '').split('?')[0];
    if (livePage !== undefined && (path === '/' || path === '/events')) {
      livePage(request, reply);
      return;
    }
    if (request.method !== 'GET' || path !== '/metrics') {
      reply.writeHead(path === '/metrics' ? 405 : 404).end('GET /metrics\n');
      return;
    }
    exposition.body().then(
      (body) =>
        reply
          .writeHead(200, { 'content-type': registry.contentType, 'content-length': body.length })
          .end(body),
      (error: unknown) => reply.writeHead(500).end(`${error}\n`),
    );
  };
}
