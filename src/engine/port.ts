import type { Properties } from '../record/types.ts';
import type { Notice } from '../worker/contract.ts';
import type { InletOptions, InletPlan } from './inlet.ts';

/** First message through a port: all that the other thread needs. Plain data. */
export interface PortStart {
  readonly millrace: 'port';
  readonly memory: SharedArrayBuffer;
  readonly control: SharedArrayBuffer;
  readonly options: InletOptions;
  readonly supers: Properties;
  readonly plan: InletPlan;
}

/** From the other thread: nobody attends this lane. */
export interface PortMessage {
  readonly millrace: 'post';
  readonly post: number;
}

/** To the other thread: what became of records. */
export interface PortNotice {
  readonly millrace: 'notice';
  readonly notice: Notice;
}

export function isPortStart(message: unknown): message is PortStart {
  return kindOf(message) === 'port';
}

export function isPortMessage(message: unknown): message is PortMessage {
  return kindOf(message) === 'post';
}

export function isPortNotice(message: unknown): message is PortNotice {
  return kindOf(message) === 'notice';
}

function kindOf(message: unknown): unknown {
  return typeof message === 'object' && message !== null && 'millrace' in message
    ? message.millrace
    : undefined;
}
