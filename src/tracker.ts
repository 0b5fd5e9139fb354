import type { Inlet } from './engine/inlet.ts';
import type {
  DeleteFields,
  EventFields,
  FirstEventFields,
  ListUserProperties,
  NumericUserProperties,
  TrackingPlan,
  UnsetUserFields,
  UpdatableEventFields,
  UserFields,
  UserProperties,
  UserPropertyName,
} from './plan.ts';
import {
  type Properties,
  type RecordFields,
  TRACK,
  TRACK_OVERWRITE,
  TRACK_UPDATE,
  type UnsetFields,
  USER_ADD,
  USER_APPEND,
  USER_DEL,
  USER_SET,
  USER_SET_ONCE,
  USER_UNIQ_APPEND,
  USER_UNSET,
} from './record/types.ts';

/**
 * The tracking calls of one thread. They never do I/O and never wait (but under `overflow: 'block'`, and with a
 * consumer that says so), and return whether the record was accepted.
 */
export class Tracker<Plan extends TrackingPlan = TrackingPlan> {
  readonly #inlet: Inlet;

  protected constructor(inlet: Inlet) {
    this.#inlet = inlet;
  }

  /** An event. */
  track(fields: EventFields<Plan>): boolean {
    return this.#inlet.record(TRACK, fields as RecordFields);
  }

  /** An event of which the receiver keeps only the first with this `firstCheckId`. */
  trackFirst(fields: FirstEventFields<Plan>): boolean {
    return this.#inlet.record(TRACK, fields as RecordFields, 'firstCheckId');
  }

  /** Changes properties of the event `eventId`. */
  trackUpdate(fields: UpdatableEventFields<Plan>): boolean {
    return this.#inlet.record(TRACK_UPDATE, fields as RecordFields, 'eventId');
  }

  /** Replaces the event `eventId`. */
  trackOverwrite(fields: UpdatableEventFields<Plan>): boolean {
    return this.#inlet.record(TRACK_OVERWRITE, fields as RecordFields, 'eventId');
  }

  /** Sets user properties. */
  userSet(fields: UserFields<UserProperties<Plan>>): boolean {
    return this.#inlet.record(USER_SET, fields as RecordFields, 'properties');
  }

  /** Sets user properties that are not set yet. */
  userSetOnce(fields: UserFields<UserProperties<Plan>>): boolean {
    return this.#inlet.record(USER_SET_ONCE, fields as RecordFields, 'properties');
  }

  /** Adds to numeric user properties. */
  userAdd(fields: UserFields<NumericUserProperties<Plan>>): boolean {
    return this.#inlet.record(USER_ADD, fields as RecordFields, 'properties');
  }

  /** Appends to user properties that are lists. */
  userAppend(fields: UserFields<ListUserProperties<Plan>>): boolean {
    return this.#inlet.record(USER_APPEND, fields as RecordFields, 'properties');
  }

  /** Appends to lists what they do not hold yet. */
  userUniqAppend(fields: UserFields<ListUserProperties<Plan>>): boolean {
    return this.#inlet.record(USER_UNIQ_APPEND, fields as RecordFields, 'properties');
  }

  /** Removes user properties. */
  userUnset(fields: UnsetUserFields<UserPropertyName<Plan>>): boolean {
    return this.#inlet.record(USER_UNSET, fields as UnsetFields, 'properties');
  }

  /** Removes a user. */
  userDel(fields: DeleteFields): boolean {
    return this.#inlet.record(USER_DEL, fields);
  }

  /** Adds properties to every later `track*` record; of two values the later wins. They are copied. */
  setSuperProperties(properties: Properties): void {
    this.#inlet.recorder.setSuperProperties(properties);
  }

  unsetSuperProperty(name: string): void {
    this.#inlet.recorder.unsetSuperProperty(name);
  }

  /** A copy. */
  getSuperProperties(): Properties {
    return this.#inlet.recorder.getSuperProperties();
  }

  clearSuperProperties(): void {
    this.#inlet.recorder.clearSuperProperties();
  }

  /**
   * Asks `dynamic` for more properties at every `track*` call; they win over super properties. If it throws, the record goes
   * without them and `onError` hears of it. `undefined` ends it.
   */
  setDynamicSuperProperties(dynamic: (() => Properties | null | undefined) | undefined): void {
    this.#inlet.recorder.setDynamicSuperProperties(dynamic);
  }

  /** What the dynamic function gives at this moment, unchecked; empty without one, or if it throws, of which `onError` hears. */
  getDynamicSuperProperties(): Properties {
    return this.#inlet.recorder.getDynamicSuperProperties();
  }
}
