import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { Command } from 'commander';

const PATH: string = fileURLToPath(new URL('../../bench/main.js', import.meta.url));

/** `millrace bench`: the benchmarks are a program of their own, and no part of what this package's users load. */
export function benchCommand(): Command {
  return new Command('bench')
    .description('measure a call, delivery, ticks, memory and latency, against other libraries')
    .argument('[args...]')
    .allowUnknownOption()
    .helpOption(false)
    .action(run);
}

async function run(args: readonly string[]): Promise<void> {
  if (!existsSync(PATH)) throw new Error(`the benchmarks are not there: ${PATH}`);
  const [code] = await once(spawn(process.execPath, [PATH, ...args], { stdio: 'inherit' }), 'exit');
  process.exitCode = typeof code === 'number' ? code : 1;
}
