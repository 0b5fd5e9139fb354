export { checkRecord, type RecordProblem } from '../record/check.ts';
export type { Fault, FaultAction, FaultTarget } from './faults.ts';
export { Receiver, type ReceiverOptions } from './receiver.ts';
export type { ReceiverSnapshot } from './tally.ts';
