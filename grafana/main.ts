import { writeFileSync } from 'node:fs';
import { overviewJson } from './overview.ts';

/** Writes the dashboard: run from the root of the repository by `npm run grafana`. */
writeFileSync('grafana/millrace-overview.json', overviewJson());
