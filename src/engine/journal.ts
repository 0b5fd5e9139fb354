import type { MillraceError, MillraceErrorCode } from '../base/errors.ts';
import type { LogCode, Logger, LogLevel, Trouble } from '../base/logger.ts';
import { isHeard, type Origin, publish } from './channels.ts';

/** A line of a code is logged at most once in this time, in ms; the next one says how many were left out. */
const QUIET_MS = 10_000;
const TROUBLES_MAX = 50;

export interface JournalParts {
  readonly origin: Origin;
  /** Undefined: nobody reads a log, so only fatal lines are said, as process warnings. */
  readonly logger: Logger | undefined;
  readonly onError: (error: MillraceError) => void;
}

interface Line {
  readonly level: LogLevel;
  readonly code: LogCode;
  readonly message: string;
  readonly facts?: object;
}

const LEVELS: Readonly<Partial<Record<MillraceErrorCode, LogLevel>>> = {
  MILLRACE_UNAVAILABLE: 'warn',
  MILLRACE_OPTIONS: 'warn',
  MILLRACE_MISSING_ID: 'warn',
  MILLRACE_MISSING_FIELD: 'warn',
  MILLRACE_INVALID_NAME: 'warn',
  MILLRACE_INVALID_VALUE: 'warn',
  MILLRACE_INVALID_TIME: 'warn',
  MILLRACE_RECORD_TOO_LARGE: 'warn',
};

/** Where an engine says what happens: to the logger, to `onError`, to diagnostics channels, and to whoever looks later. */
export class Journal {
  readonly origin: Origin;
  readonly #logger: Logger | undefined;
  readonly #onError: (error: MillraceError) => void;
  readonly #toldAt = new Map<LogCode, { atMs: number; suppressed: number }>();
  #troubles: Trouble[] = [];

  constructor({ origin, logger, onError }: JournalParts) {
    this.origin = origin;
    this.#logger = logger;
    this.#onError = onError;
  }

  /** The latest troubles, oldest first; repeated ones once. */
  get troubles(): readonly Trouble[] {
    return this.#troubles;
  }

  /** Tells of an error. Never throws: listeners that do are said on standard error. */
  error(error: MillraceError): void {
    const { code, message } = error;
    this.log({ level: LEVELS[code] ?? 'error', code, message });
    if (isHeard('error')) publish('error', { ...this.origin, error });
    this.#guard(`onError threw while it heard: ${message}`, () => this.#onError(error));
  }

  /** Writes a line, unless one of this code was written a moment ago. */
  log({ level, code, message, facts = {} }: Line): void {
    if (level !== 'debug' && level !== 'info') this.#keep({ level, code, message });
    const suppressed = this.#admit(code);
    if (suppressed < 0) return;
    const logger = this.#logger;
    if (logger !== undefined) {
      const all = { code, ...this.origin, ...facts, ...(suppressed === 0 ? {} : { suppressed }) };
      this.#guard('logger threw', () => logger[level](all, message));
    } else if (level === 'fatal') {
      process.emitWarning(message, { type: 'MillraceWarning', code });
    }
  }

  /** How many lines of the code were left out since the last one; -1: this one is left out, too. */
  #admit(code: LogCode): number {
    const now = performance.now();
    const told = this.#toldAt.get(code);
    if (told !== undefined && now - told.atMs < QUIET_MS) {
      told.suppressed += 1;
      return -1;
    }
    this.#toldAt.set(code, { atMs: now, suppressed: 0 });
    return told?.suppressed ?? 0;
  }

  #keep({ level, code, message }: Line): void {
    const known = this.#troubles.find((one) => one.code === code && one.message === message);
    const times = (known?.times ?? 0) + 1;
    const others = this.#troubles.filter((one) => one !== known).slice(1 - TROUBLES_MAX);
    this.#troubles = [...others, { timeMs: Date.now(), level, code, message, times }];
  }

  #guard(what: string, tell: () => void): void {
    try {
      tell();
    } catch (thrown) {
      process.emitWarning(`${what}: ${thrown}`, 'millrace');
    }
  }
}
