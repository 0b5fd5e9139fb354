import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { repositoryRoot } from '../support.ts';
import { apiDocument } from './api.ts';

writeFileSync(join(repositoryRoot(), 'docs', 'api.md'), apiDocument());
