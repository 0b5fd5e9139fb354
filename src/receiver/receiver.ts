import { appendFileSync } from 'node:fs';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import findMyWay from 'find-my-way';
import { makeDirectory } from '../base/directory.ts';
import { LiveHandler } from '../live/handler.ts';
import { checkRecord, type RecordProblem } from '../record/check.ts';
import { BodyError, countRecords, inflate, readBody } from './body.ts';
import { type Fault, type FaultAction, Faults, parseFaults } from './faults.ts';
import { RecentRecords } from './recent.ts';
import { type CheckedRecord, Store } from './store.ts';
import { type ReceiverSnapshot, Tally } from './tally.ts';

export interface ReceiverOptions {
  /** Default 0: any free one. */
  readonly port?: number;
  /** Default 127.0.0.1. */
  readonly host?: string;
  /** App ids it knows; default: any. */
  readonly appIds?: readonly string[];
  /** 'strict' (default) checks every record; 'count' only unpacks and counts. */
  readonly mode?: 'strict' | 'count';
  /** Folder that gets every record received, one a line. */
  readonly saveDirectory?: string;
  /** Largest body, in bytes; default 16 MiB. */
  readonly bodyBytesMax?: number;
  /** Largest body after unpacking, in bytes; default 64 MiB. */
  readonly rawBytesMax?: number;
  /** Events kept to look at; default 100 000. */
  readonly eventsMax?: number;
  /** Users kept; default 100 000. */
  readonly usersMax?: number;
  /** Seed of faults that hit by chance; default 1. */
  readonly seed?: number;
  /** Open sockets at a time; default 1024. */
  readonly connectionsMax?: number;
}

interface Limits {
  readonly bodyBytesMax: number;
  readonly rawBytesMax: number;
}

const MIB: number = 1024 * 1024;
const HEADER_BYTES_MAX: number = 16 * 1024;
const LIST_LIMIT = 100;
const SAVE_FILE = 'received.jsonl';
const INVALID = -1;
const UNKNOWN_APP = -2;

const HELP = `millrace receiver
POST /sync_server      batches (appid, compress: gzip|none, JSON array)
POST /data_debug       one record as a form
GET  /stats            counts
GET  /users, /users/ID, /events?name=&limit=   what the records made
POST /control          faults, as JSON; DELETE /control takes them away
POST /reset            forget everything
GET  /live/            a page to look at all of it; /live/records?q=&type=&state= the latest records
GET  /healthz
`;

/**
 * The server's side of the wire contract, on this machine: checks, counts, applies, and fails on request.
 * For tests and trials; it keeps what it has in memory.
 */
export class Receiver {
  readonly #server: Server;
  readonly #host: string;
  readonly #mode: 'strict' | 'count';
  readonly #appIds: ReadonlySet<string> | undefined;
  readonly #limits: Limits;
  readonly #savePath: string | undefined;
  readonly #faults: Faults;
  readonly #store: Store;
  readonly #recent = new RecentRecords();
  readonly #live = new LiveHandler({
    kind: 'receiver',
    look: () => ({ receiver: this.snapshot() }),
  });
  readonly #router = findMyWay({ defaultRoute: (_request, reply) => send(reply, 404, {}) });
  #tally = new Tally();

  private constructor(options: ReceiverOptions) {
    this.#host = options.host ?? '127.0.0.1';
    this.#mode = options.mode ?? 'strict';
    this.#appIds = options.appIds === undefined ? undefined : new Set(options.appIds);
    this.#limits = {
      bodyBytesMax: options.bodyBytesMax ?? 16 * MIB,
      rawBytesMax: options.rawBytesMax ?? 64 * MIB,
    };
    this.#savePath =
      options.saveDirectory === undefined ? undefined : join(options.saveDirectory, SAVE_FILE);
    this.#faults = new Faults(options.seed ?? 1);
    this.#store = new Store({
      eventsMax: options.eventsMax ?? 100_000,
      usersMax: options.usersMax ?? 100_000,
    });
    this.#server = createServer({ maxHeaderSize: HEADER_BYTES_MAX }, (request, reply) => {
      this.#handle(request, reply);
    });
    this.#server.maxConnections = options.connectionsMax ?? 1024;
    this.#route();
  }

  /** Listens, then resolves. */
  static async open(options: ReceiverOptions = {}): Promise<Receiver> {
    const receiver = new Receiver(options);
    if (options.saveDirectory !== undefined) makeDirectory(options.saveDirectory);
    await new Promise<void>((resolve, reject) => {
      receiver.#server.once('error', reject);
      receiver.#server.listen(options.port ?? 0, receiver.#host, resolve);
    });
    return receiver;
  }

  get port(): number {
    const address = this.#server.address();
    return typeof address === 'object' && address !== null ? address.port : 0;
  }

  get url(): string {
    return `http://${this.#host}:${this.port}`;
  }

  snapshot(): ReceiverSnapshot {
    return this.#tally.snapshot();
  }

  /** The faults in force from now on; an empty list ends them. */
  setFaults(faults: readonly Fault[]): void {
    this.#faults.set(faults, performance.now());
  }

  /** The latest events, oldest first. */
  events(name?: string): readonly Readonly<Record<string, unknown>>[] {
    return this.#store.events({ name, limit: Number.POSITIVE_INFINITY });
  }

  /** Properties of a user, by account or distinct id. */
  user(id: string): Readonly<Record<string, unknown>> | undefined {
    return this.#store.user(id)?.properties;
  }

  /** Forgets all records and counts. */
  reset(): void {
    this.#store.clear();
    this.#recent.clear();
    this.#tally = new Tally();
  }

  /** Ends all connections. */
  async close(): Promise<void> {
    if (!this.#server.listening) return;
    this.#live.close();
    const closed = new Promise((resolve) => this.#server.close(resolve));
    this.#server.closeAllConnections();
    await closed;
  }

  #route(): void {
    const router = this.#router;
    router.on('GET', '/', (request, reply) => {
      // People come with a browser, programs do not ask for HTML.
      if (request.headers.accept?.includes('text/html') !== true) sendText(reply, HELP);
      else reply.writeHead(302, { location: '/live/' }).end();
    });
    router.on('GET', '/live', (_request, reply) => {
      reply.writeHead(302, { location: '/live/' }).end();
    });
    router.on('GET', '/live/', (request, reply) => this.#live.handle(request, reply));
    router.on('GET', '/live/events', (request, reply) => this.#live.handle(request, reply));
    router.on('GET', '/live/records', (_request, reply, _params, _store, query) => {
      const { q: text = '', type = '', state = '' } = query;
      send(reply, 200, this.#recent.find({ text, type, state }));
    });
    router.on('GET', '/healthz', (_request, reply) => sendText(reply, 'ok\n'));
    router.on('GET', '/stats', (_request, reply) => send(reply, 200, this.snapshot()));
    router.on('GET', '/users', (_request, reply) => {
      send(reply, 200, this.#store.users(LIST_LIMIT));
    });
    router.on('GET', '/users/:id', (_request, reply, { id = '' }) => {
      const user = this.#store.user(id);
      send(reply, user === undefined ? 404 : 200, user ?? { error: `no user ${id}` });
    });
    router.on('GET', '/events', (_request, reply, _params, _store, query) => {
      const limit = Number(query.limit ?? LIST_LIMIT);
      const events = this.#store.events({
        name: query.name,
        limit: Number.isInteger(limit) && limit > 0 ? limit : LIST_LIMIT,
      });
      send(reply, 200, events);
    });
    router.on('POST', '/reset', (_request, reply) => {
      this.reset();
      send(reply, 200, {});
    });
    router.on('POST', '/control', (request, reply) => this.#control(request, reply));
    router.on('DELETE', '/control', (_request, reply) => {
      this.setFaults([]);
      send(reply, 200, {});
    });
  }

  #handle(request: IncomingMessage, reply: ServerResponse): void {
    // Whoever goes away in the middle is no concern of ours.
    request.on('error', ignore);
    reply.on('error', ignore);
    const path = (request.url ?? '').split('?')[0] ?? '';
    const isPost = request.method === 'POST';
    let work: Promise<void> | undefined;
    if (isPost && path.endsWith('/sync_server')) {
      work = this.#receive('sync', { request, reply });
    } else if (isPost && path.endsWith('/data_debug')) {
      work = this.#receive('debug', { request, reply });
    }
    if (work === undefined) this.#router.lookup(request, reply);
    else work.catch((error: unknown) => this.#fail(reply, error));
  }

  #fail(reply: ServerResponse, error: unknown): void {
    if (!(error instanceof BodyError)) {
      reply.destroy();
      return;
    }
    this.#tally.countError(error.message.split(':')[0] ?? '');
    const body = { code: INVALID, msg: error.message };
    if (!reply.headersSent) send(reply, error.status, body);
  }

  async #control(request: IncomingMessage, reply: ServerResponse): Promise<void> {
    try {
      const body = await readBody(request, HEADER_BYTES_MAX);
      this.setFaults(parseFaults(JSON.parse(body.toString('utf8'))));
      send(reply, 200, {});
    } catch (error) {
      send(reply, 400, { error: String(error) });
    }
  }

  /** One request of the protocol, with the fault that hits it, if any. */
  async #receive(
    target: 'sync' | 'debug',
    { request, reply }: { request: IncomingMessage; reply: ServerResponse },
  ): Promise<void> {
    this.#tally.requests += 1;
    const fault = this.#faults.take(target, performance.now());
    if (fault !== undefined) this.#tally.faulted += 1;
    if (fault !== undefined && (await this.#failBefore(fault, { request, reply }))) return;
    const body = await readBody(request, this.#limits.bodyBytesMax);
    this.#tally.bytesWire += body.length;
    if (fault?.kind === 'too-large' && body.length > fault.bytes) {
      send(reply, 413, { msg: `more than ${fault.bytes} bytes` });
      return;
    }
    const poison = fault?.kind === 'poison' ? fault.text : undefined;
    const answer =
      target === 'sync' ? this.#takeBatch(request, body, poison) : this.#takeDebug(body);
    if (fault === undefined) send(reply, 200, answer);
    else await answerWithFault(reply, answer, fault);
  }

  /** Faults that take no record. True: the request is dealt with. */
  async #failBefore(
    fault: FaultAction,
    { request, reply }: { request: IncomingMessage; reply: ServerResponse },
  ): Promise<boolean> {
    switch (fault.kind) {
      case 'hang':
        request.resume();
        return true;
      case 'reset':
        if (fault.when === 'after') return false;
        if (fault.when === 'body') await new Promise((resolve) => request.once('data', resolve));
        request.socket.resetAndDestroy();
        return true;
      case 'status':
        await readBody(request, this.#limits.bodyBytesMax);
        sendRaw(reply, fault);
        return true;
      case 'redirect':
        await readBody(request, this.#limits.bodyBytesMax);
        sendRaw(reply, { status: 302, headers: { location: fault.location } });
        return true;
      case 'code':
        await readBody(request, this.#limits.bodyBytesMax);
        send(reply, 200, { code: fault.code, msg: fault.msg ?? 'as ordered' });
        return true;
      case 'wrong-json':
      case 'empty':
        await readBody(request, this.#limits.bodyBytesMax);
        sendRaw(reply, { status: 200, body: fault.kind === 'empty' ? '' : '<html>hello</html>' });
        return true;
      default:
        return false;
    }
  }

  #takeBatch(request: IncomingMessage, body: Buffer, poison: string | undefined): object {
    const appId = String(request.headers.appid ?? '');
    if (appId === '' || (this.#appIds !== undefined && !this.#appIds.has(appId))) {
      this.#tally.countError('unknown appid');
      return { code: UNKNOWN_APP, msg: `appid ${JSON.stringify(appId)} is not known` };
    }
    const json = inflate(body, {
      compress: request.headers.compress?.toString(),
      bytesMax: this.#limits.rawBytesMax,
    });
    this.#tally.bytesRaw += json.length;
    const announced = request.headers['ta-integration-count'];
    if (this.#mode === 'count') {
      const count = countRecords(json);
      checkCount(announced, count);
      this.#tally.unique += count;
      this.#acknowledge(appId, count);
      return { code: 0 };
    }
    const records = parseArray(json);
    checkCount(announced, records.length);
    const refusal = this.#refusalOf(records, poison);
    if (refusal !== undefined) return { code: INVALID, msg: refusal };
    this.#applyRecords(records);
    this.#acknowledge(appId, records.length);
    return { code: 0 };
  }

  /** Why a batch is refused as a whole; undefined: it is fine. */
  #refusalOf(records: readonly unknown[], poison: string | undefined): string | undefined {
    for (const [index, record] of records.entries()) {
      const problem = checkRecord(record)[0];
      const isPoison = poison !== undefined && JSON.stringify(record).includes(poison);
      if (problem === undefined && !isPoison) continue;
      const reason = problem === undefined ? 'is poison' : `${problem.path} ${problem.reason}`;
      this.#tally.refused += records.length;
      this.#tally.countError(problem === undefined ? 'poison' : problem.path);
      this.#recent.add(record, 'refused', reason);
      return `record ${index}: ${reason}`;
    }
    return undefined;
  }

  #acknowledge(appId: string, records: number): void {
    this.#tally.batches += 1;
    this.#tally.records += records;
    this.#tally.countAppId(appId, records);
  }

  #applyRecords(records: readonly unknown[]): void {
    for (const record of records) this.#applyRecord(record);
    if (this.#savePath === undefined || records.length === 0) return;
    appendFileSync(this.#savePath, `${records.map((one) => JSON.stringify(one)).join('\n')}\n`);
  }

  #applyRecord(record: unknown): void {
    const checked = record as CheckedRecord;
    this.#tally.countType(String(checked['#type']));
    const lateMs = Date.now() - Date.parse(String(checked['#time']).replace(' ', 'T'));
    const zone = checked.properties['#zone_offset'];
    // Without an offset the time is this process's zone's, if both run on one machine.
    if (zone === undefined && Number.isFinite(lateMs)) this.#tally.observeLatency(lateMs);
    const isRepeated = this.#store.apply(checked) === 'duplicate';
    if (isRepeated) this.#tally.duplicates += 1;
    else this.#tally.unique += 1;
    this.#recent.add(record, isRepeated ? 'repeated' : 'taken');
  }

  #takeDebug(body: Buffer): object {
    const form = new URLSearchParams(body.toString('utf8'));
    const appId = form.get('appid') ?? '';
    if (appId === '' || (this.#appIds !== undefined && !this.#appIds.has(appId))) {
      return { errorLevel: -1, errorReasons: [`appid ${JSON.stringify(appId)} is not known`] };
    }
    if (form.get('source') !== 'server') {
      return { errorLevel: 2, errorReasons: ['source must be server'] };
    }
    let record: unknown;
    try {
      record = JSON.parse(form.get('data') ?? '');
    } catch (error) {
      return { errorLevel: 2, errorReasons: [`data is not JSON: ${(error as Error).message}`] };
    }
    const problems = checkRecord(record);
    if (problems.length > 0) {
      const reasons = problems.map(({ path, reason }) => `${path} ${reason}`).join('; ');
      this.#recent.add(record, 'refused', reasons);
      return debugAnswer(problems);
    }
    if (form.get('dryRun') !== '1') {
      this.#applyRecords([record]);
      this.#acknowledge(appId, 1);
    }
    this.#tally.debugRecords += 1;
    return { errorLevel: 0 };
  }
}

function debugAnswer(problems: readonly RecordProblem[]): object {
  const errorProperties = problems
    .filter(({ kind }) => kind === 'property')
    .map(({ path, reason }) => ({
      propertyName: path.replace(/^properties\./, ''),
      errorReason: reason,
    }));
  const errorReasons = problems
    .filter(({ kind }) => kind === 'record')
    .map(({ path, reason }) => `${path} ${reason}`);
  return errorReasons.length > 0
    ? { errorLevel: 2, errorReasons, errorProperties }
    : { errorLevel: 1, errorProperties };
}

function parseArray(json: Buffer): readonly unknown[] {
  let parsed: unknown;
  try {
    parsed = JSON.parse(json.toString('utf8'));
  } catch (error) {
    throw new BodyError(200, `the body is not JSON: ${(error as Error).message}`);
  }
  if (!Array.isArray(parsed)) throw new BodyError(200, 'the body is not a JSON array');
  if (parsed.length === 0) throw new BodyError(200, 'the body holds no record');
  return parsed;
}

function checkCount(announced: string | string[] | undefined, count: number): void {
  if (announced === undefined || announced === String(count)) return;
  throw new BodyError(200, `TA-Integration-Count: ${announced} announced, ${count} found`);
}

/** Faults that strike after the records were taken. */
async function answerWithFault(
  reply: ServerResponse,
  answer: object,
  fault: FaultAction,
): Promise<void> {
  const text = Buffer.from(JSON.stringify(answer));
  switch (fault.kind) {
    case 'delay':
      await delay(fault.ms);
      break;
    case 'reset':
      reply.socket?.resetAndDestroy();
      return;
    case 'half':
      reply.writeHead(200, { 'content-length': text.length });
      reply.write(text.subarray(0, text.length >> 1), () => reply.socket?.destroy());
      return;
    case 'slow':
      reply.writeHead(200, { 'content-length': text.length });
      for (const byte of text) {
        if (reply.destroyed) return;
        reply.write(Uint8Array.of(byte));
        await delay(fault.byteMs);
      }
      reply.end();
      return;
    default:
      break;
  }
  send(reply, 200, answer);
}

function send(reply: ServerResponse, status: number, body: unknown): void {
  const text = JSON.stringify(body);
  reply.writeHead(status, {
    'content-type': 'application/json',
    'content-length': Buffer.byteLength(text),
  });
  reply.end(text);
}

function sendRaw(
  reply: ServerResponse,
  {
    status,
    headers = {},
    body = '',
  }: { status: number; headers?: Readonly<Record<string, string>>; body?: string },
): void {
  reply.writeHead(status, { ...headers, 'content-length': Buffer.byteLength(body) });
  reply.end(body);
}

function sendText(reply: ServerResponse, text: string): void {
  reply.writeHead(200, { 'content-type': 'text/plain; charset=utf-8' });
  reply.end(text);
}

function ignore(): void {
  // See #handle.
}
