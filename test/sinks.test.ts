import assert from 'node:assert/strict';
import { execFile, execFileSync } from 'node:child_process';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import { join } from 'node:path';
import { test } from 'node:test';
import { pathToFileURL } from 'node:url';
import fc from 'fast-check';
import { Analytics, type MillraceError } from '../src/index.ts';
import { RecordBatch, SinkConsumer } from '../src/own-sink.ts';
import { CustomSink } from '../src/sink/custom.ts';
import { parseEndpoint } from '../src/sink/endpoint.ts';
import { FileSink } from '../src/sink/file.ts';
import { HttpSink } from '../src/sink/http.ts';
import { checkOutcome } from '../src/sink/outcomes.ts';
import type { Sink } from '../src/sink/sink.ts';
import { consumerProject } from './consumer-project.ts';
import { sinkContract } from './sink-contract.ts';
import {
  assertBalanced,
  layOut,
  newDirectory,
  repositoryRoot,
  TestReceiver,
  until,
} from './support.ts';

const root = repositoryRoot();

sinkContract('http', async () => {
  const receiver = await TestReceiver.start();
  const open = (url: string): Sink =>
    HttpSink.open(
      {
        kind: 'http',
        endpoint: parseEndpoint(url),
        appId: 'A',
        headers: {},
        level: 'fast',
        timeoutMs: 30_000,
        connections: 4,
        version: 'test',
      },
      undefined,
    );
  return {
    sink: open(receiver.url),
    lost: open('http://127.0.0.1:9'),
    uuids: async () => (await receiver.events()).map((event) => String(event['#uuid'])),
    stop: () => receiver.stop(),
  };
});

sinkContract('file', async () => {
  const directory = newDirectory();
  const open = (path: string): Sink =>
    FileSink.open({ kind: 'file', directory: path, rotate: 'day', fsync: 'never', mode: 0o644 });
  writeFileSync(join(directory, 'no-folder'), '');
  return {
    sink: open(directory),
    lost: open(join(directory, 'no-folder')),
    uuids: async () =>
      readdirSync(directory)
        .filter((name) => name.startsWith('log.'))
        .flatMap((name) => readFileSync(join(directory, name), 'utf8').trimEnd().split('\n'))
        .map((line) => JSON.parse(line)['#uuid']),
    stop: async () => undefined,
  };
});

sinkContract('custom', async () => {
  const directory = newDirectory();
  const module = join(directory, 'own.mjs');
  const target = join(directory, 'out');
  writeFileSync(
    module,
    `import { appendFileSync } from 'node:fs';
export function open({ target }) {
  return { deliver(batch) { appendFileSync(target, batch.lines()); return { kind: 'delivered' }; } };
}`,
  );
  return {
    sink: CustomSink.open({ kind: 'custom', module, options: { target } }),
    lost: CustomSink.open({ kind: 'custom', module, options: { target: '/nowhere/at/all' } }),
    uuids: async () =>
      readFileSync(target, 'utf8')
        .trimEnd()
        .split('\n')
        .map((line) => JSON.parse(line)['#uuid']),
    stop: async () => undefined,
  };
});

test('key, uuid and partition are those of the parsed record, whatever the order of its fields', () => {
  const id = fc.oneof(fc.string({ minLength: 1 }), fc.constantFrom('a"b\\', '云', '#account_id'));
  const record = fc.record(
    {
      '#type': fc.constant('track'),
      '#account_id': id,
      '#distinct_id': id,
      '#uuid': fc.uuid(),
      '#zone_offset': fc.double({ noNaN: true }),
      properties: fc.dictionary(fc.constantFrom('#account_id', '#uuid', 'x'), fc.jsonValue(), {
        noNullPrototype: true,
      }),
    },
    { requiredKeys: ['#type'] },
  );
  const shuffled = record.chain((fields) =>
    fc.shuffledSubarray(Object.entries(fields), { minLength: Object.keys(fields).length }),
  );
  fc.assert(
    fc.property(fc.array(shuffled, { minLength: 1, maxLength: 5 }), (records) => {
      const objects = records.map((entries) => Object.fromEntries(entries));
      const batch = RecordBatch.of(objects.map((object) => JSON.stringify(object)));
      objects.forEach((object, index) => {
        const key = object['#account_id'] ?? object['#distinct_id'] ?? '';
        assert.equal(batch.key(index), Buffer.from(String(key)).toString());
        assert.equal(batch.uuid(index), object['#uuid']);
        const alone = RecordBatch.of([JSON.stringify({ '#account_id': key })]);
        if (key !== '') assert.equal(batch.partition(index, 64), alone.partition(0, 64));
      });
      const array: unknown = JSON.parse(Buffer.from(batch.jsonArray()).toString());
      assert.equal(JSON.stringify(array), JSON.stringify(objects));
    }),
  );
});

test('a run of records is given as lines and as an array', () => {
  const batch = RecordBatch.of(['{"a":1}', '{"b":2}', '{"c":3}']);
  assert.equal(Buffer.from(batch.lines(1)).toString(), '{"b":2}\n{"c":3}\n');
  assert.equal(Buffer.from(batch.jsonArray(1, 3)).toString(), '[{"b":2},{"c":3}]');
  assert.equal(Buffer.from(batch.jsonArray(1, 1)).toString(), '[]');
  assert.equal(batch.text(1), '{"b":2}');
  assert.equal(batch.byteLength(1), 7);
  assert.equal(Buffer.from(batch.gather([2, 0])).toString(), '{"c":3}\n{"a":1}\n');
  assert.throws(() => batch.bytes(3), /no record 3 in a batch of 3/);
});

// [what deliver gave, what the message must name]
const WRONG: readonly (readonly [unknown, RegExp])[] = [
  [undefined, /undefined; it must be an object/],
  ['delivered', /"delivered"/],
  [{}, /kind is undefined/],
  [{ kind: 'done' }, /kind is "done".*delivered, retry/],
  [{ kind: 'delivered', sentBytes: -1 }, /sentBytes is -1/],
  [{ kind: 'retry' }, /message is undefined/],
  [{ kind: 'retry', message: 'm', reason: 'odd' }, /reason is "odd".*timeout/],
  [{ kind: 'retry', message: 'm', budget: 'few' }, /budget is "few"/],
  [{ kind: 'retry', message: 'm', afterMs: Number.NaN }, /afterMs is NaN/],
  [{ kind: 'rejected', message: 7 }, /message is 7/],
  [{ kind: 'partial', count: 0, rest: {} }, /count is 0; of 3 records.*1 to 2/],
  [{ kind: 'partial', count: 3, rest: {} }, /count is 3/],
  [{ kind: 'partial', count: 1, rest: { kind: 'delivered' } }, /rest is delivered/],
  [{ kind: 'partial', count: 1, rest: { kind: 'retry' } }, /in rest, message is undefined/],
];

test('an outcome that breaks the contract keeps the records and says what is wrong', () => {
  for (const [given, mention] of WRONG) {
    const outcome = checkOutcome(given, { count: 3, bytes: 10 });
    assert.ok(outcome.kind === 'retry' && outcome.budget === 'config', JSON.stringify(outcome));
    assert.match(outcome.message, mention);
  }
});

interface Step {
  readonly does: 'deliver' | 'throw' | 'reject' | 'hang' | 'half' | 'refuse' | 'retry';
}

/** A sink that misbehaves by a list of steps, then delivers into a file. */
function mischief(steps: readonly Step['does'][]): { module: string; options: object } {
  const directory = newDirectory();
  const module = join(directory, 'own.mjs');
  writeFileSync(
    module,
    `import { appendFileSync } from 'node:fs';
export function open({ target, steps }) {
  const take = (batch, to) => appendFileSync(target, batch.lines(0, to));
  return {
    async deliver(batch) {
      switch (steps.shift()) {
        case 'throw': throw new Error('thrown on purpose');
        case 'reject': return Promise.reject('no error at all');
        case 'hang': return new Promise(() => {});
        case 'retry': return { kind: 'retry', message: 'busy', afterMs: 20 };
        case 'refuse': return { kind: 'rejected', message: 'never' };
        case 'half': {
          const count = batch.count >> 1;
          if (count === 0) break;
          take(batch, count);
          return { kind: 'partial', count, rest: { kind: 'retry', message: 'half' } };
        }
      }
      take(batch);
      return { kind: 'delivered' };
    },
    flush() { appendFileSync(target + '.flushed', 'x'); },
    close() { appendFileSync(target + '.closed', 'x'); },
  };
}`,
  );
  return { module, options: { target: join(directory, 'out'), steps } };
}

test('a sink may throw, hang, answer in part or ask for time: every record arrives once, in order, and the account says so', async () => {
  const { module, options } = mischief(['throw', 'reject', 'hang', 'half', 'retry', 'half']);
  const troubles: MillraceError[] = [];
  const ta = new Analytics(
    new SinkConsumer({
      sink: pathToFileURL(module),
      sinkOptions: options,
      workers: 1,
      lanes: 1,
      timeoutMs: 2000,
      batchSize: 20,
    }),
    { onError: (error) => troubles.push(error) },
  );
  for (let n = 0; n < 100; n += 1) {
    ta.track({ accountId: 'u', event: 'e', properties: { n } });
  }
  await ta.flush();
  const stats = await ta.close();
  assertBalanced(stats);
  assert.equal(stats.delivered, 100);
  assert.ok(stats.retries >= 6);
  const target = String((options as { target: string }).target);
  const numbers = readFileSync(target, 'utf8')
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line).properties.n);
  assert.deepEqual(
    numbers,
    Array.from({ length: 100 }, (_, n) => n),
  );
  assert.equal(stats.workers.restarts, 0);
  assert.ok(troubles.some(({ message }) => message.includes('thrown on purpose')));
  assert.ok(troubles.some(({ message }) => message.includes('took too long')));
  assert.match(readFileSync(`${target}.flushed`, 'utf8'), /^x+$/);
  assert.equal(readFileSync(`${target}.closed`, 'utf8'), 'x');
});

test('records a sink refuses are rejected, and kept in the dead-letter file', async () => {
  const { module, options } = mischief(['refuse']);
  const deadLetter = join(newDirectory(), 'dead.jsonl');
  const consumer = new SinkConsumer({ sink: module, sinkOptions: options, lanes: 1, deadLetter });
  const ta = new Analytics(consumer, { onError: () => undefined });
  ta.track({ accountId: 'u', event: 'e' });
  const stats = await ta.close();
  assertBalanced(stats);
  assert.equal(stats.rejected, 1);
  assert.match(readFileSync(deadLetter, 'utf8'), /"reason":"never"/);
});

test('a module that is no sink keeps the records and tells what is wrong; the workers live on', async () => {
  const directory = newDirectory();
  const cases: readonly (readonly [string, RegExp])[] = [
    ['export const x = 1;', /must export a function open/],
    ['export const open = () => ({});', /deliver/],
    ['export const open = () => { throw new Error("no key"); };', /no key/],
    ['syntax error', /can't be opened/],
  ];
  for (const [index, [code, mention]] of cases.entries()) {
    const module = join(directory, `bad${index}.mjs`);
    writeFileSync(module, code);
    let told: MillraceError | undefined;
    const ta = new Analytics(new SinkConsumer({ sink: module, lingerMs: 0 }), {
      onError: (error) => {
        told ??= error;
      },
    });
    ta.track({ accountId: 'u', event: 'e' });
    await until(() => told !== undefined, 'what is wrong is told');
    assert.match(String(told?.message), mention);
    assert.equal(ta.stats().workers.restarts, 0);
    const stats = await ta.close({ timeoutMs: 200 });
    assertBalanced(stats);
    assert.equal(stats.dropped.shutdown, 1);
  }
});

test('options of a sink are checked where the consumer is made', () => {
  const make = (options: object) => () => new SinkConsumer(options as { sink: string });
  assert.throws(make({}), /sink is missing/);
  assert.throws(make({ sink: '/nowhere/sink.mjs' }), /nowhere\/sink\.mjs.*no such file/);
  const sinkOptions = { f: () => undefined };
  assert.throws(make({ sink: import.meta.filename, sinkOptions }), /sinkOptions.*plain data/);
  assert.throws(make({ sink: import.meta.filename, url: 'http://x' }), /url is unknown/);
});

/** What the example needs of ClickHouse's HTTP interface: inserts by line, tokens, exceptions with a code. */
class StandIn {
  readonly rows: Record<string, unknown>[] = [];
  readonly tokens = new Set<string>();
  repeats = 0;
  readonly #server: Server;
  #refusals = 2;

  constructor() {
    this.#server = createServer(async (request, reply) => {
      const parts: Buffer[] = [];
      for await (const part of request) parts.push(part as Buffer);
      const query = new URL(request.url ?? '', 'http://x').searchParams;
      assert.equal(query.get('query'), 'INSERT INTO events FORMAT JSONEachRow');
      const token = String(query.get('insert_deduplication_token'));
      const rows = Buffer.concat(parts)
        .toString()
        .trimEnd()
        .split('\n')
        .map((line) => JSON.parse(line));
      if (rows.some(({ properties }) => properties.poison)) {
        reply.writeHead(400, { 'X-ClickHouse-Exception-Code': '117' }).end('Code: 117. INCORRECT');
      } else if (this.tokens.has(token)) {
        this.repeats += 1;
        reply.end();
      } else {
        this.tokens.add(token);
        this.rows.push(...rows);
        // The rows are in, but the answer gets lost: what a retry is for.
        this.#refusals -= 1;
        if (this.#refusals >= 0) request.socket.destroy();
        else reply.end();
      }
    });
  }

  async start(): Promise<string> {
    await new Promise<void>((resolve) => this.#server.listen(0, '127.0.0.1', resolve));
    const address = this.#server.address();
    return `http://127.0.0.1:${typeof address === 'object' ? address?.port : 0}`;
  }

  stop(): void {
    this.#server.close();
    this.#server.closeAllConnections();
  }
}

test('the example of the documents compiles, inserts each row once, and puts bad rows aside', async (context) => {
  const text = readFileSync(join(root, 'docs/sinks.md'), 'utf8');
  const [app = '', sink = ''] = [...text.matchAll(/```ts \S+\n([\s\S]*?)```/g)].map(
    ([, code]) => code,
  );
  const standIn = new StandIn();
  const url = await standIn.start();
  context.after(() => standIn.stop());
  const folder = consumerProject(root);
  const calls = `for (let n = 0; n < 3000; n += 1) {
  ta.track({ accountId: 'u' + (n % 50), event: 'e', properties: { n, ...(n === 1234 ? { poison: true } : {}) } });
}
while (ta.stats().queued + ta.stats().spooled > 0) await new Promise((done) => setTimeout(done, 20));
const account`;
  writeFileSync(join(folder, 'clickhouse-sink.ts'), sink);
  writeFileSync(
    join(folder, 'app.ts'),
    app
      .replace('http://clickhouse.example', url)
      .replace('const account', calls)
      .replace('console.log(account.delivered)', 'console.log(JSON.stringify(account))')
      .replace(
        /new SinkConsumer\(([\s\S]*?)\),\n\);/,
        'new SinkConsumer($1), { onError: (error) => console.error(error.message) });',
      ),
  );
  const tsc = join(root, 'node_modules/typescript/bin/tsc');
  const flags = '--strict --module nodenext --target es2023 --types node --skipLibCheck';
  execFileSync(process.execPath, [tsc, ...flags.split(' '), 'app.ts', 'clickhouse-sink.ts'], {
    cwd: folder,
    stdio: 'pipe',
  });
  const out = await new Promise<string>((resolve, reject) => {
    execFile(
      process.execPath,
      ['app.js'],
      { cwd: folder, timeout: 60_000 },
      (error, stdout, stderr) => {
        if (error === null) resolve(stdout);
        else reject(new Error(`${error.message}\n${stderr}`));
      },
    );
  });
  const account = JSON.parse(out);
  assertBalanced(account);
  assert.equal(account.delivered, 3000);
  assert.equal(account.rejected, 1);
  const uuids = standIn.rows.map((row) => row['#uuid']);
  assert.equal(new Set(uuids).size, 3000);
  assert.equal(uuids.length, 3000, 'no row is in twice');
  assert.equal(standIn.repeats, 2);
});

test('a batch laid out by the engine and one made of lines are the same to a sink', () => {
  const lines = ['{"#account_id":"a"}', '{"#account_id":"b"}'];
  const { text, starts, ends } = layOut(lines, '\n');
  const part = { count: 1, text, starts: starts.subarray(1), ends: ends.subarray(1) };
  assert.equal(new RecordBatch(part).key(0), 'b');
  assert.deepEqual(new RecordBatch(part).lines(), RecordBatch.of(lines).lines(1));
});

test('a borrowed batch says the same as one with bytes of its own, and stands in the memory it was made of', () => {
  const lines = ['{"#account_id":"a","#uuid":"1"}', '{"#account_id":"ü","#uuid":"2"}', '{"n":3}'];
  const { text, starts, ends } = layOut(lines, '\n');
  const part = { count: 2, text, starts: starts.subarray(1), ends: ends.subarray(1) };
  const said = (batch: RecordBatch) => ({
    lines: Buffer.from(batch.lines()).toString(),
    array: Buffer.from(batch.jsonArray()).toString(),
    gathered: Buffer.from(batch.gather([1, 0])).toString(),
    ends: [...batch.lineEnds],
    records: [0, 1].map((index) => [
      batch.text(index),
      Buffer.from(batch.bytes(index)).toString(),
      batch.key(index),
      batch.uuid(index),
      batch.partition(index, 16),
    ]),
  });
  const [own, borrowed] = [new RecordBatch(part), new RecordBatch(part, 'borrowed')];
  assert.deepEqual(said(borrowed), said(own));
  assert.equal(borrowed.lines().buffer, text.buffer);
  text.fill(0);
  assert.equal(own.text(1), lines[2]);
});

test('only a sink that says so is given the engine’s own memory', async () => {
  const module = join(newDirectory(), 'keeping.mjs');
  writeFileSync(
    module,
    `export function open({ borrows, kept }) {
  return { borrows, deliver(batch) { kept.push(batch.lines()); return { kind: 'delivered' }; } };
}`,
  );
  const batch = layOut(['{"n":1}'], '\n');
  for (const borrows of [true, false, undefined]) {
    const kept: Uint8Array[] = [];
    const sink = CustomSink.open({ kind: 'custom', module, options: { borrows, kept } });
    await sink.deliver(batch, new AbortController().signal);
    assert.equal(kept[0]?.buffer === batch.text.buffer, borrows === true);
  }
});
