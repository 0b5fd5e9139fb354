import asc from 'assemblyscript/asc';

/** Where the WebAssembly codec is written, and where its bytes go. */
export const SOURCE_FILE = 'src/codec/assembly/index.ts';
export const MODULE_FILE = 'src/codec/machine-bytes.ts';

const LINE_BYTES = 72;

/**
 * Compiles the codec of the repository at `root` and returns the text of the module that carries it.
 *
 * @throws Error with the compiler's words
 */
export async function compileModule(root: string): Promise<string> {
  let bytes: Uint8Array | undefined;
  const { error, stderr } = await asc.main(
    [
      SOURCE_FILE,
      '--baseDir',
      root,
      '--outFile',
      'codec.wasm',
      '--runtime',
      'stub',
      '--optimizeLevel',
      '3',
      '--shrinkLevel',
      '0',
      '--noAssert',
      '--importMemory',
      '--memoryBase',
      '1024',
      '--initialMemory',
      '2',
      '--enable',
      'simd',
      '--disable',
      'mutable-globals',
      '--use',
      'abort=',
      // Places are 32 bits wide, signed or not.
      '--disableWarning',
      '201',
    ],
    {
      writeFile: (_name: string, contents: string | Uint8Array) => {
        if (typeof contents !== 'string') bytes = contents;
      },
    },
  );
  if (error !== null || bytes === undefined) throw new Error(`${error}\n${stderr.toString()}`);
  return moduleText(Buffer.from(bytes).toString('base64'));
}

function moduleText(base64: string): string {
  const lines = base64.match(new RegExp(`.{1,${LINE_BYTES}}`, 'g')) ?? [];
  return [
    '// Made by `npm run wasm` from src/codec/assembly; a test compares it with its source.',
    '/** The WebAssembly codec, in base64. */',
    'export const MACHINE_BASE64: string = [',
    ...lines.map((line) => `  '${line}',`),
    "].join('');",
    '',
  ].join('\n');
}
