import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import {
  ALERTS,
  exprOf,
  RECORDED,
  rulesYaml,
  ruleTestsYaml,
  runbookMarkdown,
} from '../grafana/alerts.ts';
import { drilldownJson } from '../grafana/drilldown.ts';
import { metricsMarkdown } from '../grafana/metrics-table.ts';
import { overviewJson } from '../grafana/overview.ts';
import { Analytics, LoggingConsumer } from '../src/index.ts';
import { CATALOGUE } from '../src/metrics/catalogue.ts';
import { newDirectory, repositoryRoot } from './support.ts';

const DASHBOARDS = { overview: overviewJson, drilldown: drilldownJson };

/** Expressions of panels, variables and annotations. */
function expressionsOf(json: string): string[] {
  return [...json.matchAll(/"expr": "((?:[^"\\]|\\.)*)"/g)].map(
    ([, expression = '']) => JSON.parse(`"${expression}"`) as string,
  );
}

test('the committed dashboards are those their source makes', () => {
  for (const [name, make] of Object.entries(DASHBOARDS)) {
    const path = join(repositoryRoot(), `grafana/millrace-${name}.json`);
    assert.equal(readFileSync(path, 'utf8'), make(), 'run: npm run grafana');
  }
});

test('every metric in the dashboards exists, with the labels it is grouped by', () => {
  const known = new Map(
    CATALOGUE.flatMap(({ name, type, labels }) => {
      const all = ['job', 'instance', 'client', 'consumer', ...labels];
      return type === 'histogram'
        ? [
            [`${name}_bucket`, [...all, 'le']],
            [`${name}_sum`, all],
            [`${name}_count`, all],
          ]
        : [[name, all]];
    }) as [string, string[]][],
  );
  const expressions = Object.values(DASHBOARDS).flatMap((make) => expressionsOf(make()));
  assert.ok(expressions.length > 80, `${expressions.length}`);
  for (const expression of expressions) {
    const names = expression.match(/millrace_\w+/g) ?? [];
    if (expression.includes('nodejs_eventloop_lag')) continue;
    assert.ok(names.length > 0, expression);
    for (const name of names) assert.ok(known.has(name), `${name} in ${expression}`);
    const labels = known.get(names[0] ?? '') ?? [];
    for (const [, list = ''] of expression.matchAll(/by \(([\w, ]+)\)/g)) {
      for (const label of list.split(', ')) assert.ok(labels.includes(label), expression);
    }
    for (const [, label = ''] of expression.matchAll(/[{,](\w+)[=!]~?"/g)) {
      assert.ok(labels.includes(label), `${label} in ${expression}`);
    }
  }
});

test('both dashboards have the variables, and mark restarts and rotations', () => {
  for (const make of Object.values(DASHBOARDS)) {
    const { templating, annotations } = JSON.parse(make()) as {
      templating: { list: { name: string }[] };
      annotations: { list: { name: string }[] };
    };
    const names = templating.list.map(({ name }) => name);
    for (const name of ['datasource', 'instance', 'client', 'consumer']) {
      assert.ok(names.includes(name), name);
    }
    const marks = annotations.list.map(({ name }) => name);
    for (const name of ['Worker replaced', 'File begun']) assert.ok(marks.includes(name), name);
  }
});

test('the committed rules, their cases, the run-book and the table of metrics are those their source makes', () => {
  const root = repositoryRoot();
  const read = (path: string) => readFileSync(join(root, path), 'utf8');
  assert.equal(read('grafana/millrace-rules.yml'), rulesYaml(), 'run: npm run grafana');
  assert.equal(read('grafana/millrace-rules.test.yml'), ruleTestsYaml(), 'run: npm run grafana');
  assert.equal(read('docs/runbook.md'), runbookMarkdown(), 'run: npm run grafana');
  assert.equal(read('docs/metrics.md'), metricsMarkdown(), 'run: npm run grafana');
});

test('every metric in an alert or recording rule exists, and every alert has its paragraph', () => {
  const known = new Set([
    ...CATALOGUE.flatMap(({ name }) => [name, `${name}_bucket`]),
    ...RECORDED.map(({ record }) => record),
  ]);
  const expressions = [...ALERTS.map(exprOf), ...RECORDED.map(({ expr }) => expr)];
  for (const expression of expressions) {
    for (const name of expression.match(/(?:instance:)?millrace_\w+(?::\w+)?/g) ?? []) {
      assert.ok(known.has(name), `${name} in ${expression}`);
    }
  }
  const runbook = readFileSync(join(repositoryRoot(), 'docs/runbook.md'), 'utf8');
  for (const { name } of ALERTS) assert.ok(runbook.includes(`\n## ${name}\n`), name);
});

// Prometheus's own tool, where it is installed (CI installs it): the rules are well-formed, and each alert fires in its case.
test('promtool finds the rules in order, every alert fires in its case, and the metrics are well-formed', async (context) => {
  try {
    execFileSync('promtool', ['--version'], { stdio: 'ignore' });
  } catch {
    context.diagnostic('promtool is not installed here; CI has it');
    return;
  }
  const folder = join(repositoryRoot(), 'grafana');
  const run = (...flags: string[]) =>
    execFileSync('promtool', flags, { cwd: folder, encoding: 'utf8' });
  assert.match(run('check', 'rules', 'millrace-rules.yml'), /SUCCESS/);
  assert.match(run('test', 'rules', 'millrace-rules.test.yml'), /SUCCESS/);
  const ta = new Analytics(new LoggingConsumer({ directory: newDirectory() }), {
    metricsServer: { port: 0 },
  });
  ta.track({ accountId: 'a', event: 'e' });
  await ta.flush();
  const text = await ta.register.metrics();
  await ta.close();
  execFileSync('promtool', ['check', 'metrics'], { input: text });
});
