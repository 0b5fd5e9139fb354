import { isUtf8 } from 'node:buffer';
import { closeSync, fdatasyncSync, openSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { makeDirectory } from '../base/directory.ts';
import { isTorn } from '../base/torn-end.ts';

/** A line put aside. */
export interface QuarantinedLine {
  readonly file: string;
  /** From 1 on. */
  readonly line: number;
  /** Byte of the file where it begins. */
  readonly byte: number;
  /** Byte of the line where the trouble is, from 1 on. */
  readonly column: number;
  readonly reason: string;
  readonly text: Uint8Array;
}

/** A file of lines that could not be shipped, a JSON object each: nothing is lost, and what was mended can be shipped again. */
export class Quarantine {
  readonly #path: string;

  constructor(path: string) {
    this.#path = path;
  }

  /** Appends lines; they are on the disk when it returns. Throws what the disk throws. */
  append(lines: readonly QuarantinedLine[]): void {
    if (lines.length === 0) return;
    const time = new Date().toISOString();
    const entries = lines.map(({ text, ...facts }) => {
      const bytes = Buffer.from(text);
      const content = isUtf8(bytes)
        ? { text: bytes.toString('utf8') }
        : { base64: bytes.toString('base64') };
      return `${JSON.stringify({ time, ...facts, ...content })}\n`;
    });
    makeDirectory(dirname(this.#path));
    const fd = openSync(this.#path, 'a+', 0o600);
    try {
      // What a full disk has torn spoils no entry behind it.
      writeFileSync(fd, (isTorn(fd) ? '\n' : '') + entries.join(''));
      fdatasyncSync(fd);
    } finally {
      closeSync(fd);
    }
  }
}
