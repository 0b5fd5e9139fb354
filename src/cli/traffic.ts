import type { EventFields, UserFields } from '../index.ts';

/** One call of a simulated game server. */
export type Call =
  | { readonly method: 'track'; readonly fields: EventFields }
  | { readonly method: 'userSet' | 'userAdd'; readonly fields: UserFields };

interface Player {
  readonly accountId: string;
  readonly distinctId: string;
  readonly name: string;
  readonly country: string;
  readonly device: string;
  level: number;
  gold: number;
  isOnline: boolean;
}

const COUNTRIES = ['CN', 'US', 'JP', 'DE', 'BR', 'KR', 'TR', 'IN'] as const;
const DEVICES = ['iPhone15,3', 'SM-S918B', 'Pixel 8', 'Xiaomi 14', 'PC', 'Steam Deck'] as const;
const GUILDS = ['龙之谷', 'Night Watch', 'Les Éclaireurs', 'かもめ', 'Волки', '별무리'] as const;
const CHAT = [
  'gg 😀',
  'raid at 20:00? "be there"',
  '公会战马上开始，快来！',
  'wer hat noch Tränke?',
  'lol\nnice one',
  '⚔️🛡️ need tank',
] as const;
const ITEMS = ['sword_01', 'potion_small', 'mount_wolf', 'skin_neon', 'chest_gold'] as const;
const MAPS = ['harbor', 'old_town', 'ice_cave', 'arena_3'] as const;
/** Share of calls by kind, in parts of 100: most is small talk, money is rare. */
const MIX: readonly (readonly [number, (game: Traffic, player: Player) => Call])[] = [
  [34, (game, player) => game.battle(player)],
  [58, (game, player) => game.item(player)],
  [76, (game, player) => game.chat(player)],
  [86, (game, player) => game.levelUp(player)],
  [92, (game, player) => game.balance(player)],
  [96, (game, player) => game.profile(player)],
  [100, (game, player) => game.payment(player)],
];

/**
 * What thousands of players do, call by call: sessions, battles, level-ups, chat in many scripts, payments. A few players
 * do most of it. The same seed makes the same calls.
 */
export class Traffic {
  readonly #players: readonly Player[];
  #seed: number;

  constructor({ players, seed }: { players: number; seed: number }) {
    this.#seed = seed;
    this.#players = Array.from({ length: players }, (_, index) => this.#makePlayer(index));
  }

  /** The next call. */
  next(): Call {
    const player = this.#pickPlayer();
    if (!player.isOnline) {
      player.isOnline = true;
      return this.#event(player, 'login', {
        device_model: player.device,
        country: player.country,
        app_version: '4.12.0',
        first_today: this.#random() < 0.3,
      });
    }
    if (this.#random() < 0.02) {
      player.isOnline = false;
      return this.#event(player, 'logout', {
        session_seconds: this.#below(5400),
        level: player.level,
      });
    }
    const draw = this.#below(100);
    const [, make] = MIX.find(([until]) => draw < until) ?? [];
    return make === undefined ? this.chat(player) : make(this, player);
  }

  battle(player: Player): Call {
    const damage = this.#below(50_000);
    return this.#event(player, 'battle_end', {
      map: this.#pick(MAPS),
      mode: this.#random() < 0.5 ? 'ranked' : 'casual',
      won: this.#random() < 0.5,
      seconds: 60 + this.#below(900),
      kills: this.#below(30),
      damage,
      damage_per_second: damage / (60 + this.#below(900)),
      party: [this.#pick(this.#players).name, this.#pick(this.#players).name],
      level: player.level,
    });
  }

  item(player: Player): Call {
    return this.#event(player, 'item_used', {
      item_id: this.#pick(ITEMS),
      count: 1 + this.#below(5),
      left: this.#below(200),
      stats: { attack: this.#below(100), bonus: this.#random() },
      level: player.level,
    });
  }

  chat(player: Player): Call {
    return this.#event(player, 'chat', {
      channel: this.#random() < 0.7 ? 'guild' : 'world',
      guild: this.#pick(GUILDS),
      text: this.#pick(CHAT),
    });
  }

  levelUp(player: Player): Call {
    player.level += 1;
    return this.#event(player, 'level_up', {
      level: player.level,
      played_minutes: this.#below(100_000),
      guild: this.#pick(GUILDS),
    });
  }

  payment(player: Player): Call {
    const price = [0.99, 4.99, 9.99, 49.99, 99.99][this.#below(5)] ?? 0.99;
    return this.#event(player, 'payment', {
      order_id: `ord-${this.#below(1e9).toString(36)}-${this.#below(1e9).toString(36)}`,
      price,
      currency: 'USD',
      product: this.#pick(ITEMS),
      paid_at: new Date(),
    });
  }

  balance(player: Player): Call {
    const gained = this.#below(500);
    player.gold += gained;
    return {
      method: 'userAdd',
      fields: { ...idsOf(player), properties: { gold_total: gained, battles: 1 } },
    };
  }

  profile(player: Player): Call {
    return {
      method: 'userSet',
      fields: {
        ...idsOf(player),
        properties: { nickname: player.name, level: player.level, last_seen: new Date() },
      },
    };
  }

  #event(player: Player, event: string, properties: EventFields['properties']): Call {
    return { method: 'track', fields: { ...idsOf(player), event, properties } };
  }

  #makePlayer(index: number): Player {
    return {
      accountId: `acc_${100_000 + index}`,
      distinctId: `dev-${this.#below(2 ** 31).toString(16)}${index.toString(16)}`,
      name: `${this.#pick(GUILDS).slice(0, 3)}_${index}`,
      country: this.#pick(COUNTRIES),
      device: this.#pick(DEVICES),
      level: 1 + this.#below(80),
      gold: 0,
      isOnline: false,
    };
  }

  /** Squared, so that a tenth of the players makes a third of the calls. */
  #pickPlayer(): Player {
    const draw = this.#random();
    return this.#at(this.#players, Math.floor(draw * draw * this.#players.length));
  }

  #pick<T>(list: readonly T[]): T {
    return this.#at(list, this.#below(list.length));
  }

  #at<T>(list: readonly T[], index: number): T {
    const found = list[index];
    if (found === undefined) throw new Error('a list is empty');
    return found;
  }

  #below(limit: number): number {
    return Math.floor(this.#random() * limit);
  }

  /** Repeatable (mulberry32). */
  #random(): number {
    this.#seed = (this.#seed + 0x6d2b79f5) | 0;
    let mixed = Math.imul(this.#seed ^ (this.#seed >>> 15), 1 | this.#seed);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  }
}

function idsOf({ accountId, distinctId }: Player): { accountId: string; distinctId: string } {
  return { accountId, distinctId };
}
