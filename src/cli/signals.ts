/** A signal that comes so soon after another is the same Ctrl-C: from the terminal, and from npm. */
const SAME_MS = 300;

/** Resolves at the first SIGINT or SIGTERM; a second one ends the process at once. */
export function firstSignal(): Promise<NodeJS.Signals> {
  return new Promise((resolve) => {
    let firstMs: number | undefined;
    const listen = (signal: NodeJS.Signals) => {
      firstMs ??= performance.now();
      if (performance.now() - firstMs > SAME_MS) process.exit(1);
      resolve(signal);
    };
    process.on('SIGINT', listen);
    process.on('SIGTERM', listen);
  });
}

/** Resolves when the process that forked this one has ended; never, if none did. */
export function parentIsGone(): Promise<void> {
  return new Promise((resolve) => {
    if (process.send !== undefined && !process.connected) resolve();
    process.once('disconnect', () => resolve());
    // The listener alone would keep the process alive.
    process.channel?.unref();
  });
}
