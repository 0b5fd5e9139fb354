import { optionsOf } from './drill.ts';
import { Receiver, Sender } from './stage.ts';

/** A drill in the middle of its work, for a test that kills it: a receiver, and a sender that goes on for ever. */
const receiver = await Receiver.start();
const job = { from: 0, perTick: 10, tickMs: 10, end: 'stay' } as const;
const sender = new Sender({ options: optionsOf(receiver), ...job });
await sender.untilAccepted(1);
process.send?.('at work');
