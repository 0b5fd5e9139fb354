import { alignUp, BLOCK_BYTES } from './layout.ts';
import { FLOATS_PER_WORKER } from './ledger.ts';

/**
 * The control memory of one engine: what the workers report and what they are told.
 *
 * ```
 * byte 0     engine words (written by the engine's thread, but for the file lock and the gate)
 *      512   worker slot 0: words (THREAD, HEARTBEAT, DISK; written by its worker), then float64 counters (ledger.ts)
 *      …     worker slot 1 …
 *            slot of the engine's thread: counters only
 * ```
 * A worker claims a free slot by compare-exchange on THREAD and adds to the counters it finds there,
 * so totals survive a dead worker.
 */

/** 0 run, 1 drain (deliver all, no linger), 2 stop (give up what is in hand, settle nothing more), 3 save. */
export const MODE_WORD = 0;
export const MODE_RUN = 0;
export const MODE_DRAIN = 1;
export const MODE_STOP = 2;
/** Drain, and what can't be delivered at once goes to the spool. */
export const MODE_SAVE = 3;
/** Where the workers of the file sink meet: the thread that has its lock (sink/file-lock.ts), and the latest period (sink/file.ts). */
const FILE_LOCK_WORD = 32;
/** The receiver's gate (worker/gate.ts), written by whichever worker just tried. */
export const GATE_WORD = 64;
/** Until when the receiver asked to be left alone, ms since the start of the control memory, modulo 2^32. */
export const GATE_PAUSE_UNTIL: number = GATE_WORD;
/** 0 closed, 1 half-open, 2 open. */
export const GATE_STATE: number = GATE_WORD + 1;
/** Failed attempts in a row, of all workers. */
export const GATE_FAILURES: number = GATE_WORD + 2;
/** What the receiver's trouble is, as a number; 0: none. */
export const GATE_TROUBLE: number = GATE_WORD + 3;
/** Seconds since 1970 of the latest success, modulo 2^32. */
export const GATE_SUCCESS: number = GATE_WORD + 4;
/** Until when the open gate stays shut, or a probe may take; counted as above. */
export const GATE_SHUT_UNTIL: number = GATE_WORD + 5;
/** Float64 index: monotonic ms that the gate's times count from. */
const GATE_BASE_FLOAT: number = (GATE_WORD + 6) / 2;

/** Size of what earlier runs left in the spool, in MiB; written by the worker that replays it. */
export const BACKLOG_MIB_WORD = 96;
/** 1: what earlier runs left goes first, and live records wait on disk until it is delivered. */
export const REPLAY_FIRST_WORD = 97;

/** 1: some worker's thread can't run the WebAssembly codec, and does the same work slower. Written by workers. */
export const REFERENCE_CODEC_WORD = 98;

/** 1: a signal ends the process; who goes on tracking until then is told without an error that is thrown. Written by the engine. */
export const SIGNALLED_WORD = 99;

/** What the workers are to tell the engine's thread as it happens: bits below. Written by the engine. */
export const WATCH_WORD = 100;
export const WATCH_ATTEMPTS = 1;

const ENGINE_BYTES = 512;

/** Words of a worker slot. */
const THREAD = 0;
const HEARTBEAT = 1;
/** 1 while the thread is in a call of the system that waits for the disk. */
const DISK = 2;

const SLOT_WORDS_BYTES: number = BLOCK_BYTES;

/** Most worker threads one engine can have had at a time, the dying ones included. */
export const WORKER_SLOTS = 64;

/** Slot of the engine's own thread: it has counters, but no heartbeat. */
export const ENGINE_SLOT: number = WORKER_SLOTS;

/** Heartbeats are at most this far apart in a healthy worker, but for one batch's work, in ms. */
export const HEARTBEAT_MS = 100;

const WORKER_BYTES: number = alignUp(SLOT_WORDS_BYTES + FLOATS_PER_WORKER * 8, BLOCK_BYTES);

/** What a worker of the file sink shares with the others, and how it says that it waits for the disk. The thread has a slot already. */
export function fileShare(
  memory: SharedArrayBuffer,
  threadId: number,
): {
  readonly words: { readonly memory: SharedArrayBuffer; readonly wordAt: number };
  readonly disk: { readonly enter: () => void; readonly leave: () => void };
} {
  const control = Control.attach(memory);
  return {
    words: { memory, wordAt: FILE_LOCK_WORD },
    disk: control.diskSign(control.slotOf(threadId)),
  };
}

/** Typed views of the control memory. */
export class Control {
  readonly memory: SharedArrayBuffer;
  readonly words: Int32Array;
  readonly floats: Float64Array;

  private constructor(memory: SharedArrayBuffer) {
    this.memory = memory;
    this.words = new Int32Array(memory);
    this.floats = new Float64Array(memory);
  }

  static create(): Control {
    const control = new Control(
      new SharedArrayBuffer(ENGINE_BYTES + (WORKER_SLOTS + 1) * WORKER_BYTES),
    );
    control.floats[GATE_BASE_FLOAT] = machineMs();
    return control;
  }

  static attach(memory: SharedArrayBuffer): Control {
    return new Control(memory);
  }

  get mode(): number {
    return Atomics.load(this.words, MODE_WORD);
  }

  /** Tells all workers, those that wait included. */
  set mode(mode: number) {
    Atomics.store(this.words, MODE_WORD, mode);
    Atomics.notify(this.words, MODE_WORD);
  }

  /** Ms since the control memory was made, the same on every thread. */
  nowMs(): number {
    return (machineMs() - (this.floats[GATE_BASE_FLOAT] ?? 0)) | 0;
  }

  /** Word index of a worker slot. */
  slotWordAt(slot: number): number {
    return (ENGINE_BYTES + slot * WORKER_BYTES) / 4;
  }

  /** Float64 index of a worker slot's first counter. */
  slotFloatAt(slot: number): number {
    return (ENGINE_BYTES + slot * WORKER_BYTES + SLOT_WORDS_BYTES) / 8;
  }

  /** Whether a slot ever had a worker. */
  wasUsed(slot: number): boolean {
    return this.heartbeatOf(slot) !== 0;
  }

  /** Claims a free worker slot for a thread. -1: all are taken. */
  claimSlot(threadId: number): number {
    for (let slot = 0; slot < WORKER_SLOTS; slot += 1) {
      const at = this.slotWordAt(slot) + THREAD;
      if (Atomics.compareExchange(this.words, at, 0, threadId) === 0) {
        Atomics.store(this.words, this.slotWordAt(slot) + HEARTBEAT, 1);
        Atomics.store(this.words, this.slotWordAt(slot) + DISK, 0);
        return slot;
      }
    }
    return -1;
  }

  /** Frees the slot of a thread that has ended, and the file lock if it had it; its counters stay. */
  freeSlot(slot: number): void {
    const thread = this.threadOf(slot);
    if (thread !== 0 && Atomics.compareExchange(this.words, FILE_LOCK_WORD, thread, 0) === thread) {
      Atomics.notify(this.words, FILE_LOCK_WORD);
    }
    Atomics.store(this.words, this.slotWordAt(slot) + THREAD, 0);
  }

  /** Thread id that holds a slot; 0: free. */
  threadOf(slot: number): number {
    return Atomics.load(this.words, this.slotWordAt(slot) + THREAD);
  }

  /** Slot of a thread; -1: it has none. */
  slotOf(threadId: number): number {
    for (let slot = 0; slot < WORKER_SLOTS; slot += 1) {
      if (this.threadOf(slot) === threadId) return slot;
    }
    return -1;
  }

  heartbeatOf(slot: number): number {
    return Atomics.load(this.words, this.slotWordAt(slot) + HEARTBEAT);
  }

  /** How the slot's thread says that a call of the system that waits for the disk begins, and that it has ended. */
  diskSign(slot: number): { readonly enter: () => void; readonly leave: () => void } {
    const at = this.slotWordAt(slot) + DISK;
    return {
      enter: () => Atomics.store(this.words, at, 1),
      leave: () => Atomics.store(this.words, at, 0),
    };
  }

  /** Whether the slot's thread waits for the disk. */
  isOnDisk(slot: number): boolean {
    return Atomics.load(this.words, this.slotWordAt(slot) + DISK) === 1;
  }

  beat(slot: number): void {
    Atomics.add(this.words, this.slotWordAt(slot) + HEARTBEAT, 1);
  }
}

/** The machine's monotonic clock: unlike `performance.now()`, one count for all threads. */
function machineMs(): number {
  return Math.floor(Number(process.hrtime.bigint() / 1_000_000n));
}
