import { renameSync, writeFileSync } from 'node:fs';

/** Sets the wall time of test/clock-worker.ts, in ms: at once, for whoever reads it meanwhile. */
export function setClock(path: string, ms: number): void {
  writeFileSync(`${path}.new`, String(ms));
  renameSync(`${path}.new`, path);
}
