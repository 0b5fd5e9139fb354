import { writeSync } from 'node:fs';

/**
 * What the hook does with an engine that is open when the process exits: step by step, all engines side by side, so that together they
 * block no longer than the one that has the most time. `startMs`: when the time of all of them began, by `performance.now()`.
 */
export interface ExitParty {
  /** Asks for the delivery of what is queued. */
  hurryAtExit(): void;
  /** Blocks until everything is settled, or the time for that is over. */
  flushAtExit(startMs: number): void;
  /** Asks that what is left goes to the disk. */
  hurrySavingAtExit(): void;
  /** Blocks until nothing is left or the party's time is over; returns the number of records left. */
  saveAtExit(startMs: number): number;
}

const STDERR = 2;
const KEY: unique symbol = Symbol.for('millrace.exit-hook');

interface Hooked {
  [KEY]?: Set<ExitParty>;
}

/**
 * Saves what is queued when the process exits without close(). One listener for the whole process, however
 * many engines and copies of this module there are.
 *
 * @returns a function that takes the party out again
 */
export function joinExitHook(party: ExitParty): () => void {
  const holder = globalThis as Hooked;
  let parties = holder[KEY];
  if (parties === undefined) {
    parties = new Set();
    holder[KEY] = parties;
    process.on('exit', () => saveAll(holder[KEY] ?? []));
  }
  const joined = parties;
  joined.add(party);
  return () => joined.delete(party);
}

/** Has all parties save what they have, and says how much is left. */
export function saveAll(parties: Iterable<ExitParty>): void {
  const startMs = performance.now();
  let left = 0;
  for (const party of parties) party.hurryAtExit();
  for (const party of parties) party.flushAtExit(startMs);
  for (const party of parties) party.hurrySavingAtExit();
  for (const party of parties) left += party.saveAtExit(startMs);
  if (left === 0) return;
  // Streams are of no use in an 'exit' handler: only what is written at once is seen.
  writeSync(
    STDERR,
    `millrace: the process ended with ${left} records neither delivered nor saved\n`,
  );
}
