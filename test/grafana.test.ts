import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { ALERTS, rulesYaml, ruleTestsYaml, runbookMarkdown } from '../grafana/alerts.ts';
import { metricsMarkdown } from '../grafana/metrics-table.ts';
import { overviewJson } from '../grafana/overview.ts';
import { Analytics, LoggingConsumer } from '../src/index.ts';
import { CATALOGUE } from '../src/metrics/catalogue.ts';
import { newDirectory, repositoryRoot } from './support.ts';

test('the committed dashboard is the one its source makes', () => {
  const committed = readFileSync(join(repositoryRoot(), 'grafana/millrace-overview.json'), 'utf8');
  assert.equal(committed, overviewJson(), 'run: npm run grafana');
});

test('every metric in the dashboard exists, with the labels it is grouped by', () => {
  const known = new Set(
    CATALOGUE.flatMap(({ name, type }) =>
      type === 'histogram' ? [`${name}_bucket`, `${name}_sum`, `${name}_count`] : [name],
    ),
  );
  const expressions = [...overviewJson().matchAll(/"expr": "((?:[^"\\]|\\.)*)"/g)].map(
    ([, expression = '']) => expression,
  );
  assert.ok(expressions.length > 20);
  for (const expression of expressions) {
    const names = expression.match(/millrace_\w+/g) ?? [];
    assert.ok(names.length > 0, expression);
    for (const name of names) assert.ok(known.has(name), `${name} in ${expression}`);
    const by = /by \((\w+)\)/.exec(expression)?.[1];
    const metric = CATALOGUE.find(({ name }) => name === names[0]);
    if (by !== undefined && by !== 'le') assert.ok(metric?.labels.includes(by), expression);
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

test('every metric in an alert exists', () => {
  const known = CATALOGUE.flatMap(({ name }) => [name, `${name}_bucket`]);
  for (const { name, expr } of ALERTS) {
    for (const metric of expr.match(/millrace_\w+/g) ?? []) {
      assert.ok(known.includes(metric), `${metric} in ${name}`);
    }
  }
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
