/** Which endpoint a fault is for. */
export type FaultTarget = 'sync' | 'debug' | 'all';

/** What goes wrong. Times in ms. */
export type FaultAction =
  | {
      readonly kind: 'status';
      readonly status: number;
      readonly headers?: Readonly<Record<string, string>>;
      readonly body?: string;
    }
  /** Replies as always, but later. */
  | { readonly kind: 'delay'; readonly ms: number }
  /** Cuts the connection: before anything is read, in the middle of the body, or after the records were taken. */
  | { readonly kind: 'reset'; readonly when: 'start' | 'body' | 'after' }
  /** Takes the records and replies one byte at a time. */
  | { readonly kind: 'slow'; readonly byteMs: number }
  /** Takes the records and replies with half of what it announced. */
  | { readonly kind: 'half' }
  | { readonly kind: 'wrong-json' }
  | { readonly kind: 'empty' }
  /** Status 200 with this code in the body; nothing is taken. */
  | { readonly kind: 'code'; readonly code: number; readonly msg?: string }
  /** Never answers. */
  | { readonly kind: 'hang' }
  | { readonly kind: 'redirect'; readonly location: string }
  /** 413 for bodies above this size. */
  | { readonly kind: 'too-large'; readonly bytes: number }
  /** Refuses batches with a record whose JSON text includes `text`. */
  | { readonly kind: 'poison'; readonly text: string };

/** A fault and how long it lasts: as many requests, as much time, or until it is taken away. */
export interface Fault {
  readonly action: FaultAction;
  readonly target?: FaultTarget;
  /** Requests it hits. */
  readonly requests?: number;
  /** Time from when it was set, in ms. */
  readonly forMs?: number;
  /** Share of requests it hits, 0 to 1; default 1. */
  readonly probability?: number;
}

const KINDS: ReadonlySet<string> = new Set<FaultAction['kind']>([
  'status',
  'delay',
  'reset',
  'slow',
  'half',
  'wrong-json',
  'empty',
  'code',
  'hang',
  'redirect',
  'too-large',
  'poison',
]);

interface Active {
  readonly fault: Fault;
  left: number;
  readonly untilMs: number;
}

/** The faults in force, in order: the first that fits a request decides. */
export class Faults {
  #active: Active[] = [];
  #seed: number;

  constructor(seed: number) {
    this.#seed = seed;
  }

  set(faults: readonly Fault[], nowMs: number): void {
    this.#active = faults.map((fault) => ({
      fault,
      left: fault.requests ?? Number.POSITIVE_INFINITY,
      untilMs: fault.forMs === undefined ? Number.POSITIVE_INFINITY : nowMs + fault.forMs,
    }));
  }

  /** The fault that hits this request; it is used up by one. */
  take(target: 'sync' | 'debug', nowMs: number): FaultAction | undefined {
    for (const active of this.#active) {
      const { target: wanted = 'all', probability = 1, action } = active.fault;
      if (active.left <= 0 || nowMs >= active.untilMs) continue;
      if (wanted !== 'all' && wanted !== target) continue;
      if (probability < 1 && this.#random() >= probability) continue;
      active.left -= 1;
      return action;
    }
    return undefined;
  }

  /** A small repeatable generator (mulberry32), so that a run with the same seed meets the same faults. */
  #random(): number {
    this.#seed = (this.#seed + 0x6d2b79f5) | 0;
    let mixed = Math.imul(this.#seed ^ (this.#seed >>> 15), 1 | this.#seed);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  }
}

/** Faults as they come in over the network. Throws an Error that says what is wrong. */
export function parseFaults(value: unknown): Fault[] {
  const list: unknown[] = Array.isArray(value) ? value : [value];
  return list.map((fault) => {
    if (!isFault(fault)) {
      throw new Error(`a fault is {"action":{"kind":…}}, kind one of ${[...KINDS].join(', ')}`);
    }
    return fault;
  });
}

function isFault(value: unknown): value is Fault {
  if (typeof value !== 'object' || value === null || !('action' in value)) return false;
  const { action } = value;
  if (typeof action !== 'object' || action === null || !('kind' in action)) return false;
  return typeof action.kind === 'string' && KINDS.has(action.kind);
}
