/**
 * CRC-32C (Castagnoli): finds every burst of up to 32 bits and, in records of our size, every five flipped bits.
 * Slicing by eight: eight bytes a step through eight tables, about 0.6 µs a KiB (`test/spool-format.test.ts` holds
 * it against a bit-by-bit one). Node has no CRC-32C of its own.
 */
const POLYNOMIAL = 0x82f63b78;
const TABLES = makeTables();

/** CRC-32C of the bytes `[from, to)`, as an unsigned 32-bit number. */
export function crc32c(bytes: Uint8Array, from = 0, to: number = bytes.length): number {
  let crc = -1;
  let at = from;
  for (const end = to - 7; at < end; at += 8) {
    crc ^=
      byte(bytes, at) |
      (byte(bytes, at + 1) << 8) |
      (byte(bytes, at + 2) << 16) |
      (byte(bytes, at + 3) << 24);
    crc =
      entry(7, crc & 0xff) ^
      entry(6, (crc >>> 8) & 0xff) ^
      entry(5, (crc >>> 16) & 0xff) ^
      entry(4, crc >>> 24) ^
      entry(3, byte(bytes, at + 4)) ^
      entry(2, byte(bytes, at + 5)) ^
      entry(1, byte(bytes, at + 6)) ^
      entry(0, byte(bytes, at + 7));
  }
  for (; at < to; at += 1) crc = (crc >>> 8) ^ entry(0, (crc ^ byte(bytes, at)) & 0xff);
  return ~crc >>> 0;
}

function byte(bytes: Uint8Array, at: number): number {
  return bytes[at] ?? 0;
}

function entry(table: number, index: number): number {
  return TABLES[(table << 8) | index] ?? 0;
}

/** Table k, entry b: the CRC of byte b followed by k zero bytes. */
function makeTables(): Int32Array {
  const tables = new Int32Array(8 * 256);
  for (let index = 0; index < 256; index += 1) {
    let crc = index;
    for (let bit = 0; bit < 8; bit += 1) crc = crc & 1 ? (crc >>> 1) ^ POLYNOMIAL : crc >>> 1;
    tables[index] = crc;
  }
  for (let at = 256; at < tables.length; at += 1) {
    const shorter = tables[at - 256] ?? 0;
    tables[at] = (shorter >>> 8) ^ (tables[shorter & 0xff] ?? 0);
  }
  return tables;
}
