import { MillraceError, show } from '../base/errors.ts';

/** Where a relay reads, from a URL. */
export interface RelayOrigin {
  readonly kind: 'nats' | 'kafka';
  /** `host:port` of each server, with the scheme the client wants. */
  readonly servers: readonly string[];
  /** Stream or topic. */
  readonly name: string;
  readonly user?: string;
  readonly pass?: string;
}

const PATTERN = /^(nats|tls|kafka):\/\/(?:([^@/]*)@)?([^/?#]+)\/([^/?#\s]+)$/;

/**
 * Reads `nats://host:4222,host2:4222/STREAM` or `kafka://host:9092/topic`; `user:password@` before the hosts.
 *
 * @throws MillraceError MILLRACE_OPTIONS; a password is not repeated
 */
export function parseOrigin(from: string): RelayOrigin {
  const match = PATTERN.exec(from);
  if (match === null) {
    const shown = from.replace(/\/\/[^@/]*@/, '//***@');
    throw new MillraceError(
      'MILLRACE_OPTIONS',
      `from is ${show(shown)}; it must be nats://HOST:PORT/STREAM or kafka://HOST:PORT/TOPIC`,
    );
  }
  const [, scheme = '', account, hosts = '', name = ''] = match;
  const kind = scheme === 'kafka' ? 'kafka' : 'nats';
  const servers = hosts.split(',').map((host) => (kind === 'kafka' ? host : `${scheme}://${host}`));
  const [user, pass] = (account ?? '').split(':').map(decodeURIComponent);
  return {
    kind,
    servers,
    name,
    ...(user === undefined || user === '' ? {} : { user }),
    ...(pass === undefined ? {} : { pass }),
  };
}
