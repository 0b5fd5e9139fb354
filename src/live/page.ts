import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';

/** What the page is about. */
export type PageKind = 'engine' | 'receiver';

/** A page as it is sent: one document that asks for nothing else. */
export interface Page {
  readonly html: string;
  /** Value of `content-security-policy`: only what is in the page runs, and it talks only to where it came from. */
  readonly policy: string;
}

const TITLES: Readonly<Record<PageKind, string>> = {
  engine: 'millrace',
  receiver: 'millrace receiver',
};

const pages = new Map<PageKind, Page>();

/**
 * The live page, put together from its parts on first use.
 *
 * @throws Error when the parts are not where the package has them (a bundle without its files)
 */
export function livePage(kind: PageKind): Page {
  const known = pages.get(kind);
  if (known !== undefined) return known;
  const require = createRequire(import.meta.url);
  const chartStyle = readFileSync(require.resolve('uplot/dist/uPlot.min.css'), 'utf8');
  const charts = readFileSync(require.resolve('uplot/dist/uPlot.iife.min.js'), 'utf8');
  const parts: Readonly<Record<string, string>> = {
    kind,
    title: TITLES[kind],
    style: `${chartStyle}\n${readPart('page.css')}`,
    charts,
    script: readPart('page.js'),
  };
  const fill = (text: string) =>
    text.replace(/\/\*\{\{(\w+)\}\}\*\/|\{\{(\w+)\}\}/g, (_, inCode, inText) => {
      const name: string = inCode ?? inText;
      return parts[name] ?? '';
    });
  const html = fill(readPart('page.html'));
  const policy = [
    "default-src 'none'",
    `script-src ${hashesOf(html, /<script>([\s\S]*?)<\/script>/g)}`,
    `style-src ${hashesOf(html, /<style>([\s\S]*?)<\/style>/g)}`,
    "connect-src 'self'",
    'img-src data:',
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'self'",
  ].join('; ');
  const page = { html, policy };
  pages.set(kind, page);
  return page;
}

/** What a policy calls the code between these tags. */
function hashesOf(html: string, tags: RegExp): string {
  return [...html.matchAll(tags)]
    .map(([, text = '']) => createHash('sha256').update(text).digest('base64'))
    .map((hash) => `'sha256-${hash}'`)
    .join(' ');
}

/** The compiled file is one folder deeper than the source. */
function readPart(name: string): string {
  // Not written in one expression: bundlers would look for the files, and fail.
  const here: string = import.meta.url;
  try {
    return readFileSync(new URL(`../../../live/${name}`, here), 'utf8');
  } catch {
    // Not compiled, or not there: then this says so.
    return readFileSync(new URL(`../../live/${name}`, here), 'utf8');
  }
}
