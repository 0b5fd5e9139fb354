import { makeSymbols } from './blocks';
import { makeShifts } from './deflate';
import { makePairs, putDouble } from './numbers';
import { TEXT_AT } from '../machine-places';

export { deflate } from './deflate';
export { transcode, useShapes } from './records';
export { spread } from './spread';
export { forgetTime } from './time';

makePairs();
makeSymbols();
makeShifts();

/** The text of a number, for tests; returns its length. */
export function doubleText(value: f64): usize {
  return putDouble(value, TEXT_AT) - TEXT_AT;
}
