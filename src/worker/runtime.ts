import { parentPort, threadId } from 'node:worker_threads';
import { assert } from '../base/assert.ts';
import type { MillraceError } from '../base/errors.ts';
import { Machine } from '../codec/machine.ts';
import { RegionTranscoder } from '../codec/region-transcoder.ts';
import { LaneConsumer } from '../lane/consumer.ts';
import {
  Control,
  HEARTBEAT_MS,
  REFERENCE_CODEC_WORD,
  WATCH_ATTEMPTS,
  WATCH_WORD,
} from '../lane/control.ts';
import { LedgerWriter } from '../lane/ledger.ts';
import { Region } from '../lane/region.ts';
import type { Sink } from '../sink/sink.ts';
import { nodeFileSystem, signalling } from '../spool/file-system.ts';
import type { SpoolEdge } from '../spool/lane.ts';
import { BacklogTurn } from './backlog-turn.ts';
import type {
  FarewellTask,
  Notice,
  TurnEnd,
  TurnTask,
  WorkerConfig,
  WorkerNote,
} from './contract.ts';
import { DeadLetterFile } from './dead-letter.ts';
import { Delivery } from './delivery.ts';
import { endProbe, Gate } from './gate.ts';
import { Turn } from './turn.ts';
import type { TurnTools } from './turn-tools.ts';

/** Regions a thread remembers; those of ended port threads give way. */
const REGIONS_MAX = 64;
/** The same words are told at most once in this time, in ms. */
const TROUBLE_QUIET_MS = 10_000;
const TROUBLES_MAX = 100;

/** Opens the sink of a thread; the machine is the thread's, undefined where there is none. */
type OpenSink = (config: WorkerConfig, machine: Machine | undefined) => Sink | Promise<Sink>;

/** What one worker thread keeps from turn to turn. Made by the worker entry, on its first task. */
export class WorkerRuntime {
  readonly #config: WorkerConfig;
  readonly #control: Control;
  readonly #ledger: LedgerWriter;
  readonly #slot: number;
  readonly #sink: Promise<Sink>;
  readonly #regions = new Map<number, { region: Region; transcoder: RegionTranscoder }>();
  readonly #machine: Machine | undefined = Machine.open();
  readonly #toldAtMs = new Map<string, number>();
  readonly #gate: Gate;
  readonly #spoolEdge: SpoolEdge;
  #delivery: Delivery | undefined;

  private constructor(config: WorkerConfig, openSink: OpenSink, spoolEdge: SpoolEdge) {
    this.#config = config;
    this.#control = Control.attach(config.control);
    this.#slot = this.#control.claimSlot(threadId);
    assert(this.#slot >= 0, 'a worker slot is free');
    this.#ledger = new LedgerWriter(this.#control.floats, this.#control.slotFloatAt(this.#slot));
    // The thread that had the slot before may have died with requests under way.
    this.#ledger.set('inflight_requests', 0);
    const breaks = config.pace === 'stream' && config.retry.retries === 'forever';
    this.#gate = new Gate(this.#control, breaks ? 'breaker' : 'pauses', config.retry.capMs);
    if (this.#machine === undefined) {
      Atomics.store(this.#control.words, REFERENCE_CODEC_WORD, 1);
    }
    const { fileSystem = nodeFileSystem } = spoolEdge;
    const disk = this.#control.diskSign(this.#slot);
    this.#spoolEdge = { ...spoolEdge, fileSystem: signalling(fileSystem, disk) };
    this.#sink = Promise.resolve(openSink(config, this.#machine));
  }

  /**
   * @param config what the engine passed as `workerData`
   * @param spoolEdge disk and clock of the spool; only tests put something else in their place
   */
  static start(config: WorkerConfig, openSink: OpenSink, spoolEdge: SpoolEdge = {}): WorkerRuntime {
    const runtime = new WorkerRuntime(config, openSink, spoolEdge);
    runtime.#startHeart();
    return runtime;
  }

  /** Attends one lane. Rejects only for our own mistakes; the engine then gives the lane to a new turn. */
  async turn(task: TurnTask | FarewellTask): Promise<TurnEnd> {
    if ('farewell' in task) {
      await (await this.#sink).close();
      return 'stopped';
    }
    const { region, transcoder } = this.#regionOf(task.memory);
    const lane = LaneConsumer.claim(region, {
      lane: task.lane,
      term: task.term,
      owner: threadId,
    });
    if (lane === undefined) return 'fenced';
    const startMs = performance.now();
    const sink = await this.#sink;
    this.#ledger.add('turns');
    this.#delivery ??= this.#makeDelivery(sink);
    const tools: TurnTools = {
      config: this.#config,
      control: this.#control,
      ledger: this.#ledger,
      transcoder,
      sink,
      delivery: this.#delivery,
      gate: this.#gate,
      beat: () => this.#control.beat(this.#slot),
      onTrouble: (error) => this.#tell(error),
      onSettled: (notice) => this.#notify(notice),
      spoolEdge: this.#spoolEdge,
    };
    const end = await this.#attend(lane, { task, tools });
    this.#ledger.observe('turn_seconds', (performance.now() - startMs) / 1000);
    return end;
  }

  #attend(
    lane: LaneConsumer,
    { task, tools }: { readonly task: TurnTask; readonly tools: TurnTools },
  ): Promise<TurnEnd> {
    const { spool } = this.#config;
    if (task.backlogs !== undefined && spool !== undefined) {
      return new BacklogTurn(lane, tools, { plan: spool, care: task.care }).run(task.backlogs);
    }
    return new Turn(lane, tools, task.care).run();
  }

  #makeDelivery(sink: Sink): Delivery {
    const { retry, onExhausted, attemptTimeoutMs, deadLetter } = this.#config;
    return new Delivery({
      sink,
      gate: this.#gate,
      ledger: this.#ledger,
      limits: retry,
      attemptTimeoutMs,
      onExhausted,
      deadLetter: deadLetter === undefined ? undefined : new DeadLetterFile(deadLetter),
      onTrouble: (error) => this.#tell(error),
      attempts: {
        isListening: () => (Atomics.load(this.#control.words, WATCH_WORD) & WATCH_ATTEMPTS) !== 0,
        hear: (attempt) => this.#post({ millrace: 'attempt', attempt: { threadId, ...attempt } }),
      },
    });
  }

  #regionOf(memory: SharedArrayBuffer): { region: Region; transcoder: RegionTranscoder } {
    // Each task brings the memory as an object of its own; the region's number tells which it is.
    const region = Region.attach(memory);
    const known = this.#regions.get(region.id);
    if (known !== undefined) return known;
    const [oldest] = this.#regions.keys();
    if (this.#regions.size >= REGIONS_MAX && oldest !== undefined) this.#regions.delete(oldest);
    const transcoder = new RegionTranscoder(region, this.#config.text, this.#machine);
    const made = { region, transcoder };
    this.#regions.set(region.id, made);
    return made;
  }

  /** Shows life while no batch does, and how busy the thread is. */
  #startHeart(): void {
    let last = performance.eventLoopUtilization();
    const timer = setInterval(() => {
      this.#control.beat(this.#slot);
      const { active } = performance.eventLoopUtilization(last);
      last = performance.eventLoopUtilization();
      this.#ledger.add('busy_ms', active);
    }, HEARTBEAT_MS);
    timer.unref();
    process.on('exit', () => {
      this.#control.freeSlot(this.#slot);
      endProbe(this.#control);
    });
  }

  #tell(error: MillraceError): void {
    const now = performance.now();
    const toldAt = this.#toldAtMs.get(error.message);
    if (toldAt !== undefined && now - toldAt < TROUBLE_QUIET_MS) return;
    if (this.#toldAtMs.size >= TROUBLES_MAX) this.#toldAtMs.clear();
    this.#toldAtMs.set(error.message, now);
    this.#post({ millrace: 'trouble', report: error.report() });
  }

  #notify(notice: Notice): void {
    this.#post({ millrace: 'settled', notices: [notice] });
  }

  #post(note: WorkerNote): void {
    parentPort?.postMessage(note);
  }
}
