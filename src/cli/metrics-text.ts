/** One line of a metrics endpoint. */
export interface MetricSample {
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
}

const LINE = /^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)/;
const LABEL = /(\w+)="((?:[^"\\]|\\.)*)"/g;
const ESCAPES: Readonly<Record<string, string>> = { '\\n': '\n', '\\"': '"', '\\\\': '\\' };

/** Samples of Prometheus's text format; what is none is left out. */
export function parseMetrics(text: string): MetricSample[] {
  const samples: MetricSample[] = [];
  for (const line of text.split('\n')) {
    const match = line.startsWith('#') ? null : LINE.exec(line);
    if (match === null) continue;
    const [, name = '', inner = '', raw = ''] = match;
    const value = raw === '+Inf' ? Number.POSITIVE_INFINITY : Number(raw);
    if (Number.isNaN(value) && raw !== 'NaN') continue;
    const pairs = [...inner.matchAll(LABEL)].map(([, key = '', text = '']) => {
      return [key, text.replace(/\\[n"\\]/g, (pair) => ESCAPES[pair] ?? pair)] as const;
    });
    samples.push({ name, labels: Object.fromEntries(pairs), value });
  }
  return samples;
}

/** The value below which `share` of what a histogram counted between two looks lies; undefined: it counted nothing. */
export function quantileOf(
  share: number,
  before: ReadonlyMap<number, number>,
  now: ReadonlyMap<number, number>,
): number | undefined {
  const bounds = [...now.keys()].sort((a, b) => a - b);
  const upTo = (bound: number) => (now.get(bound) ?? 0) - (before.get(bound) ?? 0);
  const all = upTo(Number.POSITIVE_INFINITY);
  if (all <= 0) return undefined;
  let low = 0;
  for (const bound of bounds) {
    if (upTo(bound) < share * all) {
      low = bound;
      continue;
    }
    if (bound === Number.POSITIVE_INFINITY) return low;
    const below = low === 0 ? 0 : upTo(low);
    return low + (bound - low) * ((share * all - below) / Math.max(1, upTo(bound) - below));
  }
  return low;
}
