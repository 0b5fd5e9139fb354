import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { basename, resolve } from 'node:path';
import type { Writable } from 'node:stream';
import { MillraceError, textOfError } from '../base/errors.ts';
import { OptionReader } from '../engine/option-reader.ts';
import { addReason } from '../lines/survey.ts';
import { FileSink, prepareDirectory } from '../sink/file.ts';
import { checkNamePart } from '../sink/rotation.ts';
import type { Batch } from '../sink/sink.ts';
import { type Mapping, parseMapping, readMapping } from './mapping.ts';
import { RecordMaker, RowError } from './record-maker.ts';
import { rowsOf } from './rows.ts';

/** A row that became no record. */
export interface RowProblem {
  readonly file: string;
  /** Line where the row ends, from 1 on. */
  readonly line: number;
  readonly reason: string;
}

export interface ConvertOptions {
  /** CSV files or files of JSON lines, plain or `.gz`; `-` is standard input. */
  readonly files: readonly string[];
  /** Path of a YAML or JSON file, or its content as an object. */
  readonly mapping: string | object;
  /** A folder, which gets log files, or a stream, which gets lines. */
  readonly output: string | Writable;
  /** For a folder: put before the names of the files. */
  readonly prefix?: string;
  /** For a folder: size after which a new file is begun, in MB of 1024 × 1024 bytes; default 1024. */
  readonly maxSizeMb?: number;
  /** Called for each row that becomes no record. */
  readonly onProblem?: (problem: RowProblem) => void;
}

/** Counts of rows. */
export interface ConvertReport {
  readonly rows: number;
  /** Records written. */
  readonly records: number;
  readonly bad: number;
  readonly byReason: Readonly<Record<string, number>>;
}

const BATCH_BYTES: number = 512 * 1024;
const MIB: number = 1024 * 1024;

/**
 * Makes records of rows, to bring in history: into log files for LogBus or `millrace ship`, or as lines. The uuids follow from the content,
 * so that a second run adds nothing at the receiver.
 *
 * @throws MillraceError MILLRACE_OPTIONS with everything that is wrong with options or mapping; MILLRACE_UNAVAILABLE that names a file that
 * can't be read or written
 */
export async function convert(options: ConvertOptions): Promise<ConvertReport> {
  const { mapping, output } = checkOptions(options);
  const maker = new RecordMaker(mapping);
  const byReason: Record<string, number> = {};
  let rows = 0;
  let bad = 0;
  for (const file of options.files) {
    let number = 0;
    const refuse = (line: number, reason: string) => {
      bad += 1;
      addReason(byReason, reason, 1);
      options.onProblem?.({ file, line, reason });
    };
    try {
      for await (const found of rowsOf(file, mapping)) {
        number += 1;
        if ('problem' in found) refuse(found.line, found.problem);
        else {
          const made = makeRecord(maker, found.row, { file: basename(file), number });
          if (made instanceof RowError) refuse(found.line, made.message);
          else await output.add(made);
        }
      }
    } catch (error) {
      throw unavailable(file, error);
    }
    rows += number;
  }
  await output.end();
  return { rows, records: rows - bad, bad, byReason };
}

function makeRecord(
  maker: RecordMaker,
  row: Readonly<Record<string, unknown>>,
  place: { file: string; number: number },
): string | RowError {
  try {
    return maker.make(row, place);
  } catch (error) {
    if (error instanceof RowError) return error;
    throw error;
  }
}

function checkOptions(options: ConvertOptions): { mapping: Mapping; output: Output } {
  const reader = new OptionReader('convert', options);
  reader.callback('onProblem');
  reader.raw('files');
  reader.raw('output');
  const raw = reader.raw('mapping');
  const prefix = reader.text('prefix');
  if (prefix !== undefined) reader.check(() => checkNamePart('prefix', prefix));
  const maxSizeMb = reader.number('maxSizeMb', { min: 0.001, max: 1e6, fallback: 1024 });
  if (!Array.isArray(options.files) || options.files.length === 0) {
    reader.fail('files must be a list of at least one path');
  }
  if (options.output === undefined) reader.fail('output is missing');
  const mapping = reader.check(() => loadMapping(raw));
  const { output } = options;
  if (typeof output === 'string') {
    reader.check(() => prepareDirectory({ directory: resolve(output) }));
  }
  reader.finish();
  return {
    mapping: mapping ?? loadMapping(raw),
    output:
      typeof output === 'string'
        ? new FileOutput(resolve(output), { prefix, maxBytes: Math.floor(maxSizeMb * MIB) })
        : new StreamOutput(output),
  };
}

function loadMapping(mapping: unknown): Mapping {
  if (typeof mapping !== 'string') return readMapping(mapping);
  let text: string;
  try {
    text = readFileSync(mapping, 'utf8');
  } catch (error) {
    throw new MillraceError(
      'MILLRACE_OPTIONS',
      `mapping ${mapping} can't be read: ${textOfError(error)}`,
      error,
    );
  }
  return parseMapping(text);
}

interface Output {
  add(line: string): Promise<void>;
  end(): Promise<void>;
}

/** Collects lines until they are worth a write. */
abstract class BufferedOutput implements Output {
  #lines: string[] = [];
  #characters = 0;

  async add(line: string): Promise<void> {
    this.#lines.push(line);
    this.#characters += line.length;
    if (this.#characters >= BATCH_BYTES) await this.#write();
  }

  async end(): Promise<void> {
    if (this.#lines.length > 0) await this.#write();
    await this.finish();
  }

  protected abstract write(lines: readonly string[]): Promise<void>;
  protected abstract finish(): Promise<void>;

  async #write(): Promise<void> {
    const lines = this.#lines;
    this.#lines = [];
    this.#characters = 0;
    await this.write(lines);
  }
}

class StreamOutput extends BufferedOutput {
  readonly #stream: Writable;

  constructor(stream: Writable) {
    super();
    this.#stream = stream;
  }

  protected async write(lines: readonly string[]): Promise<void> {
    if (!this.#stream.write(`${lines.join('\n')}\n`)) await once(this.#stream, 'drain');
  }

  protected async finish(): Promise<void> {
    // The stream is the caller's.
  }
}

class FileOutput extends BufferedOutput {
  readonly #sink: FileSink;
  readonly #directory: string;

  constructor(
    directory: string,
    { prefix, maxBytes }: { prefix: string | undefined; maxBytes: number },
  ) {
    super();
    this.#directory = directory;
    this.#sink = FileSink.open({
      kind: 'file',
      directory,
      rotate: 'day',
      fsync: 'flush',
      mode: 0o644,
      maxBytes,
      ...(prefix === undefined ? {} : { prefix }),
    });
  }

  protected async write(lines: readonly string[]): Promise<void> {
    const outcome = await this.#sink.deliver(batchOf(lines), new AbortController().signal);
    if (outcome.kind === 'delivered') return;
    const failure = outcome.kind === 'partial' ? outcome.rest : outcome;
    throw unavailable(this.#directory, 'message' in failure ? failure.message : failure.kind);
  }

  protected async finish(): Promise<void> {
    await this.#sink.flush();
    await this.#sink.close();
  }
}

function batchOf(lines: readonly string[]): Batch {
  const text = Buffer.from(` ${lines.join('\n')}\n`);
  const starts = new Uint32Array(lines.length);
  const ends = new Uint32Array(lines.length);
  let at = 1;
  for (const [index, line] of lines.entries()) {
    starts[index] = at;
    at += Buffer.byteLength(line);
    ends[index] = at;
    at += 1;
  }
  return { count: lines.length, text, starts, ends };
}

function unavailable(place: string, error: unknown): MillraceError {
  if (error instanceof MillraceError) return error;
  const words = textOfError(error);
  return new MillraceError('MILLRACE_UNAVAILABLE', `${place}: ${words}`, error);
}
