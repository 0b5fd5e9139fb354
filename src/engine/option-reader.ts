import { MillraceError, show } from '../base/errors.ts';

export interface NumberRule {
  readonly min: number;
  readonly max: number;
  /** What an option that is not given amounts to; default: nothing. */
  readonly fallback?: number;
}

/** Letters by which a misspelt name may differ from the one that was meant. */
const EDITS_MAX = 2;

/**
 * Reads an options object name by name and collects everything wrong with it, so that a user
 * hears of all mistakes at once. A name nobody asked for is a mistake, too.
 */
export class OptionReader {
  readonly #owner: string;
  readonly #options: Readonly<Record<string, unknown>>;
  readonly #asked = new Set<string>();
  readonly #problems: string[] = [];

  /** @param owner what the options are for, as the message names it */
  constructor(owner: string, options: unknown) {
    this.#owner = owner;
    if (typeof options === 'object' && options !== null && !Array.isArray(options)) {
      this.#options = options as Readonly<Record<string, unknown>>;
    } else {
      this.#options = {};
      if (options !== undefined) this.#problems.push(`options is ${show(options)}, not an object`);
    }
  }

  /** Notes one more problem. */
  fail(problem: string): void {
    this.#problems.push(problem);
  }

  has(name: string): boolean {
    return this.#take(name) !== undefined;
  }

  /** An option whose form somebody else checks. */
  raw(name: string): unknown {
    return this.#take(name);
  }

  integer(name: string, rule: Required<NumberRule>): number;
  integer(name: string, rule: NumberRule): number | undefined;
  integer(name: string, { min, max, fallback }: NumberRule): number | undefined {
    const value = this.#take(name);
    if (value === undefined) return fallback;
    if (typeof value === 'number' && Number.isInteger(value) && value >= min && value <= max) {
      return value;
    }
    this.fail(`${name} is ${show(value)}; it must be a whole number from ${min} to ${max}`);
    return fallback;
  }

  number(name: string, rule: Required<NumberRule>): number;
  number(name: string, rule: NumberRule): number | undefined;
  number(name: string, { min, max, fallback }: NumberRule): number | undefined {
    const value = this.#take(name);
    if (value === undefined) return fallback;
    if (typeof value === 'number' && value >= min && value <= max) return value;
    this.fail(`${name} is ${show(value)}; it must be a number from ${min} to ${max}`);
    return fallback;
  }

  flag(name: string, fallback: 'on' | 'off'): boolean {
    const value = this.#take(name);
    if (value === undefined) return fallback === 'on';
    if (typeof value === 'boolean') return value;
    this.fail(`${name} is ${show(value)}; it must be true or false`);
    return fallback === 'on';
  }

  oneOf<T extends string>(name: string, allowed: readonly T[], fallback: T): T;
  oneOf<T extends string>(name: string, allowed: readonly T[]): T | undefined;
  oneOf<T extends string>(name: string, allowed: readonly T[], fallback?: T): T | undefined {
    const value = this.#take(name);
    if (value === undefined) return fallback;
    const found = allowed.find((choice) => choice === value);
    if (found !== undefined) return found;
    this.fail(`${name} is ${show(value)}; it must be one of ${allowed.join(', ')}`);
    return fallback;
  }

  text(name: string): string | undefined {
    const value = this.#take(name);
    if (value === undefined) return undefined;
    if (typeof value === 'string' && value !== '') return value;
    this.fail(`${name} is ${show(value)}; it must be a text that is not empty`);
    return undefined;
  }

  requiredText(name: string): string {
    if (this.#options[name] === undefined) {
      this.#asked.add(name);
      this.fail(`${name} is missing`);
      return '';
    }
    return this.text(name) ?? '';
  }

  fileOrUrl(name: string): URL | string | undefined {
    const value = this.#take(name);
    if (value === undefined || value instanceof URL) return value;
    if (typeof value === 'string' && value !== '') return value;
    this.fail(`${name} is ${show(value)}; it must be a path or a URL`);
    return undefined;
  }

  texts(name: string): Record<string, string> | undefined {
    const value = this.#take(name);
    if (value === undefined) return undefined;
    if (typeof value !== 'object' || value === null || Array.isArray(value)) {
      this.fail(`${name} is ${show(value)}; it must be an object of texts`);
      return undefined;
    }
    const texts: Record<string, string> = {};
    for (const [key, text] of Object.entries(value)) {
      if (typeof text === 'string') texts[key] = text;
      else this.fail(`${name}.${key} is ${show(text)}; it must be a text`);
    }
    return texts;
  }

  callback<T>(name: string): T | undefined {
    const value = this.#take(name);
    if (value === undefined) return undefined;
    if (typeof value === 'function') return value as T;
    this.fail(`${name} is ${show(value)}; it must be a function`);
    return undefined;
  }

  /** Runs a check that throws a MillraceError, and keeps its message as a problem. */
  check<T>(run: () => T): T | undefined {
    try {
      return run();
    } catch (error) {
      if (!(error instanceof MillraceError)) throw error;
      this.fail(error.message);
      return undefined;
    }
  }

  /** @throws MillraceError MILLRACE_OPTIONS with all problems, if there are any */
  finish(): void {
    for (const name of Object.keys(this.#options)) {
      if (this.#asked.has(name) || this.#options[name] === undefined) continue;
      const known = [...this.#asked].sort();
      const meant = closest(name, known);
      const hint = meant === undefined ? '' : ` (did you mean ${meant}?)`;
      this.fail(`${name} is unknown${hint}; known are ${known.join(', ')}`);
    }
    if (this.#problems.length === 0) return;
    throw new MillraceError('MILLRACE_OPTIONS', `${this.#owner}: ${this.#problems.join('; ')}`);
  }

  #take(name: string): unknown {
    this.#asked.add(name);
    return this.#options[name];
  }
}

/** The name that was most likely meant: at most two letters differ, upper and lower case alike, and most of the name is there. */
function closest(name: string, known: readonly string[]): string | undefined {
  let best: string | undefined;
  let least = Math.min(EDITS_MAX, Math.floor(name.length / 3)) + 1;
  for (const candidate of known) {
    const edits = editsBetween(name.toLowerCase(), candidate.toLowerCase());
    if (edits < least) [best, least] = [candidate, edits];
  }
  return best;
}

/** Letters to put in, take out or change to make one text of another. */
function editsBetween(from: string, to: string): number {
  // Edits from the part of `from` read so far to each beginning of `to`.
  let row = Array.from({ length: to.length + 1 }, (_, index) => index);
  for (const [index, letter] of [...from].entries()) {
    const next = [index + 1];
    for (let at = 1; at <= to.length; at += 1) {
      const change = (row[at - 1] ?? 0) + (letter === to[at - 1] ? 0 : 1);
      next.push(Math.min(change, (row[at] ?? 0) + 1, (next[at - 1] ?? 0) + 1));
    }
    row = next;
  }
  return row[to.length] ?? 0;
}
