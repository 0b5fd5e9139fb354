import type { EventFields, Properties } from '../src/index.ts';

/**
 * Every record of the benchmarks has this once, and nothing else in its text looks like it: what receiver and files are counted by.
 * Without the quote before it, because a search looks for the first letter first, and there are many quotes.
 */
export const RECORD_MARK = 'session":"';

/** What lies between two marks at least, in bytes: a receiver that looks no closer costs less beside those it measures. */
export const MARK_DISTANCE_MIN = 256;

export const SUPER_PROPERTIES: Properties = { server_id: 'eu-west-12', app_version: '4.12.0' };

/** The finished record as a naive sender would build it. */
export function finishedRecord(
  fields: EventFields,
  uuid: string = '3f2b8c1e-9a47-4d6e-8b15-7c0d9e2f1a34',
): object {
  return {
    '#type': 'track',
    '#time': '2026-11-24 12:00:00.000',
    '#event_name': fields.event,
    '#distinct_id': fields.distinctId,
    '#account_id': fields.accountId,
    '#uuid': uuid,
    properties: {
      ...fields.properties,
      ...SUPER_PROPERTIES,
      '#lib': 'millrace',
      '#lib_version': '0.1.0',
    },
  };
}
