import { mkdirSync, statSync } from 'node:fs';
import { dirname } from 'node:path';
import { systemCodeOf } from './errors.ts';

/**
 * Makes a folder, and those above it; one that is there is left as it is. Node's own recursive `mkdir` never returns where
 * the file system knows no new names in a folder that exists, as `/proc`.
 *
 * @param mode permission of what is made, less the umask
 * @throws what the file system throws
 */
export function makeDirectory(path: string, mode: number = 0o777): void {
  try {
    mkdirSync(path, { mode });
    return;
  } catch (error) {
    if (isDirectory(path)) return;
    const isParentMissing = systemCodeOf(error) === 'ENOENT';
    if (!isParentMissing || isDirectory(dirname(path))) throw error;
  }
  makeDirectory(dirname(path), mode);
  makeDirectory(path, mode);
}

function isDirectory(path: string): boolean {
  try {
    return statSync(path).isDirectory();
  } catch {
    // What making it said is the better error.
    return false;
  }
}
