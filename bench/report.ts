import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import type { BenchReport } from './bench.ts';
import { resolvePeer } from './peers/peer.ts';
import type { Metric, Section } from './suites/suite.ts';
import { cellOf, ratioOf } from './table.ts';

const CHART_FILE = 'chart.umd.min.js';
const STYLE = `
:root { color-scheme: light dark; --paper: #fff; --card: #f6f7f9; --ink: #1c2330; --soft: #5a6475; --grid: #dfe3ea; --ours: #0a7d6c; --others: #a7b1c2; }
@media (prefers-color-scheme: dark) {
  :root { --paper: #12161d; --card: #1a2029; --ink: #e6eaf1; --soft: #9aa5b6; --grid: #2c3441; --ours: #2fc4ac; --others: #5b6779; }
}
body { margin: 0 auto; max-width: 1080px; padding: 24px 20px 60px; background: var(--paper); color: var(--ink); font: 15px/1.5 system-ui, sans-serif; }
h1 { font-size: 26px; margin: 0 0 4px; } h2 { font-size: 19px; margin: 0 0 4px; } p { margin: 4px 0 12px; color: var(--soft); }
nav { display: flex; flex-wrap: wrap; gap: 4px 16px; margin: 12px 0 24px; } a { color: var(--ours); }
section { background: var(--card); border-radius: 10px; padding: 18px 20px; margin-bottom: 22px; }
.charts { display: grid; grid-template-columns: 1fr; gap: 12px; } .charts:has(.curve) { grid-template-columns: repeat(auto-fit, minmax(300px, 1fr)); }
.bars, .curve { position: relative; min-width: 0; }
.buttons { display: flex; flex-wrap: wrap; gap: 6px; margin: 6px 0 8px; }
button { font: inherit; font-size: 13px; color: var(--ink); background: none; border: 1px solid var(--grid); border-radius: 6px; padding: 2px 10px; cursor: pointer; }
button[aria-pressed='true'] { background: var(--ours); border-color: var(--ours); color: var(--paper); }
.scroll { overflow-x: auto; } table { border-collapse: collapse; width: 100%; margin-top: 14px; font-size: 13.5px; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: 4px 10px; border-top: 1px solid var(--grid); white-space: nowrap; } th { border: 0; color: var(--soft); font-weight: 600; }
th:first-child, td:first-child { text-align: left; } tr.ours td { color: var(--ours); font-weight: 600; }
`;

/**
 * One page with everything in it, to be opened from anywhere: tables, and charts by Chart.js.
 *
 * @throws Error when chart.js isn't installed
 */
export function htmlOf(report: BenchReport): string {
  const { machine, node, startedAt, rounds, seconds, peers, sections } = report;
  const versions = Object.entries(peers).map(([name, version]) =>
    version === null ? `${name} (not installed)` : `${name} ${version}`,
  );
  const chart = readFileSync(join(dirname(resolvePeer('chart.js')), CHART_FILE), 'utf8');
  const page = readFileSync(new URL('./report-page.js', import.meta.url), 'utf8');
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>millrace bench</title>
<style>${STYLE}</style>
</head>
<body>
<h1>millrace bench</h1>
<p>${quote(`${machine}, Node ${node}, ${startedAt.slice(0, 16).replace('T', ' ')} UTC. ${rounds} rounds, ${seconds} s a stretch of load.`)}
Medians; lines and brackets from the least to the most. ${quote(versions.join(', '))}.</p>
<nav>${sections.map(({ key, title }) => `<a href="#${key}">${quote(title)}</a>`).join('')}</nav>
${sections.map(sectionOf).join('\n')}
<script type="application/json" id="report">${JSON.stringify(report).replaceAll('<', '\\u003c')}</script>
<script>${asScript(chart)}</script>
<script type="module">${asScript(page)}</script>
</body>
</html>
`;
}

function sectionOf(section: Section): string {
  const { key, title, note, metrics, rows, against } = section;
  const base = rows.find(({ name }) => name === against);
  const first = metrics[0]?.key ?? '';
  const head = ['', ...(base === undefined ? [] : ['×']), ...metrics.map((metric) => metric.title)];
  const body = rows.map(({ name, values }) => {
    const ratio = base === undefined ? [] : [ratioOf(values[first], base.values[first]).toFixed(2)];
    const cells = metrics.map((metric: Metric) => cellOf(metric, values[metric.key] ?? []));
    const isOurs = name.startsWith('millrace') ? ' class="ours"' : '';
    return `<tr${isOurs}>${[name, ...ratio, ...cells].map((cell) => `<td>${quote(cell)}</td>`).join('')}</tr>`;
  });
  const ratioNote = base === undefined ? '' : ` ×: against ${base.name}.`;
  return `<section id="${key}">
<h2>${quote(title)}</h2>
<p>${quote(note + ratioNote)}</p>
<div class="buttons" id="buttons-${key}"></div>
<div class="charts" id="chart-${key}"></div>
<div class="scroll"><table><tr>${head.map((text) => `<th>${quote(text)}</th>`).join('')}</tr>${body.join('')}</table></div>
</section>`;
}

function quote(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('"', '&quot;');
}

/** A script ends at the first `</script`, wherever that is. */
function asScript(code: string): string {
  return code.replaceAll('</script', '<\\/script').replace(/\n\/\/# sourceMappingURL=.*/, '');
}
