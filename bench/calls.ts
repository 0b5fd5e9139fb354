import Table from 'cli-table3';
import { Inlet } from '../src/engine/inlet.ts';
import { Region } from '../src/lane/region.ts';
import { SHUTDOWN } from '../src/lane/settlement.ts';
import type { EventFields } from '../src/plan.ts';
import type { Properties } from '../src/record/types.ts';
import { Tracker } from '../src/tracker.ts';
import { makeEvents } from '../src/tune/game-events.ts';
import { SUPER_PROPERTIES } from './events.ts';

/**
 * What each kind of call costs its caller, beside JSON.stringify of the finished record: `node dist/bench/calls.js [rounds]`.
 * Nobody reads the ring, so that no worker runs beside the calls and takes from the same core: the cost of the call alone.
 */
const CALLS = 1000;
const WARM_UPS = 25;
const ROUNDS = Number(process.argv[2] ?? 60);
/** Of the rounds: what the machine does besides only ever adds. */
const QUANTILE = 0.1;
const LANES = 4;
const LANE_BYTES: number = 16 * 1024 * 1024;
const UUID = '3f2b8c1e-9a47-4d6e-8b15-7c0d9e2f1a34';
const CHAT: string = 'gg wp, rematch in five minutes? '.repeat(9);
const NUMBERS: readonly number[] = Array.from({ length: 100 }, (_, index) => index * 37);
const ITEMS: readonly string[] = Array.from({ length: 100 }, (_, index) => `item_${index}`);

type Whole = Required<EventFields> & { readonly properties: Properties };

interface Kind {
  /** Fields of the call with this index; a literal in each, because on Node 20 a spread with additions makes a hidden class an object. */
  readonly fields: (event: Whole, index: number) => EventFields;
  readonly call?: 'track' | 'userSet' | 'userAdd' | 'userAppend' | 'trackUpdate';
  readonly dynamic?: () => Properties;
  /** Records that fit; default: more than there are. */
  readonly queueRecordsMax?: number;
}

const EVENTS = makeEvents(CALLS) as readonly Whole[];

function withProperties(make: (own: Properties, index: number) => Properties): Kind {
  return {
    fields: ({ accountId, distinctId, event, properties }, index) => ({
      accountId,
      distinctId,
      event,
      properties: make(properties, index),
    }),
  };
}

const SAME = (event: EventFields): EventFields => event;
const KINDS: Readonly<Record<string, Kind>> = {
  'track, 13 properties': { fields: SAME },
  'same, ring full': { fields: SAME, queueRecordsMax: 100 },
  userSet: { fields: SAME, call: 'userSet' },
  'userAdd, 3 numbers': {
    ...withProperties((_, index) => ({ gold: index, kills: 3, seconds: index * 1.5 })),
    call: 'userAdd',
  },
  'userAppend, 2 texts': {
    ...withProperties(() => ({ items: ['sword', 'shield'] })),
    call: 'userAppend',
  },
  'time given': {
    fields: ({ accountId, distinctId, event, properties }, index) => {
      const time = new Date(1.7e12 + index);
      return { accountId, distinctId, event, properties, time };
    },
  },
  'uuid given': {
    fields: ({ accountId, distinctId, event, properties }) => {
      return { accountId, distinctId, event, properties, uuid: UUID };
    },
  },
  'ip given': {
    fields: ({ accountId, distinctId, event, properties }) => {
      return { accountId, distinctId, event, properties, ip: '10.20.30.40' };
    },
  },
  'onSettled given': {
    fields: ({ accountId, distinctId, event, properties }) => {
      return { accountId, distinctId, event, properties, onSettled: () => {} };
    },
  },
  trackUpdate: {
    fields: ({ accountId, distinctId, event, properties }, index) => {
      return { accountId, distinctId, event, properties, eventId: `update-${index}` };
    },
    call: 'trackUpdate',
  },
  'dynamic super properties': { fields: SAME, dynamic: () => ({ online: 123, region: 'eu' }) },
  '#ip among the properties': withProperties((own) => ({ ...own, '#ip': '10.20.30.40' })),
  'two Dates more': withProperties((own, index) => ({
    ...own,
    started: new Date(1.7e12 + index),
    ended: new Date(1.7e12 + 2 * index),
  })),
  'texts beyond ASCII': withProperties((own, index) => ({
    ...own,
    map: '龙之谷の港',
    mode: 'élite',
    hero: `ヒーロー${index % 40}`,
    match_id: `🏆-${index}`,
  })),
  'a text of 288 bytes': withProperties((_, index) => ({ chat: CHAT, level: index })),
  'a list of 100 texts': withProperties(() => ({ items: ITEMS })),
  'a list of 100 numbers': withProperties(() => ({ items: NUMBERS })),
  'nested objects': withProperties((_, index) => ({
    team: { name: 'red', score: index, best: { id: 'p1', kills: 3 } },
    rounds: [
      { n: 1, won: true },
      { n: 2, won: false },
      { n: 3, won: true },
    ],
  })),
  'values left out': withProperties((own, index) => ({
    ...own,
    guild: index % 2 === 0 ? 'x' : undefined,
    mode: index % 3 === 0 ? null : 'ranked',
  })),
  'without a prototype': withProperties((own) => Object.assign(Object.create(null), own)),
  frozen: withProperties((own) => Object.freeze({ ...own })),
  '64 events in turn': {
    fields: ({ accountId, distinctId, properties }, index) => {
      return { accountId, distinctId, event: `event_${index % 64}`, properties };
    },
  },
  '64 key lists in turn': withProperties((own, index) => ({ [`p${index % 64}`]: 1, ...own })),
};

/** The calls of a client whose ring nobody reads. */
class RingTracker extends Tracker {
  readonly inlet: Inlet;

  private constructor(inlet: Inlet) {
    super(inlet);
    this.inlet = inlet;
  }

  static open({ dynamic, queueRecordsMax = 4 * CALLS }: Kind): RingTracker {
    const shape = { lanes: LANES, laneBytes: LANE_BYTES };
    const region = Region.create({ ...shape, id: 1, baseMs: Date.now() });
    // Memory that was never touched costs a page fault each 20 records: true of a first pass over the ring only.
    region.bytes.fill(0, region.places.framesAt);
    const inlet = new Inlet({
      region,
      plan: {
        consumer: 'async',
        laneBytes: LANE_BYTES,
        overflow: 'drop-newest',
        blockTimeoutMs: 1000,
        queueRecordsMax,
        pace: 'stream',
        roundRecords: 1,
        keptRecordsMax: 1,
        flush: 'settled',
      },
      options: { validation: 'throw', uuid: true },
      host: {
        post() {},
        tend() {},
        isOpen: () => true,
        lateCalls: () => 'throw',
        isOver: () => false,
        onError(error: Error) {
          throw error;
        },
      },
      committer: 'supervisor',
    });
    const tracker = new RingTracker(inlet);
    tracker.setSuperProperties(SUPER_PROPERTIES);
    tracker.setDynamicSuperProperties(dynamic);
    return tracker;
  }

  empty(): void {
    for (const seat of this.inlet.seats) seat.dropRest(SHUTDOWN);
  }
}

interface Cost {
  readonly callNs: number;
  readonly stringifyNs: number;
}

/** Costs of one kind, the two contestants in turn. */
function measure(kind: Kind): Cost {
  const tracker = RingTracker.open(kind);
  const calls = EVENTS.map(kind.fields);
  const records = calls.map((fields) => finished(fields, kind));
  const call = tracker[kind.call ?? 'track'].bind(tracker) as (fields: EventFields) => boolean;
  const callNs: number[] = [];
  const stringifyNs: number[] = [];
  let bytes = 0;
  for (let round = -WARM_UPS; round < ROUNDS; round += 1) {
    const one = timed((index) => {
      call(calls[index] as EventFields);
    });
    const other = timed((index) => {
      bytes += JSON.stringify(records[index]).length;
    });
    tracker.empty();
    if (round < 0) continue;
    callNs.push(one);
    stringifyNs.push(other);
  }
  if (bytes === 0) throw new Error('nothing was measured');
  return { callNs: low(callNs), stringifyNs: low(stringifyNs) };
}

function timed(step: (index: number) => void): number {
  const startMs = performance.now();
  for (let index = 0; index < CALLS; index += 1) step(index);
  return ((performance.now() - startMs) * 1e6) / CALLS;
}

function low(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[Math.floor(QUANTILE * values.length)] ?? Number.NaN;
}

/** The record as JSON.stringify alone would be given it. */
function finished(fields: EventFields, { dynamic, call = 'track' }: Kind): object {
  const isUser = call.startsWith('user');
  const context = {
    ...dynamic?.(),
    ...SUPER_PROPERTIES,
    '#lib': 'millrace',
    '#lib_version': '0.1.0',
  };
  return {
    '#type': 'track',
    '#time': '2026-11-24 12:00:00.000',
    '#event_name': isUser ? undefined : fields.event,
    '#distinct_id': fields.distinctId,
    '#account_id': fields.accountId,
    '#uuid': UUID,
    properties: { ...fields.properties, ...(isUser ? {} : context) },
  };
}

const table = new Table({
  head: [`Node ${process.version}: ns a call`, 'call', 'JSON.stringify', 'ratio'],
  style: { head: [], border: [] },
});
for (const [name, kind] of Object.entries(KINDS)) {
  const { callNs, stringifyNs } = measure(kind);
  table.push([name, callNs.toFixed(0), stringifyNs.toFixed(0), (callNs / stringifyNs).toFixed(2)]);
}
console.log(table.toString());
