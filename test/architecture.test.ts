import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';
import { test } from 'node:test';
import { repositoryRoot } from './support.ts';

const root = repositoryRoot();

/** Floor of each part: imports go to the same folder or to a lower floor. */
const FLOORS: Readonly<Record<string, number>> = {
  'src/base': 0,
  'src/record': 1,
  'src/lane': 1,
  'src/live': 1,
  'src/codec': 2,
  'src/lines': 2,
  'src/sink': 3,
  'src/spool': 3,
  'src/worker': 4,
  'src/broker': 4,
  workers: 5,
  'src/engine': 5,
  'src/metrics': 5,
  'src/consumers': 6,
  'src/receiver': 6,
  'src/ship': 6,
  'src/relay': 6,
  'src/conform': 7,
  'src/convert-loader.ts': 7,
  'src/convert': 6,
  'src/plan.ts': 6,
  'src/tracker.ts': 7,
  'src/analytics.ts': 8,
  'src/tune': 9,
  'src/index.ts': 9,
  'src/thinkingdata': 9,
  'src/thinkingdata.ts': 10,
  'src/own-sink.ts': 9,
  'src/nats.ts': 9,
  'src/kafka.ts': 9,
  'src/cli': 10,
};

/** The only place that may import each package. */
const IMPORTERS: Readonly<Record<string, readonly string[]>> = {
  piscina: ['src/engine/supervisor.ts', 'src/ship/survey-pool.ts'],
  undici: ['src/sink/http.ts'],
  msgpackr: ['src/codec/msgpack.ts'],
  'prom-client': ['src/metrics/collector.ts'],
  'find-my-way': ['src/receiver/receiver.ts'],
  uplot: ['src/live/page.ts'],
  'cli-table3': ['src/cli/live-view.ts', 'src/cli/top.ts', 'src/cli/tune.ts'],
  'csv-parse': ['src/convert/rows.ts'],
  luxon: ['src/convert/moments.ts'],
  yaml: ['src/convert/mapping.ts'],
  'log-update': ['src/cli/live-view.ts', 'src/cli/progress.ts', 'src/cli/top.ts'],
};

interface Import {
  readonly specifier: string;
  readonly isTypeOnly: boolean;
}

function filesUnder(folder: string): string[] {
  return readdirSync(join(root, folder), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && entry.name.endsWith('.ts'))
    .map((entry) => relative(root, join(entry.parentPath, entry.name)));
}

function importsOf(file: string): Import[] {
  const text = readFileSync(join(root, file), 'utf8');
  const pattern = /^(?:import|export)\s+(type\s+)?(?:[^'";]*?\sfrom\s+)?'([^']+)'/gm;
  const imports = [...text.matchAll(pattern)].map(([, type, specifier = '']) => ({
    specifier,
    isTypeOnly: type !== undefined,
  }));
  // Files of a package that are served, not run.
  const served = [...text.matchAll(/\brequire\.resolve\('([^'/]+)/g)].map(([, name = '']) => name);
  return [...imports, ...served.map((specifier) => ({ specifier, isTypeOnly: false }))];
}

function targetOf(file: string, specifier: string): string {
  return relative(root, resolve(root, dirname(file), specifier));
}

function partOf(file: string): string {
  const part = Object.keys(FLOORS).find((name) => file === name || file.startsWith(`${name}/`));
  assert.ok(part, `${file} belongs to a floor`);
  return part;
}

const manifest = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
const peers: readonly string[] = Object.keys(manifest.peerDependencies ?? {});

function isPeer(specifier: string): boolean {
  return peers.includes(specifier);
}

const sources = [...filesUnder('src'), ...filesUnder('workers')];

test('imports never climb', () => {
  for (const file of sources) {
    const part = partOf(file);
    for (const { specifier } of importsOf(file)) {
      if (!specifier.startsWith('.')) continue;
      const target = partOf(targetOf(file, specifier));
      if (target === part) continue;
      const isLower = (FLOORS[target] ?? 0) < (FLOORS[part] ?? 0);
      assert.ok(isLower, `${file} imports ${specifier}`);
    }
  }
});

test('each required package has one importer', () => {
  for (const [name, allowed] of Object.entries(IMPORTERS)) {
    const importers = sources.filter((file) =>
      importsOf(file).some(({ specifier }) => specifier === name),
    );
    assert.deepEqual(importers, allowed, name);
  }
});

test('only packages that package.json names are imported, and all it names are', () => {
  const named = new Set(Object.keys(manifest.dependencies));
  const used = new Set(
    sources
      .flatMap(importsOf)
      .filter(({ specifier, isTypeOnly }) => !isTypeOnly || !isPeer(specifier))
      .map(({ specifier }) => specifier)
      .filter((specifier) => !specifier.startsWith('.') && !specifier.startsWith('node:')),
  );
  assert.deepEqual([...used].sort(), [...named].sort());
});

test('a package that a user may leave out is loaded on demand, in one place, and never by a public module', () => {
  for (const name of peers) {
    const importers = sources.filter((file) =>
      readFileSync(join(root, file), 'utf8').includes(`import('${name}')`),
    );
    assert.ok(new Set(importers).size <= 1, `${name} is loaded by ${importers}`);
    for (const file of importers) assert.match(file, /^src\/broker\//);
  }
});

/** Everything a file brings into memory, packages included; types are gone by then. */
function loadedBy(entry: string): Set<string> {
  const loaded = new Set<string>();
  const open = [entry];
  for (let file = open.pop(); file !== undefined; file = open.pop()) {
    for (const { specifier, isTypeOnly } of importsOf(file)) {
      const isOurs = specifier.startsWith('.');
      const target = isOurs ? targetOf(file, specifier) : specifier;
      if (isTypeOnly || loaded.has(target)) continue;
      loaded.add(target);
      if (isOurs) open.push(target);
    }
  }
  return loaded;
}

test('nothing a worker entry loads is piscina, prom-client or the engine', () => {
  for (const entry of filesUnder('workers')) {
    const lines = readFileSync(join(root, entry), 'utf8').trimEnd().split('\n');
    assert.ok(lines.length <= 15, `${entry} is thin: ${lines.length} lines`);
    const loaded = [...loadedBy(entry)];
    const depth = entry === 'workers/check.ts' ? 'src/record/check.ts' : 'src/worker/turn.ts';
    assert.ok(loaded.includes(depth), 'the walk goes all the way');
    for (const name of loaded) {
      assert.doesNotMatch(name, /^(piscina|prom-client|src\/(engine|metrics)\/)/, entry);
    }
  }
});

test('a client loads nothing on its own thread that only workers need', () => {
  for (const entry of ['src/index.ts', 'src/thinkingdata.ts']) {
    const loaded = [...loadedBy(entry)];
    assert.ok(loaded.includes('src/engine/recorder.ts'), 'the walk goes all the way');
    for (const name of loaded) {
      assert.doesNotMatch(name, /^(undici|src\/sink\/http\.ts|src\/worker\/turn\.ts)$/, entry);
    }
  }
});

test('only the command line writes to the console, ends the process, or reads its arguments', () => {
  for (const file of sources.filter((name) => !name.startsWith('src/cli'))) {
    const text = readFileSync(join(root, file), 'utf8');
    // enableLog() promises to print on the console.
    if (!file.endsWith('/thinkingdata/log.ts')) assert.doesNotMatch(text, /\bconsole\./, file);
    // closeOnSignals() promises to end the process.
    if (file.endsWith('/close-signals.ts')) continue;
    assert.doesNotMatch(text, /\bprocess\.(exit|argv)\b(?!Code)/, file);
  }
});
