/** What became of a record at the receiver. */
export type RecordState = 'taken' | 'repeated' | 'refused';

/** A record that came lately. */
export interface RecentRecord {
  /** Counts up over all records. */
  readonly number: number;
  readonly timeMs: number;
  readonly state: RecordState;
  /** Why it was refused; empty: it was not. */
  readonly reason: string;
  /** What came, whatever it is. */
  readonly record: unknown;
}

/** Which records somebody looks for; empty texts fit all. */
export interface RecentQuery {
  /** Any text of the record's JSON, without regard to case. */
  readonly text: string;
  readonly type: string;
  readonly state: string;
}

const RECORDS_MAX = 1000;
/** Refused ones are rare and what people look for: good ones do not push them out. */
const REFUSED_MAX = 200;
const SHOWN_MAX = 100;

/** The latest records, for people who look. */
export class RecentRecords {
  readonly #good: RecentRecord[] = [];
  readonly #refused: RecentRecord[] = [];
  #number = 0;

  add(record: unknown, state: RecordState, reason = ''): void {
    this.#number += 1;
    const recent = { number: this.#number, timeMs: Date.now(), state, reason, record };
    const isRefused = state === 'refused';
    const list = isRefused ? this.#refused : this.#good;
    list.push(recent);
    // Twice the bound before it is cut: so a record costs no shifting of the list.
    const recordsMax = isRefused ? REFUSED_MAX : RECORDS_MAX;
    if (list.length >= 2 * recordsMax) list.splice(0, recordsMax);
  }

  /** Those that fit, newest first. */
  find({ text, type, state }: RecentQuery): { records: RecentRecord[]; matched: number } {
    const wanted = text.toLowerCase();
    const found = [...this.#good.slice(-RECORDS_MAX), ...this.#refused.slice(-REFUSED_MAX)].filter(
      (recent) =>
        (state === '' || recent.state === state) &&
        (type === '' || typeOf(recent.record) === type) &&
        (wanted === '' ||
          `${JSON.stringify(recent.record)}${recent.reason}`.toLowerCase().includes(wanted)),
    );
    const records = found.toSorted((a, b) => b.number - a.number).slice(0, SHOWN_MAX);
    return { records, matched: found.length };
  }

  clear(): void {
    this.#good.length = 0;
    this.#refused.length = 0;
  }
}

function typeOf(record: unknown): string {
  if (typeof record !== 'object' || record === null || !('#type' in record)) return '';
  return String(record['#type']);
}
