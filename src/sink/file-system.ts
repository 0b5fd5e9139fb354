import {
  accessSync,
  closeSync,
  constants,
  fstatSync,
  fsyncSync,
  ftruncateSync,
  openSync,
  readdirSync,
  readSync,
  rmSync,
  statSync,
  writeSync,
} from 'node:fs';
import { makeDirectory } from '../base/directory.ts';
import { systemCodeOf } from '../base/errors.ts';

/** The part of the file system that the file sink uses; tests put a failing one in its place. */
export interface FileSystem {
  makeDirectory(path: string): void;
  /** Throws when the folder can't be written. */
  checkWritable(path: string): void;
  /** Opens for appending, made if missing. */
  openAppend(path: string, mode: number): number;
  /** Writes at the end; returns how many bytes, which may be fewer. */
  append(fd: number, bytes: Uint8Array): number;
  read(fd: number, span: { at: number; bytes: number }): Uint8Array;
  size(fd: number): number;
  /** When the file was written last, wall time in ms. */
  modifiedMs(fd: number): number;
  /** A number that changes when another file takes the path; -1: there is none. */
  inode(path: string): number;
  inodeOf(fd: number): number;
  truncate(fd: number, bytes: number): void;
  sync(fd: number): void;
  close(fd: number): void;
  /** Makes a file for the caller alone. False: another one has it; one that is older than `staleMs` is taken away, for the next attempt. */
  claim(path: string, staleMs: number): boolean;
  /** Takes a file away, if it is there. */
  remove(path: string): void;
  /** Files in the folder; the size is looked up when it is asked for. */
  list(directory: string): { name: string; bytes: number }[];
}

export const nodeFileSystem: FileSystem = {
  makeDirectory,
  checkWritable: (path) => accessSync(path, constants.W_OK | constants.X_OK),
  openAppend: (path, mode) => openSync(path, 'a+', mode),
  append: (fd, bytes) => writeSync(fd, bytes),
  read: (fd, { at, bytes }) => {
    const target = Buffer.alloc(bytes);
    return target.subarray(0, readSync(fd, target, 0, bytes, at));
  },
  size: (fd) => fstatSync(fd).size,
  modifiedMs: (fd) => fstatSync(fd).mtimeMs,
  inode: (path) => statSync(path, { throwIfNoEntry: false })?.ino ?? -1,
  inodeOf: (fd) => fstatSync(fd).ino,
  truncate: (fd, bytes) => ftruncateSync(fd, bytes),
  sync: (fd) => fsyncSync(fd),
  close: (fd) => closeSync(fd),
  claim: claimFile,
  remove: (path) => rmSync(path, { force: true }),
  list: (directory) =>
    readdirSync(directory, { withFileTypes: true })
      .filter((entry) => entry.isFile())
      .map(({ name }) => ({
        name,
        get bytes() {
          return statSync(`${directory}/${name}`, { throwIfNoEntry: false })?.size ?? 0;
        },
      })),
};

/** Hears when a call that waits for the disk begins and ends. */
export interface DiskSign {
  readonly enter: () => void;
  readonly leave: () => void;
}

/** The same file system, but that it says so while a write or a sync waits for the disk. */
export function signalling(fileSystem: FileSystem, { enter, leave }: DiskSign): FileSystem {
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
  return { ...fileSystem, append: told(fileSystem.append), sync: told(fileSystem.sync) };
}

function claimFile(path: string, staleMs: number): boolean {
  try {
    closeSync(openSync(path, 'wx'));
    return true;
  } catch (error) {
    if (systemCodeOf(error) !== 'EEXIST') throw error;
  }
  const madeMs = statSync(path, { throwIfNoEntry: false })?.mtimeMs ?? Number.POSITIVE_INFINITY;
  if (Date.now() - madeMs > staleMs) rmSync(path, { force: true });
  return false;
}
