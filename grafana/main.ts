import { writeFileSync } from 'node:fs';
import { rulesYaml, ruleTestsYaml, runbookMarkdown } from './alerts.ts';
import { drilldownJson } from './drilldown.ts';
import { metricsMarkdown } from './metrics-table.ts';
import { overviewJson } from './overview.ts';
import { relayJson } from './relay.ts';

/** Writes everything that is made from source: run from the root of the repository by `npm run grafana`. */
writeFileSync('grafana/millrace-overview.json', overviewJson());
writeFileSync('grafana/millrace-drilldown.json', drilldownJson());
writeFileSync('grafana/millrace-relay.json', relayJson());
writeFileSync('grafana/millrace-rules.yml', rulesYaml());
writeFileSync('grafana/millrace-rules.test.yml', ruleTestsYaml());
writeFileSync('docs/runbook.md', runbookMarkdown());
writeFileSync('docs/metrics.md', metricsMarkdown());
