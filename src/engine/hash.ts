/** FNV-1a in signed 32 bits: beyond them the engine would count in floating point. */
const FNV_OFFSET: number = 0x811c9dc5 | 0;
const FNV_PRIME = 0x01000193;
/** Ids differ within their first and last characters; hashing more of a long one buys nothing. */
const HASHED_CHARACTERS_MAX = 32;

/** Spreads user ids over `lanes` lanes by FNV-1a of the id's last characters: a number from 0 to `lanes` - 1. */
export function laneOfId(id: string, lanes: number): number {
  const length = id.length;
  let hash = FNV_OFFSET;
  let index = length > HASHED_CHARACTERS_MAX ? length - HASHED_CHARACTERS_MAX : 0;
  for (; index < length; index += 1) {
    hash = Math.imul(hash ^ id.charCodeAt(index), FNV_PRIME);
  }
  // FNV leaves the low bits of short texts alike; a last mix spreads them.
  hash ^= hash >>> 15;
  return (hash >>> 1) % lanes;
}
