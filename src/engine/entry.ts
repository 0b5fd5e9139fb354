import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { MillraceError } from '../base/errors.ts';

/** The thin files under `workers/`. */
export type WorkerName = 'http' | 'file' | 'custom' | 'check';

/**
 * Path of the file a worker thread starts from. Found on call, not at import: a bundle has no place beside `workers/`.
 *
 * @param workerFile the option of that name, for bundled applications
 * @throws MillraceError MILLRACE_OPTIONS when there is no such file
 */
export function workerEntry(name: WorkerName, workerFile: URL | string | undefined): string {
  const path = toPath(workerFile ?? defaultEntry(name));
  if (existsSync(path)) return path;
  throw new MillraceError(
    'MILLRACE_OPTIONS',
    `workerFile: there is no worker entry at ${path}; a bundled application passes the option workerFile`,
  );
}

function defaultEntry(name: WorkerName): URL {
  const extension = import.meta.url.endsWith('.ts') ? 'ts' : 'js';
  return new URL(`../../workers/${name}.${extension}`, import.meta.url);
}

function toPath(file: URL | string): string {
  if (typeof file !== 'string') return fileURLToPath(file);
  return file.startsWith('file:') ? fileURLToPath(file) : file;
}
