import { Packr, Unpackr } from 'msgpackr';

// Plain maps and arrays only: no record extension, so that any msgpack reader understands what is written.
const packr = new Packr({ useRecords: false, mapsAsObjects: true });
const unpackr = new Unpackr({ useRecords: false, mapsAsObjects: true, int64AsType: 'number' });

/** msgpack of plain data, in a buffer of its own. */
export function pack(value: unknown): Uint8Array {
  return Uint8Array.from(packr.pack(value));
}

/** The one value that `bytes` hold. */
export function unpack(bytes: Uint8Array): unknown {
  return unpackr.unpack(Uint8Array.from(bytes));
}

/** All values that `bytes` hold, one after the other: the payload of a frame, for instance. */
export function unpackSequence(bytes: Uint8Array): unknown[] {
  const values: unknown[] = [];
  unpackr.unpackMultiple(Uint8Array.from(bytes), (value) => {
    values.push(value);
  });
  return values;
}
