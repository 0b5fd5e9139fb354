import { assert } from '../base/assert.ts';
import {
  BASE_MS_FLOAT,
  DEFINITIONS_BYTES,
  DEFINITIONS_BYTES_WORD,
  LANE_BYTES_WORD,
  LANE_CONTROL_BYTES,
  LANES_WORD,
  MAGIC_WORD,
  REGION_ID_WORD,
  REGION_MAGIC,
  REGION_VERSION,
  type RegionPlaces,
  type RegionShape,
  regionPlaces,
  VERSION_WORD,
} from './layout.ts';

/** Typed views of one region: the memory one producing thread shares with the workers. */
export class Region {
  readonly memory: SharedArrayBuffer;
  readonly words: Int32Array;
  readonly floats: Float64Array;
  readonly bytes: Uint8Array;
  readonly view: DataView;
  readonly places: RegionPlaces;
  readonly id: number;
  readonly lanes: number;
  /** Bytes of one lane's frames: a power of two. */
  readonly laneBytes: number;
  /** Wall time in ms that frame stamps count from. */
  readonly baseMs: number;

  private constructor(memory: SharedArrayBuffer) {
    this.memory = memory;
    this.words = new Int32Array(memory);
    this.floats = new Float64Array(memory);
    this.bytes = new Uint8Array(memory);
    this.view = new DataView(memory);
    this.id = this.words[REGION_ID_WORD] ?? 0;
    this.lanes = this.words[LANES_WORD] ?? 0;
    this.laneBytes = this.words[LANE_BYTES_WORD] ?? 0;
    this.baseMs = this.floats[BASE_MS_FLOAT] ?? 0;
    this.places = regionPlaces(this);
  }

  /** Makes the shared memory of a new region, all zero but for its header. */
  static create(shape: RegionShape & { id: number; baseMs: number }): Region {
    assert((shape.laneBytes & (shape.laneBytes - 1)) === 0, 'laneBytes is a power of two');
    const memory = new SharedArrayBuffer(regionPlaces(shape).totalBytes);
    const words = new Int32Array(memory);
    words[LANES_WORD] = shape.lanes;
    words[LANE_BYTES_WORD] = shape.laneBytes;
    words[DEFINITIONS_BYTES_WORD] = DEFINITIONS_BYTES;
    words[REGION_ID_WORD] = shape.id;
    new Float64Array(memory)[BASE_MS_FLOAT] = shape.baseMs;
    words[VERSION_WORD] = REGION_VERSION;
    words[MAGIC_WORD] = REGION_MAGIC;
    return new Region(memory);
  }

  /** Views of a region made by another thread. */
  static attach(memory: SharedArrayBuffer): Region {
    const words = new Int32Array(memory);
    assert(words[MAGIC_WORD] === REGION_MAGIC, 'shared memory starts with the magic number');
    assert(words[VERSION_WORD] === REGION_VERSION, 'both threads run the same version');
    return new Region(memory);
  }

  /** Number of a lane within its engine: the first region's lanes come first, then those of other threads. */
  numberOf(lane: number): number {
    return (this.id - 1) * this.lanes + lane;
  }

  /** Wall time now, in ms since {@link baseMs}, as frames are stamped. */
  nowMs(): number {
    return Date.now() - this.baseMs;
  }

  /** Byte offset of a lane's control block. */
  controlAt(lane: number): number {
    return this.places.lanesAt + lane * LANE_CONTROL_BYTES;
  }

  /** Byte offset of a lane's frames. */
  framesAt(lane: number): number {
    return this.places.framesAt + lane * this.laneBytes;
  }
}
