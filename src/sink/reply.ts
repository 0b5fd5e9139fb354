import type { FailureReason, Outcome } from './sink.ts';

/** A reply, as far as it decides what becomes of a batch. */
export interface Reply {
  readonly status: number;
  /** Value of a header by its lower-case name. */
  readonly header: (name: string) => string | undefined;
  /** Body, cut at {@link REPLY_BYTES_MAX}. */
  readonly body: string;
  /** Takes out of what the receiver says what must not be printed. */
  readonly hide: (words: string) => string;
  /** Wall time in ms, to read dates in `Retry-After`. */
  readonly nowMs: number;
}

/** Most bytes of a reply that are read. */
export const REPLY_BYTES_MAX: number = 64 * 1024;
/** Longest pause a receiver can ask for, in ms. */
const RETRY_AFTER_MAX_MS = 600_000;
const MESSAGE_CHARACTERS_MAX = 512;

/** What a reply of `/sync_server` means for the batch (wire contract, section 2). */
export function outcomeOf(reply: Reply, sentBytes: number): Outcome {
  const { status } = reply;
  if (status === 200) return outcomeOfBody(reply, sentBytes);
  if (status === 413) return { kind: 'split', message: said(reply) };
  if (status === 400) return { kind: 'bisect', message: said(reply) };
  if (status >= 300 && status < 400) {
    const location = tellable(reply, reply.header('location') ?? 'nowhere');
    return configTrouble('redirect', `the receiver redirects to ${location} (status ${status})`);
  }
  if (status === 401 || status === 403 || status === 404) {
    return configTrouble('config', said(reply));
  }
  if (status === 408 || status === 425 || status === 429 || status >= 500) return later(reply);
  return {
    kind: 'retry',
    reason: status >= 400 ? 'http_4xx' : 'bad_reply',
    message: said(reply),
    budget: 'few',
  };
}

function later(reply: Reply): Outcome {
  const afterMs = retryAfterMs(reply.header('retry-after'), reply.nowMs);
  return {
    kind: 'retry',
    reason: laterReason(reply.status),
    message: said(reply),
    budget: 'normal',
    ...(afterMs === undefined ? {} : { afterMs }),
  };
}

function laterReason(status: number): FailureReason {
  if (status === 429) return 'http_429';
  return status >= 500 ? 'http_5xx' : 'http_4xx';
}

/** The `code` of a reply of `/sync_server`; undefined: it has none. */
export function codeOfReply({ body }: Reply): number | undefined {
  const code: unknown = parseObject(body)?.code;
  return typeof code === 'number' ? code : undefined;
}

function outcomeOfBody(reply: Reply, sentBytes: number): Outcome {
  const parsed = parseObject(reply.body);
  const code: unknown = parsed?.code;
  if (typeof code !== 'number') {
    return {
      kind: 'retry',
      reason: 'bad_reply',
      message: `the reply is not the receiver's: ${tellable(reply, reply.body)}`,
      budget: 'normal',
    };
  }
  if (code === 0) return { kind: 'delivered', sentBytes };
  const words = `code ${code}: ${wordsOf(reply, parsed)}`;
  if (code === -1) return { kind: 'bisect', message: words };
  if (code === -2 || code === -3) return configTrouble('config', words);
  return { kind: 'retry', reason: 'receiver_code', message: words, budget: 'few' };
}

function configTrouble(reason: FailureReason, message: string): Outcome {
  return { kind: 'retry', reason, message, budget: 'config' };
}

/** What a reply of `/data_debug` means for the one record (wire contract, section 3). */
export function outcomeOfDebug(reply: Reply, sentBytes: number): Outcome {
  if (reply.status !== 200) {
    const outcome = outcomeOf(reply, sentBytes);
    return outcome.kind === 'retry' ? outcome : { kind: 'rejected', message: said(reply) };
  }
  const parsed = parseObject(reply.body);
  // Some servers wrap the result: {"code":0,"data":{"errorLevel":…}}.
  const inner = isObject(parsed?.data) ? parsed.data : parsed;
  const level: unknown = inner?.errorLevel;
  if (inner === undefined || typeof level !== 'number') {
    return {
      kind: 'retry',
      reason: 'bad_reply',
      message: `the reply is not the receiver's: ${tellable(reply, reply.body)}`,
      budget: 'few',
    };
  }
  if (level === 0) return { kind: 'delivered', sentBytes };
  return { kind: 'rejected', message: `errorLevel ${level}: ${debugReasons(reply, inner)}` };
}

function debugReasons(reply: Reply, parsed: Record<string, unknown>): string {
  const { errorReasons, errorProperties } = parsed;
  const reasons = Array.isArray(errorReasons) ? errorReasons.map(String) : [];
  const properties: unknown[] = Array.isArray(errorProperties) ? errorProperties : [];
  for (const property of properties) {
    if (isObject(property)) reasons.push(`${property.propertyName}: ${property.errorReason}`);
  }
  return reasons.length > 0 ? tellable(reply, reasons.join('; ')) : wordsOf(reply, parsed);
}

/** Ms a `Retry-After` asks for, seconds or a date; capped; undefined: it says nothing. */
function retryAfterMs(value: string | undefined, nowMs: number): number | undefined {
  if (value === undefined) return undefined;
  const text = value.trim();
  const ms = /^\d+(\.\d+)?$/.test(text) ? Number(text) * 1000 : Date.parse(text) - nowMs;
  if (Number.isNaN(ms)) return undefined;
  return Math.min(Math.max(ms, 0), RETRY_AFTER_MAX_MS);
}

function said(reply: Reply): string {
  const words = wordsOf(reply, parseObject(reply.body)) || tellable(reply, reply.body);
  return `status ${reply.status}${words === '' ? '' : `: ${words}`}`;
}

function wordsOf(reply: Reply, parsed: Record<string, unknown> | undefined): string {
  const words: unknown = parsed?.msg ?? parsed?.message;
  return typeof words === 'string' ? tellable(reply, words) : '';
}

function parseObject(text: string): Record<string, unknown> | undefined {
  try {
    const parsed: unknown = JSON.parse(text);
    return isObject(parsed) ? parsed : undefined;
  } catch {
    // Not JSON is an answer of its own here, not trouble.
    return undefined;
  }
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** One line of limited length, without secrets: what a stranger said may be anything. */
function tellable({ hide }: Reply, text: string): string {
  // Before the cut: a secret that is cut in half is not found any more.
  const shown = hide(text);
  // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what is taken out.
  const line = shown.replace(/[\u0000-\u001f\u007f]+/g, ' ').trim();
  return line.length <= MESSAGE_CHARACTERS_MAX ? line : `${line.slice(0, MESSAGE_CHARACTERS_MAX)}…`;
}
