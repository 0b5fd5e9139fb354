import { spawn } from 'node:child_process';

export interface KafkaMock {
  readonly brokers: readonly string[];
  readonly pid: number | undefined;
  readonly stop: () => void;
}

/** librdkafka's mock cluster of three brokers, inside a kcat that consumes a topic of its own. */
export async function startKafkaMock(): Promise<KafkaMock> {
  const args = ['-b', 'mock', '-X', 'test.mock.num.brokers=3', '-C', '-t', 'idle'];
  const child = spawn('kcat', args, { stdio: ['ignore', 'ignore', 'pipe'] });
  let said = '';
  const brokers = await new Promise<string>((resolve, reject) => {
    child.once('exit', () => reject(new Error(`kcat ended: ${said}`)));
    child.stderr.on('data', (part: Buffer) => {
      said += part.toString();
      const found = /replaced with (\S+)/.exec(said)?.[1];
      if (found !== undefined) resolve(found);
    });
  });
  return { brokers: brokers.split(','), pid: child.pid, stop: () => child.kill('SIGKILL') };
}
