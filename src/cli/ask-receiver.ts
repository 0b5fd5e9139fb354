import { MillraceError, textOfError } from '../base/errors.ts';
import { parseEndpoint } from '../sink/endpoint.ts';

const REPLY_MS = 5000;

/**
 * Asks a receiver for anything, to see who answers there, within five seconds. Redirects are not followed.
 *
 * @throws MillraceError MILLRACE_OPTIONS: the address is none; MILLRACE_UNAVAILABLE: nobody answers
 */
export async function askReceiver(url: string): Promise<Response> {
  // The address without user and password, which fetch refuses and nobody should read.
  const { origin, syncPath } = parseEndpoint(url);
  try {
    const signal = AbortSignal.timeout(REPLY_MS);
    const reply = await fetch(new URL(syncPath, origin), { redirect: 'manual', signal });
    await reply.body?.cancel();
    return reply;
  } catch (error) {
    const cause = error instanceof Error ? (error.cause ?? error) : error;
    throw new MillraceError(
      'MILLRACE_UNAVAILABLE',
      `does not answer: ${textOfError(cause)}; check the address, the firewall and the proxy`,
      error,
    );
  }
}
