import { existsSync } from 'node:fs';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { MillraceError } from '../base/errors.ts';

/** The thin files under `workers/`. */
export type WorkerName = 'http' | 'file' | 'custom' | 'check';

/** In a bundle that is a CommonJS script this is the script's path; an ES module has none. */
declare const __filename: string | undefined;

/**
 * Path of the file a worker thread starts from: `workerFile`, else the file of the installed package, else, in a bundled
 * application, `millrace-<name>.mjs` (or `.js`, `.cjs`) beside the bundle.
 *
 * Found on call, not at import: a bundle has no place beside `workers/`.
 *
 * @throws MillraceError MILLRACE_OPTIONS when there is no such file
 */
export function workerEntry(name: WorkerName, workerFile: URL | string | undefined): string {
  const paths = workerFile === undefined ? defaultPaths(name) : [toPath(workerFile)];
  const path = paths.find((candidate) => existsSync(candidate));
  if (path !== undefined) return path;
  const place = workerFile === undefined ? `any of ${paths.join(', ')}` : paths[0];
  throw new MillraceError(
    'MILLRACE_OPTIONS',
    `workerFile: there is no worker entry at ${place}; a bundled application builds millrace/workers/${name} as a file of its own and passes its place as the option workerFile (docs/bundling.md)`,
  );
}

function defaultPaths(name: WorkerName): string[] {
  const here = moduleUrl();
  if (here === undefined) return [`millrace-${name}.mjs`];
  const extension = here.endsWith('.ts') ? 'ts' : 'js';
  return [
    `../../workers/${name}.${extension}`,
    ...['mjs', 'js', 'cjs'].map((suffix) => `./millrace-${name}.${suffix}`),
  ].map((relative) => fileURLToPath(new URL(relative, here)));
}

/** Where this code runs from. Bundlers that make CommonJS leave nothing of `import.meta`. */
function moduleUrl(): string | undefined {
  const url: string | undefined = import.meta.url;
  if (url !== undefined) return url;
  return typeof __filename === 'string' ? pathToFileURL(__filename).href : undefined;
}

function toPath(file: URL | string): string {
  if (typeof file !== 'string') return fileURLToPath(file);
  return file.startsWith('file:') ? fileURLToPath(file) : file;
}
