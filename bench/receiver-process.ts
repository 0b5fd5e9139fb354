import { Child } from './child.ts';
import type { Quantiles } from './measure.ts';

/** What has come since the last reset. */
export interface ReceiverTotals {
  readonly requests: number;
  /** Requests answered 503. */
  readonly refused: number;
  readonly records: number;
  readonly bytesWire: number;
  readonly bytesRaw: number;
  /** From the call to the arrival, of records that say when they were sent. */
  readonly latencyMs: Quantiles;
}

export type ReceiverMessage =
  | { readonly ask: 'totals' }
  | { readonly ask: 'reset'; readonly looksAtTimes: boolean }
  | { readonly ask: 'outage'; readonly forMs: number };

/** The receiver of a run. */
export class ReceiverProcess {
  readonly url: string;
  readonly #child: Child;

  private constructor(child: Child, url: string) {
    this.#child = child;
    this.url = url;
  }

  static async start(): Promise<ReceiverProcess> {
    const child = new Child('receiver', { name: 'the receiver' });
    const { port } = (await child.next()) as { port: number };
    return new ReceiverProcess(child, `http://127.0.0.1:${port}`);
  }

  totals(): Promise<ReceiverTotals> {
    return this.#ask({ ask: 'totals' });
  }

  /** Forgets what came. With `looksAtTimes` it takes the time of each record, which costs it much more. */
  async reset({ looksAtTimes = false }: { looksAtTimes?: boolean } = {}): Promise<void> {
    await this.#ask({ ask: 'reset', looksAtTimes });
  }

  /** Answers 503 from now on, for so long. */
  async failFor(forMs: number): Promise<void> {
    await this.#ask({ ask: 'outage', forMs });
  }

  stop(): Promise<void> {
    return this.#child.stop();
  }

  #ask(message: ReceiverMessage): Promise<ReceiverTotals> {
    return this.#child.ask(message) as Promise<ReceiverTotals>;
  }
}
