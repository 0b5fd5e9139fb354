import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { compileModule, MODULES } from './compiler.ts';

// Compiled to dist/wasm, two levels below the root.
const root = fileURLToPath(new URL('../..', import.meta.url));
for (const plan of MODULES) writeFileSync(join(root, plan.target), await compileModule(root, plan));
