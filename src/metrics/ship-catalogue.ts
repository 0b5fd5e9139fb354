import { type LedgerReader, WORKER_COUNTERS } from '../lane/ledger.ts';
import { single, type ValueOf } from './value-of.ts';

/** One look at a shipper. Counts are of lines unless said otherwise. */
export interface ShipReadings {
  readonly filesWaiting: number;
  readonly filesDone: number;
  readonly filesFailed: number;
  readonly lagBytes: number;
  readonly oldestWaitingMs: number;
  readonly delivered: number;
  readonly rejected: number;
  readonly bad: number;
  readonly blank: number;
  readonly textBytes: number;
  readonly bytes: number;
  readonly lostBytes: number;
  readonly removedFiles: number;
  readonly ledger: LedgerReader;
}

function byCounter(
  name: string,
  help: string,
  label: string,
  prefix: string,
): ValueOf<ShipReadings> {
  const members = WORKER_COUNTERS.filter((member) => member.startsWith(prefix));
  return {
    type: 'counter',
    name,
    help,
    labels: [label],
    read: ({ ledger }) =>
      members.map((member) => ({
        labels: { [label]: member.slice(prefix.length) },
        value: ledger.total(member),
      })),
  };
}

/** Every metric of `millrace ship`, in the order of docs/ship.md. */
export const SHIP_CATALOGUE: readonly ValueOf<ShipReadings>[] = [
  single('gauge', 'millrace_ship_file_lag_bytes', {
    help: 'Bytes in files that are not acknowledged; a gzipped file counts until it is done with.',
    read: (at) => at.lagBytes,
  }),
  {
    type: 'gauge',
    name: 'millrace_ship_files',
    help: 'Files that are followed, by state; failed: they can not be read, counted in waiting, too.',
    labels: ['state'],
    read: (at) => [
      { labels: { state: 'waiting' }, value: at.filesWaiting },
      { labels: { state: 'done' }, value: at.filesDone },
      { labels: { state: 'failed' }, value: at.filesFailed },
    ],
  },
  single('gauge', 'millrace_ship_oldest_waiting_seconds', {
    help: 'Time since the oldest file with something to ship was written; 0: there is none.',
    read: (at) => at.oldestWaitingMs / 1000,
  }),
  {
    type: 'counter',
    name: 'millrace_ship_lines_total',
    help: 'Lines that are done with, by what became of them.',
    labels: ['outcome'],
    read: ({ delivered, rejected, bad, blank }) =>
      Object.entries({ delivered, rejected, bad, blank }).map(([outcome, value]) => ({
        labels: { outcome },
        value,
      })),
  },
  single('counter', 'millrace_ship_text_bytes_total', {
    help: 'Bytes of plain text that are done with.',
    read: (at) => at.textBytes,
  }),
  single('counter', 'millrace_ship_sent_bytes_total', {
    help: 'Bytes sent over the wire and acknowledged.',
    read: (at) => at.bytes,
  }),
  single('counter', 'millrace_ship_lost_bytes_total', {
    help: 'Bytes of files that went away before they were shipped.',
    read: (at) => at.lostBytes,
  }),
  single('counter', 'millrace_ship_removed_files_total', {
    help: 'Files removed after they were shipped.',
    read: (at) => at.removedFiles,
  }),
  byCounter(
    'millrace_ship_requests_total',
    'Attempts by status class; none: no reply.',
    'code',
    'requests_',
  ),
  byCounter('millrace_ship_retries_total', 'Repeated attempts, by reason.', 'reason', 'retries_'),
];
