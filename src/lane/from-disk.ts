/** A record in the spool. */
export interface DiskRecord {
  /** Lane of the spool, which for those of an earlier run is that of the run. */
  readonly lane: number;
  /** Its number there; only the last 32 bits count. */
  readonly number: number;
}

/** Records from disk that are under way, the first of them by its place. */
export interface FromDisk extends DiskRecord {
  readonly records: number;
}

export const NONE_FROM_DISK: FromDisk = { records: 0, lane: 0, number: 0 };

export function isSameRecord(one: DiskRecord, other: DiskRecord): boolean {
  return one.lane === other.lane && (one.number | 0) === (other.number | 0);
}
