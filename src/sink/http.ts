import { performance } from 'node:perf_hooks';
import { Agent, type Dispatcher, EnvHttpProxyAgent, ProxyAgent } from 'undici';
import { textOfError } from '../base/errors.ts';
import { BodyMemory } from '../codec/body-memory.ts';
import { type BodyLevel, jsonBody } from '../codec/gzip.ts';
import type { Machine } from '../codec/machine.ts';
import type { Endpoint } from './endpoint.ts';
import { Exchange } from './exchange.ts';
import { codeOfReply, outcomeOf, outcomeOfDebug, REPLY_BYTES_MAX, type Reply } from './reply.ts';
import { partsOfAuthorization, partsOfUrl, Secrets } from './secrets.ts';
import type { AttemptFacts, Batch, FailureReason, Outcome, Sink } from './sink.ts';

/** What an HTTP sink is opened with: plain data. */
export interface HttpSinkConfig {
  readonly kind: 'http' | 'debug';
  readonly endpoint: Endpoint;
  readonly appId: string;
  readonly headers: Readonly<Record<string, string>>;
  /** How bodies are compressed; 'fast' is the worker's own deflate, numbers are levels of zlib. */
  readonly level: BodyLevel;
  /** Longest time of a connection attempt, of waiting for headers, and between two pieces of the body, in ms. */
  readonly timeoutMs: number;
  /** Most sockets to the receiver from this thread. */
  readonly connections: number;
  readonly proxy?: string;
  /** PEM. */
  readonly ca?: string;
  /** Version of this library. */
  readonly version: string;
  /** Debug only: check, store nothing. */
  readonly dryRun?: boolean;
  /** Debug only. */
  readonly deviceId?: string;
}

const COUNT_HEADER = 'TA-Integration-Count';
const KEEP_ALIVE_MS = 30_000;
/** Most bytes of a reply's headers, and of a body that is read to its end to keep its connection; beyond them the attempt fails. */
const REPLY_HEADER_BYTES_MAX: number = 16 * 1024;
const REPLY_READ_BYTES_MAX: number = 16 * REPLY_BYTES_MAX;
const PROXY_VARIABLES = ['http_proxy', 'https_proxy', 'HTTP_PROXY', 'HTTPS_PROXY'];

/** Posts batches to a receiver. One a thread; keeps its connections from turn to turn. */
export class HttpSink implements Sink {
  readonly separator = ',';
  readonly #config: HttpSinkConfig;
  readonly #machine: Machine | undefined;
  readonly #dispatcher: Dispatcher;
  readonly #headers: Readonly<Record<string, string>>;
  readonly #secrets: Secrets;
  readonly #memory = new BodyMemory();
  #facts: AttemptFacts = { status: 0, durationMs: 0 };

  private constructor(config: HttpSinkConfig, machine: Machine | undefined) {
    this.#config = config;
    this.#machine = machine;
    this.#dispatcher = openDispatcher(config);
    this.#headers = fixedHeaders(config);
    this.#secrets = secretsOf(config);
  }

  /** @param machine of the thread, for the level 'fast' */
  static open(config: HttpSinkConfig, machine: Machine | undefined): HttpSink {
    return new HttpSink(config, machine);
  }

  get lastAttempt(): AttemptFacts {
    return this.#facts;
  }

  async deliver(batch: Batch, signal: AbortSignal): Promise<Outcome> {
    const startMs = performance.now();
    const facts: AttemptFacts = { status: 0, durationMs: 0 };
    let exchange: Exchange | undefined;
    try {
      const request =
        this.#config.kind === 'debug' ? this.#debugRequest(batch) : this.#syncRequest(batch);
      facts.bodyMs = performance.now() - startMs;
      exchange = new Exchange(signal);
      const { origin } = this.#config.endpoint;
      this.#dispatcher.dispatch({ origin, method: 'POST', ...request }, exchange);
      const body = await exchange.body;
      const { status, headers } = exchange;
      const answer: Reply = {
        status,
        header: (name) => [headers[name]].flat()[0] || undefined,
        body,
        hide: (words) => this.#secrets.hide(words),
        nowMs: Date.now(),
      };
      const code = codeOfReply(answer);
      if (code !== undefined) facts.code = code;
      const { length } = request.body;
      const outcome =
        this.#config.kind === 'debug'
          ? withRecord(outcomeOfDebug(answer, length), batch)
          : outcomeOf(answer, length);
      // Who has acknowledged the records has read all of the body; after other replies some of it may still be on its way.
      if (outcome.kind === 'delivered') this.#memory.giveBack(request.body);
      return outcome;
    } catch (error) {
      const failure = failureOf(error, signal);
      return { ...failure, message: this.#secrets.hide(failure.message) };
    } finally {
      facts.status = exchange?.status ?? 0;
      facts.durationMs = performance.now() - startMs;
      this.#facts = facts;
    }
  }

  #syncRequest(batch: Batch): {
    path: string;
    body: Buffer<ArrayBuffer>;
    headers: Record<string, string>;
  } {
    return {
      path: this.#config.endpoint.syncPath,
      body: jsonBody(batch, this.#config.level, { machine: this.#machine, memory: this.#memory }),
      headers: { ...this.#headers, [COUNT_HEADER]: String(batch.count) },
    };
  }

  #debugRequest(batch: Batch): {
    path: string;
    body: Buffer<ArrayBuffer>;
    headers: Record<string, string>;
  } {
    const record = Buffer.from(batch.text.subarray(batch.starts[0], batch.ends[0]));
    const form = new URLSearchParams({
      source: 'server',
      appid: this.#config.appId,
      data: record.toString('utf8'),
      dryRun: this.#config.dryRun === true ? '1' : '0',
    });
    if (this.#config.deviceId !== undefined) form.set('deviceId', this.#config.deviceId);
    return {
      path: this.#config.endpoint.debugPath,
      body: Buffer.from(form.toString()),
      headers: {
        ...this.#headers,
        'Content-Type': 'application/x-www-form-urlencoded',
        compress: 'none',
      },
    };
  }

  async flush(): Promise<void> {
    // Nothing is kept here: a batch is either acknowledged or still in its lane.
  }

  async close(): Promise<void> {
    await this.#dispatcher.destroy();
  }
}

const RECORD_CHARACTERS_MAX = 8192;

/** Who debugs wants to see the record that was refused. */
function withRecord(outcome: Outcome, { text, starts, ends }: Batch): Outcome {
  if (outcome.kind !== 'rejected') return outcome;
  const record = Buffer.from(text.subarray(starts[0], ends[0])).toString('utf8');
  return {
    ...outcome,
    message: `${outcome.message}; the record: ${record.slice(0, RECORD_CHARACTERS_MAX)}`,
  };
}

function openDispatcher(config: HttpSinkConfig): Dispatcher {
  const tls = config.ca === undefined ? {} : { ca: config.ca };
  const options = {
    connections: config.connections,
    pipelining: 1,
    keepAliveTimeout: KEEP_ALIVE_MS,
    headersTimeout: config.timeoutMs,
    bodyTimeout: config.timeoutMs,
    maxHeaderSize: REPLY_HEADER_BYTES_MAX,
    maxResponseSize: REPLY_READ_BYTES_MAX,
    connect: { timeout: config.timeoutMs, ...tls },
  };
  if (config.proxy !== undefined) {
    return new ProxyAgent({ ...options, uri: config.proxy, requestTls: tls });
  }
  const usesVariables = PROXY_VARIABLES.some((name) => (process.env[name] ?? '') !== '');
  return usesVariables ? new EnvHttpProxyAgent(options) : new Agent(options);
}

function fixedHeaders(config: HttpSinkConfig): Record<string, string> {
  const { authorization } = config.endpoint;
  const own = {
    'Content-Type': 'application/plaintext',
    appid: config.appId,
    compress: config.level === 'none' ? 'none' : 'gzip',
    'TA-Integration-Type': 'millrace',
    'TA-Integration-Version': config.version,
    ...(authorization === undefined ? {} : { authorization }),
  };
  // Names of headers are the same in any case: one of the user's beside one of ours would be sent as a second.
  const names = new Set([...Object.keys(own), COUNT_HEADER].map((name) => name.toLowerCase()));
  const others = Object.entries(config.headers).filter(([name]) => !names.has(name.toLowerCase()));
  return { ...Object.fromEntries(others), ...own };
}

function secretsOf({ appId, endpoint, headers, proxy }: HttpSinkConfig): Secrets {
  const { authorization } = endpoint;
  const proxies = [proxy, ...PROXY_VARIABLES.map((name) => process.env[name])];
  return new Secrets([
    appId,
    ...Object.values(headers).flatMap(partsOfAuthorization),
    ...(authorization === undefined ? [] : partsOfAuthorization(authorization)),
    ...proxies.flatMap((url) => (url === undefined ? [] : partsOfUrl(url))),
  ]);
}

function failureOf(error: unknown, signal: AbortSignal): Outcome & { readonly kind: 'retry' } {
  const code = codeOf(error);
  const message = textOfError(error);
  return {
    kind: 'retry',
    reason: signal.aborted ? 'timeout' : reasonOf(code),
    message: signal.aborted ? 'no answer in time' : `${message}${code === '' ? '' : ` [${code}]`}`,
    budget: 'normal',
  };
}

function codeOf(error: unknown): string {
  for (let at = error, depth = 0; depth < 4; depth += 1) {
    if (typeof at !== 'object' || at === null) return '';
    if ('code' in at && typeof at.code === 'string') return at.code;
    if (!('cause' in at)) return '';
    at = at.cause;
  }
  return '';
}

const REASONS: Readonly<Record<string, FailureReason>> = {
  UND_ERR_CONNECT_TIMEOUT: 'timeout',
  UND_ERR_HEADERS_TIMEOUT: 'timeout',
  UND_ERR_BODY_TIMEOUT: 'timeout',
  ETIMEDOUT: 'timeout',
  ECONNRESET: 'reset',
  EPIPE: 'reset',
  UND_ERR_SOCKET: 'reset',
  ENOTFOUND: 'dns',
  EAI_AGAIN: 'dns',
  EAI_NODATA: 'dns',
  EPROTO: 'tls',
  UND_ERR_HEADERS_OVERFLOW: 'bad_reply',
  UND_ERR_RES_EXCEEDED_MAX_SIZE: 'bad_reply',
};

function reasonOf(code: string): FailureReason {
  const known = REASONS[code];
  if (known !== undefined) return known;
  const isTls =
    code.startsWith('ERR_TLS') ||
    code.startsWith('ERR_SSL') ||
    code.startsWith('CERT_') ||
    code.includes('CERT') ||
    code.startsWith('UNABLE_TO_');
  if (isTls) return 'tls';
  return code.startsWith('HPE_') ? 'bad_reply' : 'network';
}
