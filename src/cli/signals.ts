/** Resolves at the first SIGINT or SIGTERM; a second one ends the process at once. */
export function firstSignal(): Promise<NodeJS.Signals> {
  return new Promise((resolve) => {
    let isSecond = false;
    const listen = (signal: NodeJS.Signals) => {
      if (isSecond) process.exit(1);
      isSecond = true;
      resolve(signal);
    };
    process.on('SIGINT', listen);
    process.on('SIGTERM', listen);
  });
}
