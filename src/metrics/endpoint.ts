import { createServer, type Server } from 'node:http';
import type { MetricsRegistry } from './collector.ts';

export interface MetricsEndpointOptions {
  readonly registry: MetricsRegistry;
  /** Default 0: any free one. */
  readonly port?: number;
  /** Default 127.0.0.1. */
  readonly host?: string;
}

/** `GET /metrics` of one registry. Never keeps the process alive. */
export class MetricsEndpoint {
  readonly #server: Server;
  readonly #host: string;

  private constructor(registry: MetricsRegistry, host: string) {
    this.#host = host;
    this.#server = createServer((request, reply) => {
      const path = (request.url ?? '').split('?')[0];
      if (request.method !== 'GET' || path !== '/metrics') {
        reply.writeHead(path === '/metrics' ? 405 : 404).end('GET /metrics\n');
        return;
      }
      registry.metrics().then(
        (text) => reply.writeHead(200, { 'content-type': registry.contentType }).end(text),
        (error: unknown) => reply.writeHead(500).end(`${error}\n`),
      );
    });
    this.#server.unref();
  }

  /** Listens, then resolves. */
  static async open(options: MetricsEndpointOptions): Promise<MetricsEndpoint> {
    const endpoint = new MetricsEndpoint(options.registry, options.host ?? '127.0.0.1');
    await new Promise<void>((resolve, reject) => {
      endpoint.#server.once('error', reject);
      endpoint.#server.listen(options.port ?? 0, endpoint.#host, resolve);
    });
    return endpoint;
  }

  get url(): string {
    const address = this.#server.address();
    const port = typeof address === 'object' && address !== null ? address.port : 0;
    return `http://${this.#host}:${port}/metrics`;
  }

  async close(): Promise<void> {
    if (!this.#server.listening) return;
    const closed = new Promise((resolve) => this.#server.close(resolve));
    this.#server.closeAllConnections();
    await closed;
  }
}
