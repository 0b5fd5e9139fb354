import assert from 'node:assert/strict';
import { cpSync, mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';

/** A deliberate mistake: in one compiled file, one text is replaced by another. */
export interface Mutation {
  /** Path below `src`, without the ending. */
  readonly file: string;
  readonly from: string;
  readonly to: string;
}

/** The modules a model runs: the real ones, or a copy with a mistake in it. */
export interface Subject {
  readonly doorbell: typeof import('../../src/lane/doorbell.ts');
  readonly region: typeof import('../../src/lane/region.ts');
  readonly control: typeof import('../../src/lane/control.ts');
  readonly producer: typeof import('../../src/lane/producer.ts');
  readonly consumer: typeof import('../../src/lane/consumer.ts');
  readonly settlement: typeof import('../../src/lane/settlement.ts');
  readonly ledger: typeof import('../../src/lane/ledger.ts');
  readonly seat: typeof import('../../src/engine/seat.ts');
  readonly triage: typeof import('../../src/engine/triage.ts');
  readonly gate: typeof import('../../src/worker/gate.ts');
  readonly delivery: typeof import('../../src/worker/delivery.ts');
  readonly turn: typeof import('../../src/worker/turn.ts');
  readonly backlogTurn: typeof import('../../src/worker/backlog-turn.ts');
  readonly mending: typeof import('../../src/worker/spool-mending.ts');
  readonly folder: typeof import('../../src/spool/folder.ts');
}

const SOURCE: string = fileURLToPath(new URL('../../src', import.meta.url));

/** Loads the modules under test, with the mistakes given. */
export async function loadSubject(mutations: readonly Mutation[] = []): Promise<Subject> {
  const folder = mutations.length === 0 ? SOURCE : copyWith(mutations);
  const load = (name: string) => import(pathToFileURL(join(folder, `${name}.js`)).href);
  return {
    doorbell: await load('lane/doorbell'),
    region: await load('lane/region'),
    control: await load('lane/control'),
    producer: await load('lane/producer'),
    consumer: await load('lane/consumer'),
    settlement: await load('lane/settlement'),
    ledger: await load('lane/ledger'),
    seat: await load('engine/seat'),
    triage: await load('engine/triage'),
    gate: await load('worker/gate'),
    delivery: await load('worker/delivery'),
    turn: await load('worker/turn'),
    backlogTurn: await load('worker/backlog-turn'),
    mending: await load('worker/spool-mending'),
    folder: await load('spool/folder'),
  };
}

/** A copy beside the original, so that packages are found from there. */
function copyWith(mutations: readonly Mutation[]): string {
  const folder = join(mkdtempSync(join(dirname(SOURCE), 'mutant-')), 'src');
  cpSync(SOURCE, folder, { recursive: true, filter: (path) => !/\.(map|d\.ts)$/.test(path) });
  for (const { file, from, to } of mutations) {
    const path = join(folder, `${file}.js`);
    const parts = readFileSync(path, 'utf8').split(from);
    assert.equal(parts.length, 2, `${file} has "${from}" exactly once`);
    writeFileSync(path, parts.join(to));
  }
  return folder;
}
