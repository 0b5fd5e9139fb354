const FNV_OFFSET = 0x811c9dc5;
const FNV_PRIME = 0x01000193;
/** Ids differ within their first and last characters; hashing more of a long one buys nothing. */
const HASHED_CHARACTERS_MAX = 32;

/** A number that spreads user ids over lanes: FNV-1a of the id's last characters. Not negative. */
export function hashId(id: string): number {
  let hash = FNV_OFFSET;
  const from = id.length > HASHED_CHARACTERS_MAX ? id.length - HASHED_CHARACTERS_MAX : 0;
  for (let index = from; index < id.length; index += 1) {
    hash = Math.imul(hash ^ id.charCodeAt(index), FNV_PRIME);
  }
  // FNV leaves the low bits of short texts alike; a last mix spreads them.
  hash ^= hash >>> 15;
  return hash >>> 0;
}
