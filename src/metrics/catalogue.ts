import { WORKER_COUNTERS, type WorkerCounter, type WorkerHistogram } from '../lane/ledger.ts';
import type { Readings } from './source.ts';

/** One value of a metric, with the labels it has besides `client` and `consumer`. */
export interface Sample {
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
}

interface Described {
  readonly name: string;
  readonly help: string;
  /** Labels besides `client` and `consumer`: closed sets. */
  readonly labels: readonly string[];
}

export interface ValueMetric extends Described {
  readonly type: 'counter' | 'gauge';
  readonly read: (readings: Readings) => readonly Sample[];
}

export interface HistogramMetric extends Described {
  readonly type: 'histogram';
  readonly read: (readings: Readings) => Readings['callSeconds'];
}

export type Metric = ValueMetric | HistogramMetric;

const NO_LABELS: Readonly<Record<string, string>> = Object.freeze({});

function value(
  type: 'counter' | 'gauge',
  name: string,
  { help, read }: { help: string; read: (readings: Readings) => number },
): ValueMetric {
  return {
    type,
    name,
    help,
    labels: [],
    read: (readings) => [{ labels: NO_LABELS, value: read(readings) }],
  };
}

function counter(name: string, help: string, read: (readings: Readings) => number): ValueMetric {
  return value('counter', name, { help, read });
}

function gauge(name: string, help: string, read: (readings: Readings) => number): ValueMetric {
  return value('gauge', name, { help, read });
}

/** A counter for each worker counter with a common prefix; the rest of its name is the label. */
function counters(
  name: string,
  help: string,
  { prefix, label }: { prefix: string; label: string },
): ValueMetric {
  const members = WORKER_COUNTERS.filter((member) => member.startsWith(prefix));
  return {
    type: 'counter',
    name,
    help,
    labels: [label],
    read: (readings) =>
      members.map((member) => ({
        labels: { [label]: member.slice(prefix.length) },
        value: readings.counter(member),
      })),
  };
}

function worked(name: string, help: string, member: WorkerCounter): ValueMetric {
  return counter(name, help, (readings) => readings.counter(member));
}

function histogram(name: string, help: string, member: WorkerHistogram): HistogramMetric {
  return { type: 'histogram', name, help, labels: [], read: (at) => at.histogram(member) };
}

function byLane(
  name: string,
  help: string,
  read: (lane: Readings['lanes'][number]) => number,
): ValueMetric {
  return {
    type: 'gauge',
    name,
    help,
    labels: ['lane'],
    read: ({ lanes }) =>
      lanes.map((lane) => ({ labels: { lane: String(lane.lane) }, value: read(lane) })),
  };
}

const dropped: ValueMetric = {
  type: 'counter',
  name: 'millrace_records_dropped_total',
  help: 'Records given up, by reason. overflow_newest and invalid were never accepted.',
  labels: ['reason'],
  read: ({ dropped: reasons }) =>
    Object.entries(reasons).map(([reason, count]) => ({ labels: { reason }, value: count })),
};

/** Every metric there is. Each is read from shared memory at the scrape. */
export const CATALOGUE: readonly Metric[] = [
  counter('millrace_records_accepted_total', 'Records that entered the ring.', (at) => at.accepted),
  counter(
    'millrace_records_delivered_total',
    'Records acknowledged by the receiver, or written to a file.',
    (at) => at.delivered,
  ),
  counter(
    'millrace_records_rejected_total',
    'Records refused for good by the receiver.',
    (at) => at.rejected,
  ),
  dropped,
  {
    type: 'counter',
    name: 'millrace_records_shed_total',
    help: 'Records kept out for more important ones; they are in overflow_newest, too.',
    labels: ['priority'],
    read: ({ shed }) =>
      Object.entries(shed).map(([priority, value]) => ({ labels: { priority }, value })),
  },
  counter(
    'millrace_records_dead_lettered_total',
    'Refused records kept in the dead-letter file.',
    (at) => at.deadLettered,
  ),
  counter(
    'millrace_records_warned_total',
    'Values sent though the receiver may cut them: long texts, huge numbers.',
    (at) => at.warnings,
  ),
  gauge('millrace_queue_records', 'Records in the ring, in flight included.', (at) => at.queued),
  gauge('millrace_queue_bytes', 'Bytes of frames in the ring.', (at) => at.queuedBytes),
  gauge('millrace_queue_capacity_bytes', 'Bytes the ring holds.', (at) => at.capacityBytes),
  byLane('millrace_lane_queue_records', 'Records in a lane.', (lane) => lane.queued),
  byLane('millrace_lane_queue_bytes', 'Bytes of frames in a lane.', (lane) => lane.queuedBytes),
  gauge(
    'millrace_inflight_records',
    "Records in a worker's hands, part of the queue.",
    (at) => at.inFlight,
  ),
  {
    type: 'gauge',
    name: 'millrace_oldest_record_age_seconds',
    help: 'Age of the oldest unsettled record: rises whenever anything is stuck.',
    labels: ['stage'],
    read: (at) => [
      { labels: { stage: 'queue' }, value: at.oldestQueuedAgeMs / 1000 },
      { labels: { stage: 'spool' }, value: at.oldestSpooledAgeMs / 1000 },
    ],
  },
  gauge('millrace_spool_records', 'Records on disk.', ({ spool }) => spool.records),
  gauge('millrace_spool_bytes', 'Size of the files of the spool.', ({ spool }) => spool.bytes),
  gauge(
    'millrace_spool_capacity_bytes',
    'Bound of the spool; 0: there is none.',
    ({ spool }) => spool.capacityBytes,
  ),
  gauge('millrace_spool_segments', 'Files of the spool.', ({ spool }) => spool.segments),
  counter(
    'millrace_records_spooled_total',
    'Records that went to disk, or were found there.',
    ({ spool }) => spool.spooledTotal,
  ),
  counter(
    'millrace_records_unspooled_total',
    'Records that left the disk, whatever became of them.',
    ({ spool }) => spool.unspooledTotal,
  ),
  counter(
    'millrace_recovery_records_total',
    'Records found in the spool of an earlier run.',
    (at) => at.recovered,
  ),
  counter(
    'millrace_recovery_corrupt_records_total',
    'Records that damage took from the spool.',
    ({ spool }) => spool.corruptFrames,
  ),
  gauge(
    'millrace_ledger_imbalance_records',
    'Accepted records less everything they can have become; always 0.',
    (at) => at.imbalance,
  ),
  counter(
    'millrace_record_bytes_total',
    'JSON text of settled records before compression.',
    (at) => at.rawBytes,
  ),
  counter(
    'millrace_sent_bytes_total',
    'Bytes sent over the wire or written to files for settled records.',
    (at) => at.sentBytes,
  ),
  counter(
    'millrace_backpressure_seconds_total',
    "Time callers were held by overflow 'block'.",
    (at) => at.blockedMs / 1000,
  ),
  {
    type: 'histogram',
    name: 'millrace_track_duration_seconds',
    help: 'Cost of a tracking call to its caller, of every 64th call.',
    labels: [],
    read: (at) => at.callSeconds,
  },
  histogram('millrace_delivery_latency_seconds', 'From track() to settled.', 'delivery_seconds'),
  histogram('millrace_request_duration_seconds', 'Time of one attempt.', 'request_seconds'),
  histogram('millrace_batch_records', 'Records of a batch.', 'batch_records'),
  histogram('millrace_batch_raw_bytes', 'JSON text of a batch.', 'batch_raw_bytes'),
  histogram('millrace_batch_sent_bytes', 'Bytes sent for a batch.', 'batch_sent_bytes'),
  worked('millrace_batches_total', 'Batches closed.', 'batches'),
  counters('millrace_batch_trigger_total', 'Why batches were closed.', {
    prefix: 'batch_',
    label: 'trigger',
  }),
  counters('millrace_requests_total', 'Attempts by status class; none: no reply.', {
    prefix: 'requests_',
    label: 'code',
  }),
  counters('millrace_retries_total', 'Repeated attempts (batches), by reason.', {
    prefix: 'retries_',
    label: 'reason',
  }),
  worked('millrace_batch_splits_total', 'Batches cut in halves.', 'splits'),
  worked('millrace_turns_total', 'Tasks run by the pool: attendances of a lane.', 'turns'),
  gauge(
    'millrace_circuit_state',
    'Circuit breaker: 0 closed, 1 half-open, 2 open.',
    (at) => at.breakerState,
  ),
  gauge(
    'millrace_last_success_timestamp_seconds',
    'When a batch was last acknowledged; 0: not yet.',
    (at) => at.lastSuccessMs / 1000,
  ),
  gauge('millrace_workers', 'Living worker threads.', (at) => at.workers.alive),
  gauge('millrace_workers_configured', 'Worker threads asked for.', (at) => at.workers.configured),
  counter(
    'millrace_worker_restarts_total',
    'Worker threads that died and were replaced.',
    (at) => at.workers.restarts,
  ),
  counter(
    'millrace_worker_busy_seconds_total',
    'Time worker threads were at work, all together.',
    (at) => at.counter('busy_ms') / 1000,
  ),
  gauge(
    'millrace_worker_heartbeat_age_seconds',
    'Age of the oldest heartbeat among living workers.',
    (at) => at.workers.heartbeatAgeMs / 1000,
  ),
];
