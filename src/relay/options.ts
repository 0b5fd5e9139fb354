import { MillraceError, show } from '../base/errors.ts';

/** Where a relay reads, from a URL. */
export interface RelayOrigin {
  /** `nats://host:port` or `tls://host:port` of each server. */
  readonly servers: readonly string[];
  /** The stream. */
  readonly name: string;
  readonly user?: string;
  readonly pass?: string;
}

const PATTERN = /^(nats|tls):\/\/(?:([^@/]*)@)?([^/?#]+)\/([^/?#\s]+)$/;

/**
 * Reads `nats://host:4222,host2:4222/STREAM`, with TLS `tls://…`; `user:password@` before the hosts.
 *
 * @throws MillraceError MILLRACE_OPTIONS; a password is not repeated
 */
export function parseOrigin(from: string): RelayOrigin {
  const match = PATTERN.exec(from);
  if (match === null) {
    const shown = from.replace(/\/\/[^@/]*@/, '//***@');
    throw new MillraceError(
      'MILLRACE_OPTIONS',
      `from is ${show(shown)}; it must be nats://HOST:PORT/STREAM`,
    );
  }
  const [, scheme = '', account, hosts = '', name = ''] = match;
  const servers = hosts.split(',').map((host) => `${scheme}://${host}`);
  const [user, pass] = (account ?? '').split(':').map(decodeURIComponent);
  return {
    servers,
    name,
    ...(user === undefined || user === '' ? {} : { user }),
    ...(pass === undefined ? {} : { pass }),
  };
}
