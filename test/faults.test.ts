import assert from 'node:assert/strict';
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, readFileSync } from 'node:fs';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { type Drill, optionsOf } from './faults/drill.ts';
import { DRILLS, runDrill } from './faults/run.ts';
import { open, Receiver, Sender } from './faults/stage.ts';
import { until } from './support.ts';

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

test('a drill that fails leaves no process, no thread and no client behind', async () => {
  const left: Sender[] = [];
  let receiver: Receiver | undefined;
  const drill: Drill = {
    row: 'F1',
    id: 'F1z',
    fault: 'a drill that fails in the middle',
    promise: 'nothing',
    run: async () => {
      receiver = await Receiver.start();
      const job = { from: 0, perTick: 10, tickMs: 10, end: 'stay' } as const;
      const sender = new Sender({ options: optionsOf(receiver), ...job });
      left.push(sender);
      open(receiver).track({ accountId: 'u', event: 'e' });
      await sender.untilAccepted(1);
      throw new Error('as planned');
    },
  };
  const { finding, error } = await runDrill(drill, { seed: 1, length: 'quick' });
  assert.equal(finding, undefined);
  assert.match(String(error), /as planned/);
  assert.equal(left[0]?.child.signalCode, 'SIGKILL');
  await assert.rejects(receiver?.process.snapshot() ?? Promise.resolve());
  await until(() => !process.getActiveResourcesInfo().includes('Worker'), 'threads have ended');
});

test('what a drill has started ends when the drill is killed', async () => {
  const path = fileURLToPath(new URL('./faults/abandoned.js', import.meta.url));
  const drill = fork(path, { execArgv: [] });
  await once(drill, 'message');
  const children = childrenOf(drill.pid);
  assert.equal(children.length, 2);
  drill.kill('SIGKILL');
  await until(() => children.every((pid) => !isAlive(pid)), 'both have ended');
});

/** As /proc has it (Linux). */
function childrenOf(parent: number | undefined): number[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name) && statusOf(name).parent === parent)
    .map(Number);
}

function isAlive(pid: number): boolean {
  return !['', 'Z'].includes(statusOf(String(pid)).state);
}

function statusOf(pid: string): { parent: number; state: string } {
  let text = '';
  try {
    text = readFileSync(`/proc/${pid}/status`, 'utf8');
  } catch {
    // It has ended.
  }
  const [, state = ''] = /^State:\s+(\w)/m.exec(text) ?? [];
  const [, parent = ''] = /^PPid:\s+(\d+)/m.exec(text) ?? [];
  return { parent: Number(parent), state };
}
