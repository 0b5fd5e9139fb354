import { CATALOGUE, type Metric } from '../src/metrics/catalogue.ts';

const HEAD = `# Metrics

\`ta.register\` is a prom-client \`Registry\`; put its \`metrics()\` behind your own endpoint, or pass your own as \`register\`. \`metricsServer: { port: 9464 }\` serves
it without a server of yours. All values are read from shared memory at the scrape, and only what changed since the last one is written anew: it costs the game's thread well under 0.1 ms with 4 lanes and
about 0.2 ms with 64 (\`node dist/bench/scrape.js\`), wakes no worker, and counts of dead threads are kept. A registry of yours behind an endpoint of yours is written by prom-client, at two to three times that; \`metricsServer\` is as
fast with any registry, and writes ten texts a second at most: whoever asks within 100 ms of another gets the same one. It answers on the game's thread: the state of threads, the clients of a registry and your own metrics live there. Answers are not compressed, which would cost more than all the rest.

- Labels \`client\` (the client's \`name\`) and \`consumer\` (\`async\`, \`batch\`, \`debug\`, \`logging\`) are on all. Other labels have closed sets of values; \`lane\` and \`worker\` are small numbers.
- Several clients share a registry: each has its own \`client\`. A registry that was cleared has the metrics again as soon as somebody asks a client for \`ta.register\`.
- An OpenMetrics registry (\`registry.setContentType(Registry.OPENMETRICS_CONTENT_TYPE)\`) also gets exemplars: the latest value of each latency bucket, with lane and worker. prom-client has no native histograms.
- In a cluster call \`AggregatorRegistry.setRegistries([ta.register])\` in each process and \`clusterMetrics()\` in the primary. Counts are added; ages and the circuit show the worst process, the latest success that of the process whose is longest ago.
- Dashboards, alerts, the live page, logs: [observability.md](observability.md).

Compression ratio: \`rate(millrace_record_bytes_total[5m]) / rate(millrace_sent_bytes_total[5m])\`. Busy share of a thread: \`rate(millrace_worker_busy_seconds_total[5m])\`.
Event-loop lag and CPU of the game are prom-client's own: \`collectDefaultMetrics({ register: ta.register })\`.

| metric | type | |
|---|---|---|
`;

const FOOT = `
Those of \`millrace ship\` (\`millrace_ship_*\`) are in [ship.md](ship.md), those of \`millrace relay\` (\`millrace_relay_*\`) in [fleet.md](fleet.md).
`;

/** docs/metrics.md: every metric with its type, labels and meaning. */
export function metricsMarkdown(): string {
  return `${HEAD}${CATALOGUE.map(row).join('')}${FOOT}`;
}

function row({ name, type, labels, help }: Metric): string {
  const by = labels.length === 0 ? '' : ` by ${labels.join(', ')}`;
  return `| \`${name}\` | ${type}${by} | ${help} |\n`;
}
