import { readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { systemCodeOf } from '../base/errors.ts';
import { type Beginning, beginningOf, crcOfPrefix } from '../lines/beginning.ts';
import { compareLogFiles, type LogFileName, parseLogFileName } from '../lines/log-name.ts';
import type { FileMark, MarkBook } from '../lines/marks.ts';
import { Cursor, type FoundFile, TrackedFile } from './tracked-file.ts';

export interface LogFolderParts {
  readonly directory: string;
  /** Names of log files; undefined: as this library and the official SDKs give them. */
  readonly match: RegExp | undefined;
  readonly book: MarkBook;
  /** A file went away before all of it was shipped. */
  readonly onLost: (file: FoundFile, bytes: number) => void;
  /** A file can't be read; it is tried again. */
  readonly onFailure: (file: FoundFile, error: unknown) => void;
}

/** A removed file is read on for so long after it was missed, or grew: its writer may not have noticed yet. */
const GONE_LINGER_MS = 2000;
/** How long a file that equals what was shipped of another is taken for a copy in the making. */
const COPY_GRACE_MS = 5000;
const RETRY_MS = 5000;
/** Most marks of files that are gone; such a file may come back packed or copied. */
const GONE_MARKS_MAX = 1000;
/** Most files that are held open, so that they can be read to the end when somebody removes them. */
const OPEN_MAX = 256;

/** A file that equals what was shipped of another one that is still there: a copy before the other is cut off, or a file of its own. */
interface Twin {
  /** When it was seen first, or was seen to grow towards what was shipped. */
  readonly sinceMs: number;
  readonly bytes: number;
  readonly mark: FileMark;
}

/** Followed files by the id of their mark. */
type Followed = Map<number, TrackedFile>;

/** What is known when a file is seen for the first time. */
interface Meeting {
  readonly beginning: Beginning;
  readonly marks: MarkIndex;
  readonly followed: Followed;
  readonly nowMs: number;
}

/**
 * The files of a folder, told apart by what they are and not by their names: a file is known again after it was renamed (inode and
 * beginning), packed or copied (beginning, and CRC of all that was shipped), and a new one that got an old inode or name is not taken for the old.
 */
export class LogFolder {
  readonly #parts: LogFolderParts;
  readonly #files = new Map<string, TrackedFile>();
  #sorted: readonly TrackedFile[] = [];
  readonly #twins = new Map<string, Twin>();
  /** Those whose file has other content now, by the id of their mark, as long as lines of the old one are on their way. */
  readonly #parting = new Map<number, Cursor>();
  /** Files that could not be looked into, by inode, with their size and when to try again. */
  readonly #unreadable = new Map<string, { bytes: number; retryAtMs: number }>();

  constructor(parts: LogFolderParts) {
    this.#parts = parts;
  }

  /** Every file that is followed, in the order of writing within a head. */
  get files(): readonly TrackedFile[] {
    return this.#sorted;
  }

  /** Files of which is not known yet what they are. */
  get undecided(): number {
    return this.#twins.size;
  }

  get unreadable(): number {
    return this.#unreadable.size;
  }

  /** Looks at the folder. Throws when it can't be read. */
  look(nowMs: number): void {
    const found = this.#list();
    const inodes = new Map(found.map((file) => [file.inode, file]));
    for (const [inode, file] of this.#files) {
      const now = inodes.get(inode);
      if (now === undefined) this.#miss(inode, file, nowMs);
      else this.#meet(file, now, nowMs);
    }
    const fresh = found.filter(({ inode }) => !this.#files.has(inode));
    if (fresh.length > 0) this.#takeFresh(fresh, found, nowMs);
    for (const known of [this.#twins, this.#unreadable]) {
      for (const inode of known.keys()) if (!inodes.has(inode)) known.delete(inode);
    }
    this.#sorted = [...this.#files.values()].sort((a, b) => compareFound(a.found, b.found));
    this.#holdOpen();
    this.#forgetGone();
  }

  close(): void {
    for (const file of this.#files.values()) file.close();
  }

  #list(): FoundFile[] {
    const { directory, match, book } = this.#parts;
    const known = new Map([...book.marks].map((mark) => [mark.inode, mark]));
    const found: FoundFile[] = [];
    for (const fileName of readdirSync(directory)) {
      if (fileName.startsWith('.')) continue;
      const path = join(directory, fileName);
      const facts = statSync(path, { bigint: true, throwIfNoEntry: false });
      if (facts === undefined || !facts.isFile()) continue;
      const inode = `${facts.dev}:${facts.ino}`;
      const name = nameOf(fileName, { match, mark: known.get(inode) });
      if (name === undefined) continue;
      const bytes = Number(facts.size);
      found.push({ fileName, path, name, inode, bytes, modifiedMs: Number(facts.mtimeMs) });
    }
    return found.sort(compareFound);
  }

  /** A file that was there before, or another one on its inode. */
  #meet(file: TrackedFile, found: FoundFile, nowMs: number): void {
    const { found: before, cursor } = file;
    const isChanged = found.bytes !== before.bytes || found.modifiedMs !== before.modifiedMs;
    const isRenamed = found.fileName !== before.fileName;
    const isOtherKind = found.name.isPacked !== before.name.isPacked;
    file.see(found);
    file.missedAtMs = undefined;
    if (isChanged || isRenamed) file.retryAtMs = 0;
    const isToCompare = isChanged || !file.isCompared;
    if (isOtherKind || (isToCompare && this.#isOther(file, nowMs))) this.#part(file);
    else {
      if (isChanged && cursor.mark.packedBytes > 0) note(cursor, { packedBytes: 0 });
      const name = plainName(found.fileName);
      if (cursor.mark.name !== name) note(cursor, { name });
    }
  }

  /** Whether a file that has changed has other content than what was noted. */
  #isOther(file: TrackedFile, nowMs: number): boolean {
    const { found, cursor } = file;
    const { mark } = cursor;
    const { isPacked } = found.name;
    if (!isPacked && found.bytes < mark.offset) return true;
    // Nothing is known of it, nothing was shipped of it: only now it shows what it is.
    if (mark.headBytes === 0) return !cursor.isBusy;
    const beginning = isPacked ? this.#beginningOf(found, nowMs) : file.beginning;
    file.isCompared = beginning !== undefined;
    return beginning !== undefined && !beginning.isOf(mark);
  }

  /** Leaves a file alone whose inode has other content now, to be met anew: the old one may live on in a copy, and the new one be a copy itself. */
  #part(file: TrackedFile): void {
    const { cursor, found } = file;
    if (cursor.isBusy) this.#parting.set(cursor.id, cursor);
    leave(cursor);
    // Tells whoever ships it that it is over.
    file.cursor = this.#newCursor(found);
    file.close();
    this.#files.delete(found.inode);
  }

  /** A packed file has other content than what was noted: it is shipped from its beginning. */
  restart(file: TrackedFile): void {
    leave(file.cursor);
    file.cursor = this.#newCursor(file.found);
    file.head = new Uint8Array(0);
    file.endBytes = undefined;
    file.close();
  }

  /** A file that is not there any more; while it is open, it is read to its end. */
  #miss(inode: string, file: TrackedFile, nowMs: number): void {
    const bytes = file.openBytes;
    if (bytes !== undefined) {
      if (bytes > file.found.bytes) file.missedAtMs = nowMs;
      // Also if it has not grown since the last look: it may have been read to its end as it was before.
      file.see({ ...file.found, bytes });
    }
    file.missedAtMs ??= nowMs;
    if (file.cursor.isBusy || nowMs - file.missedAtMs < GONE_LINGER_MS) return;
    if (file.isOpen && file.isPending && file.failure === undefined) return;
    file.close();
    this.#files.delete(inode);
    leave(file.cursor);
    if (file.lagBytes > 0) this.#parts.onLost(file.found, file.lagBytes);
  }

  #takeFresh(fresh: readonly FoundFile[], found: readonly FoundFile[], nowMs: number): void {
    const names = new Set(found.map(({ fileName }) => fileName));
    this.#knowUnread();
    for (const [id, cursor] of this.#parting) if (!cursor.isBusy) this.#parting.delete(id);
    const marks = new MarkIndex(this.#parts.book.marks);
    const followed = new Map([...this.#files.values()].map((file) => [file.cursor.id, file]));
    for (const file of fresh) {
      const isPackedTwin = file.name.isPacked && names.has(plainName(file.fileName));
      const failed = this.#unreadable.get(file.inode);
      const rests = failed !== undefined && failed.bytes === file.bytes && nowMs < failed.retryAtMs;
      if (isPackedTwin || rests) continue;
      const beginning = this.#beginningOf(file, nowMs);
      if (beginning !== undefined) this.#takeOne(file, { beginning, marks, followed, nowMs });
    }
  }

  /** Files that nothing was shipped of yet may be packed or copied meanwhile. */
  #knowUnread(): void {
    for (const file of this.#files.values()) {
      if (file.isUnread) know(file.cursor, file.beginning);
    }
  }

  #takeOne(file: FoundFile, { beginning, marks, followed, nowMs }: Meeting): void {
    const alike = marks.alike(beginning);
    const own = alike.find((mark) => mark.inode === file.inode && isWithin(mark, file));
    if (own !== undefined) {
      this.#track(file, new Cursor(own, this.#parts.book), followed);
      return;
    }
    const gone = alike.filter(({ id }) => !isThere(followed.get(id)));
    // What is on its way is not yet noted: who goes on there waits for it.
    const isOnItsWay = ({ id }: FileMark) =>
      this.#parting.has(id) || followed.get(id)?.cursor.isBusy === true;
    if (gone.some(isOnItsWay)) return;
    const before = this.#twins.get(file.inode);
    const heir = heirOf(file, gone) ?? gone.find(({ id }) => id === before?.mark.id);
    if (heir !== undefined) {
      this.#twins.delete(file.inode);
      this.#inherit(file, { heir, before: before?.mark, followed });
      return;
    }
    if (this.#isTwin(file, { alike, before, nowMs })) return;
    this.#twins.delete(file.inode);
    const cursor = this.#newCursor(file);
    know(cursor, beginning);
    this.#track(file, cursor, followed);
  }

  /** Whether a file may be a copy of another one that will be cut off, complete or not: for a while that is waited for. */
  #isTwin(
    file: FoundFile,
    {
      alike,
      before,
      nowMs,
    }: { alike: readonly FileMark[]; before: Twin | undefined; nowMs: number },
  ): boolean {
    if (file.name.isPacked) return false;
    const { bytes } = file;
    const mark = before?.mark ?? alike.find((each) => bytes < each.offset || isSame(file, each));
    if (mark === undefined) return false;
    const isGrowing = before !== undefined && bytes < mark.offset && bytes > before.bytes;
    const sinceMs = before === undefined || isGrowing ? nowMs : before.sinceMs;
    this.#twins.set(file.inode, { sinceMs, bytes, mark });
    return nowMs - sinceMs < COPY_GRACE_MS;
  }

  /** Goes on where the shipping of the same content stopped. */
  #inherit(
    file: FoundFile,
    {
      heir,
      before,
      followed,
    }: { heir: FileMark; before: FileMark | undefined; followed: Followed },
  ): void {
    const other = followed.get(heir.id);
    const cursor = other?.cursor ?? new Cursor(heir, this.#parts.book);
    if (other !== undefined) {
      other.close();
      this.#files.delete(other.found.inode);
    }
    const place = before === undefined || isSame(file, heir) ? {} : placeOf(before);
    const { inode } = file;
    note(cursor, { ...place, inode, name: plainName(file.fileName), packedBytes: 0 });
    this.#track(file, cursor, followed);
  }

  #track(file: FoundFile, cursor: Cursor, followed: Followed): void {
    const tracked = new TrackedFile(file, cursor);
    this.#files.set(file.inode, tracked);
    followed.set(cursor.id, tracked);
  }

  #newCursor(file: FoundFile): Cursor {
    const { book } = this.#parts;
    const mark: FileMark = {
      id: book.newId(),
      name: plainName(file.fileName),
      inode: file.inode,
      offset: 0,
      lines: 0,
      headBytes: 0,
      head: '',
      crc: 0,
      packedBytes: 0,
    };
    return new Cursor(mark, book);
  }

  #beginningOf(file: FoundFile, nowMs: number): Beginning | undefined {
    try {
      const beginning = beginningOf(file.path);
      this.#unreadable.delete(file.inode);
      return beginning;
    } catch (error) {
      if (systemCodeOf(error) === 'ENOENT') return undefined;
      if (!this.#unreadable.has(file.inode)) this.#parts.onFailure(file, error);
      this.#unreadable.set(file.inode, { bytes: file.bytes, retryAtMs: nowMs + RETRY_MS });
      return undefined;
    }
  }

  #holdOpen(): void {
    const files = this.files.filter(({ found }) => !found.name.isPacked);
    const newest = new Map(files.map((file) => [file.found.name.head, file]));
    let open = files.filter(({ isOpen }) => isOpen).length;
    for (const file of files) {
      const isNewest = newest.get(file.found.name.head) === file;
      const isIdle = !file.isPending && !file.cursor.isBusy && !isNewest;
      if (isIdle && file.isOpen && file.missedAtMs === undefined) {
        file.close();
        open -= 1;
      }
      if (isIdle || file.isOpen || open >= OPEN_MAX) continue;
      open += file.tryOpen() ? 1 : 0;
    }
  }

  #forgetGone(): void {
    const { book } = this.#parts;
    const followed = new Set([...this.#files.values()].map(({ cursor }) => cursor.id));
    const gone = [...book.marks].filter(({ id }) => !followed.has(id));
    for (const { id } of gone.slice(0, Math.max(0, gone.length - GONE_MARKS_MAX))) {
      try {
        book.forget(id);
      } catch {
        // The book has it in memory, and notes it with the next one.
      }
    }
  }
}

/** Marks by the beginning of their files. */
class MarkIndex {
  readonly #marks = new Map<string, FileMark[]>();
  readonly #lengths = new Set<number>();

  constructor(marks: Iterable<FileMark>) {
    for (const mark of marks) {
      if (mark.headBytes === 0) continue;
      const key = `${mark.headBytes}:${mark.head}`;
      this.#lengths.add(mark.headBytes);
      this.#marks.set(key, [...(this.#marks.get(key) ?? []), mark]);
    }
  }

  /** The marks of files that begin alike, the furthest first. */
  alike(beginning: Beginning): FileMark[] {
    const found = [...this.#lengths].flatMap(
      (length) => this.#marks.get(`${length}:${beginning.hashOf(length)}`) ?? [],
    );
    return found.sort((a, b) => b.offset - a.offset);
  }
}

/** The mark of what a file is a copy of. A packed file is taken at its beginning: it is not unpacked to find out. */
function heirOf(file: FoundFile, marks: readonly FileMark[]): FileMark | undefined {
  if (!file.name.isPacked) return marks.find((mark) => isSame(file, mark));
  const plain = plainName(file.fileName);
  return marks.find(({ name }) => name === plain) ?? marks[0];
}

function isSame(file: FoundFile, mark: FileMark): boolean {
  if (file.name.isPacked) return true;
  return file.bytes >= mark.offset && crcOfPrefix(file.path, mark.offset) === mark.crc;
}

/** Notes what a look at the folder has shown. A disk that takes no note now gets it with the next one; without it, lines are sent again at worst. */
function note(cursor: Cursor, change: Partial<Omit<FileMark, 'id'>>): void {
  try {
    cursor.change(change);
  } catch {
    // It holds in memory.
  }
}

/** The file is gone, or has other content. A mark that says nothing is not worth a note. */
function leave(cursor: Cursor): void {
  if (cursor.mark.headBytes > 0) note(cursor, { inode: '' });
}

function know(cursor: Cursor, beginning: Beginning | undefined): void {
  try {
    if (beginning !== undefined) cursor.know(beginning.lasting);
  } catch {
    // As above.
  }
}

function placeOf({ offset, lines, crc }: FileMark): Partial<FileMark> {
  return { offset, lines, crc };
}

function isWithin(mark: FileMark, file: FoundFile): boolean {
  return file.name.isPacked || mark.offset <= file.bytes;
}

function isThere(file: TrackedFile | undefined): boolean {
  return file !== undefined && file.missedAtMs === undefined;
}

function plainName(fileName: string): string {
  return fileName.replace(/\.gz$/, '');
}

function compareFound(a: FoundFile, b: FoundFile): number {
  if (a.name.head !== b.name.head) return a.name.head < b.name.head ? -1 : 1;
  return compareLogFiles(a.name, b.name) || (a.fileName < b.fileName ? -1 : 1);
}

/** A file's name in parts, if it is a log file: by its name, or because it was one before it was renamed. */
function nameOf(
  fileName: string,
  { match, mark }: { match: RegExp | undefined; mark: FileMark | undefined },
): LogFileName | undefined {
  const parsed = parseLogFileName(fileName);
  if (match === undefined ? parsed !== undefined : match.test(fileName)) {
    const isPacked = fileName.endsWith('.gz');
    return parsed ?? { head: plainName(fileName), period: '', index: -1, age: 0, isPacked };
  }
  return mark === undefined ? undefined : parseLogFileName(mark.name);
}
