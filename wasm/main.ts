import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { compileModule, MODULE_FILE } from './compiler.ts';

// Compiled to dist/wasm, two levels below the root.
const root = fileURLToPath(new URL('../..', import.meta.url));
writeFileSync(join(root, MODULE_FILE), await compileModule(root));
