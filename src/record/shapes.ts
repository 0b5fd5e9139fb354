import { MillraceError, show } from '../base/errors.ts';
import { isPropertyName, NAME_CHARACTERS_MAX } from './names.ts';
import { LIFT_NAMES } from './types.ts';

/** Key lists remembered per table; records of further shapes bring their key list along. */
export const SHAPES_MAX = 8192;
const NODES_MAX = 65_536;
/** Longer names, which only come unchecked, are not remembered: a table has to stay small whatever is in it. */
const REMEMBERED_CHARACTERS_MAX = 256;
/** What is behind so many names of a list neither: a few such lists, which hardly come again, would leave no room for any other. */
const REMEMBERED_NAMES_MAX = 1024;

/**
 * One key list, as a node of a tree: the path from the root spells the keys in order.
 * Walking the tree while the values are read checks the names once per shape instead of once per record.
 */
export class Shape {
  /** The last key; '' at a root. */
  readonly key: string;
  readonly parent: Shape | undefined;
  /** Number of keys. */
  readonly size: number;
  /** Event name of the tree; '' for user records. */
  readonly event: string;
  /** Number the shape was published under; 0: not yet. */
  id = 0;
  /** Whether the table has it for good. */
  isKept = false;
  /** A lifted field (LIFT_…) instead of a step in the tree; 0: none. */
  readonly lift: number;
  /** The step taken last from here: nearly always the next one too. Starts as what is no key of anybody. */
  lastKey = '\u0000';
  lastShape: Shape | undefined = undefined;
  next: Map<string, Shape> | undefined = undefined;
  /** Super properties whose names were compared with these keys last. */
  comparedWith: object | undefined = undefined;
  /** The list of dynamic names these keys were compared with last. */
  comparedDynamic: object | undefined = undefined;
  #spellings: Spellings | undefined = undefined;

  constructor(parent: Shape | undefined, key: string, event: string, lift = 0) {
    this.parent = parent;
    this.key = key;
    this.event = event;
    this.lift = lift;
    this.size = parent === undefined ? 0 : parent.size + 1;
  }

  /** How the keys are spelled. */
  get spellings(): Spellings {
    this.#spellings ??= spellingsOf(this.keys());
    return this.#spellings;
  }

  /** The keys in order. */
  keys(): string[] {
    const keys = new Array<string>(this.size);
    for (let shape: Shape | undefined = this; shape?.parent !== undefined; shape = shape.parent) {
      keys[shape.size - 1] = shape.key;
    }
    return keys;
  }
}

/** Spelling of names by their lower-case form. */
export type Spellings = ReadonlyMap<string, string>;

/** How names are spelled. */
export function spellingsOf(names: readonly string[]): Spellings {
  return new Map(names.map((name) => [name.toLowerCase(), name]));
}

/**
 * Checks that no name of one list is in the other in another spelling.
 *
 * @throws MillraceError MILLRACE_INVALID_NAME
 */
export function compareSpellings(one: Spellings, other: Spellings): void {
  for (const [lower, name] of one) {
    const found = other.get(lower);
    if (found !== undefined && found !== name) throw clash(name, found);
  }
}

/**
 * Checks that properties are an object with names of its own: no list, Map, Date or text.
 *
 * @throws MillraceError MILLRACE_INVALID_VALUE
 */
export function checkIsObject(properties: unknown): void {
  if (Object.prototype.toString.call(properties) === '[object Object]') return;
  throw new MillraceError(
    'MILLRACE_INVALID_VALUE',
    `properties is ${show(properties)}; it must be an object of names and values`,
  );
}

/** Names that may not stand inside properties under strict checking: they have a place of their own. */
const RESERVED = new Set(['#account_id', '#distinct_id', '#type', '#event_name']);

const LIFT_BY_NAME = new Map<string, number>(
  LIFT_NAMES.flatMap((name, code) => (name === '' ? [] : [[name, code] as const])),
);

/** The trees of all key lists one client has used. Bounded; beyond, shapes are made for one record only. */
export class ShapeTable {
  /** The empty key list of whatever has no event name: user records, super properties, objects in values. */
  readonly base: Shape = new Shape(undefined, '', '');
  readonly #checks: 'strict' | 'none';
  readonly #roots = new Map<string, Shape>();
  readonly #lifts = new Map<string, Shape>();
  #lastEvent = '';
  #lastRoot: Shape | undefined;
  /** The key list made last under strict checking: who goes on from there has one name to compare, not all. */
  #grown: Shape | undefined;
  /** How the names of the list it branched off from are spelled, and those since. */
  #branchedSpellings: Spellings = new Map();
  readonly #grownSpellings = new Map<string, string>();
  #nodes = 0;

  constructor(checks: 'strict' | 'none') {
    this.#checks = checks;
    this.base.isKept = true;
    for (const [name, code] of LIFT_BY_NAME) {
      this.#lifts.set(name, new Shape(undefined, name, '', code));
    }
  }

  /** The empty key list of an event, whose name was checked by `check` when it is new. */
  root(event: string, check: (event: string) => void): Shape {
    if (event === this.#lastEvent && this.#lastRoot !== undefined) return this.#lastRoot;
    let root = this.#roots.get(event);
    if (root === undefined) {
      check(event);
      root = new Shape(undefined, '', event);
      root.isKept = isMemorable(root) && this.#claimNode();
      if (root.isKept) this.#roots.set(event, root);
    }
    this.#lastEvent = event;
    this.#lastRoot = root;
    return root;
  }

  /**
   * The key list that continues `shape` with `key`, or the sentinel of a lifted field.
   *
   * @throws MillraceError MILLRACE_INVALID_NAME under strict checking
   */
  step(shape: Shape, key: string): Shape {
    const known = shape.next?.get(key);
    const next = known ?? this.#lifts.get(key) ?? this.#grow(shape, key);
    if (isMemorable(next)) {
      shape.lastKey = key;
      shape.lastShape = next;
    }
    return next;
  }

  /**
   * Checks a name whose value is left out.
   *
   * @throws MillraceError MILLRACE_INVALID_NAME under strict checking
   */
  checkName(name: string): void {
    if (this.#checks === 'none' || isPropertyName(name)) return;
    throw badName(name);
  }

  #grow(shape: Shape, key: string): Shape {
    const next = new Shape(shape, key, shape.event);
    if (this.#checks === 'strict') this.#check(next, shape);
    next.isKept = shape.isKept && isMemorable(next) && this.#claimNode();
    if (next.isKept) {
      shape.next ??= new Map();
      shape.next.set(key, next);
    }
    return next;
  }

  #check(next: Shape, before: Shape): void {
    const { key } = next;
    this.checkName(key);
    const lower = key.toLowerCase();
    if (RESERVED.has(lower)) throw reservedName(key);
    // A lifted field has its own way: whoever comes here spells it in capitals.
    if (LIFT_BY_NAME.has(lower)) throw clash(lower, key);
    if (this.#grown !== before) this.#branchOff(before);
    const seen = this.#branchedSpellings.get(lower) ?? this.#grownSpellings.get(lower);
    if (seen !== undefined) throw clash(seen, key);
    this.#grownSpellings.set(lower, key);
    this.#grown = next;
  }

  #branchOff(shape: Shape): void {
    this.#branchedSpellings = shape.spellings;
    this.#grown = shape;
    this.#grownSpellings.clear();
  }

  #claimNode(): boolean {
    if (this.#nodes >= NODES_MAX) return false;
    this.#nodes += 1;
    return true;
  }
}

function isMemorable({ key, event, parent, size }: Shape): boolean {
  const name = parent === undefined ? event : key;
  return name.length <= REMEMBERED_CHARACTERS_MAX && size <= REMEMBERED_NAMES_MAX;
}

function clash(one: string, other: string): MillraceError {
  return new MillraceError(
    'MILLRACE_INVALID_NAME',
    `properties: the names ${show(one)} and ${show(other)} differ only in case; the receiver takes them for one`,
  );
}

function badName(name: string): MillraceError {
  return new MillraceError(
    'MILLRACE_INVALID_NAME',
    `properties: name ${show(name)} must start with a letter (or #), then letters, digits and _, at most ${NAME_CHARACTERS_MAX} characters`,
  );
}

export function reservedName(name: string): MillraceError {
  return new MillraceError(
    'MILLRACE_INVALID_NAME',
    `properties: ${show(name)} has a place of its own in the record; pass it as an argument of the call`,
  );
}
