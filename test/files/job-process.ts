import { createReadStream } from 'node:fs';
import { gzipSync } from 'node:zlib';
import { Agent, request } from 'undici';
import { NEWLINE } from '../../src/base/characters.ts';
import { check, ship } from '../../src/index.ts';
import type { JobReport } from './drill.ts';

/** A process that does one job, and tells its time, its CPU time and its memory. */

const PIECE_BYTES: number = 512 * 1024;
const RECORD_MARK = '"#type":"';

type Job = (args: readonly string[]) => Promise<Record<string, number>>;

const JOBS: Readonly<Record<string, Job>> = {
  check: async ([file = '']) => {
    const { lines, bad } = await check([file]);
    return { lines, bad };
  },
  ship: async ([directory = '', url = '', level = '']) => {
    const options = { directory, url, appId: 'A', once: true };
    const account = await ship(level === '' ? options : { ...options, compress: Number(level) });
    return { lines: account.lines, delivered: account.delivered };
  },
  post: postFile,
};

/** What `cat file | curl` would do: the same bytes in the same portions, one request after the other, and nothing else. */
async function postFile([file = '', url = '', level = '0']: readonly string[]): Promise<
  Record<string, number>
> {
  const dispatcher = new Agent({ connections: 1, pipelining: 1 });
  let rest: Buffer = Buffer.alloc(0);
  let lines = 0;
  for await (const piece of createReadStream(file, { highWaterMark: PIECE_BYTES })) {
    const bytes = Buffer.concat([rest, piece as Buffer]);
    const end = bytes.lastIndexOf(NEWLINE) + 1;
    rest = bytes.subarray(end);
    if (end === 0) continue;
    const plain = bytes.subarray(0, end);
    const count = countOf(plain);
    const body = level === '0' ? plain : gzipSync(plain, { level: Number(level) });
    const reply = await request(`${url}/sync_server`, {
      dispatcher,
      method: 'POST',
      headers: {
        appid: 'A',
        compress: level === '0' ? 'none' : 'gzip',
        'TA-Integration-Count': String(count),
      },
      body,
    });
    const text = await reply.body.text();
    if (!text.includes('"code":0')) throw new Error(text);
    lines += count;
  }
  await dispatcher.close();
  return { lines };
}

function countOf(bytes: Buffer): number {
  let count = 0;
  for (let at = bytes.indexOf(RECORD_MARK); at >= 0; at = bytes.indexOf(RECORD_MARK, at + 1)) {
    count += 1;
  }
  return count;
}

const [name = '', ...args] = process.argv.slice(2);
const job = JOBS[name];
if (job === undefined) throw new Error(`no job ${name}`);
const startMs = performance.now();
const result = await job(args);
const { userCPUTime, systemCPUTime, maxRSS } = process.resourceUsage();
const report: JobReport = {
  elapsed: (performance.now() - startMs) / 1000,
  cpu: (userCPUTime + systemCPUTime) / 1e6,
  rssMiB: maxRSS / 1024,
  result,
};
process.send?.(report);
process.disconnect?.();
