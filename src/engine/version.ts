import { readFileSync } from 'node:fs';

/** Value of `#lib`, and the name of the package. */
export const LIBRARY_NAME = 'millrace';

const UNKNOWN = '0.0.0';

/** Version of this package: `#lib_version` of every event, and a header of every request. */
export const LIBRARY_VERSION: string = readVersion();

function readVersion(): string {
  // The compiled file is one folder deeper than the source; a bundle has neither place.
  for (const path of ['../../../package.json', '../../package.json']) {
    try {
      const parsed: unknown = JSON.parse(readFileSync(new URL(path, import.meta.url), 'utf8'));
      if (isPackage(parsed)) return parsed.version;
    } catch {
      // Not there: the next place is tried.
    }
  }
  return UNKNOWN;
}

function isPackage(value: unknown): value is { name: string; version: string } {
  return (
    typeof value === 'object' &&
    value !== null &&
    'name' in value &&
    value.name === LIBRARY_NAME &&
    'version' in value &&
    typeof value.version === 'string'
  );
}
