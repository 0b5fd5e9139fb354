import { once } from 'node:events';
import {
  Agent,
  createServer,
  type IncomingMessage,
  request,
  type Server,
  type ServerResponse,
} from 'node:http';
import { gunzipSync } from 'node:zlib';
import { numbersIn } from './stage.ts';

/** A request as it went by. Times in ms since 1970, with fractions. */
export interface TapNote {
  readonly startMs: number;
  /** When the answer began to go out: no sender can have it earlier. */
  readonly answeredMs: number;
  /** When the sender had the answer. */
  readonly endMs: number;
  /** Records it says it has. */
  readonly records: number;
  /** Numbers of the records in it; empty if the tap does not read. */
  readonly numbers: readonly number[];
  readonly bytes: number;
  readonly status: number;
  /** Value of its `Retry-After`. */
  readonly retryAfter: string | undefined;
}

/** Stands between senders and a receiver, and notes every request and its answer. */
export class Tap {
  readonly url: string;
  readonly notes: TapNote[] = [];
  readonly #server: Server;
  readonly #target: URL;
  readonly #reads: boolean;
  readonly #agent = new Agent({ keepAlive: true });

  private constructor(server: Server, target: string, reads: boolean) {
    const { port } = server.address() as { port: number };
    this.url = `http://127.0.0.1:${port}`;
    this.#server = server;
    this.#target = new URL(target);
    this.#reads = reads;
    server.on('request', (incoming, outgoing) => this.#pass(incoming, outgoing));
  }

  /** @param how 'read': notes have the numbers of their records */
  static async before(
    receiver: { readonly url: string },
    how: 'count' | 'read' = 'count',
  ): Promise<Tap> {
    const server = createServer().listen(0, '127.0.0.1');
    await once(server, 'listening');
    return new Tap(server, receiver.url, how === 'read');
  }

  async stop(): Promise<void> {
    this.#agent.destroy();
    this.#server.closeAllConnections();
    this.#server.close();
    await once(this.#server, 'close');
  }

  async #pass(incoming: IncomingMessage, outgoing: ServerResponse): Promise<void> {
    const startMs = now();
    const body = Buffer.concat((await incoming.toArray()) as Buffer[]);
    const forward = request({
      agent: this.#agent,
      host: this.#target.hostname,
      port: this.#target.port,
      method: incoming.method,
      path: incoming.url,
      headers: incoming.headers,
    });
    forward.on('error', () => outgoing.destroy());
    forward.on('response', (reply) => {
      const answeredMs = now();
      outgoing.writeHead(reply.statusCode ?? 0, reply.headers);
      reply.pipe(outgoing);
      outgoing.on('finish', () => this.#note(incoming, { startMs, answeredMs, body, reply }));
    });
    forward.end(body);
  }

  #note(
    { headers }: IncomingMessage,
    {
      startMs,
      answeredMs,
      body,
      reply,
    }: { startMs: number; answeredMs: number; body: Buffer; reply: IncomingMessage },
  ): void {
    this.notes.push({
      startMs,
      answeredMs,
      endMs: now(),
      records: Number(headers['ta-integration-count']),
      numbers: this.#reads ? numbersIn(textOf(body, String(headers.compress))) : [],
      bytes: body.length,
      status: reply.statusCode ?? 0,
      retryAfter: reply.headers['retry-after'],
    });
  }
}

/** One record a line, which is what {@link numbersIn} wants. */
function textOf(body: Buffer, compress: string): string {
  const bytes = compress === 'gzip' ? gunzipSync(body) : body;
  return bytes.toString('latin1').replaceAll('},{"#', '}\n{"#');
}

function now(): number {
  return performance.timeOrigin + performance.now();
}
