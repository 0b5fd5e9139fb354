import type { EventFields } from '../plan.ts';
import type { PropertyValue } from '../record/types.ts';

const EVENTS = 1000;
const USERS = 5000;
const MAPS = ['harbor', 'old_town', 'ice_cave', 'arena_3'] as const;
const GUILDS = ['龙之谷', 'Night Watch', 'Les Éclaireurs', 'かもめ'] as const;
const ITEMS = ['sword_01', 'potion_small', 'mount_wolf', 'skin_neon', 'chest_gold'] as const;

/** What only one kind of event has: six properties each. */
const KINDS: readonly (readonly [
  string,
  (index: number) => Readonly<Record<string, PropertyValue>>,
])[] = [
  [
    'battle_end',
    (index) => ({
      won: index % 3 === 0,
      seconds: 60 + (index % 900),
      kills: index % 30,
      damage: (index * 37) % 50_000,
      accuracy: ((index * 31) % 1000) / 1000,
      damage_per_second: ((index * 37) % 50_000) / (60 + (index % 900)),
    }),
  ],
  [
    'item_used',
    (index) => ({
      item_id: pick(ITEMS, index),
      item_count: 1 + (index % 5),
      items_left: (index * 13) % 200,
      in_battle: index % 2 === 0,
      cooldown_left: ((index * 17) % 600) / 10,
      effect_target: `npc_${(index * 7) % 400}`,
    }),
  ],
  [
    'level_up',
    (index) => ({
      level_before: index % 79,
      played_minutes: (index * 97) % 100_000,
      xp_total: (index * 9973) % 10_000_000,
      xp_per_minute: ((index * 9973) % 10_000_000) / (1 + ((index * 97) % 100_000)),
      rested: index % 4 === 0,
      reward_id: `reward_${index % 200}`,
    }),
  ],
  [
    'payment',
    (index) => ({
      order_id: `ord-${(index * 7_368_787).toString(36)}-${index % 89}`,
      price: [0.99, 4.99, 9.99, 49.99][index % 4] ?? 0.99,
      currency: 'USD',
      product: pick(ITEMS, index + 1),
      first_purchase: index % 50 === 0,
      paid_total: ((index * 499) % 100_000) / 100,
    }),
  ],
];

/**
 * Events as a game server has them, for measuring: four kinds, many users, 13 properties and about 430 bytes of JSON each. Each has
 * the property `session` once.
 */
export function makeEvents(count: number = EVENTS): EventFields[] {
  return Array.from({ length: count }, (_, index) => {
    const [event, own] = KINDS[(index * 7) % KINDS.length] ?? KINDS[0] ?? ['none', () => ({})];
    return {
      accountId: `acc_${100_000 + ((index * 101) % USERS)}`,
      distinctId: `device-${(index * 7919) % 100_000}`,
      event,
      properties: {
        map: pick(MAPS, index),
        mode: index % 2 === 0 ? 'ranked' : 'casual',
        hero: `hero_${index % 40}`,
        guild: pick(GUILDS, index),
        session: `s-${(index * 104_729).toString(36)}-${index % 97}`,
        level: index % 80,
        online_ms: (index * 1_299_709) % 7_200_000,
        ...own(index),
      },
    };
  });
}

function pick<T>(list: readonly T[], index: number): T {
  const found = list[index % list.length];
  if (found === undefined) throw new Error('a list is empty');
  return found;
}
