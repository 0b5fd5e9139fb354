import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { WebSocket } from 'ws';
import { parse, parseAllDocuments } from 'yaml';
import type { Stats } from '../src/index.ts';
import {
  assertBalanced,
  newDirectory,
  readRecords,
  repositoryRoot,
  TestReceiver,
  until,
} from './support.ts';

/** Longest time the recipes give the client to close, in ms. */
const CLOSE_MS = 30_000;
const FOLDER = join(repositoryRoot(), 'docs', 'recipes');
let receiver: TestReceiver;

before(async () => {
  receiver = await TestReceiver.start();
});
after(() => receiver.stop());

function recipe(name: string): string {
  return readFileSync(join(FOLDER, name), 'utf8');
}

/** A server of the recipes, started as a process. */
class Server {
  readonly #child: ChildProcess;
  #output = '';

  constructor(name: string, env: NodeJS.ProcessEnv = {}) {
    this.#child = spawn(process.execPath, [join(FOLDER, name)], {
      stdio: ['ignore', 'pipe', 'inherit'],
      env: { ...process.env, RECEIVER_URL: receiver.url, APP_ID: 'A', PORT: '0', ...env },
    });
    this.#child.stdout?.on('data', (part: Buffer) => {
      this.#output += part.toString('utf8');
    });
  }

  /** Its port, once it listens. */
  async port(): Promise<number> {
    const pattern = /listening (\d+)/;
    await until(() => pattern.test(this.#output), 'the server listens');
    return Number(pattern.exec(this.#output)?.[1]);
  }

  /** Ends it as an operator does, and gives the accounts it printed. Nest sends itself the signal again when it is done. */
  async end(expected: number | string = 0): Promise<Stats[]> {
    const closed = once(this.#child, 'close');
    this.#child.kill('SIGTERM');
    const [code, signal] = (await closed) as [number | null, string | null];
    assert.equal(signal ?? code, expected, this.#output);
    const lines = this.#output.split('\n').filter((line) => line.startsWith('{'));
    const accounts = lines.map((line) => JSON.parse(line) as Stats);
    for (const account of accounts) assertBalanced(account);
    return accounts;
  }
}

function delivered(accounts: readonly Stats[]): number {
  return accounts.reduce((sum, account) => sum + account.delivered, 0);
}

for (const name of ['fastify.mjs', 'express.mjs']) {
  test(`recipe ${name}: what requests track is delivered at SIGTERM, and metrics are served`, async () => {
    await receiver.reset();
    const server = new Server(name);
    const url = `http://127.0.0.1:${await server.port()}`;
    for (let player = 0; player < 3; player += 1) {
      const reply = await fetch(`${url}/login/player-${player}`, { method: 'POST' });
      assert.deepEqual(await reply.json(), { ok: true });
    }
    const metrics = await (await fetch(`${url}/metrics`)).text();
    assert.match(metrics, /millrace_records_accepted_total\{[^}]*\} 3/);
    assert.equal(delivered(await server.end()), 3);
    assert.equal((await receiver.snapshot()).unique, 3);
  });
}

test('recipe rooms.mjs: players move, and the end of the match is tracked before the process ends', async () => {
  await receiver.reset();
  const server = new Server('rooms.mjs');
  const socket = new WebSocket(`ws://127.0.0.1:${await server.port()}/room-1/player-1`);
  await once(socket, 'open');
  socket.send('7');
  await once(socket, 'message');
  assert.equal(delivered(await server.end()), 3);
  const names = (await receiver.events()).map((event) => event['#event_name']);
  assert.deepEqual(names.sort(), ['join', 'match_end', 'move']);
});

test("recipe nest.mjs: Nest's shutdown closes the client", async () => {
  await receiver.reset();
  const server = new Server('nest.mjs');
  await server.port();
  assert.equal(delivered(await server.end('SIGTERM')), 1);
  assert.equal((await receiver.snapshot()).unique, 1);
});

test('recipe cluster.mjs: each process has a log file, and none loses a record', async () => {
  const directory = newDirectory();
  const server = new Server('cluster.mjs', { LOG_DIRECTORY: directory });
  const port = await server.port();
  for (let player = 0; player < 8; player += 1) {
    await (await fetch(`http://127.0.0.1:${port}/player-${player}`)).text();
  }
  const accounts = await server.end();
  assert.equal(accounts.length, 2);
  assert.equal(delivered(accounts), 8);
  const players = readRecords(directory, readdirSync(directory)).map((line) => line['#account_id']);
  assert.equal(new Set(players).size, 8);
  assert.equal(players.length, 8);
});

test('recipe server.mjs: SIGTERM while the receiver is away loses nothing; the next start sends it', async () => {
  await receiver.reset();
  await receiver.setFaults([{ action: { kind: 'status', status: 503 } }]);
  const env = { SPOOL_DIRECTORY: newDirectory(), METRICS_PORT: '0' };
  const first = new Server('server.mjs', env);
  const port = await first.port();
  for (let player = 0; player < 3; player += 1) {
    await (await fetch(`http://127.0.0.1:${port}/player-${player}`)).text();
  }
  await first.end();
  await receiver.setFaults([]);
  const second = new Server('server.mjs', env);
  await second.port();
  await until(async () => (await receiver.snapshot()).unique === 3, 'the spool is sent');
  await second.end();
  assert.equal((await receiver.snapshot()).refused, 0);
});

test('recipe PM2: the process gets the time to close', () => {
  const require = createRequire(import.meta.url);
  const { apps } = require(join(FOLDER, 'ecosystem.config.cjs')) as {
    apps: { script: string; kill_timeout: number }[];
  };
  for (const app of apps) {
    assert.ok(app.kill_timeout > CLOSE_MS);
    assert.equal(app.script, 'server.mjs');
  }
});

test('recipe systemd: the unit waits for the client, and its spool is in the state folder', () => {
  const keys = new Map(
    recipe('game.service')
      .split('\n')
      .filter((line) => /^[A-Z]\w*=/.test(line))
      .map((line) => [line.slice(0, line.indexOf('=')), line.slice(line.indexOf('=') + 1)]),
  );
  assert.ok(Number(keys.get('TimeoutStopSec')) * 1000 > CLOSE_MS);
  assert.equal(keys.get('KillSignal'), 'SIGTERM');
  const [, spool = ''] = keys.get('Environment')?.split('=') ?? [];
  assert.ok(spool.startsWith(`/var/lib/${keys.get('StateDirectory')}/`));
});

test('recipe Docker: scripts do not run, nor does root, and signals reach Node', () => {
  const lines = recipe('Dockerfile').split('\n');
  const argumentOf = (word: string) =>
    lines.findLast((line) => line.startsWith(`${word} `))?.slice(word.length + 1);
  assert.match(argumentOf('RUN') ?? '', /spool/);
  assert.ok(lines.some((line) => line.includes('npm ci') && line.includes('--ignore-scripts')));
  assert.equal(argumentOf('USER'), 'node');
  assert.deepEqual(parse(argumentOf('CMD') ?? ''), ['node', 'server.mjs']);
  assert.ok(lines.includes(`ENV SPOOL_DIRECTORY=${argumentOf('VOLUME')}`));
});

type Labels = Readonly<Record<string, string>>;
interface Named {
  readonly name: string;
}

interface StatefulSet {
  readonly template: {
    readonly metadata: { readonly labels: Labels };
    readonly spec: {
      readonly terminationGracePeriodSeconds: number;
      readonly containers: readonly {
        readonly env: readonly (Named & { readonly value: string })[];
        readonly ports: readonly { readonly containerPort: number }[];
        readonly lifecycle: { readonly preStop: { readonly exec: { readonly command: string[] } } };
        readonly volumeMounts: readonly (Named & { readonly mountPath: string })[];
      }[];
    };
  };
  readonly volumeClaimTemplates: readonly { readonly metadata: Named }[];
}

interface Service {
  readonly selector: Labels;
  readonly ports: readonly (Named & { readonly port: number })[];
}

interface ServiceMonitor {
  readonly selector: { readonly matchLabels: Labels };
  readonly endpoints: readonly { readonly port: string }[];
}

interface Manifest {
  readonly kind: string;
  readonly metadata: { readonly labels?: Labels };
  readonly spec: unknown;
}

test('recipe Kubernetes: grace covers preStop and close, the spool is a volume, the monitor finds the port', () => {
  const documents = parseAllDocuments(recipe('kubernetes.yaml'));
  for (const { errors } of documents) assert.deepEqual(errors, []);
  const manifests = documents.map((document) => document.toJS() as Manifest);
  const find = (kind: string) => manifests.find((one) => one.kind === kind);
  const set = find('StatefulSet')?.spec as StatefulSet;
  const pod = set.template.spec;
  const [container] = pod.containers;
  const pauseMs = Number(container?.lifecycle.preStop.exec.command.at(-1)) * 1000;
  assert.ok(pod.terminationGracePeriodSeconds * 1000 > pauseMs + CLOSE_MS);
  const spool = container?.env.find(({ name }) => name === 'SPOOL_DIRECTORY')?.value;
  const mount = container?.volumeMounts.find(({ mountPath }) => mountPath === spool);
  assert.deepEqual(
    set.volumeClaimTemplates.map(({ metadata }) => metadata.name),
    [mount?.name],
  );
  const service = find('Service')?.spec as Service;
  const monitor = find('ServiceMonitor')?.spec as ServiceMonitor;
  assert.deepEqual(monitor.selector.matchLabels, find('Service')?.metadata.labels);
  assert.deepEqual(service.selector, set.template.metadata.labels);
  const port = service.ports.find(({ name }) => name === monitor.endpoints[0]?.port)?.port;
  assert.ok(container?.ports.some(({ containerPort }) => containerPort === port));
});

test('every recipe is in the list', () => {
  const list = readFileSync(join(FOLDER, '..', 'recipes.md'), 'utf8');
  for (const name of readdirSync(FOLDER)) assert.ok(list.includes(`(recipes/${name})`), name);
});
