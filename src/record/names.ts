/** Rules for names, as the wire contract gives them (section 1, Names). */

/** Longest event or property name, in characters. */
export const NAME_CHARACTERS_MAX = 50;

/** Event names. */
const NAME_PATTERN: RegExp = /^[a-zA-Z][a-zA-Z0-9_]{0,49}$/;

/** Property names: as event names, and they may start with `#` (preset properties). */
const PROPERTY_NAME_PATTERN: RegExp = /^(?=.{1,50}$)#?[a-zA-Z][a-zA-Z0-9_]*$/;

export function isEventName(name: string): boolean {
  return NAME_PATTERN.test(name);
}

export function isPropertyName(name: string): boolean {
  return PROPERTY_NAME_PATTERN.test(name);
}
