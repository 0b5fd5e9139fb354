import { MillraceError } from '../base/errors.ts';

/** Packages of a broker's client that the user installs. */
export interface ClientPackages {
  /** What needs them, for the message: 'millrace/nats'. */
  readonly user: string;
  readonly names: readonly string[];
}

export const NATS_PACKAGES: ClientPackages = {
  user: 'millrace/nats',
  names: ['@nats-io/transport-node', '@nats-io/jetstream', '@nats-io/kv'],
};

export const KAFKA_PACKAGES: ClientPackages = {
  user: 'millrace/kafka',
  names: ['kafkajs'],
};

/**
 * Looks whether they are there, without loading them.
 *
 * @throws MillraceError MILLRACE_OPTIONS that says what to install
 */
export function checkInstalled({ user, names }: ClientPackages): void {
  const missing = names.filter((name) => !isInstalled(name));
  if (missing.length === 0) return;
  throw new MillraceError(
    'MILLRACE_OPTIONS',
    `${user} needs packages that are not installed: npm install ${missing.join(' ')}`,
  );
}

function isInstalled(name: string): boolean {
  try {
    import.meta.resolve(name);
    return true;
  } catch {
    // Whatever is wrong with it, it can't be imported.
    return false;
  }
}
