/** What `enableLog(true)` prints, line by line as `thinkingdata-node` prints it: on the console, with the local time. */

let isEnabled = false;

/** Says on the console what is done, until it is disabled. */
export function enableLog(enable: boolean): void {
  isEnabled = enable === true;
}

export function isLogEnabled(): boolean {
  return isEnabled;
}

/** Prints a message when the log is enabled. */
export function log(message: string, ...details: readonly unknown[]): void {
  if (!isEnabled) return;
  const now = new Date();
  const time = `${now.toLocaleDateString()} ${now.toLocaleTimeString()}.${now.getMilliseconds()}`;
  // biome-ignore lint/suspicious/noConsole: the log of that package goes to the console, where callers look for it.
  console.log(`[${time}][ThinkingData][Info]`, message, ...details);
}
