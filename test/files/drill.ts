import { fork, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { gunzipSync } from 'node:zlib';

/** How large a run is. */
export interface Scale {
  readonly records: number;
  readonly rounds: number;
  readonly processes: number;
  /** Size of the file that is measured with, in MiB. */
  readonly mib: number;
}

export interface DrillTools extends Scale {
  /** Draws a whole number in `[0, below)`; the same seed draws the same. */
  readonly random: (below: number) => number;
}

/** A long test; it throws when its promise is broken, and returns what it found. */
export interface Drill {
  readonly id: string;
  readonly promise: string;
  readonly run: (tools: DrillTools) => Promise<string>;
}

/** Time of a command, in seconds. */
export interface Cost {
  readonly elapsed: number;
  readonly cpu: number;
}

/** Runs a shell command and takes its time. Rejects when it fails. */
export async function timeOf(command: string): Promise<Cost> {
  const timed = `TIMEFORMAT='%R %U %S'; time { ${command}; }`;
  const child = spawn('bash', ['-c', timed], { stdio: ['ignore', 'ignore', 'pipe'] });
  let text = '';
  child.stderr.on('data', (part: Buffer) => {
    text += part.toString('utf8');
  });
  const [code] = (await once(child, 'close')) as [number];
  if (code !== 0) throw new Error(`${command}: ${text}`);
  const [elapsed = 0, user = 0, system = 0] =
    text.trim().split('\n').at(-1)?.split(' ').map(Number) ?? [];
  return { elapsed, cpu: user + system };
}

/** What a job of test/files/worker-process.ts reports. */
export interface JobReport extends Cost {
  readonly rssMiB: number;
  readonly result: Readonly<Record<string, number>>;
}

/** Runs a job in a process of its own. */
export async function runJob(job: readonly string[]): Promise<JobReport> {
  const path = fileURLToPath(new URL('./job-process.js', import.meta.url));
  const child = fork(path, [...job], {
    execArgv: [],
    stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
  });
  const [report] = (await Promise.race([
    once(child, 'message'),
    once(child, 'close').then(([code]) => {
      throw new Error(`job ${job[0]} ended with ${code}`);
    }),
  ])) as [JobReport];
  await once(child, 'close');
  return report;
}

/** Texts of the log files in a folder by name, unpacked. */
export function* textsOf(directory: string): Generator<{ name: string; text: string }> {
  for (const name of readdirSync(directory).sort()) {
    if (name.startsWith('.')) continue;
    const bytes = readFileSync(join(directory, name));
    const plain = name.endsWith('.gz') ? gunzipSync(bytes) : bytes;
    yield { name, text: plain.toString('utf8') };
  }
}

/** Uuids in a text, in order. */
export function uuidsIn(text: string): string[] {
  return [...text.matchAll(/"#uuid":"([0-9a-f-]{36})"/g)].map(([, uuid = '']) => uuid);
}
