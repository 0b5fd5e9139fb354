/** Every code a {@link MillraceError} can carry. Codes are added, never renamed. */
export type MillraceErrorCode =
  | 'MILLRACE_MISSING_ID'
  | 'MILLRACE_MISSING_FIELD'
  | 'MILLRACE_INVALID_NAME'
  | 'MILLRACE_INVALID_VALUE'
  | 'MILLRACE_INVALID_TIME'
  | 'MILLRACE_RECORD_TOO_LARGE'
  | 'MILLRACE_OPTIONS'
  | 'MILLRACE_CLOSED'
  | 'MILLRACE_DEBUG_REJECTED'
  | 'MILLRACE_REJECTED'
  | 'MILLRACE_TIMEOUT'
  | 'MILLRACE_UNAVAILABLE'
  | 'MILLRACE_WORKER'
  | 'MILLRACE_POISON'
  | 'MILLRACE_GIVEN_UP'
  | 'MILLRACE_SPOOL';

/** What is left of an error after it crossed a thread: structured clone drops an Error's own fields. */
export interface ErrorReport {
  readonly code: MillraceErrorCode;
  readonly message: string;
}

/**
 * The one error class of the library. Match on `code`, never on the text.
 * The message names the field, the value seen (cut at 64 characters) and the rule it broke.
 */
export class MillraceError extends Error {
  override readonly name = 'MillraceError';
  readonly code: MillraceErrorCode;

  constructor(code: MillraceErrorCode, message: string, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause });
    this.code = code;
  }

  /** The plain form that can be posted to another thread. */
  report(): ErrorReport {
    return { code: this.code, message: this.message };
  }

  /** The error again, on the thread that received a {@link report}. */
  static from(report: ErrorReport, cause?: unknown): MillraceError {
    return new MillraceError(report.code, report.message, cause);
  }
}

/** What an error says, whatever was thrown. */
export function textOfError(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** The `code` of an error of the system or of Node, such as ENOENT; empty for anything else. */
export function systemCodeOf(error: unknown): string {
  return typeof error === 'object' && error !== null && 'code' in error ? String(error.code) : '';
}

const SHOWN_CHARACTERS_MAX = 64;

/** A value as an error message shows it: one line, at most 64 characters, never throwing. */
export function show(value: unknown): string {
  const text = describe(value);
  return text.length <= SHOWN_CHARACTERS_MAX ? text : `${text.slice(0, SHOWN_CHARACTERS_MAX - 1)}…`;
}

function describe(value: unknown): string {
  switch (typeof value) {
    case 'string':
      return JSON.stringify(value.slice(0, SHOWN_CHARACTERS_MAX));
    case 'number':
    case 'boolean':
    case 'undefined':
      return String(value);
    case 'bigint':
      return `${value}n`;
    case 'symbol':
      return 'a symbol';
    case 'function':
      return 'a function';
    default:
      return describeObject(value);
  }
}

function describeObject(value: unknown): string {
  if (value === null) return 'null';
  try {
    if (value instanceof Date) return Number.isNaN(value.getTime()) ? 'an invalid Date' : 'a Date';
    if (Array.isArray(value)) return `a list of ${value.length}`;
    const prototype: unknown = Object.getPrototypeOf(value);
    if (prototype === null || prototype === Object.prototype) return 'an object';
    const constructorName = (value as { constructor?: { name?: unknown } }).constructor?.name;
    return typeof constructorName === 'string' && constructorName !== ''
      ? `an instance of ${constructorName}`
      : 'an object';
  } catch {
    // A Proxy may throw from any trap; the message still has to be made.
    return 'an object';
  }
}
