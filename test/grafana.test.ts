import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { overviewJson } from '../grafana/overview.ts';
import { CATALOGUE } from '../src/metrics/catalogue.ts';
import { repositoryRoot } from './support.ts';

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
