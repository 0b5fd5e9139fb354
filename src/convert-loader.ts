import type { ConvertOptions, ConvertReport } from './convert/convert.ts';

export type { ConvertOptions, ConvertReport, RowProblem } from './convert/convert.ts';

/**
 * Makes records of CSV rows or JSON lines by a mapping, to bring in history: see docs/convert.md. Loaded when it is first called, so that a game
 * server does not carry parsers it has no use for.
 *
 * @throws MillraceError MILLRACE_OPTIONS with everything that is wrong with options or mapping; MILLRACE_UNAVAILABLE that names a file that
 * can't be read or written
 */
export async function convert(options: ConvertOptions): Promise<ConvertReport> {
  const loaded = await import('./convert/convert.ts');
  return loaded.convert(options);
}
