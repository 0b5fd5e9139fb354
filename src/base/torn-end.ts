import { fstatSync, readSync } from 'node:fs';
import { NEWLINE } from './characters.ts';

/** Whether a file ends within a line: a write was cut off by a full disk, or by the end of its process. Throws what the disk throws. */
export function isTorn(fd: number): boolean {
  const facts = fstatSync(fd);
  const last = Buffer.of(NEWLINE);
  if (facts.isFile() && facts.size > 0) readSync(fd, last, 0, 1, facts.size - 1);
  return last[0] !== NEWLINE;
}
