/**
 * Compiled, never run: what a tracking plan allows, and (each line marked) what it must not.
 */
import type * as Official from 'thinkingdata-node';
import { Analytics, type Consumer, type EventFields } from '../src/index.ts';
import TA from '../src/thinkingdata.ts';

interface Plan {
  events: {
    level_up: { level: number; hero?: string };
    payment: { price: number; currency: 'USD' | 'CNY'; items: { id: string }[] };
    logout: object;
  };
  user: { nickname: string; gold: number; friends: string[] };
}

export function planned(consumer: Consumer): void {
  const ta = new Analytics<Plan>(consumer);
  ta.track({ accountId: 'u', event: 'level_up', properties: { level: 2 } });
  ta.track({ accountId: 'u', event: 'logout' });
  ta.track({
    accountId: 'u',
    event: 'payment',
    properties: { price: 1, currency: 'USD', items: [{ id: 'x' }] },
  });
  ta.userSet({ accountId: 'u', properties: { nickname: 'n' } });
  ta.userAdd({ accountId: 'u', properties: { gold: 5 } });
  ta.userAppend({ accountId: 'u', properties: { friends: ['v'] } });
  ta.userUnset({ accountId: 'u', properties: ['gold', 'friends'] });
  ta.userUnset({ accountId: 'u', properties: 'gold' });
  // @ts-expect-error no such event
  ta.track({ accountId: 'u', event: 'levelup', properties: { level: 2 } });
  // @ts-expect-error the level is a number
  ta.track({ accountId: 'u', event: 'level_up', properties: { level: '2' } });
  // @ts-expect-error the level is missing
  ta.track({ accountId: 'u', event: 'level_up', properties: {} });
  // @ts-expect-error its properties are missing
  ta.track({ accountId: 'u', event: 'level_up' });
  // @ts-expect-error no such property
  ta.track({ accountId: 'u', event: 'level_up', properties: { level: 2, herro: 'x' } });
  const paid = { price: 1, items: [] };
  const euros = { ...paid, currency: 'EUR' as const };
  // @ts-expect-error no such currency
  ta.trackUpdate({ accountId: 'u', event: 'payment', eventId: '1', properties: euros });
  // @ts-expect-error no such user property
  ta.userSet({ accountId: 'u', properties: { nick: 'n' } });
  // @ts-expect-error not a number
  ta.userAdd({ accountId: 'u', properties: { nickname: 1 } });
  // @ts-expect-error not a list
  ta.userAppend({ accountId: 'u', properties: { gold: [1] } });
  // @ts-expect-error no such user property
  ta.userUnset({ accountId: 'u', properties: ['golden'] });
}

export function open(consumer: Consumer): void {
  const ta = new Analytics(consumer);
  ta.track({
    accountId: 'u',
    event: 'anything',
    properties: { at: new Date(), n: 1n, l: [{ a: 1 }] },
  });
  ta.userUnset({ accountId: 'u', properties: ['whatever'] });
  const fields: EventFields = { distinctId: 'd', event: 'e' };
  ta.track(fields);
  // @ts-expect-error a function is no value
  ta.track({ accountId: 'u', event: 'e', properties: { f: () => 1 } });
  // @ts-expect-error an event needs a name
  ta.track({ accountId: 'u' });
  // @ts-expect-error no such field
  ta.track({ accountId: 'u', event: 'e', propertes: {} });
  // @ts-expect-error the time is a Date
  ta.track({ accountId: 'u', event: 'e', time: 'now' });
}

export function userPlanOnly(consumer: Consumer): void {
  const ta = new Analytics<{ user: { vip: boolean } }>(consumer);
  ta.track({ accountId: 'u', event: 'open_to_all', properties: { x: 1 } });
  ta.userSet({ accountId: 'u', properties: { vip: true } });
  // @ts-expect-error vip is a boolean
  ta.userSet({ accountId: 'u', properties: { vip: 1 } });
}

/** What is written for the types of thinkingdata-node compiles with ours. */
export const dropIn: Pick<typeof Official, keyof typeof TA> = TA;

export function migrated(): void {
  const te = TA.initWithBatchMode('A', 'http://127.0.0.1', { batchSize: 10, compress: true });
  // Official callbacks are of any kind; these are the ones people write.
  te.track({ accountId: 'u', event: 'e', callback: (error: Error) => error.message });
  te.track({ accountId: 'u', event: 'e', callback: (error) => error?.message });
  te.userUnset({ accountId: 'u', property: 'p', callback() {} });
  TA.initWithDebugMode('A', 'http://127.0.0.1', { dryRun: true, deviceId: 'd' }).flush();
}
