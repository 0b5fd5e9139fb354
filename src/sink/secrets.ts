/** Shorter texts occur by themselves: to hide them would garble everything that is said. */
const SECRET_CHARACTERS_MIN = 6;
const HIDDEN = '***';

/** Takes out of the words of others what must not be printed: a server, or a proxy, may repeat what it was sent. */
export class Secrets {
  readonly #texts: readonly string[];

  constructor(texts: readonly string[]) {
    // The longest first: others may be parts of it.
    this.#texts = [...new Set(texts)]
      .filter(({ length }) => length >= SECRET_CHARACTERS_MIN)
      .sort((a, b) => b.length - a.length);
  }

  hide(words: string): string {
    let shown = words;
    for (const text of this.#texts) {
      if (shown.includes(text)) shown = shown.replaceAll(text, HIDDEN);
    }
    return shown;
  }
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
  const meant = [username, password].map((part) => decodeURIComponent(part));
  return [username, password, ...meant, meant.join(':')];
}

function partsOfPair(pair: string): string[] {
  const at = pair.indexOf(':');
  const parts = at < 0 ? [pair] : [pair.slice(0, at), pair.slice(at + 1)];
  return [...parts, ...parts.map((part) => encodeURIComponent(part))];
}
