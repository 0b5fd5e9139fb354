import {
  createServer,
  type IncomingHttpHeaders,
  type IncomingMessage,
  type Server,
} from 'node:http';
import type { AddressInfo } from 'node:net';
import { gunzipSync } from 'node:zlib';

export interface CapturedRequest {
  readonly path: string;
  readonly headers: IncomingHttpHeaders;
  /** Unpacked. */
  readonly body: string;
}

export interface CaptureReply {
  readonly status?: number;
  readonly body: string;
}

/** A receiver that checks nothing: keeps what it is sent, and answers what it is told to. */
export class CaptureReceiver {
  readonly url: string;
  readonly requests: CapturedRequest[] = [];
  reply: (request: CapturedRequest) => CaptureReply = ({ path }) => ({
    body: path.startsWith('/data_debug') ? '{"errorLevel":0}' : '{"code":0}',
  });
  readonly #server: Server;

  private constructor(server: Server) {
    this.#server = server;
    this.url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  }

  static async start(): Promise<CaptureReceiver> {
    const handler = async (request: IncomingMessage): Promise<CaptureReply> => {
      const parts: Buffer[] = [];
      for await (const part of request) parts.push(part as Buffer);
      const bytes = Buffer.concat(parts);
      const isPacked = request.headers.compress === 'gzip';
      const captured = {
        path: request.url ?? '',
        headers: request.headers,
        body: (isPacked ? gunzipSync(bytes) : bytes).toString('utf8'),
      };
      receiver.requests.push(captured);
      return receiver.reply(captured);
    };
    const server = createServer((request, response) => {
      handler(request).then(
        ({ status = 200, body }) => response.writeHead(status).end(body),
        (error: unknown) => response.writeHead(500).end(String(error)),
      );
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const receiver = new CaptureReceiver(server);
    return receiver;
  }

  /** All records so far: of batches and of debug requests. */
  records(): Readonly<Record<string, unknown>>[] {
    return this.requests.flatMap(({ path, body }) =>
      path.startsWith('/data_debug')
        ? [JSON.parse(new URLSearchParams(body).get('data') ?? 'null')]
        : JSON.parse(body),
    );
  }

  async stop(): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }
}
