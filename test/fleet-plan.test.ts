import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import fc from 'fast-check';
import { parseAllDocuments } from 'yaml';
import { readMeasured } from '../bench/fleet/measured.ts';
import { DRAIN_MS, FIGURES, OUTAGES, PLANS, RUN_MS } from '../bench/fleet/plans.ts';
import {
  callerTable,
  planTable,
  readTable,
  simulationTable,
  stageTable,
} from '../bench/fleet/scale-tables.ts';
import { type FleetPlan, FleetSimulation, type Outage } from '../bench/fleet/simulation.ts';
import { relayJson } from '../grafana/relay.ts';
import { RELAY_CATALOGUE } from '../src/metrics/relay-catalogue.ts';
import { parseOrigin } from '../src/relay/options.ts';
import { repositoryRoot } from './support.ts';

const root = repositoryRoot();
const [small] = PLANS;
const FEW: FleetPlan = {
  ...(small as FleetPlan),
  servers: 10,
  recordsPerSecond: 5000,
  receiverPerSecond: 20_000,
};

test('a simulated fleet accounts for every record, whatever fails, and the same seed gives the same run', () => {
  const outage: fc.Arbitrary<Outage> = fc.record({
    what: fc.constantFrom('broker' as const, 'receiver' as const, 'relay' as const),
    atMs: fc.integer({ min: 0, max: 40_000 }),
    forMs: fc.integer({ min: 1, max: 20_000 }),
  });
  fc.assert(
    fc.property(fc.array(outage, { maxLength: 6 }), fc.integer(), (outages, seed) => {
      const run = () =>
        new FleetSimulation(FEW, FIGURES, seed).run(90_000, { outages, drainMs: 60_000 });
      const result = run();
      assert.equal(result.imbalance, 0);
      assert.equal(result.lost, 0);
      assert.equal(result.delivered, result.produced);
      assert.deepEqual(run(), result);
    }),
    { numRuns: 10 },
  );
});

test('a spool that is too small for an outage loses records, and the simulation says so', () => {
  const plan = { ...FEW, spoolBytesMax: 100_000 };
  const outages = [{ what: 'broker' as const, atMs: 1000, forMs: 30_000 }];
  const result = new FleetSimulation(plan, FIGURES, 1).run(60_000, { outages, drainMs: 60_000 });
  assert.ok(result.lost > 0);
  assert.equal(result.imbalance, 0);
  assert.ok(result.spoolBytesPeak <= plan.spoolBytesMax);
});

// A document that was edited by hand, or figures that were measured anew without it, would mislead whoever buys by it.
test('docs/scale.md has the figures that were measured, the plans that follow from them, and what the simulation makes of these', () => {
  const measured = readMeasured();
  assert.equal(readTable('stages'), stageTable(measured));
  assert.equal(readTable('callers'), callerTable(measured));
  assert.equal(readTable('plans'), planTable(PLANS, FIGURES));
  const simulation = new FleetSimulation(small as FleetPlan, FIGURES, 1);
  const result = simulation.run(RUN_MS, { outages: OUTAGES, drainMs: DRAIN_MS });
  const firstColumn = (table: string) =>
    table.split('\n').map((line) => line.split('|').slice(1, 3).join('|'));
  assert.deepEqual(
    firstColumn(readTable('simulation')),
    firstColumn(simulationTable([{ plan: small as FleetPlan, result }])),
  );
});

interface Manifest {
  readonly kind?: string;
  readonly metadata?: { readonly name?: string };
  readonly spec?: { readonly template?: { readonly spec?: { readonly containers?: Container[] } } };
}

interface Container {
  readonly args?: string[];
}

/** Flags of `millrace relay`, from its source. */
function relayFlags(): Set<string> {
  const source = readFileSync(join(root, 'src/cli/relay.ts'), 'utf8');
  return new Set([...source.matchAll(/'(--[\w-]+)/g)].map(([, flag = '']) => flag));
}

function checkRelayArgs(args: readonly string[]): void {
  const known = relayFlags();
  const from = args.find((arg) => arg.startsWith('--from=')) ?? '';
  assert.ok(parseOrigin(from.slice('--from='.length)).name !== '');
  for (const arg of args) {
    const [flag = ''] = arg.split('=');
    assert.ok(flag === 'relay' || known.has(flag), `${arg} is a flag of the relay`);
  }
}

/** The parser of kubectl takes no bare question mark between braces, where this one does. */
function parseManifests(name: string): Manifest[] {
  const text = readFileSync(join(root, 'deploy/kubernetes', name), 'utf8');
  assert.doesNotMatch(text, /\{[^}"\n]*\?[^}\n]*\}/, name);
  return parseAllDocuments(text).map((document) => {
    assert.deepEqual(document.errors, [], name);
    return document.toJS() as Manifest;
  });
}

test('the manifests for Kubernetes are well-formed, and their relays have flags that exist', () => {
  const manifests = readdirSync(join(root, 'deploy/kubernetes')).flatMap(parseManifests);
  const kinds = manifests.map(({ kind, metadata }) => `${kind}/${metadata?.name}`).sort();
  assert.deepEqual(kinds, [
    'ConfigMap/nats',
    'Deployment/millrace-relay',
    'Deployment/millrace-relay-kafka',
    'ScaledObject/millrace-relay',
    'ScaledObject/millrace-relay-kafka',
    'Service/game',
    'Service/nats',
    'StatefulSet/game',
    'StatefulSet/nats',
  ]);
  for (const { spec } of manifests.filter(({ kind }) => kind === 'Deployment')) {
    checkRelayArgs(spec?.template?.spec?.containers?.[0]?.args ?? []);
  }
});

for (const [file, broker] of [
  ['compose.yml', 'nats'],
  ['compose-kafka.yml', 'kafka'],
] as const) {
  test(`${file} is well-formed, and its relay has flags that exist`, () => {
    const [document] = parseAllDocuments(readFileSync(join(root, 'deploy', file), 'utf8'));
    assert.deepEqual(document?.errors, []);
    const compose = document?.toJS() as
      | { services: Record<string, { command: string[] }> }
      | undefined;
    assert.deepEqual(Object.keys(compose?.services ?? {}), [broker, 'receiver', 'relay']);
    checkRelayArgs(compose?.services.relay?.command ?? []);
  });
}

test('the dashboard of relays is the one its source makes, of metrics that exist', () => {
  const committed = readFileSync(join(root, 'grafana/millrace-relay.json'), 'utf8');
  assert.equal(committed, relayJson());
  const names = new Set(RELAY_CATALOGUE.map(({ name }) => name));
  const used = [...committed.matchAll(/millrace_relay_\w+/g)].map(([name]) => name);
  assert.ok(used.length > 8);
  for (const name of used) assert.ok(names.has(name), name);
});
