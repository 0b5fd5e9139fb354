import { constants } from 'node:os';

export interface SignalOptions {
  /** Default: SIGTERM and SIGINT. */
  readonly signals?: readonly NodeJS.Signals[];
  /** Longest time until the process ends, in ms; default 5000. */
  readonly timeoutMs?: number;
}

const TIMEOUT_MS = 5000;

/**
 * Runs `close` at the first of the signals and ends the process with code 0 after it; a second signal ends it at once,
 * with the code a shell expects. Returns what takes the listeners away.
 */
export function closeOnSignals(
  close: (timeoutMs: number) => Promise<unknown>,
  { signals = ['SIGTERM', 'SIGINT'], timeoutMs = TIMEOUT_MS }: SignalOptions,
): () => void {
  let isClosing = false;
  const listen = (signal: NodeJS.Signals) => {
    if (isClosing) process.exit(128 + constants.signals[signal]);
    isClosing = true;
    close(timeoutMs).then(
      () => process.exit(0),
      (error: unknown) => {
        process.emitWarning(`close() failed: ${error}`, 'millrace');
        process.exit(1);
      },
    );
  };
  for (const signal of signals) process.on(signal, listen);
  return () => {
    for (const signal of signals) process.off(signal, listen);
  };
}
