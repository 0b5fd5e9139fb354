import { createReadStream } from 'node:fs';
import { createInterface } from 'node:readline';
import type { Readable } from 'node:stream';
import { createGunzip } from 'node:zlib';
import { type InfoRecord, parse } from 'csv-parse';
import type { Mapping } from './mapping.ts';
import type { Row } from './record-maker.ts';

/** A row of a file, or what is wrong with it. */
export type FoundRow =
  | { readonly line: number; readonly row: Row }
  | { readonly line: number; readonly problem: string };

/** The rows of a file, plain or `.gz`. Rejects with what reading throws. */
export function rowsOf(path: string, mapping: Mapping): AsyncGenerator<FoundRow> {
  const input = openInput(path);
  const format = mapping.format ?? formatOf(path);
  return format === 'csv' ? csvRows(input, mapping) : jsonRows(input);
}

function openInput(path: string): Readable {
  const file: Readable = path === '-' ? process.stdin : createReadStream(path);
  if (!path.endsWith('.gz')) return file;
  const plain = createGunzip();
  file.on('error', (error) => plain.destroy(error));
  return file.pipe(plain);
}

function formatOf(path: string): 'csv' | 'jsonl' {
  return /\.(jsonl|ndjson|json)(\.gz)?$/.test(path) ? 'jsonl' : 'csv';
}

async function* csvRows(
  input: Readable,
  { delimiter, columns }: Mapping,
): AsyncGenerator<FoundRow> {
  const skipped: FoundRow[] = [];
  const parser = parse({
    bom: true,
    delimiter,
    columns: columns === undefined ? true : [...columns],
    skip_empty_lines: true,
    skip_records_with_error: true,
    info: true,
    on_skip: (error: Error | undefined) => {
      const line = Number(error === undefined ? 0 : Reflect.get(error, 'lines'));
      skipped.push({ line, problem: error?.message ?? 'is no row' });
      return undefined;
    },
  });
  input.on('error', (error) => parser.destroy(error));
  for await (const found of input.pipe(parser)) {
    const { info, record } = found as { info: InfoRecord & { lines: number }; record: Row };
    // The parser is ahead of us: what it skipped may stand further down.
    while (skipped[0] !== undefined && skipped[0].line < info.lines) yield* skipped.splice(0, 1);
    yield { line: info.lines, row: record };
  }
  yield* skipped;
}

async function* jsonRows(input: Readable): AsyncGenerator<FoundRow> {
  const lines = createInterface({ input, crlfDelay: Number.POSITIVE_INFINITY });
  const failed = new Promise<never>((_, reject) => input.once('error', reject));
  failed.catch(() => undefined);
  const iterator = lines[Symbol.asyncIterator]();
  for (let line = 1; ; line += 1) {
    const { value, done } = await Promise.race([iterator.next(), failed]);
    if (done === true) return;
    const row = parseRow(String(value));
    if (row === undefined) yield { line, problem: 'is not a JSON object' };
    else if (row !== 'blank') yield { line, row };
  }
}

function parseRow(text: string): Row | 'blank' | undefined {
  if (text.trim() === '') return 'blank';
  try {
    const value: unknown = JSON.parse(text);
    const isRow = typeof value === 'object' && value !== null && !Array.isArray(value);
    return isRow ? (value as Row) : undefined;
  } catch {
    // Told as a bad row.
    return undefined;
  }
}
