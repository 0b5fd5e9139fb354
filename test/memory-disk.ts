import { dirname } from 'node:path';
import type { SpoolFileSystem } from '../src/spool/file-system.ts';

interface StoredFile {
  bytes: Uint8Array;
  /** Content as of the last sync. */
  synced: Uint8Array;
  /** Writes since then. */
  writes: { readonly at: number; readonly bytes: Uint8Array }[];
}

const PAGE_BYTES = 512;

function failure(code: string, path: string): Error {
  return Object.assign(new Error(`${code}: ${path}`), { code });
}

function patched(bytes: Uint8Array, at: number, part: Uint8Array): Uint8Array {
  const next = new Uint8Array(Math.max(bytes.length, at + part.length));
  next.set(bytes);
  next.set(part, at);
  return next;
}

/**
 * A disk that can lose power: of what was not synced, any part is there afterwards and any part is not, page by page and in any order;
 * names that were not synced may be gone, removed ones may be back.
 */
export class MemoryDisk {
  readonly #files = new Map<string, StoredFile>();
  readonly #folders = new Set<string>();
  /** Names that are on stable storage, with the file each leads to. */
  readonly #durable = new Map<string, StoredFile>();
  readonly #open = new Map<number, StoredFile>();
  #nextFd = 3;

  readonly fileSystem: SpoolFileSystem = {
    makeDirectory: (path) => {
      for (let at = path; !this.#folders.has(at) && at !== dirname(at); at = dirname(at)) {
        this.#folders.add(at);
      }
    },
    list: (directory) => this.#list(directory),
    bytesOf: (path) => this.#files.get(path)?.bytes.length ?? (this.#folders.has(path) ? 0 : -1),
    modifiedMs: () => 0,
    create: (path) => {
      if (this.#files.has(path)) throw failure('EEXIST', path);
      if (!this.#folders.has(dirname(path))) throw failure('ENOENT', path);
      const empty = new Uint8Array(0);
      const file = { bytes: empty, synced: empty, writes: [] };
      this.#files.set(path, file);
      return this.#hand(file);
    },
    open: (path) => this.#hand(this.#file(path)),
    read: (fd, into, at) => {
      const part = this.#of(fd).bytes.subarray(at, at + into.length);
      into.set(part);
      return part.length;
    },
    write: (fd, bytes, at) => {
      const file = this.#of(fd);
      const copy = bytes.slice();
      file.bytes = patched(file.bytes, at, copy);
      file.writes.push({ at, bytes: copy });
      return bytes.length;
    },
    truncate: (fd, length) => {
      const file = this.#of(fd);
      file.bytes = file.bytes.slice(0, length);
    },
    sync: (fd) => {
      const file = this.#of(fd);
      file.synced = file.bytes.slice();
      file.writes = [];
    },
    syncDirectory: (path) => {
      for (const name of this.#durable.keys()) {
        if (dirname(name) === path && !this.#files.has(name)) this.#durable.delete(name);
      }
      for (const [name, file] of this.#files) {
        if (dirname(name) === path) this.#durable.set(name, file);
      }
    },
    close: (fd) => {
      this.#open.delete(fd);
    },
    rename: (from, to) => {
      this.#files.set(to, this.#file(from));
      this.#files.delete(from);
    },
    link: (from, to) => {
      if (this.#files.has(to)) throw failure('EEXIST', to);
      this.#files.set(to, this.#file(from));
    },
    remove: (path) => {
      this.#file(path);
      this.#files.delete(path);
    },
    removeDirectory: (path) => {
      if (this.#list(path).length > 0) throw failure('ENOTEMPTY', path);
      this.#folders.delete(path);
    },
    touch: () => undefined,
  };

  /** @param random draws from [0, 1) */
  losePower(random: () => number): void {
    this.#open.clear();
    for (const [path, file] of this.#durable) {
      if (!this.#files.has(path) && random() < 0.5) this.#files.set(path, file);
    }
    for (const [path, file] of [...this.#files]) {
      if (!this.#durable.has(path) && random() < 0.5) this.#files.delete(path);
      else settle(file, random);
    }
    for (const [path, file] of this.#files) this.#durable.set(path, file);
  }

  #list(directory: string): string[] {
    if (!this.#folders.has(directory)) throw failure('ENOENT', directory);
    return [...this.#files.keys(), ...this.#folders]
      .filter((path) => path !== directory && dirname(path) === directory)
      .map((path) => path.slice(directory.length + 1));
  }

  #file(path: string): StoredFile {
    const file = this.#files.get(path);
    if (file === undefined) throw failure('ENOENT', path);
    return file;
  }

  #hand(file: StoredFile): number {
    this.#nextFd += 1;
    this.#open.set(this.#nextFd, file);
    return this.#nextFd;
  }

  #of(fd: number): StoredFile {
    const file = this.#open.get(fd);
    if (file === undefined) throw failure('EBADF', String(fd));
    return file;
  }
}

/** What is left of a file whose machine lost power. */
function settle(file: StoredFile, random: () => number): void {
  let bytes = file.synced;
  for (const write of file.writes) {
    for (let at = 0; at < write.bytes.length; at += PAGE_BYTES) {
      if (random() < 0.5) continue;
      const page = write.bytes.subarray(at, at + PAGE_BYTES);
      const length = random() < 0.2 ? Math.floor(random() * page.length) : page.length;
      bytes = patched(bytes, write.at + at, page.subarray(0, length));
    }
  }
  file.bytes = bytes;
  file.synced = bytes.slice();
  file.writes = [];
}
