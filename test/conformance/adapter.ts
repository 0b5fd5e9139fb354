import { createInterface } from 'node:readline';
import { decodeGolden } from '../support.ts';

/** One request of `millrace conform`, dates decoded. */
export type Request = Readonly<Record<string, unknown>> & { readonly do: string };

/** Answers each request of standard input with a line, one after another. An exception is a refusal. */
export function answerRequests(perform: (request: Request) => unknown): void {
  let last: Promise<unknown> = Promise.resolve();
  createInterface({ input: process.stdin }).on('line', (line) => {
    last = last.then(async () => {
      const request = decodeGolden(JSON.parse(line)) as Request;
      if (request.do === 'exit') process.exit(0);
      const reply = await Promise.resolve()
        .then(() => perform(request))
        .then(
          (result) => (result === 'unsupported' ? { unsupported: true } : { ok: true }),
          (error: unknown) => ({ error: String(error) }),
        );
      process.stdout.write(`${JSON.stringify(reply)}\n`);
    });
  });
}
