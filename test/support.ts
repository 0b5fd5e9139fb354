import assert from 'node:assert/strict';
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { ReceiverProcess } from '../src/cli/receiver-process.ts';
import type { Stats } from '../src/index.ts';
import type { Fault, ReceiverSnapshot } from '../src/receiver/index.ts';
import type { Batch } from '../src/sink/sink.ts';

type JsonRecord = Readonly<Record<string, unknown>>;

/** The receiver in a process of its own, with everything a test asks of it. */
export class TestReceiver {
  readonly url: string;
  readonly #process: ReceiverProcess;

  private constructor(process: ReceiverProcess) {
    this.#process = process;
    this.url = process.url;
  }

  static async start(flags: readonly string[] = []): Promise<TestReceiver> {
    return new TestReceiver(await ReceiverProcess.start(flags));
  }

  snapshot(): Promise<ReceiverSnapshot> {
    return this.#process.snapshot();
  }

  async setFaults(faults: readonly Fault[]): Promise<void> {
    const body = JSON.stringify(faults);
    const reply = await this.#process.ask('/control', { method: 'POST', body });
    assert.equal(reply.status, 200, await reply.text());
  }

  async events(): Promise<JsonRecord[]> {
    const reply = await this.#process.ask('/events?limit=1000000');
    return (await reply.json()) as JsonRecord[];
  }

  async user(id: string): Promise<{ properties: JsonRecord }> {
    const reply = await this.#process.ask(`/users/${id}`);
    return (await reply.json()) as { properties: JsonRecord };
  }

  async reset(): Promise<void> {
    await this.#process.ask('/reset', { method: 'POST' });
  }

  stop(): Promise<void> {
    return this.#process.stop();
  }
}

/** Asserts the conservation equation of the public contract. */
export function assertBalanced(stats: Stats): void {
  const { dropped } = stats;
  const gone =
    stats.delivered +
    stats.rejected +
    dropped.overflow_oldest +
    dropped.expired +
    dropped.shutdown +
    stats.queued +
    stats.spooled;
  assert.equal(stats.accepted + stats.recovered, gone, JSON.stringify(stats));
  assert.equal(stats.imbalance, 0);
}

const directories: string[] = [];
process.on('exit', () => {
  for (const directory of directories) rmSync(directory, { recursive: true, force: true });
});

/** A new empty folder; it goes away with this process. */
export function newDirectory(): string {
  const directory = mkdtempSync(join(tmpdir(), 'millrace-test-'));
  directories.push(directory);
  return directory;
}

/** Looks again until `isTrue`, for as long as a slow machine may need. */
export async function until(isTrue: () => boolean | Promise<boolean>, what: string): Promise<void> {
  const deadline = Date.now() + 60_000;
  while (!(await isTrue())) {
    assert.ok(Date.now() < deadline, `never came true: ${what}`);
    await delay(5);
  }
}

/** Whether onError hears of threads that load slowly: a slow machine's fault, and no sign of anything else. */
export function isSlowLoading({ message }: { readonly message: string }): boolean {
  return /no worker has begun/.test(message);
}

/** Root of the repository, whatever folder the tests were compiled into. */
export function repositoryRoot(): string {
  let folder = dirname(fileURLToPath(import.meta.url));
  while (!existsSync(join(folder, 'biome.json'))) {
    const parent = dirname(folder);
    assert.notEqual(parent, folder, 'the repository has a biome.json at its root');
    folder = parent;
  }
  return folder;
}

/** Version in package.json. */
export function packageVersion(): string {
  const text = readFileSync(join(repositoryRoot(), 'package.json'), 'utf8');
  return (JSON.parse(text) as { version: string }).version;
}

/** All records in the log files of a folder, in the order of files and lines. */
export function readRecords(directory: string, names: readonly string[]): JsonRecord[] {
  return names.flatMap((name) => {
    const text = readFileSync(join(directory, name), 'utf8');
    assert.ok(text === '' || text.endsWith('\n'), `${name} ends with a whole line`);
    return text
      .split('\n')
      .filter((line) => line !== '')
      .map((line) => JSON.parse(line) as JsonRecord);
  });
}

/** Runs a compiled test program (`test/programs.ts`) as a process of its own, and gives what it sent last. */
export async function runProgram(
  name: string,
  args: readonly string[],
  options: { readonly env?: NodeJS.ProcessEnv; readonly timeoutMs?: number } = {},
): Promise<{ code: number | null; signal: string | null; stderr: string; messages: unknown[] }> {
  const path = fileURLToPath(new URL('./programs.js', import.meta.url));
  const child: ChildProcess = fork(path, [name, ...args], {
    stdio: ['ignore', 'inherit', 'pipe', 'ipc'],
    env: { ...process.env, ...options.env },
    execArgv: [],
  });
  const messages: unknown[] = [];
  let stderr = '';
  child.on('message', (message) => messages.push(message));
  child.stderr?.on('data', (part: Buffer) => {
    stderr += part.toString('utf8');
  });
  const timer = setTimeout(() => child.kill('SIGKILL'), options.timeoutMs ?? 60_000);
  const [code, signal] = (await once(child, 'close')) as [number | null, string | null];
  clearTimeout(timer);
  return { code, signal, stderr, messages };
}

/** Values in golden.jsonl that JSON has no form for. */
export function decodeGolden(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(decodeGolden);
  if (typeof value !== 'object' || value === null) return value;
  if ('$date' in value) return new Date(String(value.$date));
  if ('$num' in value) return Number(value.$num);
  return Object.fromEntries(
    Object.entries(value).map(([key, inner]) => [key, decodeGolden(inner)]),
  );
}

export interface GoldenCase {
  readonly name: string;
  readonly tz: string;
  readonly options?: Readonly<Record<string, unknown>>;
  readonly setup?: readonly (readonly [string, unknown])[];
  readonly call: readonly [string, unknown];
  readonly expect?: JsonRecord;
  readonly error?: { readonly code: string; readonly mentions: readonly string[] };
}

export function loadGolden(): GoldenCase[] {
  const text = readFileSync(join(repositoryRoot(), 'test', 'golden.jsonl'), 'utf8');
  return text
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line) as GoldenCase);
}

/** Compares a record with what is expected: `"*"` stands for anything. */
export function assertMatches(actual: unknown, expected: unknown, path = 'record'): void {
  if (expected === '*') {
    assert.notEqual(actual, undefined, `${path} is there`);
    return;
  }
  if (typeof expected !== 'object' || expected === null || Array.isArray(expected)) {
    assert.deepEqual(actual, expected, path);
    return;
  }
  assert.ok(typeof actual === 'object' && actual !== null, `${path} is an object`);
  assert.deepEqual(Object.keys(actual).sort(), Object.keys(expected).sort(), `keys of ${path}`);
  for (const [key, value] of Object.entries(expected)) {
    assertMatches((actual as JsonRecord)[key], value, `${path}.${key}`);
  }
}

/** Lines as the engine lays out a batch: a spare byte, then each with the separator behind. */
export function layOut(lines: readonly string[], separator: string): Batch {
  const text = Buffer.from(` ${lines.map((line) => `${line}${separator}`).join('')}`);
  const starts = new Uint32Array(lines.length);
  const ends = new Uint32Array(lines.length);
  let at = 1;
  lines.forEach((line, index) => {
    starts[index] = at;
    at += Buffer.byteLength(line);
    ends[index] = at;
    at += 1;
  });
  return { count: lines.length, text, starts, ends };
}

/** Value of a metric, all series with these labels added up. */
export function metricIn(text: string, name: string, labels = ''): number {
  let sum = 0;
  for (const [, series = '', value] of text.matchAll(
    new RegExp(`^${name}(\\{[^}]*\\})? (\\S+)$`, 'gm'),
  )) {
    if (series.includes(labels)) sum += Number(value);
  }
  return sum;
}
