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
/** All up to the last @, whatever there is in it: a password may hold what ends a URL's authority. */
const CREDENTIALS = /^([a-z][a-z0-9+.-]*:)?(\/\/)?.*@/is;

/**
 * @param name of the option it comes from
 * @throws MillraceError MILLRACE_OPTIONS that names the URL, credentials left out
 */
export function parseEndpoint(url: string, name = 'url'): Endpoint {
  const shown = url.replace(CREDENTIALS, hideCredentials);
  const bad = (rule: string) =>
    new MillraceError('MILLRACE_OPTIONS', `${name} is ${show(shown)}; ${rule}`);
  const parsed = parse(url, shown, bad);
  const prefix = prefixOf(parsed.pathname);
  const path = (end: string) => `${prefix}/${end}${parsed.search}`;
  const { username, password } = parsed;
  return {
    origin: parsed.origin,
    syncPath: path('sync_server'),
    debugPath: path('data_debug'),
    shown: `${parsed.origin}${prefix}`,
    ...(username === '' && password === '' ? {} : { authorization: basic(parsed, bad) }),
  };
}

function parse(url: string, shown: string, bad: (rule: string) => MillraceError): URL {
  if (!/^[a-z][a-z0-9+.-]*:\/\//i.test(url)) {
    throw bad(`it must start with a scheme: did you mean http://${shown}?`);
  }
  let parsed: URL;
  try {
    parsed = new URL(url);
  } catch {
    // The built-in error repeats the URL, credentials and all.
    throw bad('it is not a URL');
  }
  if (parsed.protocol !== 'http:' && parsed.protocol !== 'https:') {
    throw bad('it must be http or https');
  }
  if (parsed.hash !== '') throw bad('it has a fragment (#…), which no server sees');
  return parsed;
}

function prefixOf(pathname: string): string {
  const parts = pathname.split('/').filter((part) => part !== '');
  const last = parts.at(-1);
  if (last !== undefined && KNOWN_ENDS.includes(last)) parts.pop();
  return parts.map((part) => `/${part}`).join('');
}

function basic({ username, password }: URL, bad: (rule: string) => MillraceError): string {
  try {
    const pair = `${decodeURIComponent(username)}:${decodeURIComponent(password)}`;
    return `Basic ${Buffer.from(pair, 'utf8').toString('base64')}`;
  } catch {
    // The built-in error says only "URI malformed".
    throw bad(
      'its user or password holds a % that is not followed by two hexadecimal digits; write %25',
    );
  }
}

function hideCredentials(_match: string, scheme = '', slashes = ''): string {
  return slashes === '' ? '***@' : `${scheme}${slashes}***@`;
}
