import { WORKER_COUNTERS, type WorkerCounter } from '../lane/ledger.ts';
import type { Readings } from '../lane/readings.ts';
import type { MetricsCollector } from './collector.ts';

type CodeCounter = Extract<WorkerCounter, `requests_${string}`>;

const CODE_COUNTERS = WORKER_COUNTERS.filter((name): name is CodeCounter =>
  name.startsWith('requests_'),
);
const RETRY_COUNTERS = WORKER_COUNTERS.filter((name) => name.startsWith('retries_'));
const REQUESTS = [
  'request_ok',
  'request_retryable',
  'request_permanent',
  'request_timeout',
  'request_network',
] as const;

/** What the live page of an engine shows of all clients of a registry: plain data. */
export function engineFrame(collector: MetricsCollector): { clients: object[] } {
  const clients = [...collector.look()].map(([source, readings]) => ({
    client: source.client,
    consumer: source.consumer,
    ...readings,
    retries: RETRY_COUNTERS.reduce((sum, name) => sum + readings.counter(name), 0),
    requests: Object.fromEntries(
      CODE_COUNTERS.map((name) => [name.slice('requests_'.length), readings.counter(name)]),
    ),
    delivery: bucketsOf(readings.histogram('delivery_seconds')),
    request: requestsOf(readings),
    call: bucketsOf(readings.callSeconds),
    callSeconds: undefined,
    troubles: source.troubles(),
  }));
  return { clients };
}

interface Buckets {
  readonly bounds: readonly number[];
  readonly counts: readonly number[];
}

function bucketsOf({ bounds, counts }: Buckets): Buckets {
  return { bounds, counts };
}

/** Attempts of all outcomes together. */
function requestsOf(readings: Readings): Buckets {
  const all = REQUESTS.map((name) => readings.histogram(name));
  const bounds = all[0]?.bounds ?? [];
  const counts = Array.from({ length: bounds.length + 1 }, (_, bucket) =>
    all.reduce((sum, one) => sum + (one.counts[bucket] ?? 0), 0),
  );
  return { bounds, counts };
}
