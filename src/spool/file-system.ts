import {
  closeSync,
  constants,
  fsyncSync,
  ftruncateSync,
  linkSync,
  openSync,
  readdirSync,
  readSync,
  renameSync,
  rmdirSync,
  statSync,
  unlinkSync,
  utimesSync,
  writeSync,
} from 'node:fs';
import { makeDirectory } from '../base/directory.ts';
import { systemCodeOf, textOfError } from '../base/errors.ts';

/**
 * The part of the file system that the spool uses. Every call blocks and throws what Node throws; tests put
 * a failing one, or a disk that loses power, in its place.
 */
export interface SpoolFileSystem {
  /** Makes the folder and those above it, where they are missing. */
  makeDirectory(path: string, mode: number): void;
  /** Names in the folder, in any order. */
  list(directory: string): string[];
  /** Size of a file; -1: there is none. */
  bytesOf(path: string): number;
  /** When a file was last written or touched, in ms since 1970; -1: there is none. */
  modifiedMs(path: string): number;
  /** Makes a file that must not exist yet, for reading and writing. */
  create(path: string, mode: number): number;
  /** Opens a file that exists: 'update' reads and writes. */
  open(path: string, how: 'read' | 'update'): number;
  /** Reads into `into` from the place `at`; returns how many bytes, 0 at the end of the file. */
  read(fd: number, into: Uint8Array, at: number): number;
  /** Writes at the place `at`; returns how many bytes, which may be fewer. */
  write(fd: number, bytes: Uint8Array, at: number): number;
  truncate(fd: number, bytes: number): void;
  /** Puts the content of a file on stable storage. */
  sync(fd: number): void;
  /** Puts the names in a folder on stable storage, where the system knows of such a thing. */
  syncDirectory(path: string): void;
  close(fd: number): void;
  rename(from: string, to: string): void;
  /** Gives a file a second name; fails if that exists. */
  link(from: string, to: string): void;
  remove(path: string): void;
  /** Removes an empty folder. */
  removeDirectory(path: string): void;
  /** Sets the time of last writing. */
  touch(path: string, nowMs: number): void;
}

export const nodeFileSystem: SpoolFileSystem = {
  makeDirectory,
  list: (directory) => readdirSync(directory),
  bytesOf: (path) => statSync(path, { throwIfNoEntry: false })?.size ?? -1,
  modifiedMs: (path) => statSync(path, { throwIfNoEntry: false })?.mtimeMs ?? -1,
  create: (path, mode) => openSync(path, 'wx+', mode),
  open: (path, how) => openSync(path, how === 'read' ? constants.O_RDONLY : constants.O_RDWR),
  read: (fd, into, at) => readSync(fd, into, 0, into.length, at),
  write: (fd, bytes, at) => writeSync(fd, bytes, 0, bytes.length, at),
  truncate: (fd, bytes) => ftruncateSync(fd, bytes),
  sync: (fd) => fsyncSync(fd),
  syncDirectory,
  close: (fd) => closeSync(fd),
  rename: (from, to) => renameSync(from, to),
  link: (from, to) => linkSync(from, to),
  remove: (path) => unlinkSync(path),
  removeDirectory: (path) => rmdirSync(path),
  touch: (path, nowMs) => utimesSync(path, nowMs / 1000, nowMs / 1000),
};

/** The same file system, but that it says so while a call waits for the disk. */
export function signalling(
  fileSystem: SpoolFileSystem,
  { enter, leave }: { readonly enter: () => void; readonly leave: () => void },
): SpoolFileSystem {
  const told = <Args extends unknown[], Result>(call: (...args: Args) => Result) => {
    return (...args: Args): Result => {
      enter();
      try {
        return call(...args);
      } finally {
        leave();
      }
    };
  };
  const { makeDirectory, create, read, write, truncate, sync, rename, remove } = fileSystem;
  return {
    ...fileSystem,
    makeDirectory: told(makeDirectory),
    create: told(create),
    read: told(read),
    write: told(write),
    truncate: told(truncate),
    sync: told(sync),
    syncDirectory: told(fileSystem.syncDirectory),
    rename: told(rename),
    remove: told(remove),
  };
}

function syncDirectory(path: string): void {
  // Windows opens no folder, and keeps names without being asked.
  if (process.platform === 'win32') return;
  const fd = openSync(path, 'r');
  try {
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}

const FULL_CODES: ReadonlySet<string> = new Set(['ENOSPC', 'EDQUOT', 'EFBIG']);

/** What a failed call to the disk means for the caller. */
export interface DiskFailure {
  readonly failed: 'disk_full' | 'disk';
  /** The system's words. */
  readonly message: string;
}

export function failureOf(error: unknown): DiskFailure {
  return {
    failed: FULL_CODES.has(systemCodeOf(error)) ? 'disk_full' : 'disk',
    message: textOfError(error),
  };
}

/** Writes all of the bytes, in as many calls as the system wants. */
export function writeAll(
  fileSystem: SpoolFileSystem,
  fd: number,
  { bytes, at }: { readonly bytes: Uint8Array; readonly at: number },
): void {
  let done = 0;
  while (done < bytes.length) {
    const written = fileSystem.write(fd, bytes.subarray(done), at + done);
    if (written === 0) throw new Error('the disk took no byte');
    done += written;
  }
}
