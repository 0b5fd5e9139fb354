import Table from 'cli-table3';
import { createLogUpdate } from 'log-update';
import type { Stats } from '../index.ts';
import type { ReceiverSnapshot } from '../receiver/index.ts';

/** What the live page shows. */
export interface DemoView {
  readonly calls: number;
  readonly callerNs: number;
  readonly seconds: number;
  readonly loopDelayP99Ms: number;
  readonly http: Stats;
  readonly files: Stats;
  readonly receiver: ReceiverSnapshot;
  /** Live pages for a browser. */
  readonly pages: { readonly engine: string; readonly receiver: string };
  readonly metricsUrl: string;
  readonly directory: string;
}

const REFRESH_TTY_MS = 250;
const REFRESH_PIPE_MS = 1000;

/** One screen that is drawn again and again; into a pipe, a line a second. */
export class LiveView {
  readonly #isTerminal = process.stdout.isTTY === true;
  readonly #update = createLogUpdate(process.stdout);
  #last: DemoView | undefined;

  /** Draws what `look` gives, until the returned `stop` is called. */
  start(look: () => Promise<DemoView>): { stop: () => Promise<void> } {
    const drawing = { work: Promise.resolve() };
    const draw = () => {
      drawing.work = drawing.work.then(async () => {
        this.#draw(await look());
      });
      // A receiver that is gone is seen in the numbers; the page goes on.
      drawing.work = drawing.work.catch(() => {});
    };
    const timer = setInterval(draw, this.#isTerminal ? REFRESH_TTY_MS : REFRESH_PIPE_MS);
    return {
      stop: async () => {
        clearInterval(timer);
        await drawing.work;
        if (this.#isTerminal) this.#update.done();
      },
    };
  }

  /** The final account next to what the receiver and the files hold. */
  end(
    http: Stats,
    {
      receiver,
      files,
    }: {
      receiver: ReceiverSnapshot;
      files: { ledger: Stats; lines: number; directory: string };
    },
  ): void {
    const table = new Table({ head: ['', 'HTTP', 'files'], style: { head: [], border: [] } });
    const row = (label: string, a: number, b: number) => table.push([label, show(a), show(b)]);
    row('accepted', http.accepted, files.ledger.accepted);
    row('delivered', http.delivered, files.ledger.delivered);
    row('rejected', http.rejected, files.ledger.rejected);
    row('dropped', dropsOf(http), dropsOf(files.ledger));
    row('still queued', http.queued, files.ledger.queued);
    row('imbalance', http.imbalance, files.ledger.imbalance);
    row('found at the receiver / in the files', receiver.unique, files.lines);
    row('repeated at the receiver', receiver.duplicates, 0);
    console.log(table.toString());
    console.log(`log files: ${files.directory}`);
  }

  #draw(view: DemoView): void {
    const before = this.#last ?? view;
    this.#last = view;
    const seconds = Math.max(0.001, view.seconds - before.seconds);
    const rate = (view.calls - before.calls) / seconds;
    if (!this.#isTerminal) {
      if (before === view) console.log(placesOf(view).join('\n'));
      console.log(
        `${view.seconds.toFixed(0)} s: ${show(rate)} records/s, queue ${show(view.http.queued)}, delivered ${show(view.http.delivered)}, dropped ${show(dropsOf(view.http))}, ${view.callerNs} ns a call`,
      );
      return;
    }
    this.#update(this.#page(view, rate));
  }

  #page(view: DemoView, rate: number): string {
    const table = new Table({ head: ['', 'HTTP', 'files'], style: { head: [], border: [] } });
    const { http, files } = view;
    table.push(
      ['accepted', show(http.accepted), show(files.accepted)],
      ['delivered', show(http.delivered), show(files.delivered)],
      ['queued', show(http.queued), show(files.queued)],
      ['oldest, ms', show(http.oldestAgeMs), show(files.oldestAgeMs)],
      ['dropped', show(dropsOf(http)), show(dropsOf(files))],
      ['retries', show(http.retries), show(files.retries)],
      ['JSON → sent, MB', megabytes(http), megabytes(files)],
      ['at the receiver', show(view.receiver.unique), ''],
    );
    return [
      `millrace demo   ${view.seconds.toFixed(0)} s   ${show(rate)} records/s into each consumer`,
      table.toString(),
      `caller: ${view.callerNs} ns a call   event loop p99: ${view.loopDelayP99Ms.toFixed(1)} ms   workers: ${http.workers.alive}`,
      ...placesOf(view),
      'Ctrl-C drains and prints the account',
    ].join('\n');
  }
}

/** Where there is more to see. */
function placesOf({ pages, metricsUrl, directory }: DemoView): string[] {
  return [
    `look:     ${pages.engine} (engine)   ${pages.receiver} (receiver)`,
    `metrics:  ${metricsUrl}`,
    `files:    ${directory}`,
  ];
}

function dropsOf({ dropped }: Stats): number {
  // These two are parts of expired.
  const { corrupt: _, crashed: __, ...reasons } = dropped;
  return Object.values(reasons).reduce((sum, count) => sum + count, 0);
}

function megabytes({ bytesRaw, bytesSent }: Stats): string {
  return `${(bytesRaw / 1e6).toFixed(1)} → ${(bytesSent / 1e6).toFixed(1)}`;
}

function show(count: number): string {
  return Math.round(count).toLocaleString('en-US');
}
