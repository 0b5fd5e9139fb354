import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { explore, type Litmus, LitmusFailure } from './model/interleave.ts';
import { LANE_LITMUSES, LANE_MISTAKES } from './model/lane-cases.ts';
import { loadSubject } from './model/subject.ts';

// Goal: no order of steps loses a wake-up, a record or a count. Method: real code, run in every order its accesses to shared words
// can have (model/interleave.ts).
for (const { rule, isQuick, make } of LANE_LITMUSES) {
  if (!isQuick) continue;
  test(`in every order of steps: ${rule}`, async (context) => {
    const { states, ends } = await explore(make(await loadSubject()));
    context.diagnostic(`${states} states, ${ends} ends`);
    assert.ok(ends > 0);
  });
}

// Goal: the checker sees what it is there for. Method: one deliberate mistake at a time, in a copy of the code.
for (const { mistake, mutation, find, words } of LANE_MISTAKES) {
  test(`the checker finds it when ${mistake}`, async () => {
    const broken = await loadSubject([mutation]);
    await assert.rejects(exploreAll(find.map((make) => make(broken))), (error: unknown) => {
      assert.ok(error instanceof LitmusFailure, String(error));
      assert.match(error.message, words);
      return true;
    });
  });
}

async function exploreAll(litmuses: readonly Litmus[]): Promise<void> {
  for (const litmus of litmuses) await explore(litmus);
}

// Goal: no loss, order by lane, accounts that add up after every step, and an end of everything, whatever dies, fails or is slow in
// between. Method: the real turns, settlements and spool in a world of one thread (model/world.ts), where time, disk, receiver
// and the order of all that is due follow from a seed. More of it: npm run test:model.
test('lanes, turns and spool keep their promises in seeded interleavings', async (context) => {
  const program = fileURLToPath(new URL('./model/main.js', import.meta.url));
  const { stdout } = await promisify(execFile)(process.execPath, [program, '--seeds', '60']);
  context.diagnostic(stdout.trimEnd());
});
