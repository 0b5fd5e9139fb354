import { makePairs, putDouble } from './numbers';
import { TEXT_AT } from '../machine-places';

export { transcode, useShapes } from './records';
export { forgetTime } from './time';

makePairs();

/** The text of a number, for tests; returns its length. */
export function doubleText(value: f64): usize {
  return putDouble(value, TEXT_AT) - TEXT_AT;
}
