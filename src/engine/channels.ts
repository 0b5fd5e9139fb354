import { channel } from 'node:diagnostics_channel';
import type { MillraceError } from '../base/errors.ts';
import type { AttemptNote } from '../worker/contract.ts';
import type { Stats } from './stats.ts';

/** Who a message is about. */
export interface Origin {
  /** The client's name. */
  readonly client: string;
  /** Kind of consumer. */
  readonly consumer: string;
}

/** Messages of the `node:diagnostics_channel` channels. Nothing is made or sent while nobody listens. */
export interface ChannelMessages {
  /** Every attempt to deliver a batch, told when it has ended. */
  batch: Origin & AttemptNote;
  /** Those of them that will be repeated, or were given up after repeating. */
  retry: Origin & AttemptNote;
  /** Records that were given up since the last look, a second ago, by reason. */
  drop: Origin & { readonly reason: string; readonly records: number };
  /** A worker thread: it has loaded, it was found hung and is ended, or it is gone. */
  worker: Origin & { readonly event: 'start' | 'hung' | 'exit'; readonly threadId: number };
  /** The spool took its first record, or gave up its last. */
  spool: Origin & { readonly event: 'in_use' | 'empty'; readonly records: number };
  circuit: Origin & { readonly state: 'closed' | 'half_open' | 'open' };
  /** The same that `onError` hears. */
  error: Origin & { readonly error: MillraceError };
  client: Origin & { readonly event: 'open' | 'close'; readonly stats: Stats };
}

export type ChannelName = keyof ChannelMessages;

export const CHANNEL_NAMES: readonly ChannelName[] = [
  'batch',
  'retry',
  'drop',
  'worker',
  'spool',
  'circuit',
  'error',
  'client',
];

const channels = Object.fromEntries(
  CHANNEL_NAMES.map((name) => [name, channel(`millrace:${name}`)]),
) as Record<ChannelName, ReturnType<typeof channel>>;

/** Whether anybody listens to the channel now. */
export function isHeard(name: ChannelName): boolean {
  return channels[name].hasSubscribers;
}

export function publish<Name extends ChannelName>(
  name: Name,
  message: ChannelMessages[Name],
): void {
  channels[name].publish(message);
}
