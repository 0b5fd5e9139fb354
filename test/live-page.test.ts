import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { createServer } from 'node:http';
import { after, before, beforeEach, test } from 'node:test';
import { type Browser, chromium, type Page } from 'playwright-core';
import { Analytics, AsyncBatchConsumer, LoggingConsumer } from '../src/index.ts';
import { livePage } from '../src/live/page.ts';
import { assertBalanced, newDirectory, TestReceiver, until } from './support.ts';

const CHROMIUM = ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'].find(
  (path) => existsSync(path),
);
const MISSING = 'no Chromium is installed here; CI has it';
/** For a slow machine. */
const PATIENCE_MS = 60_000;

let receiver: TestReceiver;
let browser: Browser | undefined;

before(async () => {
  receiver = await TestReceiver.start();
  if (CHROMIUM === undefined) return;
  browser = await chromium.launch({ executablePath: CHROMIUM, args: ['--no-sandbox'] });
});
beforeEach(() => receiver.reset());
after(async () => {
  await browser?.close();
  await receiver.stop();
});

/** Opens a page, and fails if anything in it goes wrong. */
async function look(
  url: string,
  { width = 1280, colorScheme = 'light' as 'light' | 'dark' } = {},
): Promise<{ page: Page; close: () => Promise<void> }> {
  assert.ok(browser);
  const page = await browser.newPage({ viewport: { width, height: 900 }, colorScheme });
  page.setDefaultTimeout(PATIENCE_MS);
  const troubles: string[] = [];
  page.on('pageerror', (error) => troubles.push(String(error)));
  page.on('console', (message) => {
    if (message.type() === 'error') troubles.push(message.text());
  });
  const foreign: string[] = [];
  page.on('request', (request) => {
    if (!request.url().startsWith(new URL('/', url).href)) foreign.push(request.url());
  });
  await page.goto(url);
  return {
    page,
    close: async () => {
      await page.close();
      assert.deepEqual(troubles, []);
      assert.deepEqual(
        foreign.filter((address) => !address.startsWith('data:')),
        [],
        'the page asks nobody else',
      );
    },
  };
}

/** Waits until the text of an element fits. */
async function shows(page: Page, selector: string, pattern: RegExp): Promise<void> {
  await page.locator(selector, { hasText: pattern }).first().waitFor();
}

async function serve(ta: Analytics): Promise<{ url: string; close: () => void }> {
  const server = createServer(ta.livePage());
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as { port: number };
  return { url: `http://127.0.0.1:${port}/game/live/`, close: () => server.close() };
}

test('the page is one document that may load nothing else', () => {
  for (const kind of ['engine', 'receiver'] as const) {
    const { html, policy } = livePage(kind);
    assert.match(
      policy,
      /default-src 'none'; script-src 'sha256-[^']+' 'sha256-[^']+'; style-src 'sha256-/,
    );
    assert.doesNotMatch(html, /<(script|link|img)[^>]+(src|href)="(?!data:)/);
    assert.doesNotMatch(html, /\{\{\w+\}\}/);
    assert.ok(html.length < 100_000, `${html.length} characters`);
  }
});

test('the stream sends a frame at once, then one a second', async () => {
  const ta = new Analytics(new LoggingConsumer(newDirectory()), {
    metricsServer: { port: 0, livePage: true },
  });
  const server = await serve(ta);
  const abort = new AbortController();
  const reply = await fetch(`${server.url}events`, { signal: abort.signal });
  assert.equal(reply.headers.get('content-type'), 'text/event-stream');
  assert.ok(reply.body);
  let text = '';
  const decoder = new TextDecoder();
  for await (const part of reply.body) {
    text += decoder.decode(part as Uint8Array, { stream: true });
    if (text.split('\n\n').length > 2) break;
  }
  abort.abort();
  const frames = text
    .split('\n\n')
    .slice(0, 2)
    .map((frame) => JSON.parse(frame.replace(/^data: /, '')) as { clients: { client: string }[] });
  for (const { clients } of frames) assert.equal(clients[0]?.client, 'default');
  assert.equal((await fetch(server.url, { method: 'POST' })).status, 405);
  assertBalanced(await ta.close());
  server.close();
});

// Goal: what goes wrong is seen by whoever looks. Method: a real browser on a real client; the receiver fails, then recovers.
test('a dead receiver appears on the page, and its recovery', async (context) => {
  if (CHROMIUM === undefined) return context.diagnostic(MISSING);
  const directory = newDirectory();
  const ta = new Analytics(
    new AsyncBatchConsumer({
      url: receiver.url,
      appId: 'A',
      workers: 1,
      lingerMs: 10,
      spool: { directory },
    }),
    { name: 'game', onError: () => {} },
  );
  const server = await serve(ta);
  const timer = setInterval(() => ta.track({ accountId: 'u', event: 'e' }), 20);
  const { page, close } = await look(server.url);
  await shows(page, '#status', /All is well/);
  assert.equal(await page.locator('#charts canvas').count(), 4);
  assert.equal(await page.locator('#lanes tbody tr').count(), 4);
  await shows(page, '#codes', /2xx/);

  await receiver.setFaults([{ action: { kind: 'status', status: 503, body: '<b>down</b>' } }]);
  await shows(page, '#status[data-state=bad]', /The receiver does not answer/);
  await shows(page, '#troubles', /MILLRACE_UNAVAILABLE.*records wait.*503.*<b>down<\/b>/);
  assert.equal(await page.locator('#troubles b').count(), 0, 'words of strangers are only words');
  await shows(page, '#codes', /5xx/);
  await page.getByLabel('Client').selectOption('game');
  await shows(page, '#tiles', /Receiver\s*(open|half-open)/);

  await receiver.setFaults([]);
  await shows(page, '#status', /All is well/);
  clearInterval(timer);
  await ta.flush();
  await until(() => ta.stats().delivered === ta.stats().accepted, 'all arrive');
  await close();
  const stats = await ta.close();
  assertBalanced(stats);
  assert.equal((await receiver.snapshot()).unique, stats.accepted);
  server.close();
});

test("the receiver's page shows what came, finds it, and says why records are refused", async (context) => {
  if (CHROMIUM === undefined) return context.diagnostic(MISSING);
  const attack = '<img src=x onerror="document.title=\'owned\'">';
  const ta = new Analytics(
    new AsyncBatchConsumer({ url: receiver.url, appId: 'A', workers: 1, lanes: 1 }),
    { validation: 'off', onError: () => {} },
  );
  const { page, close } = await look(`${receiver.url}/`);
  assert.match(page.url(), /\/live\/$/, 'a browser is led to the page');
  ta.track({ accountId: 'u1', event: 'login', properties: { text: attack } });
  ta.userSet({ accountId: 'u2', properties: { nickname: 'Ann' } });
  ta.track({ accountId: 'u3', event: 'no name', properties: {} });
  await ta.flush();
  await shows(page, '#types', /track/);
  await shows(page, '#errors', /#event_name/);
  await shows(page, '#records', /refused.*no name.*u3.*#event_name/);
  await page.getByLabel('State').selectOption('taken');
  await until(async () => (await page.locator('#records > li').count()) === 2, 'two are taken');
  await page.getByLabel('Search').fill('ONERROR');
  await until(async () => (await page.locator('#records > li').count()) === 1, 'one is found');
  await page.locator('#records summary').click();
  const shown = await page.locator('#records pre').textContent();
  assert.ok(shown?.includes(JSON.stringify(attack)));
  assert.equal(await page.locator('#records img').count(), 0);
  await page.getByLabel('Search').fill('');
  await page.locator('#type').selectOption('user_set');
  await until(async () => (await page.locator('#records > li').count()) === 1, 'one is a user_set');
  await shows(page, '#records', /user_set · u2/);
  assert.equal(await page.title(), 'millrace receiver');
  await close();
  const stats = await ta.close();
  assertBalanced(stats);
  assert.deepEqual([stats.delivered, stats.rejected], [2, 1]);
  assert.equal((await receiver.snapshot()).unique, stats.delivered);
});

test('the page fits a phone, follows the theme, and works by keyboard and for screen readers', async (context) => {
  if (CHROMIUM === undefined) return context.diagnostic(MISSING);
  const ta = new Analytics(new LoggingConsumer(newDirectory()), { name: 'files' });
  const server = await serve(ta);
  const { page, close } = await look(server.url, { width: 390, colorScheme: 'dark' });
  await shows(page, '#status', /All is well/);
  const width = await page.evaluate('document.documentElement.scrollWidth');
  assert.ok(Number(width) <= 390, `nothing sticks out: ${width}`);
  const ground = () => page.evaluate('getComputedStyle(document.body).backgroundColor');
  const dark = await ground();
  await page.getByRole('button', { name: 'Switch to the light theme' }).press('Enter');
  assert.notEqual(await ground(), dark);
  await page.getByRole('button', { name: 'Pause' }).press('Space');
  await page.getByRole('button', { name: 'Go on', pressed: true }).waitFor();
  const chart = page.getByRole('img', {
    name: /Records a second, the last five minutes: accepted/,
  });
  await chart.focus();
  await chart.press('ArrowLeft');
  await chart.press('Escape');
  for (const name of ['Queue by lane', 'Workers', 'Recent errors']) {
    await page.getByRole('heading', { name }).waitFor();
  }
  await page.getByRole('log').waitFor();
  await close();
  assertBalanced(await ta.close());
  server.close();
});
