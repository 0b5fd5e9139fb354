import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { gunzipSync, inflateRawSync } from 'node:zlib';
import { readBody, roomFor } from '../src/receiver/body.ts';
import { MARK_DISTANCE_MIN, RECORD_MARK } from './events.ts';
import { quantilesOf } from './measure.ts';
import type { ReceiverMessage, ReceiverTotals } from './receiver-process.ts';

/**
 * The receiver all contestants send to, in a process of its own: unpacks what comes by any of their protocols, counts the records
 * in it, and does nothing else. It answers 503 while an outage is on, and then takes nothing.
 */
const BODY_BYTES_MAX: number = 64 * 1024 * 1024;
const MARK: Buffer = Buffer.from(RECORD_MARK);
const GZIP_HEADER_BYTES = 10;
const GZIP_FLAGS_AT = 3;
const SENT_MARK = /"sent_us":(\d+)/g;
const REPLY = '{"code":0,"status":1,"success":true}';

const totals = { requests: 0, refused: 0, records: 0, bytesWire: 0, bytesRaw: 0 };
let outageUntilMs = 0;
let latenciesMs: number[] = [];
let looksAtTimes = false;

const server = createServer((request, reply) => {
  take(request, reply).catch(() => reply.destroy());
});
server.listen(0, '127.0.0.1', () => {
  const address = server.address();
  if (typeof address === 'object' && address !== null) process.send?.({ port: address.port });
});
process.on('message', (message: ReceiverMessage) => {
  if (message.ask === 'outage') outageUntilMs = performance.now() + message.forMs;
  if (message.ask === 'reset') reset(message.looksAtTimes);
  process.send?.(snapshot());
});
process.on('disconnect', () => process.exit(0));

async function take(request: IncomingMessage, reply: ServerResponse): Promise<void> {
  const body = await readBody(request, BODY_BYTES_MAX);
  totals.requests += 1;
  if (performance.now() < outageUntilMs) {
    totals.refused += 1;
    answer(reply, 503, '{}');
    return;
  }
  const json = unpack(request, body);
  totals.bytesWire += body.length;
  totals.bytesRaw += json.length;
  totals.records += countMarks(json);
  if (looksAtTimes) noteLatencies(json);
  answer(reply, 200, REPLY);
}

function countMarks(json: Buffer): number {
  let count = 0;
  for (let at = json.indexOf(MARK); at >= 0; at = json.indexOf(MARK, at + MARK_DISTANCE_MIN)) {
    count += 1;
  }
  return count;
}

function unpack({ headers, url }: IncomingMessage, body: Buffer): Buffer {
  if (headers.compress === 'gzip' || headers['content-encoding'] === 'gzip') return gunzip(body);
  if (!headers['content-type']?.includes('urlencoded') || url === '/sync_server') return body;
  // Sensors Analytics: a form with the batch in base64.
  const form = new URLSearchParams(body.toString('latin1'));
  const data = Buffer.from(form.get('data_list') ?? form.get('data') ?? '', 'base64');
  return form.get('gzip') === '1' ? gunzip(data) : data;
}

/** Without the checksum, an eighth of the receiver's time: a broken body would be missed by its marks. */
function gunzip(body: Buffer): Buffer {
  const chunkSize = roomFor(body);
  const isPlainHeader = body[GZIP_FLAGS_AT] === 0;
  return isPlainHeader
    ? inflateRawSync(body.subarray(GZIP_HEADER_BYTES), { chunkSize })
    : gunzipSync(body, { chunkSize });
}

function noteLatencies(json: Buffer): void {
  // The monotonic clock is one for all processes of a machine.
  const nowUs = Number(process.hrtime.bigint() / 1000n);
  for (const [, sentUs] of json.toString('latin1').matchAll(SENT_MARK)) {
    latenciesMs.push((nowUs - Number(sentUs)) / 1000);
  }
}

function reset(withTimes: boolean): void {
  for (const name of Object.keys(totals) as (keyof typeof totals)[]) totals[name] = 0;
  latenciesMs = [];
  looksAtTimes = withTimes;
  outageUntilMs = 0;
}

function snapshot(): ReceiverTotals {
  return { ...totals, latencyMs: quantilesOf(latenciesMs) };
}

function answer(reply: ServerResponse, status: number, text: string): void {
  reply.writeHead(status, {
    'content-type': 'application/json',
    'content-length': Buffer.byteLength(text),
  });
  reply.end(text);
}
