import type { CommonFields, Properties } from './record/types.ts';

/**
 * What a game tracks, as types: properties by event name, and the properties of a user. A part that is left out stays
 * open. Types only: nothing of it is there at run time.
 *
 * ```ts
 * interface Plan {
 *   events: { level_up: { level: number; hero?: string }; logout: object };
 *   user: { nickname: string; gold: number; friends: string[] };
 * }
 * const ta = new Analytics<Plan>(consumer);
 * ```
 */
export interface TrackingPlan {
  readonly events?: object;
  readonly user?: object;
}

/** Names of the events of a plan; any text without one. */
export type EventName<Plan> = Plan extends { events: infer Events }
  ? keyof Events & string
  : string;

/** Properties of one event of a plan. */
export type EventProperties<Plan, Name> = Plan extends { events: infer Events }
  ? Name extends keyof Events
    ? Events[Name]
    : never
  : Properties;

/** Properties of a user of a plan: any of them. */
export type UserProperties<Plan> = Plan extends { user: infer User } ? Partial<User> : Properties;

/** User properties that can be added to. */
export type NumericUserProperties<Plan> = Plan extends { user: infer User }
  ? { [Name in keyof User as User[Name] extends number | bigint ? Name : never]?: number | bigint }
  : Properties;

/** User properties that can be appended to. */
export type ListUserProperties<Plan> = Plan extends { user: infer User }
  ? { [Name in keyof User as User[Name] extends readonly unknown[] ? Name : never]?: User[Name] }
  : Properties;

/** Names of the properties of a user. */
export type UserPropertyName<Plan> = Plan extends { user: infer User }
  ? keyof User & string
  : string;

/** Properties may be left out where none is required. */
type PropertiesField<Props> =
  Record<never, never> extends Props
    ? { readonly properties?: Props | undefined }
    : { readonly properties: Props };

interface NamedEvent<Name> extends CommonFields {
  readonly event: Name;
  /** Address of the user. */
  readonly ip?: string | undefined;
}

/** An event of the plan: one of a union by name, so that a misspelt property is seen. */
export type EventFields<Plan = TrackingPlan, More = unknown> = {
  [Name in EventName<Plan>]: NamedEvent<Name> & PropertiesField<EventProperties<Plan, Name>> & More;
}[EventName<Plan>];

/** An event that the receiver keeps only once per `firstCheckId`. */
export type FirstEventFields<Plan = TrackingPlan> = EventFields<
  Plan,
  { readonly firstCheckId?: string | undefined }
>;

/** An event that can be changed later, by `eventId`. */
export type UpdatableEventFields<Plan = TrackingPlan> = EventFields<
  Plan,
  { readonly eventId?: string | undefined }
>;

/** A change of a user's properties. */
export interface UserFields<Props = Properties> extends CommonFields {
  readonly properties: Props;
}

/** Removal of a user's properties: several names, one, or the keys of an object. */
export interface UnsetUserFields<Name extends string = string> extends CommonFields {
  readonly properties: readonly Name[] | Name | { readonly [Key in Name]?: unknown };
}

/** Removal of a user. */
export type DeleteFields = CommonFields;
