import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { repositoryRoot } from '../support.ts';

/** The public entries, by the name users import. */
const ENTRIES = [
  ['millrace', 'src/index'],
  ['millrace/thinkingdata', 'src/thinkingdata'],
  ['millrace/sink', 'src/own-sink'],
  ['millrace/nats', 'src/nats'],
  ['millrace/kafka', 'src/kafka'],
  ['millrace/receiver', 'src/receiver/index'],
] as const;

const HEAD = `# The API

Made from the declarations of the package by \`npm run docs\`; a test keeps it fresh. [The calls](guide.md) shows how they are used, [options](options.md) has the defaults.
`;

/** The text of docs/api.md: every exported name with its declaration and comment, as the compiler writes them. */
export function apiDocument(): string {
  const parts = ENTRIES.map(
    ([name, entry]) => `## ${name}\n\n${declarationsOf(entry).join('\n\n')}`,
  );
  return `${HEAD}\n${parts.join('\n\n')}\n`;
}

function textOf(path: string): string {
  return readFileSync(join(repositoryRoot(), 'dist', path), 'utf8');
}

/** One block for each name an entry exports: those it passes on come first. */
function declarationsOf(entry: string): string[] {
  const path = `${entry}.d.ts`;
  const passedOn = [...passages(path)].map(([name, from]) => findBlock(from, name));
  return [...passedOn, ...ownBlocks(path)].map(fenced);
}

/** A block of code; comments may hold a fence of their own. */
function fenced(block: string): string {
  const fence = block.includes('```') ? '````' : '```';
  return `${fence}typescript\n${block}\n${fence}`;
}

/** Names a file passes on, and the file each comes from. */
function passages(path: string): Map<string, string> {
  const found = new Map<string, string>();
  const pattern = /^export (?:type )?\{([^}]*)\} from '([^']+)'/gm;
  for (const [, names = '', from = ''] of textOf(path).matchAll(pattern)) {
    const place = join(dirname(path), from.replace(/\.ts$/, '.d.ts'));
    for (const name of namesIn(names)) found.set(name, place);
  }
  return found;
}

/** The declaration of a name, followed to the file that has it. */
function findBlock(path: string, name: string): string {
  const block = blockOf(textOf(path), name);
  if (block !== undefined) return block;
  const next = passages(path).get(name);
  return next === undefined ? missing(name, path) : findBlock(next, name);
}

function missing(name: string, path: string): never {
  throw new Error(`${path} does not declare ${name}`);
}

function namesIn(list: string): string[] {
  return list
    .split(',')
    .map((part) => part.trim().replace(/^type /, ''))
    .filter((name) => name !== '');
}

const DECLARATION =
  /^export (?:declare )?(?:abstract )?(?:class|interface|type|function|const) (\w+)/gm;

function ownBlocks(path: string): string[] {
  const text = textOf(path);
  return [...text.matchAll(DECLARATION)].map(([, name = '']) => findBlock(path, name));
}

/** A declaration with the comment above it. Undefined: there is none of this name. */
function blockOf(text: string, name: string): string | undefined {
  const lines = text.split('\n');
  const at = lines.findIndex((line) => new RegExp(DECLARATION.source).exec(line)?.[1] === name);
  if (at < 0) return undefined;
  let from = at;
  if (lines[at - 1]?.trim().endsWith('*/')) {
    do from -= 1;
    while (!lines[from]?.startsWith('/**'));
  }
  let to = at;
  let depth = 0;
  for (; to < lines.length; to += 1) {
    const line = lines[to] ?? '';
    depth += (line.match(/[{([]/g)?.length ?? 0) - (line.match(/[})\]]/g)?.length ?? 0);
    if (depth <= 0 && /[;}]$/.test(line)) break;
  }
  return lines
    .slice(from, to + 1)
    .filter((line) => !/^\s*(#private;|private |protected )/.test(line))
    .join('\n')
    .replaceAll('export declare ', '')
    .replaceAll(/^export /gm, '');
}
