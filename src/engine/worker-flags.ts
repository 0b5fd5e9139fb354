/** Flags of Node that change how modules are loaded or errors look: a worker needs them as its process does. */
const WITH_VALUE: ReadonlySet<string> = new Set([
  '--import',
  '--require',
  '-r',
  '--loader',
  '--experimental-loader',
  '--conditions',
  '-C',
]);
const ALONE: ReadonlySet<string> = new Set([
  '--enable-source-maps',
  '--no-warnings',
  '--trace-warnings',
  '--trace-deprecation',
  '--preserve-symlinks',
  '--experimental-strip-types',
  '--experimental-transform-types',
]);

/**
 * The flags of a process that its worker threads take over. All others are left out: many are refused by
 * threads, and a test runner or a REPL adds some that no user wrote.
 */
export function workerFlags(execArgv: readonly string[]): string[] {
  const flags: string[] = [];
  for (let index = 0; index < execArgv.length; index += 1) {
    const flag = execArgv[index] ?? '';
    const name = flag.split('=')[0] ?? '';
    if (ALONE.has(flag)) flags.push(flag);
    else if (WITH_VALUE.has(name)) {
      flags.push(flag);
      const value = execArgv[index + 1];
      if (name === flag && value !== undefined) {
        flags.push(value);
        index += 1;
      }
    }
  }
  return flags;
}
