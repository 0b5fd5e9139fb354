/**
 * Where everything is in the memory of the WebAssembly codec. Its size never changes, so views of it stay valid.
 * Read by both sides (assembly/): plain numbers only, which TypeScript and AssemblyScript read alike.
 *
 * ```
 *     1 KiB  constants of the compiler
 *     8 KiB  tables, results of a call
 *    64 KiB  powers of ten
 *    96 KiB  what a call tells of each record
 *   128 KiB  frames
 *   257 KiB  text of records; or what is to be compressed
 *  1282 KiB  definitions: shapes, super properties
 *  5378 KiB  what was compressed
 *  6403 KiB  of the compressor: hashes, steps, codes; of the spreader: records and runs
 * ```
 */
/** `00` to `99`, two bytes each. */
export const PAIRS_AT = 8192;
/** 20 bytes of the time text that are the same for a whole second, and room for one copy of 16 bytes more. */
export const SECOND_AT = 8448;
/** By kind of record, 64 bytes each: u32 length, then `{"#type":"…","#time":"`. */
export const TYPES_AT = 8704;
export const TYPE_BYTES = 64;
/** By number of the lifted field, 64 bytes each: u32 length, then `,"#ip":`. */
export const LIFTS_AT = 9728;
export const LIFT_BYTES = 64;
/** Where the text of each lifted field of the present record starts: u32 each. */
export const LIFTED_AT = 10496;
/** The names of a record's dynamic properties, as in its frame, one after the other. */
export const NAMES_AT = 12288;
export const NAMES_BYTES = 4096;
/** u32 words of the results of a call. */
export const RESULT_AT = 10752;
export const RESULT_NEXT_IN = 0;
export const RESULT_NEXT_TEXT = 1;
export const RESULT_FLAGS = 2;

/** 128-bit powers of ten from 10^-292 to 10^324, high half first. */
export const POWERS_AT = 65536;
export const POWER_MIN = -292;
export const POWER_MAX = 324;

/** Most records of one call; then what it tells of them, u32 each. */
export const RECORDS_MAX = 1024;
export const STARTS_AT = 98304;
export const ENDS_AT = 102400;
export const POSITIONS_AT = 106496;
export const STAMPS_AT = 110592;

export const FRAMES_AT = 131072;
export const FRAMES_BYTES = 131072;
/** Reads and copies go 16 bytes at a time, and so past the end. */
export const SLACK_BYTES = 64;
export const TEXT_AT = 263168;
export const TEXT_BYTES = 1048576;
export const DEFINITIONS_AT = 1312768;
export const DEFINITIONS_BYTES = 4194304;

/** What the compressor reads: the same place as the transcoder's text, which is copied out after each call. */
export const PLAIN_AT = 263168;
export const PLAIN_BYTES = 1048576;
/** Bytes a compressed text may be longer than the plain one: blocks as they are, and whole words written past the end. */
export const PACKED_SPARE_BYTES = 1024;
export const PACKED_AT = 5507072;
export const PACKED_BYTES = 1049600;
/** Last place of a few bytes by their hash: u32 each. */
export const HASH_BITS = 14;
export const HASHES_AT = 6556672;
export const HASHES_BYTES = 65536;
/** Steps of one block: u32 literals, u32 length << 16 | distance. */
export const STEPS_MAX = 32768;
export const STEPS_AT = 6622208;
/** Counts, lengths and codes of one block, and what they are made with. */
export const CODES_AT = 6884352;
export const MEMORY_BYTES = 6946816;

/**
 * Of `spread`, where the compressor's steps are otherwise: where in the text each record's line break is, its partition; and by partition where
 * its run ends, how many records it has, and which are its first and last.
 */
export const SPREAD_RECORDS_MAX = 8192;
export const SPREAD_PARTITIONS_MAX = 4096;
export const SPREAD_ENDS_AT = 6622208;
export const SPREAD_PARTITIONS_AT = 6654976;
export const RUN_ENDS_AT = 6687744;
export const RUN_COUNTS_AT = 6704128;
export const RUN_FIRSTS_AT = 6720512;
export const RUN_LASTS_AT = 6736896;
