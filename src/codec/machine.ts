import { LIFT_NAMES, TYPE_NAMES } from '../record/types.ts';
import { utf8 } from './json-text.ts';
import { MACHINE_BASE64 } from './machine-bytes.ts';
import {
  DEFINITIONS_AT,
  DEFINITIONS_BYTES,
  LIFT_BYTES,
  LIFTS_AT,
  MEMORY_BYTES,
  POWER_MAX,
  POWER_MIN,
  POWERS_AT,
  TYPE_BYTES,
  TYPES_AT,
} from './machine-places.ts';

/** What the codec asks of whoever calls it, in the middle of a call. */
export interface MachineHost {
  /** Offset of the zone at an instant, in ms. */
  offsetMs(ms: number): number;
  /** Place of the shape of a number; 0: it can't be had. */
  shapeAt(id: number): number;
  /** Place of what follows from the epoch for a shape; 0: it can't be had. */
  tailAt(shapeAt: number, epoch: number): number;
  /** The same beside dynamic properties, whose names are at NAMES_AT. */
  dynamicTailAt(shapeAt: number, epoch: number, namesBytes: number): number;
}

/** What assembly/index.ts exports. */
export interface MachineCalls {
  transcode(
    at: number,
    end: number,
    to: number,
    limit: number,
    fullAt: number,
    shift: number,
    countMax: number,
    seq: number,
    position: number,
    separator: number,
  ): number;
  useShapes(table: number, count: number, addsZoneOffset: number): void;
  forgetTime(): void;
  doubleText(value: number): number;
  deflate(length: number, isEnd: number): number;
  spread(count: number, partitions: number): void;
}

/** The part of the global that is used here; its types are a browser's library otherwise. */
declare const WebAssembly: {
  readonly Memory: new (limits: { initial: number; maximum: number }) => { buffer: ArrayBuffer };
  readonly Module: new (bytes: Uint8Array) => object;
  readonly Instance: new (module: object, imports: object) => { exports: unknown };
};

const PAGE_BYTES = 65536;
const POWER_BITS = 128;

/** The WebAssembly codec of one thread, with the memory it works in. */
export class Machine {
  readonly calls: MachineCalls;
  readonly bytes: Uint8Array;
  readonly words: Uint32Array;
  /** Who is asked in the middle of a call: set by whoever makes it. */
  host: MachineHost = NOBODY;
  /** Grows whenever all definitions are forgotten. */
  generation = 1;
  #definitionsEnd = DEFINITIONS_AT;

  private constructor() {
    const memory = new WebAssembly.Memory({
      initial: MEMORY_BYTES / PAGE_BYTES,
      maximum: MEMORY_BYTES / PAGE_BYTES,
    });
    const module = new WebAssembly.Module(Buffer.from(MACHINE_BASE64, 'base64'));
    const { exports } = new WebAssembly.Instance(module, {
      env: { memory },
      host: {
        offsetMs: (ms: number) => this.host.offsetMs(ms),
        shapeAt: (id: number) => this.host.shapeAt(id),
        tailAt: (shapeAt: number, epoch: number) => this.host.tailAt(shapeAt, epoch),
        dynamicTailAt: (shapeAt: number, epoch: number, namesBytes: number) =>
          this.host.dynamicTailAt(shapeAt, epoch, namesBytes),
      },
    });
    this.calls = exports as MachineCalls;
    this.bytes = new Uint8Array(memory.buffer);
    this.words = new Uint32Array(memory.buffer);
    this.#writeTables();
  }

  /** Undefined: this process can't run it (`--jitless`, a processor without SIMD, no memory). */
  static open(): Machine | undefined {
    try {
      return new Machine();
    } catch {
      // The reference does the same work, only slower.
      return undefined;
    }
  }

  /** Room for a definition, 16 bytes of slack behind it; 0: there is none left. */
  allocate(byteCount: number): number {
    const at = this.#definitionsEnd;
    const end = at + ((byteCount + 31) & -16);
    if (end > DEFINITIONS_AT + DEFINITIONS_BYTES) return 0;
    this.#definitionsEnd = end;
    return at;
  }

  /** Makes room again: all definitions are gone, and have to be brought anew. */
  forgetDefinitions(): void {
    this.#definitionsEnd = DEFINITIONS_AT;
    this.generation += 1;
  }

  #writeTables(): void {
    TYPE_NAMES.forEach((name, kind) => {
      this.#writeRun(TYPES_AT + kind * TYPE_BYTES, `{"#type":"${name}","#time":"`);
    });
    LIFT_NAMES.forEach((name, code) => {
      this.#writeRun(LIFTS_AT + code * LIFT_BYTES, `,"${name}":`);
    });
    const view = new DataView(this.bytes.buffer);
    for (let power = POWER_MIN; power <= POWER_MAX; power += 1) {
      const at = POWERS_AT + (power - POWER_MIN) * 16;
      const value = powerOfTen(power);
      view.setBigUint64(at, value >> 64n, true);
      view.setBigUint64(at + 8, value & 0xffff_ffff_ffff_ffffn, true);
    }
  }

  #writeRun(at: number, text: string): void {
    const run = utf8(text);
    this.words[at / 4] = run.length;
    this.bytes.set(run, at + 4);
  }
}

const NOBODY: MachineHost = {
  offsetMs: () => 0,
  shapeAt: () => 0,
  tailAt: () => 0,
  dynamicTailAt: () => 0,
};

/** The 128 leading bits of 10^`power`, rounded up. */
function powerOfTen(power: number): bigint {
  if (power >= 0) {
    const value = 10n ** BigInt(power);
    const excess = value.toString(2).length - POWER_BITS;
    return excess <= 0 ? value << BigInt(-excess) : roundUp(value, 1n << BigInt(excess));
  }
  const divisor = 10n ** BigInt(-power);
  // 2^n / divisor has 128 bits for this n, as no power of ten is a power of two.
  const bits = BigInt(divisor.toString(2).length + POWER_BITS - 1);
  return roundUp(1n << bits, divisor);
}

function roundUp(value: bigint, divisor: bigint): bigint {
  return (value + divisor - 1n) / divisor;
}
