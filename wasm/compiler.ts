import { dirname } from 'node:path';
import asc from 'assemblyscript/asc';

/** A WebAssembly module of the repository: where it is written, and where its bytes go. */
export interface ModulePlan {
  readonly source: string;
  readonly target: string;
  /** Name of the constant that carries it. */
  readonly name: string;
  readonly title: string;
}

export const MODULES: readonly ModulePlan[] = [
  {
    source: 'src/codec/assembly/index.ts',
    target: 'src/codec/machine-bytes.ts',
    name: 'MACHINE_BASE64',
    title: 'The WebAssembly codec',
  },
  {
    source: 'src/lines/assembly/index.ts',
    target: 'src/lines/scanner-bytes.ts',
    name: 'SCANNER_BASE64',
    title: 'The WebAssembly scanner of log lines',
  },
];

const LINE_BYTES = 72;

/**
 * Compiles a module of the repository at `root` and returns the text of the file that carries it.
 *
 * @throws Error with the compiler's words
 */
export async function compileModule(root: string, plan: ModulePlan): Promise<string> {
  let bytes: Uint8Array | undefined;
  const { error, stderr } = await asc.main(
    [
      plan.source,
      '--baseDir',
      root,
      '--outFile',
      'module.wasm',
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
  return moduleText(plan, Buffer.from(bytes).toString('base64'));
}

function moduleText({ source, name, title }: ModulePlan, base64: string): string {
  const lines = base64.match(new RegExp(`.{1,${LINE_BYTES}}`, 'g')) ?? [];
  return [
    `// Made by \`npm run wasm\` from ${dirname(source)}; a test compares it with its source.`,
    `/** ${title}, in base64. */`,
    `export const ${name}: string = [`,
    ...lines.map((line) => `  '${line}',`),
    "].join('');",
    '',
  ].join('\n');
}
