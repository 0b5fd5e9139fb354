import { MillraceError, show } from '../base/errors.ts';

/** A receiver's addresses, from the URL a user configured: plain data. */
export interface Endpoint {
  /** `http://host:port`. */
  readonly origin: string;
  /** Path and query of batches. */
  readonly syncPath: string;
  /** Path and query of debug records. */
  readonly debugPath: string;
  /** Value of the Authorization header, when the URL had user and password. */
  readonly authorization?: string;
  /** The URL as it may be printed: without user and password. */
  readonly shown: string;
}

/** Last parts of a path that name an endpoint of the protocol, and are replaced by the one that is needed. */
const KNOWN_ENDS: readonly string[] = [
  'logagent',
  'logbus',
  'sync_server',
  'sync_json',
  'sync_data',
  'sync',
  'data_debug',
];
const CREDENTIALS = /\/\/[^/?#]*@/;

/** @throws MillraceError MILLRACE_OPTIONS that names the URL, credentials left out */
export function parseEndpoint(url: string): Endpoint {
  const shown = url.replace(CREDENTIALS, '//***@');
  const parsed = parse(url, shown);
  const prefix = prefixOf(parsed.pathname);
  const path = (end: string) => `${prefix}/${end}${parsed.search}`;
  const { username, password } = parsed;
  return {
    origin: parsed.origin,
    syncPath: path('sync_server'),
    debugPath: path('data_debug'),
    shown: `${parsed.origin}${prefix}`,
    ...(username === '' && password === '' ? {} : { authorization: basic(username, password) }),
  };
}

function parse(url: string, shown: string): URL {
  if (!/^[a-z][a-z0-9+.-]*:\/\//i.test(url)) {
    throw bad(shown, `it must start with a scheme: did you mean http://${shown}?`);
  }
  let parsed: URL;
  try {
    parsed = new URL(url);
  } catch {
    // The built-in error repeats the URL, credentials and all.
    throw bad(shown, 'it is not a URL');
  }
  if (parsed.protocol !== 'http:' && parsed.protocol !== 'https:') {
    throw bad(shown, 'it must be http or https');
  }
  if (parsed.hash !== '') throw bad(shown, 'it has a fragment (#…), which no server sees');
  return parsed;
}

function prefixOf(pathname: string): string {
  const parts = pathname.split('/').filter((part) => part !== '');
  const last = parts.at(-1);
  if (last !== undefined && KNOWN_ENDS.includes(last)) parts.pop();
  return parts.map((part) => `/${part}`).join('');
}

function basic(username: string, password: string): string {
  const pair = `${decodeURIComponent(username)}:${decodeURIComponent(password)}`;
  return `Basic ${Buffer.from(pair, 'utf8').toString('base64')}`;
}

function bad(shown: string, rule: string): MillraceError {
  return new MillraceError('MILLRACE_OPTIONS', `url is ${show(shown)}; ${rule}`);
}
