/** Shorter texts occur within other words: they are hidden only where they stand alone. */
const ANYWHERE_CHARACTERS_MIN = 6;
const HIDDEN = '***';

/** Takes out of the words of others what must not be printed: a server, or a proxy, may repeat what it was sent. */
export class Secrets {
  readonly #patterns: readonly RegExp[];

  constructor(texts: readonly string[]) {
    // The longest first: others may be parts of it.
    this.#patterns = [...new Set(texts)]
      .filter((text) => /[\p{L}\p{N}]/u.test(text))
      .sort((a, b) => b.length - a.length)
      .map(patternOf);
  }

  hide(words: string): string {
    return this.#patterns.reduce((shown, pattern) => shown.replace(pattern, HIDDEN), words);
  }
}

function patternOf(text: string): RegExp {
  const plain = text.replace(/[\\^$.*+?()[\]{}|/]/g, '\\$&');
  const isAnywhere = text.length >= ANYWHERE_CHARACTERS_MIN;
  const source = isAnywhere ? plain : `(?<![\\p{L}\\p{N}_])${plain}(?![\\p{L}\\p{N}_])`;
  return new RegExp(source, 'gu');
}

/** What a value of an Authorization header gives away: itself, and what a `Basic` one is made of. */
export function partsOfAuthorization(value: string): string[] {
  const [scheme = '', token = ''] = value.split(' ');
  if (scheme.toLowerCase() !== 'basic') return [value, token];
  const pair = Buffer.from(token, 'base64').toString('utf8');
  return [value, token, pair, ...partsOfPair(pair)];
}

/** What the credentials of a URL give away, as they are written in it and as they are meant. */
export function partsOfUrl(url: string): string[] {
  if (!URL.canParse(url)) return [];
  const { username, password } = new URL(url);
  const meant = [username, password].map(decoded);
  return [username, password, ...meant, meant.join(':')];
}

/** As it is, where it can't be decoded. */
function decoded(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    // A lone %: what is written is what is meant.
    return part;
  }
}

function partsOfPair(pair: string): string[] {
  const at = pair.indexOf(':');
  const parts = at < 0 ? [pair] : [pair.slice(0, at), pair.slice(at + 1)];
  return [...parts, ...parts.map((part) => encodeURIComponent(part))];
}
