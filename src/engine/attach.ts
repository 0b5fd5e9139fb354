import { MessagePort, receiveMessageOnPort } from 'node:worker_threads';
import { MillraceError } from '../base/errors.ts';
import { Control, MODE_RUN, MODE_STOP } from '../lane/control.ts';
import { Region } from '../lane/region.ts';
import { Inlet, lateCalls } from './inlet.ts';
import { isPortNotice, isPortStart } from './port.ts';

/**
 * The producing side of a port, on the thread that received it. Turns are posted by the engine's thread: an idle lane's first
 * record waits until that thread's event loop runs.
 *
 * @throws MillraceError MILLRACE_OPTIONS when the port is none of ours, or was attached before
 */
export function attachInlet(
  port: MessagePort,
  onError: (error: MillraceError) => void,
): { inlet: Inlet; close: () => void } {
  const start: unknown =
    port instanceof MessagePort ? receiveMessageOnPort(port)?.message : undefined;
  if (!isPortStart(start)) {
    throw new MillraceError(
      'MILLRACE_OPTIONS',
      'attach() takes a port that port() gave and that nobody has attached yet',
    );
  }
  const control = Control.attach(start.control);
  let isClosed = false;
  const inlet = new Inlet({
    region: Region.attach(start.memory),
    plan: start.plan,
    options: start.options,
    committer: 'producer',
    host: {
      post: (seat) => port.postMessage({ millrace: 'post', post: seat.lane }),
      tend: () => {
        // The engine's thread looks after its workers.
      },
      isOpen: () => !isClosed && control.mode === MODE_RUN,
      isOver: () => control.mode === MODE_STOP,
      lateCalls: () => {
        const isClosing = !isClosed && control.mode !== MODE_STOP;
        return lateCalls(control, { isClosing, validation: start.options.validation });
      },
      onError,
    },
  });
  inlet.recorder.setSuperProperties(start.supers);
  port.on('message', (message: unknown) => {
    if (isPortNotice(message)) inlet.hear(message.notice);
  });
  // The engine has closed: nobody is left who could settle anything.
  port.on('close', () => {
    if (!isClosed) inlet.tellRest('shutdown');
  });
  port.unref();
  const close = () => {
    isClosed = true;
    port.close();
  };
  return { inlet, close };
}
