import { execFileSync } from 'node:child_process';
import { chmodSync, mkdirSync, readdirSync, statSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { newDirectory, repositoryRoot } from './support.ts';

export interface PackedPackage {
  /** Folder whose node_modules holds the package, as `npm install millrace` leaves it. */
  readonly folder: string;
  readonly tarballBytes: number;
}

let tarball: string | undefined;

/** Packs once a process. */
function pack(): string {
  if (tarball !== undefined) return tarball;
  const folder = newDirectory();
  const flags = ['--ignore-scripts', '--silent', '--pack-destination', folder];
  execFileSync('npm', ['pack', ...flags], { cwd: repositoryRoot() });
  tarball = join(folder, readdirSync(folder)[0] ?? '');
  return tarball;
}

/** The packed tarball, unpacked into an empty folder; the dependencies are those of this checkout, so that no network is needed. */
export function unpackPackage(): PackedPackage {
  const folder = newDirectory();
  const modules = join(folder, 'node_modules');
  const own = join(modules, 'millrace');
  mkdirSync(own, { recursive: true });
  execFileSync('tar', ['xzf', pack(), '--strip-components=1', '-C', own]);
  const installed = join(repositoryRoot(), 'node_modules');
  for (const name of readdirSync(installed)) {
    if (!name.startsWith('.')) symlinkSync(join(installed, name), join(modules, name));
  }
  const main = join(own, 'dist', 'src', 'cli', 'main.js');
  chmodSync(main, 0o755);
  mkdirSync(join(modules, '.bin'));
  symlinkSync(main, join(modules, '.bin', 'millrace'));
  return { folder, tarballBytes: statSync(pack()).size };
}
