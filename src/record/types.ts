/** The ten kinds of record, by the number a frame carries. */
export const TRACK = 1;
export const TRACK_UPDATE = 2;
export const TRACK_OVERWRITE = 3;
export const USER_SET = 4;
export const USER_SET_ONCE = 5;
export const USER_ADD = 6;
export const USER_UNSET = 7;
export const USER_APPEND = 8;
export const USER_UNIQ_APPEND = 9;
export const USER_DEL = 10;

/** `#type` by kind. */
export const TYPE_NAMES: readonly string[] = [
  '',
  'track',
  'track_update',
  'track_overwrite',
  'user_set',
  'user_setOnce',
  'user_add',
  'user_unset',
  'user_append',
  'user_uniq_append',
  'user_del',
];

/** Whether records of a kind have an event name and carry super, dynamic and preset properties. */
export function isTrackKind(kind: number): boolean {
  return kind <= TRACK_OVERWRITE;
}

/** Fields that leave `properties` for the top level of the record, by the number a frame carries them under. */
export const LIFT_TIME = 1;
export const LIFT_UUID = 2;
export const LIFT_IP = 3;
export const LIFT_APP_ID = 4;
export const LIFT_EVENT_ID = 5;
export const LIFT_FIRST_CHECK_ID = 6;
export const LIFT_TRANSACTION_PROPERTY = 7;
export const LIFT_IMPORT_TOOL_ID = 8;
export const LIFT_CODES = 9;

/** Names of the lifted fields, by number. */
export const LIFT_NAMES: readonly string[] = [
  '',
  '#time',
  '#uuid',
  '#ip',
  '#app_id',
  '#event_id',
  '#first_check_id',
  '#transaction_property',
  '#import_tool_id',
];

/** A value inside an object of a property value. */
export type NestedValue =
  | string
  | number
  | bigint
  | boolean
  | Date
  | null
  | undefined
  | readonly NestedValue[]
  | { readonly [name: string]: NestedValue };

/** A value of a property. `null` and `undefined` leave the property out. */
export type PropertyValue = NestedValue;

/** Properties of an event or a user, by name. */
export interface Properties {
  readonly [name: string]: PropertyValue;
}

/** Who a record is about: at least one of the two, non-empty, at most 128 characters each. */
export interface Identity {
  readonly accountId?: string | undefined;
  readonly distinctId?: string | undefined;
}

/** Outcome of one record, for `onSettled`. */
export interface SettledOutcome {
  readonly state: 'delivered' | 'rejected' | 'dropped' | 'spooled';
  readonly reason?: string;
}

/** What is kept out first under `overflow: 'drop-newest'`: low ones from a half full ring on, normal ones from 90 %. */
export type Priority = 'low' | 'normal' | 'high';

/** What every tracking call takes besides its own fields. */
export interface CommonFields extends Identity {
  /** Time of the record; default: the moment of the call. */
  readonly time?: Date | undefined;
  /** RFC 4122 text; default: one is made when the client's `uuid` option is on. */
  readonly uuid?: string | undefined;
  /** Routes this one record to another project. */
  readonly appId?: string | undefined;
  /** How important it is when the ring fills up; default: the rule for its event, or 'normal'. */
  readonly priority?: Priority | undefined;
  /** Called once on the loop of the calling thread when the record's fate is known. */
  readonly onSettled?: ((outcome: SettledOutcome) => void) | undefined;
}

/** One call as the encoder takes it: the fields of all kinds. */
export interface RecordFields extends CommonFields {
  readonly event?: string | undefined;
  readonly properties?: Properties | undefined;
  readonly ip?: string | undefined;
  readonly eventId?: string | undefined;
  readonly firstCheckId?: string | undefined;
}

/** Names of user properties to remove: several, one, or the keys of an object. */
export interface UnsetFields extends CommonFields {
  readonly properties: readonly string[] | string | Properties;
}
