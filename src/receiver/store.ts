type Json = Record<string, unknown>;

/** A record that has passed the check. */
export interface CheckedRecord extends Json {
  readonly properties: Json;
}

/** What became of a record that was fine by itself. */
export type Applied = 'applied' | 'duplicate' | 'not-first';

/** Most uuids remembered; beyond, the oldest half is forgotten. About 100 bytes each. */
const UUIDS_MAX = 5_000_000;

interface User {
  readonly id: string;
  accountId: string | undefined;
  distinctId: string | undefined;
  readonly properties: Json;
}

export interface StoreLimits {
  readonly eventsMax: number;
  readonly usersMax: number;
}

/**
 * What the receiver's server would hold: users with their properties, and the latest events. Operations are applied in
 * order of arrival; a repeated uuid is dropped, and so is a first event whose check id has been seen.
 */
export class Store {
  readonly #limits: StoreLimits;
  #uuids = new Set<string>();
  #olderUuids = new Set<string>();
  readonly #firsts = new Set<string>();
  readonly #users = new Map<string, User>();
  readonly #events = new Map<number, CheckedRecord>();
  readonly #byEventId = new Map<string, number>();
  #eventNumber = 0;

  constructor(limits: StoreLimits) {
    this.#limits = limits;
  }

  /** Whether a uuid is new; it is remembered. */
  takeUuid(uuid: string): boolean {
    if (this.#uuids.has(uuid) || this.#olderUuids.has(uuid)) return false;
    if (this.#uuids.size >= UUIDS_MAX / 2) {
      this.#olderUuids = this.#uuids;
      this.#uuids = new Set();
    }
    this.#uuids.add(uuid);
    return true;
  }

  apply(record: CheckedRecord): Applied {
    const uuid = record['#uuid'];
    if (typeof uuid === 'string' && !this.takeUuid(uuid)) return 'duplicate';
    const type = String(record['#type']);
    if (type.startsWith('track')) return this.#applyEvent(type, record);
    this.#applyUser(type, record);
    return 'applied';
  }

  /** A user by account id, distinct id, or either. */
  user(id: string): User | undefined {
    return this.#users.get(`a:${id}`) ?? this.#users.get(`d:${id}`);
  }

  users(limit: number): User[] {
    return [...new Set(this.#users.values())].slice(0, limit);
  }

  /** The latest events, oldest first; of one name, if given. */
  events({ name, limit }: { name?: string | undefined; limit: number }): CheckedRecord[] {
    const found = [...this.#events.values()].filter(
      (event) => name === undefined || event['#event_name'] === name,
    );
    return found.slice(-limit);
  }

  clear(): void {
    this.#uuids.clear();
    this.#olderUuids.clear();
    this.#firsts.clear();
    this.#users.clear();
    this.#events.clear();
    this.#byEventId.clear();
  }

  #applyEvent(type: string, record: CheckedRecord): Applied {
    const firstId = record['#first_check_id'];
    if (typeof firstId === 'string') {
      const key = `${record['#event_name']}\n${firstId}`;
      if (this.#firsts.has(key)) return 'not-first';
      this.#firsts.add(key);
    }
    const eventId = record['#event_id'];
    if (typeof eventId !== 'string') this.#addEvent(record);
    else this.#changeEvent(type, `${record['#event_name']}\n${eventId}`, record);
    return 'applied';
  }

  /** track_update merges, track_overwrite replaces; the first of either makes the event. */
  #changeEvent(type: string, key: string, record: CheckedRecord): void {
    const number = this.#byEventId.get(key);
    const present = number === undefined ? undefined : this.#events.get(number);
    if (number === undefined || present === undefined) {
      this.#byEventId.set(key, this.#addEvent(record));
      return;
    }
    const properties =
      type === 'track_update' ? { ...present.properties, ...record.properties } : record.properties;
    this.#events.set(number, { ...record, properties });
  }

  #addEvent(record: CheckedRecord): number {
    this.#eventNumber += 1;
    this.#events.set(this.#eventNumber, record);
    // By its number: to ask a Map for its first key takes the longer, the more of them have gone.
    this.#events.delete(this.#eventNumber - this.#limits.eventsMax);
    return this.#eventNumber;
  }

  #applyUser(type: string, record: CheckedRecord): void {
    const user = this.#userOf(record);
    const { properties } = user;
    if (type === 'user_del') {
      if (user.accountId !== undefined) this.#users.delete(`a:${user.accountId}`);
      if (user.distinctId !== undefined) this.#users.delete(`d:${user.distinctId}`);
      return;
    }
    for (const [name, value] of Object.entries(record.properties)) {
      if (type === 'user_unset') delete properties[name];
      else properties[name] = changed(type, { present: properties[name], value });
    }
  }

  #userOf(record: CheckedRecord): User {
    const accountId = textOf(record['#account_id']);
    const distinctId = textOf(record['#distinct_id']);
    const known =
      (accountId === undefined ? undefined : this.#users.get(`a:${accountId}`)) ??
      (distinctId === undefined ? undefined : this.#users.get(`d:${distinctId}`));
    const user = known ?? {
      id: accountId ?? distinctId ?? '',
      accountId,
      distinctId,
      properties: {},
    };
    user.accountId ??= accountId;
    user.distinctId ??= distinctId;
    if (this.#users.size >= this.#limits.usersMax && known === undefined) return user;
    if (accountId !== undefined) this.#users.set(`a:${accountId}`, user);
    // A visitor who was seen with one account stays with it.
    if (distinctId !== undefined && !this.#users.has(`d:${distinctId}`)) {
      this.#users.set(`d:${distinctId}`, user);
    }
    return user;
  }
}

function changed(type: string, { present, value }: { present: unknown; value: unknown }): unknown {
  switch (type) {
    case 'user_setOnce':
      return present ?? value;
    case 'user_add':
      return (typeof present === 'number' ? present : 0) + Number(value);
    case 'user_append':
      return [...listOf(present), ...listOf(value)];
    case 'user_uniq_append': {
      const all = [...listOf(present), ...listOf(value)];
      return [...new Map(all.map((element) => [JSON.stringify(element), element])).values()];
    }
    default:
      return value;
  }
}

function listOf(value: unknown): unknown[] {
  return Array.isArray(value) ? value : [];
}

function textOf(value: unknown): string | undefined {
  return typeof value === 'string' && value !== '' ? value : undefined;
}
