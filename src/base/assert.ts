/** Throws when an invariant of our own does not hold. Never used for input. */
export function assert(condition: boolean, invariant: string): asserts condition {
  if (!condition) throw new Error(`millrace invariant broken: ${invariant}`);
}
