import { createReadStream } from 'node:fs';
import { mkdtemp, readdir, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type IntervalHistogram, monitorEventLoopDelay } from 'node:perf_hooks';
import { setTimeout as delay } from 'node:timers/promises';
import { Command, InvalidArgumentError } from 'commander';
import { NEWLINE } from '../base/characters.ts';
import { systemCodeOf } from '../base/errors.ts';
import { Analytics, AsyncBatchConsumer, LoggingConsumer, type Stats } from '../index.ts';
import { MetricsEndpoint } from '../metrics/endpoint.ts';
import type { ReceiverSnapshot } from '../receiver/index.ts';
import { parseCount, parsePort, parsePositive } from './arguments.ts';
import { type DemoView, LiveView } from './live-view.ts';
import { ReceiverProcess } from './receiver-process.ts';
import { firstSignal } from './signals.ts';
import { type Call, Traffic } from './traffic.ts';

interface DemoFlags {
  readonly rate: number;
  readonly players: number;
  readonly seconds?: number;
  readonly workers?: number;
  readonly directory?: string;
  readonly metricsPort: number;
  readonly seed: number;
  readonly json?: boolean;
}

/** What `--json` prints. */
interface DemoResult {
  readonly ledger: Stats;
  readonly receiver: ReceiverSnapshot;
  readonly files: FilesResult;
  /** Cost of one tracking call to the game's thread, both consumers alike. */
  readonly callerNs: number;
  readonly seconds: number;
}

interface FilesResult {
  readonly directory: string;
  readonly ledger: Stats;
  readonly accepted: number;
  readonly files: number;
  readonly lines: number;
  readonly bytes: number;
}

const TICK_MS = 50;
const PLAYERS_MAX = 1_000_000;
const APP_ID = 'demo';
const CLOSE_MS = 20_000;

/** `millrace demo`: a game server, a receiver and log files on this machine. */
export function demoCommand(): Command {
  return new Command('demo')
    .description('a simulated game server that sends to a local receiver and into files')
    .option('--rate <records>', 'records a second', parsePositive, 10_000)
    .option('--players <count>', 'players that are simulated', parsePlayers, 5000)
    .option('--seconds <seconds>', 'how long; default: until Ctrl-C', parsePositive)
    .option('--workers <count>', 'worker threads of the HTTP consumer', parsePositive)
    .option('--directory <dir>', 'folder of the log files (default: a new temporary one)')
    .option(
      '--metrics-port <port>',
      'where GET /metrics and the live page listen; 0: any free port',
      parsePort,
      9464,
    )
    .option('--seed <number>', 'what the players do follows from it', parseCount, 1)
    .option('--json', 'print one final JSON object and nothing else')
    .action(run);
}

function parsePlayers(text: string): number {
  const players = Math.ceil(parsePositive(text));
  if (players <= PLAYERS_MAX) return players;
  throw new InvalidArgumentError(`There is room for ${PLAYERS_MAX.toLocaleString('en-US')}.`);
}

async function run(flags: DemoFlags): Promise<void> {
  const receiver = await ReceiverProcess.start();
  const directory = flags.directory ?? (await mkdtemp(join(tmpdir(), 'millrace-demo-')));
  const http = new Analytics(
    new AsyncBatchConsumer({
      url: receiver.url,
      appId: APP_ID,
      ...(flags.workers === undefined ? {} : { workers: flags.workers }),
    }),
    { name: 'http', onError: tellError },
  );
  const files = new Analytics(new LoggingConsumer({ directory }), {
    name: 'files',
    register: http.register,
    onError: tellError,
  });
  const metrics = await openMetrics(http, flags.metricsPort);
  const game = new Game(flags, [http, files]);
  const view = flags.json === true ? undefined : new LiveView();
  const result = await play(game, { flags, receiver, http, files, directory, metrics, view });
  await metrics.close();
  await receiver.stop();
  if (flags.json === true) console.log(JSON.stringify(result));
  else view?.end(result.ledger, result);
  process.exitCode = isBalanced(result) ? 0 : 1;
}

interface Stage {
  readonly flags: DemoFlags;
  readonly receiver: ReceiverProcess;
  readonly http: Analytics;
  readonly files: Analytics;
  readonly directory: string;
  readonly metrics: MetricsEndpoint;
  readonly view: LiveView | undefined;
}

/** Lets the game run to its end, then drains everything and counts. */
async function play(game: Game, stage: Stage): Promise<DemoResult> {
  const { flags, receiver, http, files, directory, metrics, view } = stage;
  const stop = new AbortController();
  const seconds = flags.seconds ?? Number.POSITIVE_INFINITY;
  void firstSignal().then(() => stop.abort());
  const showing = view?.start(
    async (): Promise<DemoView> => ({
      ...game.view(),
      http: http.stats(),
      files: files.stats(),
      receiver: await receiver.snapshot(),
      pages: { engine: metrics.rootUrl, receiver: `${receiver.url}/live/` },
      metricsUrl: metrics.url,
      directory,
    }),
  );
  await game.play(seconds, stop.signal);
  const ledger = await http.close({ timeoutMs: CLOSE_MS });
  const filesLedger = await files.close({ timeoutMs: CLOSE_MS });
  await showing?.stop();
  return {
    ledger,
    receiver: await receiver.snapshot(),
    files: {
      directory,
      ledger: filesLedger,
      accepted: filesLedger.accepted,
      ...(await countLines(directory)),
    },
    callerNs: game.view().callerNs,
    seconds: game.view().seconds,
  };
}

async function openMetrics(client: Analytics, port: number): Promise<MetricsEndpoint> {
  const served = { registry: client.register, livePage: client.livePage() };
  try {
    return await MetricsEndpoint.open({ ...served, port });
  } catch (error) {
    // A second demo on the same machine: its metrics are elsewhere, and it says where.
    if (systemCodeOf(error) !== 'EADDRINUSE') throw error;
    return await MetricsEndpoint.open(served);
  }
}

/** The game's loop: every tick the calls that are due, on this very thread. */
class Game {
  readonly #traffic: Traffic;
  readonly #clients: readonly Analytics[];
  readonly #rate: number;
  readonly #loopDelay: IntervalHistogram = monitorEventLoopDelay({ resolution: 10 });
  #startMs = 0;
  #endMs: number | undefined;
  #calls = 0;
  #spentMs = 0;

  constructor({ rate, players, seed }: DemoFlags, clients: readonly Analytics[]) {
    this.#traffic = new Traffic({ players, seed });
    this.#rate = rate;
    this.#clients = clients;
  }

  async play(seconds: number, signal: AbortSignal): Promise<void> {
    this.#loopDelay.enable();
    this.#startMs = performance.now();
    while (!signal.aborted) {
      const elapsed = Math.min((performance.now() - this.#startMs) / 1000, seconds);
      this.#tick(Math.floor(elapsed * this.#rate) - this.#calls);
      if (elapsed >= seconds) break;
      await delay(TICK_MS, undefined, { signal }).catch(() => {
        // Ctrl-C ends the pause; the loop's condition does the rest.
      });
    }
    this.#endMs = performance.now();
    this.#loopDelay.disable();
  }

  view(): { calls: number; callerNs: number; seconds: number; loopDelayP99Ms: number } {
    const tracked = this.#calls * this.#clients.length;
    return {
      calls: this.#calls,
      callerNs: tracked === 0 ? 0 : Math.round((this.#spentMs * 1e6) / tracked),
      seconds: ((this.#endMs ?? performance.now()) - this.#startMs) / 1000,
      loopDelayP99Ms: this.#loopDelay.percentile(99) / 1e6,
    };
  }

  #tick(count: number): void {
    // What the players do is worked out first: only the tracking is timed.
    const calls = Array.from({ length: count }, () => this.#traffic.next());
    const startMs = performance.now();
    for (const client of this.#clients) for (const call of calls) send(client, call);
    this.#spentMs += performance.now() - startMs;
    this.#calls += count;
  }
}

function send(client: Analytics, call: Call): void {
  if (call.method === 'track') client.track(call.fields);
  else if (call.method === 'userSet') client.userSet(call.fields);
  else client.userAdd(call.fields);
}

async function countLines(
  directory: string,
): Promise<{ files: number; lines: number; bytes: number }> {
  let lines = 0;
  let bytes = 0;
  const names = (await readdir(directory)).filter((name) => name.startsWith('log.'));
  for (const name of names) {
    bytes += (await stat(join(directory, name))).size;
    for await (const part of createReadStream(join(directory, name))) {
      const chunk: Buffer = part;
      for (let at = chunk.indexOf(NEWLINE); at >= 0; at = chunk.indexOf(NEWLINE, at + 1)) {
        lines += 1;
      }
    }
  }
  return { files: names.length, lines, bytes };
}

function isBalanced({ ledger, receiver, files }: DemoResult): boolean {
  return (
    ledger.imbalance === 0 &&
    files.ledger.imbalance === 0 &&
    receiver.unique === ledger.delivered &&
    files.lines === files.ledger.delivered
  );
}

function tellError(error: Error): void {
  console.error(`${new Date().toISOString()} ${error.message}`);
}
