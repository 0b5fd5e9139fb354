import { MillraceError, show } from '../base/errors.ts';
import type { LaneProducer } from '../lane/producer.ts';
import type { Priority, RecordFields } from '../record/types.ts';

export const PRIORITIES: readonly Priority[] = ['low', 'normal', 'high'];

/** Share of the ring, and of the queue's records, up to which records of a class are taken. */
const SHARES: Readonly<Record<Priority, number>> = { low: 0.5, normal: 0.9, high: 1 };

/** Whether a field may be what it says, or is not there. */
export function isPriority(value: unknown): boolean {
  return value === undefined || (PRIORITIES as readonly unknown[]).includes(value);
}

/** The priority of a record: its own, that of its event, or 'normal'. */
export function priorityOf(
  fields: RecordFields,
  rules: Readonly<Record<string, Priority>> | undefined,
): Priority {
  const own = fields.priority;
  if (own !== undefined) {
    if (PRIORITIES.includes(own)) return own;
    throw new MillraceError(
      'MILLRACE_INVALID_VALUE',
      `priority is ${show(own)}; it must be 'low', 'normal' or 'high'`,
    );
  }
  const { event } = fields;
  if (rules === undefined || typeof event !== 'string' || !Object.hasOwn(rules, event)) {
    return 'normal';
  }
  return rules[event] ?? 'normal';
}

/** Whether a record of this class has to stay out, so that there is room for more important ones. */
export function isShed(
  priority: Priority,
  lane: LaneProducer,
  queue: { readonly records: number; readonly recordsMax: number },
): boolean {
  const share = SHARES[priority];
  if (share === 1) return false;
  return queue.records >= share * queue.recordsMax || lane.isFullerThan(share);
}
