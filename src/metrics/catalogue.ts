import {
  type HistogramReading,
  WORKER_COUNTERS,
  type WorkerCounter,
  type WorkerHistogram,
} from '../lane/ledger.ts';
import type { LaneReading, Readings, ThreadReading } from '../lane/readings.ts';
import { getOrMake } from './memo.ts';

/** How a cluster's primary makes one value of its processes' values. */
export type Aggregator = 'sum' | 'max' | 'min' | 'first';

/** One value of a metric, with the labels it has besides `client` and `consumer`. */
export interface Sample {
  readonly labels: Labels;
  readonly value: number;
}

/** One histogram of a metric, with the labels it has besides `client` and `consumer`. */
export interface HistogramSample {
  readonly labels: Labels;
  readonly reading: HistogramReading;
}

interface Described {
  readonly name: string;
  readonly help: string;
  /** Labels besides `client` and `consumer`: closed sets. */
  readonly labels: readonly string[];
  readonly aggregator: Aggregator;
}

export interface ValueMetric extends Described {
  readonly type: 'counter' | 'gauge';
  readonly read: (readings: Readings) => readonly Sample[];
}

export interface HistogramMetric extends Described {
  readonly type: 'histogram';
  readonly read: (readings: Readings) => readonly HistogramSample[];
}

export type Metric = ValueMetric | HistogramMetric;

type Labels = Readonly<Record<string, string>>;

const NO_LABELS: Labels = Object.freeze({});
/** Values of a label that are remembered; those of ended port threads give way. */
const LABELS_MAX = 4096;
const knownLabels = new Map<string, Map<string, Labels>>();

/** The same object for the same label: whoever writes it down can remember its text. */
function labelled(label: string, value: string): Labels {
  const values = getOrMake(knownLabels, label, () => new Map<string, Labels>());
  return getOrMake(values, value, () => {
    if (values.size >= LABELS_MAX) values.clear();
    return Object.freeze({ [label]: value });
  });
}

function value(
  type: 'counter' | 'gauge',
  { name, help, aggregator }: { name: string; help: string; aggregator: Aggregator },
  read: (readings: Readings) => number,
): ValueMetric {
  return {
    type,
    name,
    help,
    aggregator,
    labels: [],
    read: (readings) => [{ labels: NO_LABELS, value: read(readings) }],
  };
}

function counter(name: string, help: string, read: (readings: Readings) => number): ValueMetric {
  return value('counter', { name, help, aggregator: 'sum' }, read);
}

function gauge(name: string, help: string, read: (readings: Readings) => number): ValueMetric {
  return value('gauge', { name, help, aggregator: 'sum' }, read);
}

/** A gauge of which a cluster shows the worst. */
function worst(
  aggregator: 'max' | 'min',
  { name, help }: { name: string; help: string },
  read: (readings: Readings) => number,
): ValueMetric {
  return value('gauge', { name, help, aggregator }, read);
}

/** A counter for each worker counter with a common prefix; the rest of its name is the label. */
function counters(
  name: string,
  help: string,
  { prefix, label }: { prefix: string; label: string },
): ValueMetric {
  const members = WORKER_COUNTERS.filter((member) => member.startsWith(prefix)).map((member) => ({
    member,
    labels: labelled(label, member.slice(prefix.length)),
  }));
  return {
    type: 'counter',
    name,
    help,
    aggregator: 'sum',
    labels: [label],
    read: (readings) =>
      members.map(({ member, labels }) => ({ labels, value: readings.counter(member) })),
  };
}

function worked(name: string, help: string, member: WorkerCounter): ValueMetric {
  return counter(name, help, (readings) => readings.counter(member));
}

function histogram(name: string, help: string, member: WorkerHistogram): HistogramMetric {
  return histogramOf(name, help, (readings) => readings.histogram(member));
}

function histogramOf(
  name: string,
  help: string,
  read: (readings: Readings) => HistogramReading,
): HistogramMetric {
  return {
    type: 'histogram',
    name,
    help,
    aggregator: 'sum',
    labels: [],
    read: (readings) => [{ labels: NO_LABELS, reading: read(readings) }],
  };
}

/** A histogram for each of the worker's, told apart by a label. */
function histograms<Value extends string>(
  name: string,
  help: string,
  { label, members }: { label: string; members: Readonly<Record<Value, WorkerHistogram>> },
): HistogramMetric {
  const named = Object.entries<WorkerHistogram>(members);
  return {
    type: 'histogram',
    name,
    help,
    aggregator: 'sum',
    labels: [label],
    read: (readings) =>
      named.map(([value, member]) => ({
        labels: labelled(label, value),
        reading: readings.histogram(member),
      })),
  };
}

function byLane(
  type: 'counter' | 'gauge',
  { name, help, aggregator = 'sum' }: { name: string; help: string; aggregator?: Aggregator },
  read: (lane: LaneReading) => number,
): ValueMetric {
  return {
    type,
    name,
    help,
    aggregator,
    labels: ['lane'],
    read: ({ lanes }) =>
      lanes.map((lane) => ({ labels: labelled('lane', String(lane.lane)), value: read(lane) })),
  };
}

/** Of every worker thread; those without a value are left out. */
function byWorker(
  type: 'counter' | 'gauge',
  { name, help, aggregator = 'sum' }: { name: string; help: string; aggregator?: Aggregator },
  read: (thread: ThreadReading) => number | undefined,
): ValueMetric {
  return {
    type,
    name,
    help,
    aggregator,
    labels: ['worker'],
    read: ({ threads }) =>
      threads.flatMap((thread) => {
        const found = read(thread);
        return found === undefined
          ? []
          : [{ labels: labelled('worker', String(thread.worker)), value: found }];
      }),
  };
}

function byReason(counts: Readonly<Record<string, number>>): Sample[] {
  return Object.entries(counts).map(([reason, count]) => ({
    labels: labelled('reason', reason),
    value: count,
  }));
}

const dropped: ValueMetric = {
  type: 'counter',
  name: 'millrace_records_dropped_total',
  help: 'Records given up, by reason. overflow_newest and invalid were never accepted.',
  aggregator: 'sum',
  labels: ['reason'],
  read: ({ dropped: reasons }) => byReason(reasons),
};

/** Every metric there is. Each is read from shared memory at the scrape. */
export const CATALOGUE: readonly Metric[] = [
  {
    type: 'gauge',
    name: 'millrace_build_info',
    help: "Always 1; the labels say what runs. codec: wasm, or js where a worker can't run that.",
    aggregator: 'first',
    labels: ['version', 'node', 'codec'],
    read: ({ build }) => [{ labels: build, value: 1 }],
  },
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
    name: 'millrace_records_invalid_total',
    help: 'Wrong calls, by what was wrong; they are in dropped, too.',
    aggregator: 'sum',
    labels: ['reason'],
    read: ({ invalid }) => byReason(invalid),
  },
  {
    type: 'counter',
    name: 'millrace_records_shed_total',
    help: 'Records kept out for more important ones; they are in overflow_newest, too.',
    aggregator: 'sum',
    labels: ['priority'],
    read: ({ shed }) =>
      Object.entries(shed).map(([priority, value]) => ({
        labels: labelled('priority', priority),
        value,
      })),
  },
  counters(
    'millrace_records_dead_lettered_total',
    'Records kept in the dead-letter file: refused for their content, too large alone, refused after answers nobody can explain, expired, or deadly to workers.',
    { prefix: 'dead_', label: 'reason' },
  ),
  counters(
    'millrace_records_redelivered_total',
    'Records sent again; the copies have the same #uuid. worker_death: they were in the hands of a thread that died.',
    { prefix: 'again_', label: 'cause' },
  ),
  counter(
    'millrace_records_warned_total',
    'Values sent though the receiver may cut them: long texts, huge numbers.',
    (at) => at.warnings,
  ),
  gauge('millrace_queue_records', 'Records in the ring, in flight included.', (at) => at.queued),
  gauge('millrace_queue_bytes', 'Bytes of frames in the ring.', (at) => at.queuedBytes),
  gauge('millrace_queue_capacity_bytes', 'Bytes the ring holds.', (at) => at.capacityBytes),
  byLane(
    'gauge',
    { name: 'millrace_lane_queue_records', help: 'Records in a lane.' },
    (lane) => lane.queued,
  ),
  byLane(
    'gauge',
    { name: 'millrace_lane_queue_bytes', help: 'Bytes of frames in a lane.' },
    (lane) => lane.queuedBytes,
  ),
  byLane(
    'gauge',
    { name: 'millrace_lane_inflight_records', help: "Records of a lane in a worker's hands." },
    (lane) => lane.inFlight,
  ),
  byLane(
    'gauge',
    {
      name: 'millrace_lane_oldest_record_age_seconds',
      help: 'Age of the oldest record in a lane.',
      aggregator: 'max',
    },
    (lane) => lane.oldestAgeMs / 1000,
  ),
  byLane(
    'gauge',
    { name: 'millrace_lane_spool_records', help: 'Records of a lane on disk.' },
    (lane) => lane.spooled,
  ),
  byLane(
    'counter',
    { name: 'millrace_lane_records_delivered_total', help: 'Delivered records of a lane.' },
    (lane) => lane.delivered,
  ),
  gauge(
    'millrace_inflight_records',
    "Records in a worker's hands, part of the queue.",
    (at) => at.inFlight,
  ),
  gauge('millrace_inflight_requests', 'Attempts under way.', (at) => at.inFlightRequests),
  {
    type: 'gauge',
    name: 'millrace_oldest_record_age_seconds',
    help: 'Age of the oldest unsettled record: rises whenever anything is stuck.',
    aggregator: 'max',
    labels: ['stage'],
    read: (at) => [
      { labels: labelled('stage', 'queue'), value: at.oldestQueuedAgeMs / 1000 },
      { labels: labelled('stage', 'spool'), value: at.oldestSpooledAgeMs / 1000 },
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
  gauge(
    'millrace_recovery_duration_seconds',
    'Time spent so far on sending what earlier runs left.',
    (at) => at.counter('recovery_ms') / 1000,
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
  histogramOf(
    'millrace_track_duration_seconds',
    'Cost of a tracking call to its caller, of every 64th call.',
    (at) => at.callSeconds,
  ),
  histogram('millrace_delivery_latency_seconds', 'From track() to settled.', 'delivery_seconds'),
  histogram('millrace_queue_wait_seconds', 'From track() to the first attempt.', 'queue_seconds'),
  histograms('millrace_request_duration_seconds', 'Time of one attempt, by what came of it.', {
    label: 'outcome',
    members: {
      ok: 'request_ok',
      retryable: 'request_retryable',
      permanent: 'request_permanent',
      timeout: 'request_timeout',
      network: 'request_network',
    },
  }),
  histogram(
    'millrace_encode_duration_seconds',
    "Time a worker needs to turn a batch's frames into JSON.",
    'encode_seconds',
  ),
  histogram(
    'millrace_compress_duration_seconds',
    'Time a worker needs to make and compress the body of a request.',
    'compress_seconds',
  ),
  histograms('millrace_fsync_duration_seconds', 'Time until the disk was sure.', {
    label: 'target',
    members: { file: 'fsync_file', spool: 'fsync_spool' },
  }),
  histogram(
    'millrace_flush_duration_seconds',
    'How long flush(), flushSync() and the drain of close() took.',
    'flush_seconds',
  ),
  histogram(
    'millrace_turn_duration_seconds',
    'How long a worker attended a lane until it was idle.',
    'turn_seconds',
  ),
  histogram('millrace_batch_records', 'Records of a batch.', 'batch_records'),
  histogram('millrace_batch_raw_bytes', 'JSON text of a batch.', 'batch_raw_bytes'),
  histogram('millrace_batch_sent_bytes', 'Bytes sent for a batch.', 'batch_sent_bytes'),
  worked('millrace_batches_total', 'Batches closed.', 'batches'),
  counters('millrace_batch_trigger_total', 'Why batches were closed.', {
    prefix: 'batch_',
    label: 'trigger',
  }),
  counters(
    'millrace_requests_total',
    'Attempts by status class, or by what went wrong without a reply; none: a file or own sink that did well.',
    { prefix: 'requests_', label: 'code' },
  ),
  counters(
    'millrace_receiver_codes_total',
    "Replies by the receiver's own code: 0 accepted, -1 wrong content, -2 unknown app id, -3 address not allowed.",
    { prefix: 'codes_', label: 'code' },
  ),
  counters(
    'millrace_retries_total',
    'Repeated attempts by reason: batches, and writes that the disk of the spool refused.',
    {
      prefix: 'retries_',
      label: 'reason',
    },
  ),
  worked('millrace_batch_splits_total', 'Batches cut in halves.', 'splits'),
  counter(
    'millrace_retry_after_seconds_total',
    'Time the receiver asked to be left alone (Retry-After).',
    (at) => at.counter('retry_after_ms') / 1000,
  ),
  byWorker(
    'counter',
    { name: 'millrace_turns_total', help: 'Tasks run by the pool: attendances of a lane.' },
    (thread) => thread.turns,
  ),
  worst(
    'max',
    {
      name: 'millrace_circuit_state',
      help: 'Circuit breaker: 0 closed, 1 half-open, 2 open.',
    },
    (at) => at.breakerState,
  ),
  worst(
    'min',
    {
      name: 'millrace_last_success_timestamp_seconds',
      help: 'When a batch was last acknowledged; 0: not yet.',
    },
    (at) => at.lastSuccessMs / 1000,
  ),
  counters(
    'millrace_file_rotations_total',
    'Log files begun: the first one, for another day or hour, for size, or because the last one was gone.',
    { prefix: 'rotations_', label: 'cause' },
  ),
  worked('millrace_file_written_bytes_total', 'Bytes appended to log files.', 'written_bytes'),
  counters(
    'millrace_file_upkeep_failures_total',
    'Finished log files that could not be packed or removed; each is tried again.',
    { prefix: 'upkeep_', label: 'work' },
  ),
  gauge('millrace_workers', 'Living worker threads.', (at) => at.workers.alive),
  gauge('millrace_workers_configured', 'Worker threads asked for.', (at) => at.workers.configured),
  {
    type: 'counter',
    name: 'millrace_worker_restarts_total',
    help: 'Worker threads that died and were replaced, by what they died of.',
    aggregator: 'sum',
    labels: ['reason'],
    read: ({ workers }) => byReason(workers.deaths),
  },
  byWorker(
    'counter',
    {
      name: 'millrace_worker_busy_seconds_total',
      help: 'Time a worker thread was at work.',
    },
    (thread) => thread.busyMs / 1000,
  ),
  byWorker(
    'counter',
    { name: 'millrace_worker_batches_total', help: 'Batches closed by a worker thread.' },
    (thread) => thread.batches,
  ),
  byWorker(
    'gauge',
    {
      name: 'millrace_worker_inflight_requests',
      help: 'Attempts under way from a worker thread.',
    },
    (thread) => thread.requestsInFlight,
  ),
  byWorker(
    'gauge',
    {
      name: 'millrace_worker_heartbeat_age_seconds',
      help: 'Since the latest sign of life of a living worker thread.',
      aggregator: 'max',
    },
    ({ heartbeatAgeMs }) => (heartbeatAgeMs === undefined ? undefined : heartbeatAgeMs / 1000),
  ),
];
