import type { EventFields, Properties } from '../src/index.ts';

/** The events every contestant gets: 13 properties, about 420 bytes of JSON each. */
export function makeEvents(count: number): EventFields[] {
  return Array.from({ length: count }, (_, index) => ({
    accountId: `acc_${100_000 + (index % 5000)}`,
    distinctId: `device-${(index * 7919) % 100_000}`,
    event: 'battle_end',
    properties: {
      map: ['harbor', 'old_town', 'ice_cave', 'arena_3'][index % 4],
      mode: index % 2 === 0 ? 'ranked' : 'casual',
      won: index % 3 === 0,
      seconds: 60 + (index % 900),
      kills: index % 30,
      deaths: index % 11,
      damage: (index * 37) % 50_000,
      accuracy: ((index * 31) % 1000) / 1000,
      damage_per_second: ((index * 37) % 50_000) / (60 + (index % 900)),
      hero: `hero_${index % 40}`,
      guild: ['龙之谷', 'Night Watch', 'Les Éclaireurs', 'かもめ'][index % 4],
      match_id: `m-${(index * 104_729).toString(36)}-${index % 97}`,
      level: index % 80,
    },
  }));
}

export const SUPER_PROPERTIES: Properties = { server_id: 'eu-west-12', app_version: '4.12.0' };

/** The finished record as a naive sender would build it. */
export function finishedRecord(fields: EventFields, uuid: string): object {
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
