/** A process that imports this ends when the process that started it is gone, however that one ended. */
process.once('disconnect', endAtOnce);
// To listen must not keep it alive.
process.channel?.unref();

function endAtOnce(): void {
  process.kill(process.pid, 'SIGKILL');
}

/** Ends the connection to the process that started this one, which goes on to its own end. */
export function partFromParent(): void {
  process.off('disconnect', endAtOnce);
  process.disconnect();
}
