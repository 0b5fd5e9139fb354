import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { isDeepStrictEqual } from 'node:util';
import { MillraceError } from '../base/errors.ts';
import { Receiver } from '../receiver/index.ts';
import { Adapter } from './adapter.ts';
import type { ConformCase, ConformJson, ConformStep } from './cases.ts';

export interface ConformResult {
  readonly name: string;
  readonly area: ConformCase['area'];
  readonly state: 'pass' | 'fail' | 'unsupported';
  /** What was expected and what came instead. */
  readonly reason?: string;
}

export interface ConformOptions {
  /** Shell command that starts the adapter. */
  readonly adapter: string;
  readonly cases: readonly ConformCase[];
  /** Waits are so many times as long; default 1. */
  readonly patience?: number;
  readonly onResult?: (result: ConformResult) => void;
}

/** What the receiver or the folder holds at some moment. */
interface Arrived {
  readonly records: readonly ConformJson[];
  readonly duplicates: number;
  readonly debugRecords: number;
  readonly files: readonly string[];
}

const WAIT_MS = 5000;
const LOOK_MS = 25;
/** Fields that every SDK fills in as it likes. */
const FREE_FIELDS = ['#lib', '#lib_version'];

/**
 * Runs the cases one after another, each against a fresh adapter and a fresh receiver.
 *
 * @throws MillraceError MILLRACE_UNAVAILABLE: the first adapter ended before it had answered anything
 */
export async function conform(options: ConformOptions): Promise<ConformResult[]> {
  const results: ConformResult[] = [];
  for (const one of options.cases) {
    const trial = new Trial(one, options);
    const result = await trial.run();
    if (results.length === 0 && trial.isStillborn) {
      throw new MillraceError('MILLRACE_UNAVAILABLE', result.reason ?? 'the adapter has ended');
    }
    results.push(result);
    options.onResult?.(result);
  }
  return results;
}

class Trial {
  readonly #case: ConformCase;
  readonly #adapter: string;
  readonly #waitMs: number;
  readonly #folder = mkdtempSync(join(tmpdir(), 'millrace-conform-'));
  #wrong: string | undefined;
  #requestsAfterQuiet = 0;
  /** Whether the adapter ended without an answer. */
  isStillborn = false;

  constructor(one: ConformCase, { adapter, patience = 1 }: ConformOptions) {
    this.#case = one;
    this.#adapter = adapter;
    this.#waitMs = (one.waitMs ?? WAIT_MS) * patience;
  }

  async run(): Promise<ConformResult> {
    const { name, area } = this.#case;
    const receiver = await Receiver.open({ saveDirectory: this.#folder });
    receiver.setFaults(this.#case.faults ?? []);
    const adapter = Adapter.start(this.#adapter);
    try {
      const quiet = this.#watchQuiet(receiver);
      const isSupported = await this.#perform(adapter, receiver.url);
      if (!isSupported) return { name, area, state: 'unsupported' };
      const reason = this.#wrong ?? (await this.#awaitExpected(receiver));
      await quiet;
      const tooEarly =
        this.#requestsAfterQuiet > 0 ? 'a request came before Retry-After was over' : undefined;
      const failure = reason ?? tooEarly;
      return failure === undefined
        ? { name, area, state: 'pass' }
        : { name, area, state: 'fail', reason: failure };
    } finally {
      await adapter.end();
      await receiver.close();
      rmSync(this.#folder, { recursive: true, force: true });
    }
  }

  /** Makes the steps. False: the SDK can't. */
  async #perform(adapter: Adapter, url: string): Promise<boolean> {
    const { mode, options } = this.#case;
    const directory = join(this.#folder, 'logs');
    mkdirSync(directory);
    const init = { do: 'init', mode, url, appId: 'A', directory, ...options };
    for (const step of [init, ...this.#case.steps.flatMap(repeated)] as ConformStep[]) {
      const { refused = false, ...request } = step;
      const { error, unsupported, isEnd } = await adapter.ask(request);
      if (step.do === 'init' && isEnd === true) this.isStillborn = true;
      if (unsupported === true) return false;
      if (refused !== (error !== undefined)) {
        this.#wrong ??= refused
          ? `${step.do}: an error was expected`
          : `${step.do}: ${error?.slice(0, 300)}`;
      }
      // The end of the program answers for itself: what arrives counts.
      if (step.do === 'exit') this.#wrong = undefined;
    }
    return true;
  }

  /** Undefined when everything expected is there in time, and nothing else. */
  async #awaitExpected(receiver: Receiver): Promise<string | undefined> {
    const deadline = performance.now() + this.#waitMs;
    const isNothing =
      this.#case.expect.records?.length === 0 || this.#case.expect.debugRecords === 0;
    if (isNothing) await delay(this.#waitMs);
    for (;;) {
      const reason = judge(this.#case.expect, this.#look(receiver));
      if (reason === undefined || performance.now() > deadline) return reason;
      await delay(LOOK_MS);
    }
  }

  #look(receiver: Receiver): Arrived {
    const { duplicates, debugRecords } = receiver.snapshot();
    const directory = join(this.#folder, 'logs');
    const files = readdirSync(directory).filter(
      (name) => /log/.test(name) && !name.startsWith('.'),
    );
    const sources =
      this.#case.mode === 'file'
        ? files.map((name) => join(directory, name))
        : readdirSync(this.#folder, { withFileTypes: true })
            .filter((entry) => entry.isFile())
            .map(({ name }) => join(this.#folder, name));
    return { records: sources.flatMap(linesOf), duplicates, debugRecords, files };
  }

  /** Counts the requests in the quiet time after the first. */
  async #watchQuiet(receiver: Receiver): Promise<void> {
    const { quietMs } = this.#case.expect;
    if (quietMs === undefined) return;
    const deadline = performance.now() + this.#waitMs;
    while (receiver.snapshot().requests === 0 && performance.now() < deadline) await delay(LOOK_MS);
    // Requests that were under way at the same time are no fault.
    await delay(100);
    const { requests } = receiver.snapshot();
    await delay(quietMs - 200);
    this.#requestsAfterQuiet = receiver.snapshot().requests - requests;
  }
}

function linesOf(path: string): ConformJson[] {
  return readFileSync(path, 'utf8')
    .split('\n')
    .filter((line) => line !== '')
    .flatMap((line) => {
      try {
        return [JSON.parse(line) as ConformJson];
      } catch {
        // The last line may be half written at this moment; a torn one is missed in the count.
        return [];
      }
    });
}

/** The steps a step stands for. */
function repeated(step: ConformStep): ConformStep[] {
  const { times = 1, ...one } = step;
  return Array.from(
    { length: times },
    (_, index) => JSON.parse(JSON.stringify(one).replaceAll('{n}', String(index))) as ConformStep,
  );
}

function judge(expect: ConformCase['expect'], arrived: Arrived): string | undefined {
  const { records, distinct, ordered, repeatsMarked, files, debugRecords } = expect;
  if (records !== undefined) return compare(records, arrived.records);
  if (debugRecords !== undefined && arrived.debugRecords !== debugRecords) {
    return `${debugRecords} debug records were expected, ${arrived.debugRecords} came`;
  }
  const unique = new Set(arrived.records.map((record) => JSON.stringify(record)));
  if (distinct !== undefined && unique.size !== distinct) {
    return `${distinct} records were expected, ${unique.size} came`;
  }
  if (repeatsMarked === true && arrived.records.length !== unique.size + arrived.duplicates) {
    return 'repeated records do not have the uuid they had before';
  }
  if (files !== undefined && !arrived.files.every((name) => new RegExp(files).test(name))) {
    return `files are named ${arrived.files.join(', ')}`;
  }
  return ordered === undefined ? undefined : disorder(arrived.records, ordered);
}

/** Whether one user's records came in another order than they were tracked; repeats are no fault. */
function disorder(records: readonly ConformJson[], name: string): string | undefined {
  const seen = new Set<number>();
  let last = -1;
  for (const { properties } of records) {
    const turn = Number((properties as ConformJson)[name]);
    if (seen.has(turn)) continue;
    if (turn < last) return `record ${turn} came after record ${last}`;
    seen.add(turn);
    last = turn;
  }
  return undefined;
}

function compare(
  expected: readonly ConformJson[],
  actual: readonly ConformJson[],
): string | undefined {
  if (actual.length !== expected.length) {
    return `${expected.length} records were expected, ${actual.length} came: ${JSON.stringify(actual).slice(0, 300)}`;
  }
  const rest = [...actual];
  for (const record of expected) {
    const index = rest.findIndex((candidate) => matches(candidate, record));
    if (index < 0) {
      return `expected ${JSON.stringify(record)}, got ${JSON.stringify(rest).slice(0, 300)}`;
    }
    rest.splice(index, 1);
  }
  return undefined;
}

function matches(actual: ConformJson, expected: ConformJson): boolean {
  const { properties, ...rest } = actual;
  const top: Record<string, unknown> = rest;
  if (expected['#uuid'] === undefined) delete top['#uuid'];
  const own: Record<string, unknown> = { ...(properties as ConformJson) };
  for (const field of FREE_FIELDS) delete own[field];
  const { properties: expectedProperties, ...expectedTop } = expected;
  for (const [field, value] of Object.entries(expectedTop)) {
    if (value === '*' && top[field] !== undefined) top[field] = '*';
  }
  return isDeepStrictEqual(top, expectedTop) && isDeepStrictEqual(own, expectedProperties);
}
