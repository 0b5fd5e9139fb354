import type { RequestListener } from 'node:http';
import type { MessagePort } from 'node:worker_threads';
import { MillraceError, show } from './base/errors.ts';
import { LOG_LEVELS, type Logger } from './base/logger.ts';
import { resolveZone } from './codec/time-text.ts';
import { attachInlet } from './engine/attach.ts';
import { closeOnSignals, type SignalOptions } from './engine/close-signals.ts';
import { Engine } from './engine/engine.ts';
import type { Deadline, Inlet } from './engine/inlet.ts';
import { OptionReader } from './engine/option-reader.ts';
import type { EnginePlan } from './engine/plan.ts';
import { PRIORITIES } from './engine/priority.ts';
import type { Validation } from './engine/recorder.ts';
import type { Stats } from './engine/stats.ts';
import { LIBRARY_NAME, LIBRARY_VERSION } from './engine/version.ts';
import { LiveHandler } from './live/handler.ts';
import { MetricsCollector, type MetricsRegistry } from './metrics/collector.ts';
import { MetricsEndpoint } from './metrics/endpoint.ts';
import { engineFrame } from './metrics/frame.ts';
import type { TrackingPlan } from './plan.ts';
import type { Priority } from './record/types.ts';
import { Tracker } from './tracker.ts';

/** Any of the four consumers. */
export interface Consumer {
  readonly plan: EnginePlan;
}

export interface AnalyticsOptions {
  /** Gives each record a `#uuid`, so that a repeated one is dropped; default: true for HTTP, false for files. */
  readonly uuid?: boolean;
  /** 'throw' (default): a wrong call throws. 'drop': it is counted, and told once per kind. 'off': for trusted input. */
  readonly validation?: Validation;
  /** Zone of `#time` and of Dates: 'UTC', '±HH:mm' or an IANA name; default: the process's, without `#zone_offset`. */
  readonly timeZone?: string;
  /** A prom-client Registry to add the metrics to; default: one of its own. */
  readonly register?: MetricsRegistry;
  /** Name of this client in metrics; default: 'default', then 'default2' … within one registry. */
  readonly name?: string;
  /** Priorities of events by name, for what is kept out first when the ring fills up. */
  readonly priorities?: Readonly<Record<string, Priority>>;
  /** An exporter of its own: `GET /metrics`, and with `livePage` a page at `/`. Default host: 127.0.0.1. */
  readonly metricsServer?: {
    readonly port: number;
    readonly host?: string;
    readonly livePage?: boolean;
  };
  /** What `#lib` and `#lib_version` of events say; default: millrace and its version. */
  readonly library?: { readonly name: string; readonly version: string };
  /** Hears of asynchronous trouble: refused batches, worker crashes. Never throws into the engine. */
  readonly onError?: (error: MillraceError) => void;
  /**
   * Gets log lines: pino's shape, `logger.warn(facts, message)`. Each has a `code` that docs/observability.md explains; one of a
   * code in ten seconds. Default: no log; then trouble without `onError` becomes a process warning.
   */
  readonly logger?: Logger;
}

const OPTION_VALIDATIONS = ['throw', 'drop', 'off'] as const;

/** One client: takes records on the caller's thread and has them delivered by its consumer's workers. */
export class Analytics<Plan extends TrackingPlan = TrackingPlan> extends Tracker<Plan> {
  readonly #collector: MetricsCollector;
  readonly #engine: Engine;
  readonly #leaveMetrics: () => void;
  #live: LiveHandler | undefined;
  #exporter: Promise<MetricsEndpoint | undefined> | undefined;
  #leaveSignals: () => void = () => {
    // No signals are listened to.
  };

  /** @throws MillraceError MILLRACE_OPTIONS with everything that is wrong */
  constructor(consumer: Consumer, options: AnalyticsOptions = {}) {
    const engine = openEngine(consumer, options);
    super(engine.inlet);
    this.#engine = engine;
    const { plan } = engine;
    this.#collector = MetricsCollector.of(options.register);
    this.#leaveMetrics = this.#collector.add({
      ...(options.name === undefined ? {} : { client: options.name }),
      consumer: plan.consumer,
      readings: () => this.#engine.accounts.readings(),
      troubles: () => this.#engine.journal.troubles,
    });
    if (options.metricsServer !== undefined) {
      const tell = (error: MillraceError) => engine.journal.error(error);
      this.#exporter = openExporter(this, options.metricsServer, tell);
    }
    if (plan.consumer === 'debug') tellDebug(engine, options);
  }

  /** The prom-client Registry that has this client's metrics; puts them back in if somebody cleared it. */
  get register(): MetricsRegistry {
    this.#collector.register();
    return this.#collector.registry;
  }

  /**
   * A listener for a server of yours that answers with the live page of all clients of the registry, and with its stream at
   * `events` below it: `app.use('/millrace', ta.livePage())`. It shows numbers, error texts and nothing of any record; who may see
   * it is for the server to say.
   */
  livePage(): RequestListener {
    this.#live ??= new LiveHandler({ kind: 'engine', look: () => engineFrame(this.#collector) });
    const live = this.#live;
    return (request, reply) => live.handle(request, reply);
  }

  /**
   * Resolves when all records accepted before the call are delivered, rejected or dropped by policy.
   *
   * @throws MillraceError MILLRACE_TIMEOUT; a BatchConsumer and a LoggingConsumer also throw what went wrong
   */
  flush(deadline: Deadline = {}): Promise<void> {
    return this.#engine.flush(deadline);
  }

  /** As {@link flush}, blocking this thread. True: all were settled in time. */
  flushSync(deadline: Deadline = {}): boolean {
    return this.#engine.flushSync(deadline);
  }

  /** Flushes, ends the workers, and refuses later calls (MILLRACE_CLOSED). Idempotent; resolves to the final account. */
  async close(deadline: Deadline = {}): Promise<Stats> {
    const stats = await this.#engine.close(deadline);
    this.#leave();
    await (await this.#exporter)?.close();
    return stats;
  }

  /** As {@link close}, blocking this thread. */
  closeSync(deadline: Deadline = {}): Stats {
    const stats = this.#engine.closeSync(deadline);
    this.#leave();
    this.#exporter?.then((exporter) => exporter?.close());
    return stats;
  }

  #leave(): void {
    this.#live?.close();
    this.#leaveMetrics();
    this.#leaveSignals();
  }

  /**
   * Closes this client at SIGTERM or SIGINT, then ends the process with code 0: for servers without a shutdown of their
   * own. What can't be delivered in the time goes to the spool if there is one. Calls that come meanwhile return false and count as
   * wrong (reason `closed`); none throws. A second signal ends the process at once.
   */
  closeOnSignals(options: SignalOptions = {}): void {
    this.#leaveSignals();
    this.#leaveSignals = closeOnSignals((timeoutMs) => {
      this.#engine.noteSignal();
      return this.close({ timeoutMs });
    }, options);
  }

  /**
   * A handle for another thread of this process: transfer it (`worker.postMessage(port, [port])`), and call
   * {@link Analytics.attach} there. Records of that thread go through lanes of its own, into the same account.
   *
   * @throws MillraceError MILLRACE_CLOSED
   */
  port(): MessagePort {
    return this.#engine.openPort();
  }

  /**
   * On the thread that received a port: the same tracking calls.
   *
   * @throws MillraceError MILLRACE_OPTIONS when `port` is no handle of ours, or was attached before
   */
  static attach<Plan extends TrackingPlan = TrackingPlan>(
    port: MessagePort,
    { onError = warn }: Pick<AnalyticsOptions, 'onError'> = {},
  ): AttachedAnalytics<Plan> {
    return new AttachedAnalytics<Plan>(port, onError);
  }

  /** An exact account, at any time, also after close. */
  stats(): Stats {
    return this.#engine.stats();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}

/** What {@link Analytics.attach} gives: the tracking calls, for one more thread. */
export class AttachedAnalytics<Plan extends TrackingPlan = TrackingPlan> extends Tracker<Plan> {
  readonly #inlet: Inlet;
  readonly #detach: () => void;

  /** Use {@link Analytics.attach}. */
  constructor(port: MessagePort, onError: (error: MillraceError) => void) {
    const { inlet, close } = attachInlet(port, onError);
    super(inlet);
    this.#inlet = inlet;
    this.#detach = close;
  }

  /** Resolves when all records this thread tracked before the call are settled. */
  flush(deadline: Deadline = {}): Promise<void> {
    return this.#inlet.flush(deadline);
  }

  /** As {@link flush}, blocking this thread. True: all were settled in time. */
  flushSync(deadline: Deadline = {}): boolean {
    return this.#inlet.flushSync(deadline);
  }

  /** Gives the port up: later calls are refused. What was tracked is delivered all the same. */
  close(): void {
    this.#detach();
  }
}

const DEBUG_NOTICE = new MillraceError(
  'MILLRACE_OPTIONS',
  'DebugConsumer sends every record alone and blocks the caller: not for production',
);

/** Once a client, wherever somebody looks. */
function tellDebug({ journal }: Engine, { logger }: AnalyticsOptions): void {
  if (logger === undefined) warn(DEBUG_NOTICE);
  else journal.log({ level: 'warn', code: DEBUG_NOTICE.code, message: DEBUG_NOTICE.message });
}

function openEngine(consumer: Consumer, options: AnalyticsOptions): Engine {
  const plan = planOf(consumer);
  const reader = new OptionReader('Analytics', options);
  const uuid = reader.flag('uuid', plan.uuid ? 'on' : 'off');
  const validation = reader.oneOf('validation', OPTION_VALIDATIONS, 'throw');
  const timeZone = reader.text('timeZone');
  const zone = reader.check(() => resolveZone(timeZone)) ?? resolveZone(undefined);
  const registry = reader.raw('register');
  if (registry !== undefined && !isRegistry(registry)) {
    reader.fail(`register is ${show(registry)}; it must be a Registry of prom-client`);
  }
  const name = reader.text('name') ?? 'default';
  const library = readLibrary(reader);
  readMetricsServer(reader);
  const priorities = readPriorities(reader);
  const logger = readLogger(reader);
  const onError =
    reader.callback<(error: MillraceError) => void>('onError') ??
    (logger === undefined ? warn : ignore);
  reader.finish();
  return new Engine(plan, {
    uuid,
    validation,
    priorities,
    text: {
      presets: library,
      zone,
      addsZoneOffset: timeZone !== undefined,
    },
    name,
    logger,
    onError,
  });
}

function readLogger(reader: OptionReader): Logger | undefined {
  const logger = reader.raw('logger');
  if (logger === undefined || isLogger(logger)) return logger;
  reader.fail(`logger is ${show(logger)}; it must have ${LOG_LEVELS.join(', ')}, as pino has`);
  return undefined;
}

function isLogger(value: unknown): value is Logger {
  if (typeof value !== 'object' || value === null) return false;
  return LOG_LEVELS.every((level) => typeof (value as Partial<Logger>)[level] === 'function');
}

function ignore(): void {
  // The logger has it.
}

function readPriorities(reader: OptionReader): Readonly<Record<string, Priority>> | undefined {
  const rules = reader.texts('priorities');
  for (const [event, priority] of Object.entries(rules ?? {})) {
    if ((PRIORITIES as readonly string[]).includes(priority)) continue;
    reader.fail(`priorities.${event} is ${show(priority)}; it must be 'low', 'normal' or 'high'`);
  }
  return rules as Readonly<Record<string, Priority>> | undefined;
}

function readMetricsServer(reader: OptionReader): void {
  const raw = reader.raw('metricsServer');
  if (raw === undefined) return;
  const {
    port,
    host = '',
    livePage = false,
  } = Object(raw) as { port?: unknown; host?: unknown; livePage?: unknown };
  const isPort = Number.isInteger(port) && Number(port) >= 0 && Number(port) <= 65_535;
  if (isPort && typeof host === 'string' && typeof livePage === 'boolean') return;
  reader.fail(`metricsServer is ${show(raw)}; it must be { port, host?, livePage? }`);
}

/** A port that is taken is trouble, not a reason to end a game server. */
async function openExporter(
  client: Analytics,
  { port, host, livePage }: NonNullable<AnalyticsOptions['metricsServer']>,
  onError: (error: MillraceError) => void,
): Promise<MetricsEndpoint | undefined> {
  try {
    return await MetricsEndpoint.open({
      registry: client.register,
      port,
      ...(host === undefined ? {} : { host }),
      ...(livePage === true ? { livePage: client.livePage() } : {}),
    });
  } catch (error) {
    const message = `metricsServer can't listen on port ${port}: ${error}`;
    onError(new MillraceError('MILLRACE_UNAVAILABLE', message, error));
    return undefined;
  }
}

function readLibrary(reader: OptionReader): { lib: string; libVersion: string } {
  const raw = reader.raw('library');
  if (raw === undefined) return { lib: LIBRARY_NAME, libVersion: LIBRARY_VERSION };
  const { name, version } = Object(raw) as { name?: unknown; version?: unknown };
  if (typeof name === 'string' && typeof version === 'string') {
    return { lib: name, libVersion: version };
  }
  reader.fail(`library is ${show(raw)}; it must be { name, version }, both texts`);
  return { lib: '', libVersion: '' };
}

function warn(error: MillraceError): void {
  process.emitWarning(error.message, { type: 'MillraceWarning', code: error.code });
}

function planOf(consumer: unknown): EnginePlan {
  if (typeof consumer === 'object' && consumer !== null && 'plan' in consumer) {
    return (consumer as Consumer).plan;
  }
  throw new MillraceError(
    'MILLRACE_OPTIONS',
    `Analytics: consumer is ${show(consumer)}; it must be a LoggingConsumer, BatchConsumer, AsyncBatchConsumer or DebugConsumer`,
  );
}

const REGISTRY_METHODS = [
  'registerMetric',
  'getSingleMetric',
  'removeSingleMetric',
  'metrics',
] as const;

function isRegistry(value: unknown): value is MetricsRegistry {
  if (typeof value !== 'object' || value === null) return false;
  const members: Partial<Record<string, unknown>> = value as object;
  return REGISTRY_METHODS.every((method) => typeof members[method] === 'function');
}
