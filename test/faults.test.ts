import assert from 'node:assert/strict';
import { test } from 'node:test';
import { DRILLS, runDrill } from './faults/run.ts';

/** Drills of a few seconds whose criteria are counts, which hold on a machine of any speed. */
const SHORT: ReadonlySet<string> = new Set([
  'F2a',
  'F3a',
  'F8c',
  'F15b',
  'F20',
  'F24c',
  'F24d',
  'F31e',
  'F34b',
]);

// Goal: the fault table holds. Method: real sending processes against a real receiver process, every record compared by its uuid with
// the sender's account. All drills, and longer: npm run test:faults.
for (const drill of DRILLS) {
  if (!SHORT.has(drill.id)) continue;
  test(`${drill.id}, ${drill.fault}: ${drill.promise}`, async (context) => {
    const seed = Date.now() % 1_000_000;
    context.diagnostic(`seed ${seed}`);
    const { finding, error } = await runDrill(drill, { seed, length: 'quick' });
    if (finding === undefined) throw error;
    context.diagnostic(finding.measured ?? '');
    assert.ok(finding.enqueued > 0);
  });
}
