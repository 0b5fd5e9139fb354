/** Where things stand in the memory of the line scanner (assembly/index.ts); the same numbers on both sides. */

/** By length, the first of the words of that length, as numbers of 32 bits; one more than there are lengths. */
export const FIELD_INDEX_AT = 0x8000;
export const TYPE_INDEX_AT = 0x8100;
/** Words: length and code, 32 bits each, then the bytes, filled up with zeros. */
export const FIELDS_AT = 0x8200;
export const TYPES_AT = 0x9000;
export const WORD_BYTES = 32;
/** Most bytes of a word. */
export const WORD_LENGTH_MAX = 24;
/** By kind, what the properties of a record must have in common, 32 bits each. */
export const RULES_AT = 0x9800;
/** Names seen in the objects of a line: hash and line, 32 bits each. */
export const SEEN_AT = 0x10000;
export const SEEN_SLOTS = 4096;
/** Whole lines that are looked through, and 64 bytes that may be read behind them. */
export const TEXT_AT = 0x20000;
export const TEXT_BYTES = 0x100000;
/** Place of the end of each line; the highest bit: it may be no record. */
export const ENDS_AT = 0x120100;
export const ENDS_MAX = 16384;
export const UNSURE = 0x80000000;
export const MEMORY_BYTES = 0x140000;
