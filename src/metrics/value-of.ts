import type { Sample } from './catalogue.ts';

/** A metric of something else than a client, read of a `T`. */
export interface ValueOf<T> {
  readonly type: 'counter' | 'gauge';
  readonly name: string;
  readonly help: string;
  readonly labels: readonly string[];
  readonly read: (source: T) => readonly Sample[];
}

/** A metric without labels. No value: it is not known. */
export function single<T>(
  type: 'counter' | 'gauge',
  name: string,
  { help, read }: { help: string; read: (source: T) => number | undefined },
): ValueOf<T> {
  return {
    type,
    name,
    help,
    labels: [],
    read: (source) => {
      const value = read(source);
      return value === undefined ? [] : [{ labels: {}, value }];
    },
  };
}
